//! What becomes of an alert: pure, time comes from outside.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::measure::Group;
use super::rule::Rule;

/// A resolved alert is shown for so long, ms.
const SHOWN_MS: i64 = 3_600_000;

/// Alerts of one rule: a rule about all pods of a fleet does not make a hundred thousand.
pub const MAX_OF_RULE: usize = 1_000;

/// Where an alert stands; there is none of what is inactive.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// Its condition holds, not yet for long enough.
    Pending,
    /// It has held for long enough.
    Firing,
    /// It fired, and holds no more.
    Resolved,
}

impl State {
    /// Its word.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Firing => "firing",
            Self::Resolved => "resolved",
        }
    }
}

/// An alert.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Alert {
    /// Its rule.
    pub rule: String,
    /// What it is about.
    pub labels: BTreeMap<String, String>,
    /// Where it stands.
    pub state: State,
    /// The value at the last evaluation; none where something is absent.
    pub value: Option<f64>,
    /// Since when its condition holds, ms since the epoch.
    pub active_at_ms: i64,
    /// When it fired.
    pub fired_at_ms: Option<i64>,
    /// When it was resolved.
    pub resolved_at_ms: Option<i64>,
    /// As the rule has it.
    pub severity: String,
    /// As the rule has it, filled in.
    pub summary: String,
}

/// A rule's findings.
#[derive(Clone, Debug, Default)]
pub struct Findings {
    /// Values by the labels of what they are about.
    pub values: BTreeMap<Group, f64>,
    /// What was there within a day and is not now, for rules about absence.
    pub absent: Vec<Group>,
    /// What is there now, for rules about absence.
    pub there: BTreeSet<Group>,
    /// The receiver has not run for the rule's whole window yet: what is missing may have come while it was down, and still
    /// waits at the nodes or in the queue.
    pub is_catching_up: bool,
}

/// What changed.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Changes {
    /// Alerts that fire from now on.
    pub fired: Vec<Alert>,
    /// Alerts that fire no more.
    pub resolved: Vec<Alert>,
    /// Beyond [`MAX_OF_RULE`].
    pub left_out: u64,
}

/// One rule's alerts after an evaluation, in place.
pub fn step(rule: &Rule, alerts: &mut BTreeMap<Group, Alert>, findings: &Findings, now_ms: i64) -> Changes {
    let mut changes = Changes::default();
    let holding = findings
        .values
        .iter()
        .filter(|(_, value)| rule.holds(**value))
        .map(|(group, value)| (group, Some(*value)));
    let absent = findings.absent.iter().filter(|_| !findings.is_catching_up).map(|group| (group, None));
    for (group, value) in holding.chain(absent) {
        let is_new = alerts.get(group).is_none_or(|alert| alert.state == State::Resolved);
        if is_new && alerts.values().filter(|alert| alert.state != State::Resolved).count() >= MAX_OF_RULE {
            changes.left_out += 1;
            continue;
        }
        if is_new {
            alerts.insert(group.clone(), begin(rule, group, now_ms));
        }
        let Some(alert) = alerts.get_mut(group) else { continue };
        alert.value = value;
        alert.summary = summary(rule, group, value);
        let held_ms = now_ms.saturating_sub(alert.active_at_ms);
        let for_ms = i64::try_from(rule.for_s.saturating_mul(1_000)).unwrap_or(i64::MAX);
        if alert.state == State::Pending && held_ms >= for_ms {
            alert.state = State::Firing;
            alert.fired_at_ms = Some(now_ms);
            changes.fired.push(alert.clone());
        }
    }
    let is_absent = |group: &Group| findings.absent.contains(group);
    alerts.retain(|group, alert| {
        let value = findings.values.get(group).copied();
        let holds = value.map_or_else(|| is_absent(group), |value| rule.holds(value));
        let is_unknown = findings.is_catching_up && value.is_none() && !findings.there.contains(group);
        match alert.state {
            State::Pending | State::Firing if is_unknown => true,
            State::Pending => holds,
            State::Firing => {
                // What is not measured any more has gone, and its alert with it.
                let stays = holds || value.is_some_and(|value| !rule.is_clear(value));
                if !stays {
                    alert.state = State::Resolved;
                    alert.resolved_at_ms = Some(now_ms);
                    alert.value = value;
                    changes.resolved.push(alert.clone());
                }
                true
            }
            State::Resolved => is_shown(alert, now_ms),
        }
    });
    changes
}

