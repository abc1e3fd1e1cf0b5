//! What a file of rules may say.
//!
//! ```toml
//! [[rule]]
//! name = "RunQueueSlow"
//! metric = "sextant_pod_runqueue_latency_seconds_bucket"
//! quantile = 0.99
//! by = ["namespace", "pod"]
//! window_s = 300
//! above = 0.1
//! clear = 0.05
//! for_s = 120
//! severity = "warning"
//! summary = "tasks of {namespace}/{pod} wait {value} s for a CPU, one in a hundred"
//! ```
//!
//! | key | meaning |
//! |---|---|
//! | `metric`, `labels` | which series: a name, and labels with the value that they have; one that ends with `*` begins so |
//! | `by` | labels that make one alert of several series; each series is its own without it |
//! | `measure` | `last` (default), `min`, `max`, `avg`, `sum`, `count` of the window, or `rate`: growth by the second |
//! | `quantile` | of a histogram's buckets within the window, in place of `measure` |
//! | `over` | another metric, same labels: the measure is divided by its last value |
//! | `window_s` | how far back is looked, 1 s to a day; 300 without it |
//! | `above`, `below` | the limit; or `absent = true`: fires when what was there within a day is not there within the window |
//! | `clear` | where it resolves; the limit without it |
//! | `for_s` | how long the condition has to hold; 0 without it |
//! | `severity`, `summary` | said with it; `{label}` and `{value}` in the summary are filled in |

use serde::{Deserialize, Serialize};

use crate::domain::series::{Aggregation, Operator, Selection, is_name};

/// The rules that come with Sextant.
pub const DEFAULT: &str = include_str!("rules.toml");

/// Rules of a file: each is a question at every evaluation.
const MAX_RULES: usize = 256;

const DAY_S: u64 = 86_400;

/// A rule.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rule {
    /// Names it; the label `alertname`.
    pub name: String,
    /// The metric.
    pub metric: String,
    /// Labels with their values.
    #[serde(default)]
    pub labels: std::collections::BTreeMap<String, String>,
    /// Labels that make an alert.
    #[serde(default)]
    pub by: Vec<String>,
    /// What of the window is measured.
    #[serde(default)]
    pub measure: Measure,
    /// Of a histogram.
    #[serde(default)]
    pub quantile: Option<f64>,
    /// What it is divided by.
    #[serde(default)]
    pub over: Option<String>,
    /// How far back is looked, s.
    #[serde(default = "five_minutes")]
    pub window_s: u64,
    /// Fires above.
    #[serde(default)]
    pub above: Option<f64>,
    /// Fires below.
    #[serde(default)]
    pub below: Option<f64>,
    /// Fires when there is nothing.
    #[serde(default)]
    pub absent: bool,
    /// Resolves there.
    #[serde(default)]
    pub clear: Option<f64>,
    /// For how long it has to hold, s.
    #[serde(default)]
    pub for_s: u64,
    /// Such as `critical`.
    #[serde(default)]
    pub severity: String,
    /// For a person.
    #[serde(default)]
    pub summary: String,
}

/// What of a window is measured.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Measure {
    /// The newest value.
    #[default]
    Last,
    /// The smallest.
    Min,
    /// The largest.
    Max,
    /// The mean.
    Avg,
    /// The sum.
    Sum,
    /// How many samples.
    Count,
    /// Growth by the second.
    Rate,
}

impl Measure {
    /// As a bucket's; none for the rate.
    pub(super) const fn aggregation(self) -> Option<Aggregation> {
        match self {
            Self::Last => Some(Aggregation::Last),
            Self::Min => Some(Aggregation::Min),
            Self::Max => Some(Aggregation::Max),
            Self::Avg => Some(Aggregation::Avg),
            Self::Sum => Some(Aggregation::Sum),
            Self::Count => Some(Aggregation::Count),
            Self::Rate => None,
        }
    }
}

const fn five_minutes() -> u64 {
    300
}

/// A file of rules.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[serde(default)]
    rule: Vec<Rule>,
}

/// Reads them, all of them right.
///
/// # Errors
/// What is wrong, with the rule's name.
pub fn parse(text: &str) -> Result<Vec<Rule>, String> {
    let File { rule: rules } = toml::from_str(text).map_err(|cause| cause.to_string())?;
    if rules.len() > MAX_RULES {
        return Err(format!("{} rules, at most {MAX_RULES}", rules.len()));
    }
    let mut names = std::collections::BTreeSet::new();
    for rule in &rules {
        rule.check().map_err(|words| format!("rule {:?}: {words}", rule.name))?;
        if !names.insert(&rule.name) {
            return Err(format!("rule {:?} is there twice", rule.name));
        }
    }
    Ok(rules)
}

