//! The real binary as judge of command lines and variables: `--check` parses them and starts nothing.

use std::collections::BTreeSet;
use std::process::Command;

use sextant_tests::role::sextant;

use crate::tool::{Said, run};

/// What the binary says to these arguments and variables.
pub(crate) fn check(arguments: &[String], environment: &[(String, String)]) -> Said {
    let environment = environment.iter().map(|(name, value)| (name, value));
    run(Command::new(sextant()).args(arguments).arg("--check").envs(environment))
}

/// The variables that a role's help names.
pub(crate) fn variables(role: &str) -> BTreeSet<String> {
    let help = run(Command::new(sextant()).args([role, "--help"])).expect_content();
    let named = help.split("[env: ").skip(1).filter_map(|rest| rest.split(['=', ']']).next());
    named.map(str::to_owned).collect()
}

/// The arguments with one flag misspelt: what every test of a command line must see refused.
pub(crate) fn misspelt(arguments: &[String]) -> Vec<String> {
    let mut broken = arguments.to_vec();
    let flag = broken.iter_mut().find(|argument| argument.starts_with("--")).expect("a flag to misspell");
    flag.insert(3, 'x');
    broken
}