/// Alerts whose rule is gone: those that fired are resolved, and returned, since somebody still waits for their end.
pub fn end(alerts: &mut BTreeMap<Group, Alert>, now_ms: i64) -> Vec<Alert> {
    let mut resolved = Vec::new();
    alerts.retain(|_, alert| match alert.state {
        State::Pending => false,
        State::Firing => {
            alert.state = State::Resolved;
            alert.resolved_at_ms = Some(now_ms);
            resolved.push(alert.clone());
            true
        }
        State::Resolved => is_shown(alert, now_ms),
    });
    resolved
}

fn is_shown(alert: &Alert, now_ms: i64) -> bool {
    now_ms.saturating_sub(alert.resolved_at_ms.unwrap_or(i64::MIN)) < SHOWN_MS
}

fn begin(rule: &Rule, group: &Group, now_ms: i64) -> Alert {
    Alert {
        rule: rule.name.clone(),
        labels: group.clone(),
        state: State::Pending,
        value: None,
        active_at_ms: now_ms,
        fired_at_ms: None,
        resolved_at_ms: None,
        severity: rule.severity.clone(),
        summary: String::new(),
    }
}

/// `{label}` and `{value}` filled in, once: a value that looks like a place is none.
fn summary(rule: &Rule, group: &Group, value: Option<f64>) -> String {
    let mut text = String::new();
    let mut rest = rule.summary.as_str();
    while let Some((before, behind)) = rest.split_once('{') {
        text.push_str(before);
        let Some((name, next)) = behind.split_once('}') else {
            text.push('{');
            rest = behind;
            continue;
        };
        match (name, group.get(name)) {
            ("value", _) => text.push_str(&value.map_or_else(|| "nothing".to_owned(), short)),
            (_, Some(label)) => text.push_str(label),
            (name, None) => text.push_str(name),
        }
        rest = next;
    }
    text.push_str(rest);
    text
}

/// Four digits are enough for a person.
fn short(value: f64) -> String {
    if value == 0.0 || (0.001..1e6).contains(&value.abs()) {
        let text = format!("{value:.3}");
        return text.trim_end_matches('0').trim_end_matches('.').to_owned();
    }
    format!("{value:.3e}")
}

#[cfg(test)]
mod tests {
    use super::super::rule::parse;
    use super::*;

    fn rule(more: &str) -> Rule {
        parse(&format!("[[rule]]\nname = \"R\"\nmetric = \"m\"\n{more}")).unwrap().remove(0)
    }

    fn group(node: &str) -> Group {
        [("node".to_owned(), node.to_owned())].into()
    }

    fn found(value: f64) -> Findings {
        Findings { values: [(group("a"), value)].into(), ..Findings::default() }
    }

    /// States of the one alert over some evaluations, a second apart, with what was told at each.
    fn over(rule: &Rule, values: &[Option<f64>]) -> String {
        let mut alerts = BTreeMap::new();
        let mut told = String::new();
        for (second, value) in values.iter().enumerate() {
            let findings = value.map(found).unwrap_or_default();
            let changes = step(rule, &mut alerts, &findings, second as i64 * 1_000);
            let state = alerts.get(&group("a")).map_or('-', |alert: &Alert| match alert.state {
                State::Pending => 'p',
                State::Firing => 'f',
                State::Resolved => 'r',
            });
            told.push(state);
            changes.fired.iter().for_each(|_| told.push('!'));
            changes.resolved.iter().for_each(|_| told.push('.'));
        }
        told
    }

