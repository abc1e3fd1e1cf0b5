//! A selection in PromQL.

use std::fmt::Write as _;

use crate::domain::series::{Escaped, NAME, Operator, Selection, is_name};
use crate::series::Error;

/// Longer ones are no person's question, and stores have limits too (16 KiB in VictoriaMetrics).
const MAX_BYTES: usize = 16_000;

/// `{__name__="m",gpu="0"}`; the metric's name stands among the labels, where a value can be escaped.
pub(super) fn selector(selection: &Selection) -> Result<String, Error> {
    let mut text = "{".to_owned();
    let mut named = false;
    for matcher in &selection.matchers {
        if !is_name(&matcher.label, false) {
            return Err(Error::Invalid(format!("{:?} is no name of a label", matcher.label)));
        }
        named |= matcher.label == NAME && matcher.operator == Operator::Equal && !matcher.value.is_empty();
        // Writing to a String cannot fail.
        let _ =
            write!(text, "{}{}\"{}\",", matcher.label, matcher.operator.symbol(), Escaped(&matcher.value));
    }
    if !named {
        // Prometheus wants one condition that no empty value fulfils; every series fulfils this one.
        text.push_str("__name__!=\"\",");
    }
    text.pop();
    text.push('}');
    if text.len() > MAX_BYTES {
        return Err(Error::Invalid(format!("the selection has {} bytes, at most {MAX_BYTES}", text.len())));
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_selection_is_what_prometheus_reads() {
        let gpu =
            Selection::metric("m").and("gpu", Operator::NotEqual, "0").and("h", Operator::Fits, "a|b.*");
        assert_eq!(selector(&gpu).unwrap(), r#"{__name__="m",gpu!="0",h=~"a|b.*"}"#);
        assert_eq!(selector(&Selection::default()).unwrap(), r#"{__name__!=""}"#);
        let all = Selection::default().and("a", Operator::Fits, ".*");
        assert_eq!(selector(&all).unwrap(), r#"{a=~".*",__name__!=""}"#);
        let none = Selection::metric("");
        assert_eq!(selector(&none).unwrap(), r#"{__name__="",__name__!=""}"#);
    }

    #[test]
    fn nothing_leaves_its_quotes() {
        let of = |value: &str| selector(&Selection::metric("m").and("a", Operator::Equal, value)).unwrap();
        assert_eq!(of("\"} or up{"), r#"{__name__="m",a="\"} or up{"}"#);
        assert_eq!(of("\\\"} or up{x=\"\n"), "{__name__=\"m\",a=\"\\\\\\\"} or up{x=\\\"\\n\"}");
        for label in ["a=\"\"} or up{b", "", "a b", "a\n", "ä"] {
            let odd = Selection::default().and(label, Operator::Equal, "x");
            assert!(matches!(selector(&odd), Err(Error::Invalid(_))), "{label:?}");
        }
        let long = Selection::metric(&"x".repeat(MAX_BYTES));
        assert!(matches!(selector(&long), Err(Error::Invalid(_))));
    }

    proptest! {
        /// Read as Go reads a string between double quotes, the value is the value, and behind it the selector ends.
        #[test]
        fn a_value_is_one_string(value in "(\\PC|[\"\\\\\\n{}]){0,30}") {
            let text = selector(&Selection::default().and("a", Operator::Equal, &value)).unwrap();
            let inner = text.strip_prefix("{a=\"").unwrap();
            let (mut read, mut letters) = (String::new(), inner.chars());
            loop {
                match letters.next().unwrap() {
                    '"' => break,
                    '\\' => read.push(match letters.next().unwrap() { 'n' => '\n', other => other }),
                    '\n' => prop_assert!(false, "a line ends within a string"),
                    other => read.push(other),
                }
            }
            prop_assert_eq!(read, value);
            prop_assert_eq!(letters.as_str(), ",__name__!=\"\"}");
        }
    }
}
