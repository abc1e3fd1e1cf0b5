//! What a database says of itself: two looks at its counters make one sample.
//!
//! A figure is a number or the reason why there is none; nothing is made up. A counter that went backwards is no reading.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;

/// A number, or why there is none.
pub type Figure = Result<f64, Cow<'static, str>>;

/// Why a figure of two looks has none after the first.
pub const FIRST: Cow<'static, str> =
    Cow::Borrowed("a second reading is needed: it comes with the next interval");

/// A database's figures at one moment; rates are of the time since the look before.
#[derive(Clone, Debug, PartialEq)]
pub struct Sample {
    /// Wall time, ns since the epoch.
    pub at_ns: i64,
    /// Statements a second.
    pub qps: Figure,
    /// Transactions a second that were committed or rolled back.
    pub tps: Figure,
    /// Sessions that do something, our own not among them.
    pub active_sessions: Figure,
    /// Mean time of a statement, s.
    pub sql_response_time: Figure,
    /// Bytes read and written a second.
    pub disk_io_bytes: Figure,
    /// Reads and writes a second.
    pub disk_iops: Figure,
    /// Memory, MB (2^20 bytes).
    pub memory_usage: Figure,
    /// Reads of pages that needed no disk, percent.
    pub cache_hit_ratio: Figure,
    /// Statements slower than the server's own mark, since the look before.
    pub slow_queries: Figure,
    /// Deadlocks since the look before.
    pub deadlocks: Figure,
    /// How far the replica that is furthest behind is, s.
    pub replication_lag: Figure,
    /// Sessions, our own not among them.
    pub connection_count: Figure,
}

/// How many figures a [`Sample`] has.
pub const FIGURES: usize = 12;

impl Sample {
    /// Its figures with the names that the wire has for them.
    pub const fn figures(&self) -> [(&'static str, &Figure); FIGURES] {
        [
            ("qps", &self.qps),
            ("tps", &self.tps),
            ("active_sessions", &self.active_sessions),
            ("sql_response_time", &self.sql_response_time),
            ("disk_io_bytes", &self.disk_io_bytes),
            ("disk_iops", &self.disk_iops),
            ("memory_usage", &self.memory_usage),
            ("cache_hit_ratio", &self.cache_hit_ratio),
            ("slow_queries", &self.slow_queries),
            ("deadlocks", &self.deadlocks),
            ("replication_lag", &self.replication_lag),
            ("connection_count", &self.connection_count),
        ]
    }
}

/// A tenant's figures at one moment.
#[derive(Clone, Debug, PartialEq)]
pub struct TenantSample {
    /// Wall time, ns since the epoch.
    pub at_ns: i64,
    /// Its name.
    pub tenant: String,
    /// Of the CPUs that it may use, percent.
    pub cpu_percent: Figure,
    /// MB (2^20 bytes).
    pub memory_used: Figure,
    /// Data and log, MB (2^20 bytes).
    pub disk_used: Figure,
    /// Reads and writes a second.
    pub iops: Figure,
    /// Sessions.
    pub session_count: Figure,
    /// Sessions that do something.
    pub active_session_count: Figure,
}

impl TenantSample {
    /// Its figures with the names that the wire has for them.
    pub const fn figures(&self) -> [(&'static str, &Figure); 6] {
        [
            ("cpu_percent", &self.cpu_percent),
            ("memory_used", &self.memory_used),
            ("disk_used", &self.disk_used),
            ("iops", &self.iops),
            ("session_count", &self.session_count),
            ("active_session_count", &self.active_session_count),
        ]
    }
}

/// What a source of databases has kept.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct History {
    /// The server's kind and version; none before the first answer.
    pub server: Option<String>,
    /// Why there is nothing at the moment.
    pub off_because: Option<String>,
    /// Of the database, oldest first.
    pub samples: Vec<Arc<Sample>>,
    /// Of each tenant, oldest first.
    pub tenants: BTreeMap<String, Vec<Arc<TenantSample>>>,
    /// Why there are no tenants.
    pub no_tenants: Option<String>,
}

/// Counters and gauges of one look, by the server's names.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Look {
    /// Monotonic, s.
    pub at_s: f64,
    /// What was found.
    pub values: BTreeMap<String, f64>,
    /// Why something was not found, by name.
    pub lacks: BTreeMap<String, String>,
}

