//! Memory that a group may use: the smallest limit of its own and its ancestors', of v1 and v2 trees.
//!
//! Formats: `memory.max` (bytes, or `max`), v1's `memory.limit_in_bytes` (a number near 2^63 for none); `/proc/meminfo`.

use std::path::Path;

use super::{Invalid, below, wrong};

/// `MemTotal` and `MemAvailable` of the node, bytes.
pub(super) fn of_node(proc: &Path) -> Result<(u64, u64), Invalid> {
    let path = proc.join("meminfo");
    let text =
        std::fs::read_to_string(&path).map_err(|error| wrong(format!("{}: {error}", path.display())))?;
    let field = |name: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
        let kib = line.and_then(|line| line.trim().strip_suffix(" kB")?.parse::<u64>().ok());
        kib.map(|kib| kib << 10).ok_or_else(|| wrong(format!("{}: no {name}", path.display())))
    };
    Ok((field("MemTotal")?, field("MemAvailable")?))
}

/// What the tree allows the group; all there is where it says nothing.
pub(super) fn allowed(tree: &Path, path: &str) -> u64 {
    let ancestors = Path::new(path).ancestors().filter_map(Path::to_str);
    let limit = |path: &str| {
        let group = below(tree, path);
        let files = ["memory.max", "memory.limit_in_bytes"].into_iter();
        files
            .filter_map(|name| std::fs::read_to_string(group.join(name)).ok()?.trim().parse::<u64>().ok())
            .min()
    };
    ancestors.filter_map(limit).min().unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_smallest_limit_on_the_way_up_holds() {
        let tree = tempfile::tempdir().unwrap();
        let group = tree.path().join("pod/app");
        std::fs::create_dir_all(&group).unwrap();
        std::fs::write(group.join("memory.max"), "max\n").unwrap();
        assert_eq!(allowed(tree.path(), "/pod/app"), u64::MAX);
        std::fs::write(tree.path().join("pod/memory.max"), "4096\n").unwrap();
        assert_eq!(allowed(tree.path(), "/pod/app"), 4_096);
        std::fs::write(group.join("memory.limit_in_bytes"), "100\n").unwrap();
        assert_eq!(allowed(tree.path(), "/pod/app"), 100);
    }

    #[test]
    fn the_node_is_read_in_bytes() {
        let proc = tempfile::tempdir().unwrap();
        assert!(of_node(proc.path()).is_err());
        std::fs::write(proc.path().join("meminfo"), "MemTotal: 8 kB\nMemFree: 1 kB\nMemAvailable:    2 kB\n")
            .unwrap();
        assert_eq!(of_node(proc.path()), Ok((8_192, 2_048)));
    }
}