impl Rule {
    fn check(&self) -> Result<(), String> {
        let metrics = std::iter::once(&self.metric).chain(&self.over);
        if let Some(wrong) = metrics.into_iter().find(|metric| !is_name(metric, true)) {
            return Err(format!("{wrong:?} is no metric's name"));
        }
        if !is_name(&self.name, false) {
            return Err("a name is letters, digits and underscores".to_owned());
        }
        let labels = self.by.iter().chain(self.labels.keys());
        if let Some(wrong) = labels.into_iter().find(|label| !is_name(label, false)) {
            return Err(format!("{wrong:?} is no label's name"));
        }
        if !(1..=DAY_S).contains(&self.window_s) || self.for_s > DAY_S {
            return Err(format!("window_s is 1 to {DAY_S}, for_s at most as much"));
        }
        let limits =
            usize::from(self.above.is_some()) + usize::from(self.below.is_some()) + usize::from(self.absent);
        if limits != 1 {
            return Err("one of above, below and absent = true says when it fires".to_owned());
        }
        let apart = match (self.above, self.below, self.clear) {
            (Some(above), _, Some(clear)) => clear <= above,
            (_, Some(below), Some(clear)) => clear >= below,
            (_, _, clear) => clear.is_none() || !self.absent,
        };
        if !apart {
            return Err("clear is on the other side of the limit, and absent has none".to_owned());
        }
        let finite = [self.above, self.below, self.clear].into_iter().flatten().all(f64::is_finite);
        if !finite || self.quantile.is_some_and(|quantile| !(0.0..=1.0).contains(&quantile)) {
            return Err("limits are numbers, and a quantile is 0 to 1".to_owned());
        }
        Ok(())
    }

    /// Which series.
    pub(super) fn selection(&self, metric: &str) -> Selection {
        let mut selection = Selection::metric(metric);
        for (label, value) in &self.labels {
            selection = match value.strip_suffix('*') {
                Some(begin) => selection.and(label, Operator::Fits, &format!("{}.*", escaped(begin))),
                None => selection.and(label, Operator::Equal, value),
            };
        }
        selection
    }

    /// The condition holds for a value.
    pub(super) fn holds(&self, value: f64) -> bool {
        self.above.is_some_and(|above| value > above) || self.below.is_some_and(|below| value < below)
    }

    /// A value at which it resolves: not at the limit itself, if `clear` lies apart.
    pub(super) fn is_clear(&self, value: f64) -> bool {
        match (self.above, self.below, self.clear) {
            (Some(_), _, Some(clear)) => value <= clear,
            (_, Some(_), Some(clear)) => value >= clear,
            _ => !self.holds(value),
        }
    }
}

/// A text that means itself within a regular expression.
fn escaped(text: &str) -> String {
    text.chars()
        .flat_map(|letter| (!letter.is_alphanumeric()).then_some('\\').into_iter().chain([letter]))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rules_that_come_along_are_right() {
        let rules = parse(DEFAULT).unwrap();
        assert!(rules.len() >= 6, "{}", rules.len());
        assert!(rules.iter().all(|rule| !rule.summary.is_empty() && !rule.severity.is_empty()));
    }

    #[test]
    fn what_is_wrong_is_said_with_the_rules_name() {
        let of = |more: &str| parse(&format!("[[rule]]\nname = \"R\"\nmetric = \"m\"\n{more}")).unwrap_err();
        assert!(of("").contains("\"R\": one of above, below"));
        for wrong in [
            "above = 1\nbelow = 2",
            "above = 1\nclear = 2",
            "below = 1\nclear = 0",
            "absent = true\nclear = 1",
            "above = 1\nwindow_s = 0",
            "above = 1\nquantile = 2",
            "above = nan",
            "above = 1\nby = [\"a-b\"]",
            "above = 1\nlabels = { \"0\" = \"x\" }",
            "above = 1\nmeasure = \"median\"",
            "above = 1\nnew = 1",
            "above = 1\nover = \"a b\"",
            "above = 1\nfor_s = 100000",
        ] {
            assert!(!of(wrong).is_empty(), "{wrong}");
        }
        let twice = "[[rule]]\nname = \"R\"\nmetric = \"m\"\nabove = 1\n".repeat(2);
        assert!(parse(&twice).unwrap_err().contains("twice"));
        assert!(parse("[[rule]]\nname = \"a b\"\nmetric = \"m\"\nabove = 1").is_err());
    }

    #[test]
    fn a_begin_of_a_value_means_itself() {
        let rules =
            "[[rule]]\nname = \"R\"\nmetric = \"m\"\nabove = 1\nlabels = { kind = \"error.*\", x = \"y\" }";
        let selection = parse(rules).unwrap().remove(0).selection("m");
        let expected =
            Selection::metric("m").and("kind", Operator::Fits, "error\\..*").and("x", Operator::Equal, "y");
        assert_eq!(selection, expected);
    }
}
