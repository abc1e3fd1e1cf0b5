//! `cargo xtask fuzz TARGET`: libFuzzer on what Sextant reads from others, with a nightly compiler.
//!
//! Inputs worth keeping for everyone lie in `tests/fuzz/seeds/TARGET`; what a run finds goes to `target/fuzz`.

use std::fs;
use std::process::Command;

use anyhow::{Context, Result};

use crate::cache::Cache;
use crate::{process, tools, workspace};

/// Feed a decoder random bytes until it breaks or the time is over.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// What to fuzz: a program of `tests/fuzz/targets`; without one, each in turn
    target: Option<String>,
    /// How long for each target
    #[arg(long, default_value_t = 60)]
    seconds: u32,
}

/// Fuzzes one target or all of them; fails at the first input that breaks one.
pub(crate) fn main(args: &Args) -> Result<u8> {
    let cargo_fuzz = tools::cargo_fuzz(&Cache::open()?)?;
    for target in targets(args.target.as_deref())? {
        let home = workspace().canonicalize()?;
        let found = home.join("target/fuzz/corpus").join(&target);
        let broken = home.join("target/fuzz/artifacts").join(&target);
        fs::create_dir_all(&found)?;
        fs::create_dir_all(&broken)?;
        let mut fuzz = Command::new(&cargo_fuzz);
        // No sanitizer: what is fuzzed has no unsafe code, and breaks by panics, overflows and time.
        fuzz.args(["fuzz", "run", "--sanitizer", "none"]);
        fuzz.args(["--fuzz-dir", "tests/fuzz", "--target-dir", "target/fuzz"]);
        fuzz.arg(&target).arg(&found).arg(home.join("tests/fuzz/seeds").join(&target));
        fuzz.arg("--").arg(format!("-max_total_time={}", args.seconds));
        // A decoder that takes ten seconds, or two gigabytes, is broken as well.
        fuzz.args(["-timeout=10", "-rss_limit_mb=2048", "-print_final_stats=1"]);
        fuzz.arg(format!("-artifact_prefix={}/", broken.display()));
        // This cargo was started with the pinned toolchain in its environment; coverage counters need nightly.
        fuzz.env("RUSTUP_TOOLCHAIN", "nightly").env_remove("CARGO").env_remove("RUSTC");
        process::shown(fuzz.current_dir(&home)).with_context(|| {
            format!("{target}: the input that broke it, if one did, is in {}", broken.display())
        })?;
    }
    Ok(0)
}

fn targets(wanted: Option<&str>) -> Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in fs::read_dir(workspace().join("tests/fuzz/targets"))? {
        let path = entry?.path();
        names.extend(path.file_stem().map(|stem| stem.to_string_lossy().into_owned()));
    }
    names.sort();
    if let Some(wanted) = wanted {
        anyhow::ensure!(
            names.iter().any(|name| name == wanted),
            "no target {wanted}: there are {}",
            names.join(", ")
        );
        names.retain(|name| name == wanted);
    }
    Ok(names)
}
