//! What a question asks of labels.

use regex::{Regex, RegexBuilder};

use crate::domain::series::{Operator, Selection};
use crate::series::Error;

/// Conditions of one question: nobody writes so many.
const MAX_MATCHERS: usize = 64;

/// Bytes of a compiled regular expression: a list of some hundred names fits, an expression built to be huge does not.
const MAX_REGEX_BYTES: usize = 1 << 20;

/// A selection, ready to be asked many times.
#[derive(Clone, Debug, Default)]
pub(super) struct Conditions {
    /// Labels that have a value: these are looked up.
    equal: Vec<(String, String)>,
    others: Vec<(String, Test)>,
}

/// A condition that is no look-up.
#[derive(Clone, Debug)]
pub(super) enum Test {
    Is(String),
    IsNot(String),
    Fits(Regex),
    FitsNot(Regex),
}

impl Conditions {
    /// Compiles it.
    pub(super) fn of(selection: &Selection) -> Result<Self, Error> {
        if selection.matchers.len() > MAX_MATCHERS {
            let words = format!("{} conditions, at most {MAX_MATCHERS}", selection.matchers.len());
            return Err(Error::Invalid(words));
        }
        let mut this = Self::default();
        for matcher in &selection.matchers {
            let (label, value) = (matcher.label.clone(), matcher.value.clone());
            let test = match matcher.operator {
                Operator::Equal if !value.is_empty() => {
                    this.equal.push((label, value));
                    continue;
                }
                Operator::Equal => Test::Is(value),
                Operator::NotEqual => Test::IsNot(value),
                Operator::Fits => Test::Fits(whole(&value)?),
                Operator::FitsNot => Test::FitsNot(whole(&value)?),
            };
            this.others.push((label, test));
        }
        Ok(this)
    }

    /// Labels that have a value, the value.
    pub(super) fn equal(&self) -> &[(String, String)] {
        &self.equal
    }

    /// Labels and what their values fulfil; a label that is not there has the empty value.
    pub(super) fn others(&self) -> &[(String, Test)] {
        &self.others
    }

    pub(super) fn is_empty(&self) -> bool {
        self.equal.is_empty() && self.others.is_empty()
    }
}

impl Test {
    pub(super) fn fits(&self, value: &str) -> bool {
        match self {
            Self::Is(wanted) => value == wanted,
            Self::IsNot(unwanted) => value != unwanted,
            Self::Fits(regex) => regex.is_match(value),
            Self::FitsNot(regex) => !regex.is_match(value),
        }
    }
}

/// The whole value, as in PromQL.
fn whole(expression: &str) -> Result<Regex, Error> {
    RegexBuilder::new(&format!("^(?s:{expression})$"))
        .size_limit(MAX_REGEX_BYTES)
        .dfa_size_limit(MAX_REGEX_BYTES)
        .build()
        .map_err(|cause| Error::Invalid(format!("{expression:?} is no regular expression: {cause}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_expression_built_to_hurt_is_refused_or_harmless() {
        let of = |expression| Conditions::of(&Selection::default().and("a", Operator::Fits, expression));
        for bomb in ["(x{1000}){1000}", "(", "(?P<a>", "\\p{Nope}"] {
            assert!(matches!(of(bomb), Err(Error::Invalid(_))), "{bomb}");
        }
        let slow = of("(a+)+b").unwrap();
        assert!(!slow.others()[0].1.fits(&"a".repeat(1_000)));
        let many = (0..=MAX_MATCHERS).fold(Selection::default(), |all, _| all.and("a", Operator::Equal, "1"));
        assert!(matches!(Conditions::of(&many), Err(Error::Invalid(_))));
    }
}
