//! Which series, and when.

/// How a label's value is compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operator {
    /// Is it.
    Equal,
    /// Is not it.
    NotEqual,
    /// The whole of it fits the regular expression.
    Fits,
    /// It does not.
    FitsNot,
}

impl Operator {
    /// As PromQL writes it.
    #[must_use]
    pub const fn symbol(self) -> &'static str {
        match self {
            Self::Equal => "=",
            Self::NotEqual => "!=",
            Self::Fits => "=~",
            Self::FitsNot => "!~",
        }
    }
}

/// A condition on one label; a label that a series lacks has the empty value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Matcher {
    /// The label.
    pub label: String,
    /// How.
    pub operator: Operator,
    /// With what.
    pub value: String,
}

/// Which series: those that fulfil all conditions.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Selection {
    /// The conditions.
    pub matchers: Vec<Matcher>,
}

impl Selection {
    /// Every series of a metric.
    #[must_use]
    pub fn metric(name: &str) -> Self {
        Self::default().and(super::NAME, Operator::Equal, name)
    }

    /// With one condition more.
    #[must_use]
    pub fn and(mut self, label: &str, operator: Operator, value: &str) -> Self {
        self.matchers.push(Matcher { label: label.to_owned(), operator, value: value.to_owned() });
        self
    }
}

/// A time from and to, both included, ms since the epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Range {
    /// First moment.
    pub from_ms: i64,
    /// Last moment.
    pub to_ms: i64,
}

impl Range {
    /// It has this moment.
    #[must_use]
    pub const fn contains(&self, at_ms: i64) -> bool {
        self.from_ms <= at_ms && at_ms <= self.to_ms
    }
}
