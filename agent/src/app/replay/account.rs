//! What became of every row: `rows = sent + quarantined + blank + unsent`.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::Result;
use serde::Serialize;

use crate::domain::gpu::Blank;
use crate::sources::gpu::csv::Reason;

/// The accounts of a run, as they are printed.
#[derive(Debug, Default, Serialize)]
pub(super) struct Account {
    /// Rows read, in all passes.
    rows: u64,
    /// Rows that the receiver has.
    sent: u64,
    /// Rows that are none, by reason.
    quarantined: Counts,
    /// Rows without a value, by reason.
    blank: Counts,
    /// Rows that the receiver has not, as far as is known: the run was stopped.
    unsent: u64,
    /// Times that the file was begun.
    pub(super) passes: u64,
    /// Requests that the receiver took.
    batches: u64,
    /// Of those, taken before, when the answer was lost.
    duplicate_batches: u64,
    /// Requests that it did not take, and that were sent again.
    pub(super) retries: u64,
    /// How long it took, s.
    seconds: f64,
    /// Where the bad rows are.
    quarantine_file: Option<PathBuf>,
}

#[derive(Debug, Default, Serialize)]
struct Counts {
    total: u64,
    #[serde(flatten)]
    by_reason: BTreeMap<&'static str, u64>,
}

impl Counts {
    fn add(&mut self, reason: &'static str) {
        self.total += 1;
        *self.by_reason.entry(reason).or_default() += 1;
    }

    fn words(&self) -> String {
        let parts: Vec<_> =
            self.by_reason.iter().map(|(reason, count)| format!("{reason} {count}")).collect();
        if parts.is_empty() { String::new() } else { format!(" ({})", parts.join(", ")) }
    }
}

impl Account {
    pub(super) fn kept(&mut self, rows: usize, duplicate: bool) {
        self.sent += u64::try_from(rows).unwrap_or(u64::MAX);
        self.batches += 1;
        self.duplicate_batches += u64::from(duplicate);
    }

    pub(super) fn quarantined(&mut self, reason: Reason) {
        self.quarantined.add(reason.name());
    }

    pub(super) fn blank(&mut self, blank: Blank) {
        self.blank.add(blank.name());
    }

    pub(super) const fn sent(&self) -> u64 {
        self.sent
    }

    /// Rows that are dealt with.
    pub(super) const fn done(&self) -> u64 {
        self.sent + self.quarantined.total + self.blank.total
    }

    /// At the end.
    pub(super) fn close(&mut self, rows: u64, took: Duration, quarantine_file: Option<PathBuf>) {
        self.rows = rows;
        self.unsent = rows - self.done();
        self.seconds = took.as_secs_f64();
        self.quarantine_file = quarantine_file;
    }

    pub(super) fn json(&self) -> Result<String> {
        Ok(serde_json::to_string_pretty(self)? + "\n")
    }

    /// A line for a person while it runs.
    pub(super) fn line(&self) -> String {
        format!(
            "{} rows sent, {} bad, {} without a value",
            self.sent, self.quarantined.total, self.blank.total
        )
    }

    /// For a person, at the end.
    pub(super) fn text(&self) -> String {
        let mut text = format!(
            "rows         {}\nsent         {}\nquarantined  {}{}\nblank        {}{}\n",
            self.rows,
            self.sent,
            self.quarantined.total,
            self.quarantined.words(),
            self.blank.total,
            self.blank.words(),
        );
        if self.unsent > 0 {
            text += &format!("unsent       {}\n", self.unsent);
        }
        text += &format!("in {:.1} s, {} batches, {} sent again\n", self.seconds, self.batches, self.retries);
        if let Some(file) = &self.quarantine_file {
            text += &format!("bad rows are in {}\n", file.display());
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sums_add_up_in_words_and_in_json() {
        let mut account = Account::default();
        account.kept(5, false);
        account.kept(2, true);
        account.quarantined(Reason::Quotes);
        account.quarantined(Reason::Value);
        account.blank(Blank::Sentinel);
        account.close(12, Duration::from_secs(2), None);
        let json: serde_json::Value = serde_json::from_str(&account.json().unwrap()).unwrap();
        let number = |path: &str| json.pointer(path).and_then(serde_json::Value::as_u64).unwrap();
        assert_eq!(
            number("/rows"),
            number("/sent") + number("/quarantined/total") + number("/blank/total") + number("/unsent")
        );
        assert_eq!(
            (number("/unsent"), number("/quarantined/quotes"), number("/duplicate_batches")),
            (2, 1, 1)
        );
        let text = account.text();
        assert!(
            text.contains("quarantined  2 (quotes 1, value 1)\n") && text.contains("unsent       2\n"),
            "{text}"
        );
    }
}
