//! How far it is, on standard error: a bar on a terminal, elsewhere a line now and then.

use std::cell::Cell;
use std::io::IsTerminal as _;

use indicatif::{ProgressBar, ProgressStyle};
use tokio::time::{Duration, Instant};

use super::account::Account;

/// Between two lines of a log.
const LINES: Duration = Duration::from_secs(10);

pub(super) struct Progress {
    bar: Option<ProgressBar>,
    said: Cell<Instant>,
    waiting: Cell<bool>,
}

impl Progress {
    /// Of so many rows, if they have an end.
    pub(super) fn new(rows: Option<u64>) -> Self {
        let bar = std::io::stderr().is_terminal().then(|| bar(rows));
        Self { bar, said: Cell::new(Instant::now()), waiting: Cell::new(false) }
    }

    pub(super) fn show(&self, account: &Account) {
        if let Some(bar) = &self.bar {
            bar.set_position(account.done());
        } else if self.said.get().elapsed() >= LINES {
            self.said.set(Instant::now());
            say(&account.line());
        }
    }

    /// The receiver takes nothing at present.
    pub(super) fn waits(&self, why: &str, account: &Account) {
        let is_new = !self.waiting.replace(true);
        match &self.bar {
            Some(bar) => bar.set_message(format!("waiting: {why}")),
            None if is_new || self.said.get().elapsed() >= LINES => {
                self.said.set(Instant::now());
                say(&format!("waiting, {}: {why}", account.line()));
            }
            None => {}
        }
    }

    /// It does again.
    pub(super) fn goes_on(&self) {
        if self.waiting.replace(false) {
            match &self.bar {
                Some(bar) => bar.set_message(""),
                None => say("goes on"),
            }
        }
    }

    /// Leaves the terminal as it was.
    pub(super) fn finish(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

fn bar(rows: Option<u64>) -> ProgressBar {
    let (bar, template) = match rows {
        Some(rows) => (ProgressBar::new(rows), "{bar:30} {pos}/{len} rows {per_sec} {eta} {wide_msg}"),
        None => (ProgressBar::no_length(), "{spinner} {pos} rows {per_sec} {wide_msg}"),
    };
    // The templates are right: else the library's own style stays.
    if let Ok(style) = ProgressStyle::with_template(template) {
        bar.set_style(style);
    }
    bar
}

#[expect(clippy::print_stderr, reason = "progress for a person; standard output is for the accounts")]
pub(super) fn say(text: &str) {
    eprintln!("sextant: {text}");
}
