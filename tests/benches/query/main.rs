//! `cargo xtask bench query`: a receiver as those see it who ask it for series, all over HTTP, as a process with the settings
//! that it ships with unless a line says otherwise.
//!
//! - a GPU's day, beside VictoriaMetrics with the same bytes in the same run ([`history`]);
//! - which GPUs there are, of 10,000 ([`gpus`]);
//! - a hundred nodes that bring 10,000 samples a second: memory, what a hundred tails cost, how soon a record is there to be
//!   asked for ([`live`]);
//! - a start with a month of days, after an orderly end and after SIGKILL ([`start`]).
//!
//! Goals are those of two cores that all processes and the clients share. No figure is asserted; that everything sent can be
//! asked for is. `-- NAME...` runs some of these parts; `-- --quick` only shows that everything runs.

#![expect(
    clippy::disallowed_methods,
    clippy::print_stdout,
    clippy::cast_precision_loss,
    reason = "a benchmark starts processes, reads the clock and prints"
)]

use std::path::Path;
use std::sync::LazyLock;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, ensure};
use sextant_tests::keep_alive::Connection;
use sextant_tests::role::Role;

mod gpus;
mod history;
mod live;
mod start;

const DAY_MS: i64 = 86_400_000;

type Part = (&'static str, fn(&Path) -> Result<()>);

const PARTS: [Part; 4] =
    [("history", history::run), ("gpus", gpus::run), ("live", live::run), ("start", start::run)];

/// How much of each thing is done.
struct Scale {
    /// Of the GPU's day.
    day_s: i64,
    questions: usize,
    gpus: usize,
    /// Of each of the parts of the time that nodes write.
    window: Duration,
    records: usize,
    /// Days of the month, and seconds of the newest.
    days: i64,
    today_s: i64,
}

static SCALE: LazyLock<Scale> = LazyLock::new(|| {
    if std::env::args().any(|argument| argument == "--quick") {
        let window = Duration::from_secs(3);
        Scale { day_s: 3_600, questions: 20, gpus: 100, window, records: 20, days: 3, today_s: 60 }
    } else {
        let window = Duration::from_secs(30);
        Scale { day_s: 86_400, questions: 300, gpus: 10_000, window, records: 300, days: 30, today_s: 3_600 }
    }
});

fn main() -> Result<()> {
    // `cargo test` builds benchmarks too, and runs them with this.
    if std::env::args().any(|argument| argument == "--test") {
        return Ok(());
    }
    let only: Vec<_> = std::env::args().skip(1).filter(|argument| !argument.starts_with("--")).collect();
    let unknown = only.iter().find(|name| PARTS.iter().all(|(part, _)| part != name));
    ensure!(unknown.is_none(), "{unknown:?} is no part: history, gpus, live, start");
    let dir = tempfile::tempdir()?;
    for (part, run) in PARTS {
        if only.is_empty() || only.iter().any(|name| name == part) {
            run(&dir.path().join(part))?;
        }
    }
    Ok(())
}

fn now_ns() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_nanos()).unwrap_or(i64::MAX)
}

/// When today began.
fn today_ms() -> i64 {
    let now_ms = now_ns() / 1_000_000;
    now_ms - now_ms.rem_euclid(DAY_MS)
}

/// A receiver with this configuration.
fn receiver(dir: &Path, config: &str) -> Result<Role> {
    std::fs::create_dir_all(dir)?;
    let file = dir.join("receiver.toml");
    std::fs::write(&file, config)?;
    Role::start("receiver", dir, &["--config", file.to_str().context("a path of plain letters")?])
}

/// Asks the same so many times, a few times before that; how long each answer took, and the last one.
fn ask(address: &str, question: &[u8], times: usize) -> Result<(Vec<Duration>, String)> {
    let mut connection = Connection::open(address)?;
    for _ in 0..3 {
        connection.ask(question)?;
    }
    let mut waits = Vec::with_capacity(times);
    let mut last = String::new();
    for _ in 0..times {
        let asked = Instant::now();
        let answer = connection.ask(question)?;
        waits.push(asked.elapsed());
        answer.clone_into(&mut last);
    }
    Ok((waits, last))
}

/// The wait that so many of a thousand are not longer than, ms.
fn at(waits: &[Duration], per_mille: usize) -> f64 {
    let mut waits = waits.to_vec();
    waits.sort_unstable();
    let wait = waits.get(waits.len().saturating_sub(1) * per_mille / 1_000);
    wait.map_or(f64::NAN, |wait| wait.as_secs_f64() * 1e3)
}

/// `p50   1.23 ms, p99   4.56 ms`.
fn words(waits: &[Duration]) -> String {
    format!("p50 {:>7.2} ms, p99 {:>7.2} ms", at(waits, 500), at(waits, 990))
}
