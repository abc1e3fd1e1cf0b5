//! What failed in the output of test programs, kept while it passes: the gate says it again at its end, where the
//! reader of a long log looks first.
//!
//! The form is libtest's: a line `---- NAME stdout ----` begins what a failed test said, the next of its kind or a line
//! `failures:` ends it.

use std::collections::VecDeque;
use std::fmt;

/// Enough for a panic's place and its message, and at the end for what an error was caused by; the whole is further up
/// in the output.
const FIRST_LINES: usize = 8;
const LAST_LINES: usize = 8;
const LINE_BYTES: usize = 300;
/// More tests than this fail for one reason, which the first of them say.
const TESTS: usize = 20;

/// Failed tests, each with the first and last of its words.
#[derive(Default)]
pub(crate) struct Failures {
    tests: Vec<Failure>,
    /// The lines are those of the newest test.
    open: bool,
    /// Tests past the limit.
    more: usize,
}

struct Failure {
    test: String,
    words: Vec<String>,
    /// The end of what `words` has no more room for.
    last: VecDeque<String>,
    /// Lines between the two.
    left_out: usize,
}

impl Failure {
    fn new(test: &str) -> Self {
        Self { test: test.to_owned(), words: Vec::new(), last: VecDeque::new(), left_out: 0 }
    }

    fn line(&mut self, line: &str) {
        let line = line.chars().take(LINE_BYTES).collect();
        if self.words.len() < FIRST_LINES {
            self.words.push(line);
            return;
        }
        self.last.push_back(line);
        if self.last.len() > LAST_LINES {
            self.last.pop_front();
            self.left_out += 1;
        }
    }
}

impl Failures {
    /// Looks at one line of a test program's output.
    pub(crate) fn line(&mut self, line: &str) {
        let line = line.trim_end();
        if let Some(test) = line.strip_prefix("---- ").and_then(|rest| rest.strip_suffix(" stdout ----")) {
            self.open = self.tests.len() < TESTS;
            if self.open {
                self.tests.push(Failure::new(test));
            } else {
                self.more += 1;
            }
        } else if line == "failures:" {
            self.open = false;
        } else if let Some(failure) = self.tests.last_mut().filter(|_| self.open)
            && !line.is_empty()
        {
            failure.line(line);
        }
    }

    /// Something else than a test failed, and said this.
    pub(crate) fn said(&mut self, who: &str, words: &str) {
        let mut failure = Failure::new(who);
        words.lines().map(str::trim_end).filter(|line| !line.is_empty()).for_each(|line| failure.line(line));
        self.tests.push(failure);
    }

    /// Adds those of another program or machine, their names after `label`.
    pub(crate) fn add(&mut self, label: &str, others: Self) {
        self.more += others.more;
        let named = |it: Failure| Failure { test: format!("{label}{}", it.test), ..it };
        self.tests.extend(others.tests.into_iter().map(named));
    }

    pub(crate) const fn is_empty(&self) -> bool {
        self.tests.is_empty()
    }
}

impl fmt::Display for Failures {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        for failure in &self.tests {
            writeln!(out, "{}", failure.test)?;
            for words in &failure.words {
                writeln!(out, "    {words}")?;
            }
            if failure.left_out > 0 {
                writeln!(out, "    ({} lines left out)", failure.left_out)?;
            }
            for words in &failure.last {
                writeln!(out, "    {words}")?;
            }
        }
        if self.more > 0 {
            writeln!(out, "and {} more", self.more)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::Failures;

    #[test]
    fn the_words_of_failed_tests_are_kept_and_nothing_else() {
        let output = "running 3 tests\n.F.\nfailures:\n\n---- a::b stdout ----\n\nthread 'a::b' panicked at x.rs:1:2:\n\
                      seen 4\n\n---- c stdout ----\nError: gone\n\nfailures:\n    a::b\n    c\n\ntest result: FAILED.\n";
        let mut failures = Failures::default();
        output.lines().for_each(|line| failures.line(line));
        let expected = "a::b\n    thread 'a::b' panicked at x.rs:1:2:\n    seen 4\nc\n    Error: gone\n";
        assert_eq!(failures.to_string(), expected);
    }

    #[test]
    fn what_a_machine_said_stands_beside_the_tests() {
        let mut machine = Failures::default();
        machine.said("the guest died", "[1.0] hvc0\r\n\n[2.0] Kernel panic\n");
        let mut failures = Failures::default();
        failures.add("6.1 ", machine);
        assert_eq!(failures.to_string(), "6.1 the guest died\n    [1.0] hvc0\n    [2.0] Kernel panic\n");
    }

    #[test]
    fn a_hundred_failures_are_counted_and_not_all_kept() {
        let mut failures = Failures::default();
        for test in 0..100 {
            failures.line(&format!("---- t{test} stdout ----"));
            (0..50).for_each(|word| failures.line(&format!("word {word}")));
        }
        let text = failures.to_string();
        assert_eq!(text.lines().count(), 20 * (1 + 8 + 1 + 8) + 1);
        assert!(
            text.starts_with("t0\n    word 0\n")
                && text.contains("word 7\n    (34 lines left out)\n    word 42\n")
        );
        assert!(text.ends_with("    word 49\nand 80 more\n"), "{text}");
    }
}
