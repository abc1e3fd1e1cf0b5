//! What a role says of the machine it runs on: name, kernel, boot id. Read once at start.

use std::path::Path;

use crate::host::HostRoots;
use crate::http::{Identity, Role};

/// The kernel's names are at most 64 bytes; boot and machine ids are 32 to 36.
const FACT_MAX_BYTES: usize = 256;

/// This machine's fixed facts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostFacts {
    /// The node's name: configured, else the host name.
    pub node: String,
    /// `/proc/sys/kernel/osrelease`.
    pub kernel: String,
    /// `/proc/sys/kernel/random/boot_id`: pids and ticks mean nothing outside it.
    pub boot_id: String,
    /// `/etc/machine-id`, else the node's name.
    pub machine_id: String,
}

impl HostFacts {
    /// Reads them; what cannot be read is `unknown`, which a person sees and a program can tell.
    pub fn read(roots: &HostRoots, configured_name: &str) -> Self {
        let kernel = |name: &str| word(&roots.proc.join("sys/kernel").join(name));
        let node =
            if configured_name.is_empty() { kernel("hostname") } else { Some(configured_name.to_owned()) };
        let node = node.unwrap_or_else(unknown);
        Self {
            kernel: kernel("osrelease").unwrap_or_else(unknown),
            boot_id: kernel("random/boot_id").unwrap_or_else(unknown),
            machine_id: word(Path::new("/etc/machine-id")).unwrap_or_else(|| node.clone()),
            node,
        }
    }

    /// As HTTP tells it.
    pub fn identity(&self, role: Role, started_at_ns: i64) -> Identity {
        Identity {
            role,
            name: self.node.clone(),
            kernel: self.kernel.clone(),
            machine_id: self.machine_id.clone(),
            started_at_ns,
        }
    }
}

fn word(path: &Path) -> Option<String> {
    let text = std::fs::read_to_string(path).ok()?;
    let word = text.trim();
    (!word.is_empty() && word.len() <= FACT_MAX_BYTES).then(|| word.to_owned())
}

fn unknown() -> String {
    "unknown".to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn facts_come_from_the_roots_and_absence_is_said() {
        let dir = tempfile::tempdir().unwrap();
        let kernel = dir.path().join("sys/kernel/random");
        std::fs::create_dir_all(&kernel).unwrap();
        std::fs::write(kernel.join("boot_id"), "0f3c\n").unwrap();
        std::fs::write(dir.path().join("sys/kernel/hostname"), "node-7\n").unwrap();
        let roots = HostRoots { proc: dir.path().into(), ..HostRoots::default() };
        let facts = HostFacts::read(&roots, "");
        assert_eq!((facts.node.as_str(), facts.boot_id.as_str()), ("node-7", "0f3c"));
        assert_eq!(facts.kernel, "unknown");
        assert_eq!(HostFacts::read(&roots, "given").node, "given");
    }
}
