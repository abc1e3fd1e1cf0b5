//! One-shot events on the wire: what is posted, what is answered, what was said.
//!
//! As the reference has it, an event is its query or form parameters: `value` is the value and every other one a label.
//! `event_id` and `__name__` are ours; as JSON, events come alone or several at once.

use std::collections::BTreeMap;
use std::fmt;

use serde::de::{Error as _, MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use utoipa::ToSchema;

use super::time::rfc3339;

/// A number, or what JSON has no number for: `"NaN"`, `"+Inf"`, `"-Inf"`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(untagged)]
#[schema(as = EventValue)]
pub enum Value {
    /// A number.
    Number(f64),
    /// Text that is one.
    Text(String),
}

impl From<f64> for Value {
    fn from(value: f64) -> Self {
        if value.is_finite() {
            Self::Number(value)
        } else if value.is_nan() {
            Self::Text("NaN".to_owned())
        } else {
            Self::Text(if value > 0.0 { "+Inf" } else { "-Inf" }.to_owned())
        }
    }
}

/// Labels in the order in which they came: one that comes twice is to be seen.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Labels(pub Vec<(String, String)>);

impl Serialize for Labels {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.iter().map(|(label, value)| (label, value)))
    }
}

impl<'de> Deserialize<'de> for Labels {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Pairs;
        impl<'de> Visitor<'de> for Pairs {
            type Value = Labels;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object of labels, such as {\"type\":\"deploy\"}")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Labels, A::Error> {
                let mut labels = Vec::new();
                while let Some((label, value)) = map.next_entry::<String, serde_json::Value>()? {
                    let value = match value {
                        serde_json::Value::String(text) => text,
                        serde_json::Value::Number(number) => number.to_string(),
                        serde_json::Value::Bool(truth) => truth.to_string(),
                        _ => return Err(A::Error::custom(format!("the label {label:?} is no text"))),
                    };
                    labels.push((label, value));
                }
                Ok(Labels(labels))
            }
        }
        deserializer.deserialize_map(Pairs)
    }
}

/// An event as JSON.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
#[schema(as = PostedEvent)]
pub struct Posted {
    /// Labels.
    #[schema(value_type = BTreeMap<String, String>)]
    pub labels: Labels,
    /// 1 where there is none.
    pub value: Option<Value>,
    /// Name of the metric, where it is not to be the configured one.
    pub name: Option<String>,
    /// Names the event: posted again, it counts once.
    pub event_id: Option<String>,
}

/// Events as JSON: one, or several under `events`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
#[schema(as = PostedEvents)]
pub struct PostedMany {
    /// Several, taken whole or not at all.
    pub events: Option<Vec<Posted>>,
    /// Labels of one.
    #[schema(value_type = BTreeMap<String, String>)]
    pub labels: Labels,
    /// Its value.
    pub value: Option<Value>,
    /// Its metric.
    pub name: Option<String>,
    /// Its id.
    pub event_id: Option<String>,
}

/// The answer to a post: they are on disk.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[schema(as = EventsTaken)]
pub struct Taken {
    /// Always.
    pub success: bool,
    /// Events that are new.
    pub accepted: u64,
    /// Events that were there before, by their ids.
    pub duplicates: u64,
    /// The timestamps that their samples have, ms since the epoch, in the order of the post.
    pub timestamps_ms: Vec<i64>,
}

/// An event that was said: a record of a node, and an element of [`History`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[schema(as = SaidEvent)]
pub struct Said {
    /// Its sample's timestamp, ms since the epoch.
    pub timestamp_ms: i64,
    /// Its metric.
    pub name: String,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// Its value.
    pub value: Value,
    /// Its id, if it has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub event_id: Option<String>,
}

impl Said {
    /// The same sample: no two events of a series have one timestamp.
    #[must_use]
    pub fn is_same(&self, other: &Self) -> bool {
        self.timestamp_ms == other.timestamp_ms && self.name == other.name && self.labels == other.labels
    }
}

/// An event of the history.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[schema(as = HistoricEvent)]
pub struct Historic {
    /// Who said it: a node's name; none is the process that answers.
    pub node: Option<String>,
    /// RFC 3339.
    pub time: String,
    /// What.
    #[serde(flatten)]
    pub said: Said,
}

impl Historic {
    /// Said by a node, or here.
    #[must_use]
    pub fn new(node: Option<String>, said: Said) -> Self {
        Self { node, time: rfc3339(said.timestamp_ms.saturating_mul(1_000_000)), said }
    }
}

/// `GET /api/v1/events`, newest first.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[schema(as = EventHistory)]
pub struct History {
    /// Events.
    pub events: Vec<Historic>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_keep_what_comes_twice_and_values_what_json_has_no_number_for() {
        let text = r#"{"labels":{"a":"1","a":2,"b":true},"value":"NaN"}"#;
        let posted: Posted = serde_json::from_str(text).unwrap();
        let pair = |label: &str, value: &str| (label.to_owned(), value.to_owned());
        assert_eq!(posted.labels.0, [pair("a", "1"), pair("a", "2"), pair("b", "true")]);
        assert_eq!(posted.value, Some(Value::Text("NaN".to_owned())));
        for wrong in [r#"{"labels":{"a":[]}}"#, r#"{"labels":[]}"#, r#"{"label":{}}"#, r#"{"value":[]}"#] {
            assert!(serde_json::from_str::<Posted>(wrong).is_err(), "{wrong}");
        }
        assert_eq!(serde_json::to_string(&Value::from(f64::NEG_INFINITY)).unwrap(), "\"-Inf\"");
        assert_eq!(serde_json::to_string(&Value::from(0.5)).unwrap(), "0.5");
    }
}
