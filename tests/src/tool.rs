//! Where the tools are that tests call.

#![expect(clippy::panic, reason = "a test without its tool fails")]

use std::path::PathBuf;

use anyhow::{Context as _, Result};

/// As [`find`], for what a test cannot do without.
///
/// # Panics
/// When it is nowhere.
pub fn tool(variable: &str, program: &str) -> PathBuf {
    find(variable, program).unwrap_or_else(|error| panic!("{error}"))
}

/// A tool: the variable that names it, else the note that `cargo xtask fetch` left, else `PATH`.
///
/// # Errors
/// When it is nowhere: `cargo xtask fetch` brings it.
pub fn find(variable: &str, program: &str) -> Result<PathBuf> {
    let given = std::env::var_os(variable).map(PathBuf::from);
    let noted = || {
        let notes = std::fs::read_to_string(cache()?.join("notes/tools")).ok()?;
        notes.lines().find_map(|line| line.strip_prefix(variable)?.strip_prefix('=')).map(PathBuf::from)
    };
    let installed = || {
        let path = std::env::var_os("PATH")?;
        std::env::split_paths(&path).map(|folder| folder.join(program)).find(|path| path.is_file())
    };
    let found = given.or_else(noted).filter(|path| path.is_file()).or_else(installed);
    found.with_context(|| format!("{program} is not here: run `cargo xtask fetch`, or name it in {variable}"))
}

fn cache() -> Option<PathBuf> {
    let directory = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    directory("SEXTANT_CACHE")
        .or_else(|| Some(directory("XDG_CACHE_HOME")?.join("sextant")))
        .or_else(|| Some(directory("HOME")?.join(".cache/sextant")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[should_panic(expected = "run `cargo xtask fetch`")]
    fn a_missing_tool_fails_and_says_how_to_get_it() {
        tool("SEXTANT_NO_SUCH_TOOL", "no-such-program-anywhere");
    }
}
