//! The directory that the guest sees as /share: the binary under test, the schedulers, the test program.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result};

use super::guest::Job;
use super::{schedulers, scratch};
use crate::cache::Cache;

/// What is staged; removed when dropped.
pub(crate) struct Stage {
    directory: tempfile::TempDir,
}

impl Stage {
    /// Builds `sextant` and stages it with every scheduler.
    pub(crate) fn new(cache: &Cache) -> Result<Self> {
        let stage = Self { directory: scratch::directory()? };
        let sextant = build(&["build", "--package", "sextant", "--bin", "sextant"], "sextant")?;
        stage.add(&sextant, "sextant")?;
        for scheduler in schedulers::all(cache)? {
            stage.add(&scheduler.program, &format!("schedulers/{}", scheduler.name))?;
        }
        Ok(stage)
    }

    /// Builds the test program and stages it with its data.
    pub(crate) fn add_tests(&mut self) -> Result<()> {
        let arguments =
            ["test", "--package", "sextant-tests", "--features", "vm", "--test", "vm", "--no-run"];
        self.add(&build(&arguments, "vm")?, "vm-tests")?;
        for data in ["fixtures", "golden"] {
            let from = workspace().join("tests").join(data);
            if from.is_dir() {
                let copied = Command::new("cp").arg("-r").arg(&from).arg(self.directory.path()).status()?;
                anyhow::ensure!(copied.success(), "cannot copy {}", from.display());
            }
        }
        Ok(())
    }

    /// Shares the directory with the job and tells it where things are.
    pub(crate) fn give(&self, job: &mut Job) {
        job.share = Some(self.directory.path().to_owned());
        for (name, value) in [
            ("SEXTANT_BIN", "/share/sextant"),
            ("SEXTANT_SCHEDULERS", "/share/schedulers"),
            ("SEXTANT_FIXTURES", "/share/fixtures"),
            ("SEXTANT_GOLDEN", "/share/golden"),
            ("RUST_BACKTRACE", "1"),
            // Of panics only: a test's error says where by its words.
            ("RUST_LIB_BACKTRACE", "0"),
        ] {
            job.environment.push((name.to_owned(), value.to_owned()));
        }
    }

    fn add(&self, file: &Path, name: &str) -> Result<()> {
        let to = self.directory.path().join(name);
        if let Some(parent) = to.parent() {
            fs::create_dir_all(parent)?;
        }
        fs::copy(file, &to).with_context(|| format!("cannot stage {}", file.display()))?;
        Ok(())
    }
}

fn workspace() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// Runs cargo and returns the executable it made for a target of this name.
fn build(arguments: &[&str], target: &str) -> Result<PathBuf> {
    eprintln!("vm: cargo {}", arguments.join(" "));
    let mut cargo = Command::new("cargo");
    cargo
        .args(arguments)
        .args(["--quiet", "--message-format=json-render-diagnostics"])
        .current_dir(workspace());
    let done = cargo.stdin(Stdio::null()).stderr(Stdio::inherit()).output().context("cannot start cargo")?;
    anyhow::ensure!(done.status.success(), "cargo {} failed ({})", arguments.join(" "), done.status);
    let messages = String::from_utf8_lossy(&done.stdout);
    let messages = messages.lines().filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok());
    let made = messages.filter(|message| message["target"]["name"] == target);
    let executable = made.filter_map(|message| message["executable"].as_str().map(PathBuf::from)).next_back();
    executable.with_context(|| format!("cargo {} made no program `{target}`", arguments.join(" ")))
}