    #[test]
    fn it_fires_after_its_time_and_once() {
        let values = |text: &str| text.chars().map(|n| n.to_digit(10).map(f64::from)).collect::<Vec<_>>();
        let plain = rule("above = 5");
        assert_eq!(over(&plain, &values("5669954")), "-f!fffr.r");
        let held = rule("above = 5\nfor_s = 2");
        assert_eq!(over(&held, &values("6605666655")), "pp--ppf!fr.r");
        let apart = rule("above = 5\nclear = 2");
        assert_eq!(over(&apart, &values("6435632136")), "f!fffffr.rrf!");
        let below = rule("below = 3\nclear = 5");
        assert_eq!(over(&below, &values("324565")), "-f!fr.rr");
        // Gone: resolved.
        assert_eq!(over(&plain, &[Some(6.0), None, Some(6.0)]), "f!r.f!");
    }

    #[test]
    fn absence_fires_and_presence_resolves() {
        let rule = rule("absent = true\nfor_s = 1\nsummary = \"{node} says {value}\"");
        let mut alerts = BTreeMap::new();
        assert_eq!(step(&rule, &mut alerts, &absent(false), 0), Changes::default());
        let fired = step(&rule, &mut alerts, &absent(false), 1_000).fired;
        assert_eq!((fired[0].summary.as_str(), fired[0].value), ("a says nothing", None));
        assert_eq!(step(&rule, &mut alerts, &Findings::default(), 2_000).resolved.len(), 1);
    }

    /// After a restart a window without values says nothing, neither for a rule about values nor for one about absence.
    #[test]
    fn what_is_missing_says_nothing_while_the_receiver_catches_up() {
        let (limit, gone) = (rule("above = 5"), rule("absent = true"));
        for (rule, begin) in [(&limit, found(6.0)), (&gone, absent(false))] {
            let mut alerts = BTreeMap::new();
            assert_eq!(step(rule, &mut alerts, &begin, 0).fired.len(), 1);
            let nothing = Findings { is_catching_up: true, ..Findings::default() };
            assert_eq!(step(rule, &mut alerts, &nothing, 1_000), Changes::default());
            assert_eq!(alerts[&group("a")].state, State::Firing);
            let mut control = alerts.clone();
            assert_eq!(step(rule, &mut control, &Findings::default(), 1_000).resolved.len(), 1);
            // What is there is believed at once.
            let there = Findings { there: [group("a")].into(), ..nothing };
            let seen = if rule.absent { there } else { Findings { is_catching_up: true, ..found(4.0) } };
            assert_eq!(step(rule, &mut alerts, &seen, 2_000).resolved.len(), 1);
        }
        let mut alerts = BTreeMap::new();
        assert_eq!(step(&gone, &mut alerts, &absent(true), 0), Changes::default());
        assert!(alerts.is_empty());
    }

    fn absent(is_catching_up: bool) -> Findings {
        Findings { absent: vec![group("a")], is_catching_up, ..Findings::default() }
    }

    #[test]
    fn there_are_no_more_than_the_limit_and_old_ones_go() {
        let rule = rule("above = 0");
        let many = |from: usize, to: usize| Findings {
            values: (from..to).map(|n| (group(&n.to_string()), 1.0)).collect(),
            ..Findings::default()
        };
        let mut alerts = BTreeMap::new();
        let changes = step(&rule, &mut alerts, &many(0, MAX_OF_RULE + 7), 0);
        assert_eq!((changes.fired.len(), changes.left_out), (MAX_OF_RULE, 7));
        assert_eq!(step(&rule, &mut alerts, &Findings::default(), 1_000).resolved.len(), MAX_OF_RULE);
        step(&rule, &mut alerts, &Findings::default(), 1_000 + SHOWN_MS);
        assert!(alerts.is_empty());
    }

    #[test]
    fn a_summary_is_filled_in_once() {
        let rule = rule("above = 0\nsummary = \"{node} has {value} of {more} {\"");
        assert_eq!(summary(&rule, &group("{value}"), Some(0.25)), "{value} has 0.25 of more {");
        assert_eq!(
            (short(12.0), short(1e-7), short(1234.56789)),
            ("12".to_owned(), "1.000e-7".to_owned(), "1234.568".to_owned())
        );
    }
}