impl Look {
    /// A gauge.
    ///
    /// # Errors
    /// Why it is not there.
    pub fn gauge(&self, name: &str) -> Figure {
        self.values.get(name).copied().ok_or_else(|| match self.lacks.get(name) {
            Some(why) => why.clone().into(),
            None => format!("the server does not tell {name}").into(),
        })
    }

    /// What counters have grown by since the look before, in sum.
    ///
    /// # Errors
    /// One is not there, or went backwards, or there was no look before.
    pub fn grown(&self, before: Option<&Self>, names: &[&str]) -> Figure {
        let mut sum = 0.0;
        for name in names {
            let now = self.gauge(name)?;
            let before = before.ok_or(FIRST)?.gauge(name).map_err(|_| FIRST)?;
            if now < before {
                return Err(format!("{name} went backwards: the server began anew").into());
            }
            sum += now - before;
        }
        Ok(sum)
    }

    /// The same per second.
    ///
    /// # Errors
    /// As [`Self::grown`].
    pub fn rate(&self, before: Option<&Self>, names: &[&str]) -> Figure {
        let grown = self.grown(before, names)?;
        let elapsed_s = self.at_s - before.map_or(self.at_s, |before| before.at_s);
        if elapsed_s > 0.0 { Ok(grown / elapsed_s) } else { Err(FIRST) }
    }

    /// The same without what we asked ourselves ([`OWN`]).
    ///
    /// # Errors
    /// As [`Self::grown`].
    pub fn rate_of_others(&self, before: Option<&Self>, names: &[&str]) -> Figure {
        // Servers do not count every statement that they refuse.
        Ok((self.rate(before, names)? - self.rate(before, &[OWN])?).max(0.0))
    }
}

/// The name of what we asked ourselves, in each look.
pub const OWN: &str = "our own statements";

/// `part` of `whole`; why not where there was none of it.
///
/// # Errors
/// Either is not known, or `whole` is nothing.
pub fn ratio(part: Figure, whole: Figure, nothing: &'static str) -> Figure {
    let (part, whole) = (part?, whole?);
    if whole > 0.0 { Ok(part / whole) } else { Err(nothing.into()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn look(at_s: f64, values: &[(&str, f64)]) -> Look {
        let values = values.iter().map(|(name, value)| ((*name).to_owned(), *value)).collect();
        Look { at_s, values, lacks: [("gone".to_owned(), "switched off".to_owned())].into() }
    }

    #[test]
    fn a_rate_is_of_growth_and_never_negative() {
        let (before, now) = (look(10.0, &[("a", 5.0), ("b", 1.0)]), look(12.0, &[("a", 9.0), ("b", 3.0)]));
        assert_eq!(now.rate(Some(&before), &["a", "b"]), Ok(3.0));
        assert_eq!(now.grown(Some(&before), &["a"]), Ok(4.0));
        assert!(before.rate(Some(&now), &["a"]).unwrap_err().contains("a went backwards"));
        assert_eq!(now.rate(None, &["a"]), Err(FIRST));
        assert_eq!(now.rate(Some(&now), &["a"]), Err(FIRST), "no time has passed");
    }

    #[test]
    fn what_is_not_there_has_a_reason() {
        let (before, now) = (look(1.0, &[]), look(2.0, &[("a", 1.0)]));
        assert_eq!(now.gauge("gone").unwrap_err(), "switched off");
        assert!(now.gauge("b").unwrap_err().contains('b'));
        assert_eq!(now.rate(Some(&before), &["a"]), Err(FIRST), "it came with this look");
        assert_eq!(ratio(Ok(1.0), Ok(0.0), "idle"), Err("idle".into()));
        assert_eq!(ratio(Ok(1.0), Ok(4.0), "idle"), Ok(0.25));
    }
}
