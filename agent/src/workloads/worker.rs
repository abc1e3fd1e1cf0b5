//! A worker: this binary as a child of the node, on its way to be sysbench or a generator.
//!
//! Before anything else it asks the kernel to kill it when the thread that started it ends, and looks whether that has
//! happened already. That wish outlives `exec`, so a sysbench needs no guardian. Then it reads its order from standard
//! input: secrets are on no command line, in no environment and in no file but a memory file that ends with the process,
//! and that sysbench is told as `/dev/fd/N`.

use std::convert::Infallible;
use std::io::{Read as _, Write as _};
use std::os::fd::AsRawFd as _;
use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::Command;

use rustix::fs::{MemfdFlags, Mode, OFlags, memfd_create};
use rustix::process::{Signal, getppid, set_parent_process_death_signal};
use rustix::stdio::dup2_stdin;
use serde::{Deserialize, Serialize};

pub mod generator;

/// The verb of a worker.
pub const VERB: &str = "workload-worker";
/// An order is a few arguments; what is longer is none.
const MAX_ORDER_BYTES: u64 = 64 << 10;
/// Where a program that is a script finds its own: the environment is empty but for this.
pub(super) const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// What a worker is told, as JSON on standard input.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Order {
    /// Become this program.
    Program {
        /// Its file.
        path: PathBuf,
        /// Where its Lua scripts lie; empty: where it looks by itself.
        scripts: PathBuf,
        /// What `--config-file` is to hold: one `key=value` a line, secrets among them.
        config: String,
        /// Everything after `--config-file`.
        arguments: Vec<String>,
    },
    /// Be a generator.
    Generate(generator::Order),
}

/// Runs a worker of the node `parent` to its end.
///
/// # Errors
/// Why it could not begin.
pub fn run(parent: u32, guarded: bool) -> Result<(), String> {
    if guarded {
        guard(parent)?;
    }
    // The first that the kernel kills when memory runs out, whatever the node's own service is worth.
    let score = "/proc/self/oom_score_adj";
    std::fs::write(score, "1000").map_err(|error| format!("{score}: {error}"))?;
    match read()? {
        Order::Generate(order) => generator::run(&order, guarded),
        Order::Program { path, scripts, config, arguments } => {
            become_program(&path, &scripts, &config, &arguments).map(|never| match never {})
        }
    }
}

fn guard(parent: u32) -> Result<(), String> {
    set_parent_process_death_signal(Some(Signal::KILL)).map_err(|e| format!("parent's death signal: {e}"))?;
    // A node that ended before the kernel knew of the wish.
    let now = getppid().map(|pid| pid.as_raw_nonzero().get().unsigned_abs());
    if now == Some(parent) { Ok(()) } else { Err("the node has ended".to_owned()) }
}

fn read() -> Result<Order, String> {
    let mut text = Vec::new();
    let fail = |error: &dyn std::fmt::Display| format!("no order: {error}");
    std::io::stdin().take(MAX_ORDER_BYTES).read_to_end(&mut text).map_err(|error| fail(&error))?;
    let order = serde_json::from_slice(&text).map_err(|error| fail(&error))?;
    let nothing = rustix::fs::open("/dev/null", OFlags::RDONLY, Mode::empty()).map_err(|e| fail(&e))?;
    dup2_stdin(&nothing).map_err(|error| fail(&error))?;
    Ok(order)
}

#[expect(clippy::disallowed_methods, reason = "starts no process: becomes one")]
fn become_program(
    path: &std::path::Path,
    scripts: &std::path::Path,
    config: &str,
    arguments: &[String],
) -> Result<Infallible, String> {
    // Not closed by exec.
    let memory = memfd_create("config", MemfdFlags::empty()).map_err(|e| format!("memory file: {e}"))?;
    let mut memory = std::fs::File::from(memory);
    memory.write_all(config.as_bytes()).map_err(|error| format!("memory file: {error}"))?;
    let mut command = Command::new(path);
    command.arg(format!("--config-file=/dev/fd/{}", memory.as_raw_fd())).args(arguments);
    command.env_clear().env("PATH", PATH);
    if !scripts.as_os_str().is_empty() {
        command.env("LUA_PATH", scripts.join("?.lua"));
    }
    Err(format!("{}: {}", path.display(), command.exec()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_child_of_another_is_not_ours() {
        // Nobody is a child of itself.
        assert_eq!(guard(std::process::id()), Err("the node has ended".to_owned()));
        // The test's own parent may end as it likes.
        set_parent_process_death_signal(None).unwrap();
    }
}
