//! Starting other programs: every failure names the program, its end and its last words.

use std::ffi::OsStr;
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

use crate::failures::Failures;

/// Runs a command to its end, silent unless it fails.
pub(crate) fn quiet(command: &mut Command) -> Result<()> {
    output(command).map(drop)
}

/// Runs a command to its end and returns its standard output.
pub(crate) fn output(command: &mut Command) -> Result<Vec<u8>> {
    let done = command.stdin(Stdio::null()).output().with_context(|| missing(command))?;
    if !done.status.success() {
        let words = String::from_utf8_lossy(&done.stderr);
        let start = words.char_indices().rev().nth(2000).map_or(0, |(at, _)| at);
        bail!("`{}` failed ({}):\n{}", line(command), done.status, words[start..].trim_end());
    }
    Ok(done.stdout)
}

/// Runs a command to its end with its output on the terminal.
pub(crate) fn shown(command: &mut Command) -> Result<()> {
    let status = command.stdin(Stdio::null()).status().with_context(|| missing(command))?;
    if !status.success() {
        bail!("`{}` failed ({status})", line(command));
    }
    Ok(())
}

/// Runs a test program to its end with its output on the terminal; what failed is said again in the error.
pub(crate) fn tested(command: &mut Command) -> Result<()> {
    let mut failures = Failures::default();
    let mut child =
        command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().with_context(|| missing(command))?;
    let output = child.stdout.take().context("the output is not a pipe")?;
    for line in BufReader::new(output).split(b'\n') {
        let line = line.context("cannot read the output")?;
        let line = String::from_utf8_lossy(&line);
        println!("{line}");
        failures.line(&line);
    }
    let status = child.wait()?;
    if !status.success() {
        bail!("`{}` failed ({status})\n{failures}", line(command));
    }
    Ok(())
}

/// The command that gives way to everything else on the machine: for builds of many minutes.
pub(crate) fn background(program: impl AsRef<OsStr>) -> Command {
    let mut command = Command::new("nice");
    command.args(["-n", "10"]).arg(program);
    command
}

/// Where `PATH` (and the administrator's directories, which a user's `PATH` often lacks) has a program.
pub(crate) fn find(program: &str) -> Result<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .chain(["/usr/sbin".into(), "/sbin".into()])
        .map(|directory| directory.join(program))
        .find(|candidate| candidate.is_file())
        .with_context(|| format!("`{program}` is not on this machine: install the package that has it"))
}

/// `a:b:c`, the form of every search path.
pub(crate) fn join(paths: impl IntoIterator<Item = impl AsRef<Path>>) -> String {
    paths.into_iter().map(|path| path.as_ref().display().to_string()).collect::<Vec<_>>().join(":")
}

fn missing(command: &Command) -> String {
    format!("cannot start `{}`: is it installed?", command.get_program().display())
}

fn line(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    words.map(|word| word.to_string_lossy()).collect::<Vec<_>>().join(" ")
}
