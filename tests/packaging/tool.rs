//! Where the tools are, and what they said.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

pub(crate) use sextant_tests::tool::tool;

/// A file of the repository.
pub(crate) fn repository(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the package lies in the repository").join(path)
}

/// The text of a file of the repository.
pub(crate) fn text(path: &str) -> String {
    let path = repository(path);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// What a program said on both of its outputs, and whether it was content.
#[derive(Debug)]
pub(crate) struct Said {
    pub(crate) content: bool,
    pub(crate) text: String,
}

impl Said {
    /// The text of a program that was content.
    #[track_caller]
    pub(crate) fn expect_content(self) -> String {
        assert!(self.content, "{}", self.text);
        self.text
    }

    /// The text of a program that was not.
    #[track_caller]
    pub(crate) fn expect_refusal(self) -> String {
        assert!(!self.content, "accepted, but should not be: {}", self.text);
        self.text
    }
}

/// Runs a program to its end, without the variables that would change what Sextant reads.
pub(crate) fn run(command: &mut Command) -> Said {
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("SEXTANT_") {
            let given = command.get_envs().any(|(set, _)| set == name);
            if !given {
                command.env_remove(name);
            }
        }
    }
    let output = command.stdin(Stdio::null()).output();
    let output = output.unwrap_or_else(|error| panic!("{}: {error}", command.get_program().display()));
    let text = [output.stdout, output.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
    Said { content: output.status.success(), text: text.concat() }
}
