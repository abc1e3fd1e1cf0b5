//! Labels in exposition syntax, `name="value",...`: between the braces of a sample, and in a CSV's `labels_raw`.
//!
//! Values are escaped as expositions have it (`\\`, `\"`, `\n`). Strict: what cannot be read is an error.

use crate::domain::gpu::record::Pairs;
use crate::domain::series::{MAX_LABELS, MAX_VALUE_BYTES, NAME, is_name, unescaped};

/// What is wrong with labels.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// No name where one must be.
    #[error("a label without a proper name")]
    Name,
    /// No `="`, or no closing quote.
    #[error("a label without a quoted value")]
    Value,
    /// Something else than a comma between two.
    #[error("no comma between two labels")]
    Comma,
    /// The same name twice.
    #[error("a label that is there twice")]
    Twice,
    /// A value that is too long.
    #[error("a label's value of more than {MAX_VALUE_BYTES} bytes")]
    Long,
    /// Too many.
    #[error("more than {MAX_LABELS} labels")]
    Many,
}

/// All of a text.
///
/// # Errors
/// [`Error`].
pub fn parse(text: &str) -> Result<Pairs, Error> {
    let (labels, rest) = take(text.trim())?;
    if rest.is_empty() { Ok(labels) } else { Err(Error::Name) }
}

/// Labels from the beginning of a text up to `}` or its end, which is the rest.
///
/// # Errors
/// [`Error`].
pub(super) fn take(text: &str) -> Result<(Pairs, &str), Error> {
    let mut labels = Pairs::new();
    let mut rest = text.trim_start();
    while !rest.is_empty() && !rest.starts_with('}') {
        let (name, after) = rest.split_once('=').ok_or(Error::Name)?;
        let name = name.trim_end();
        // The metric's own name stands among the labels of a query's answer.
        if !is_name(name, name == NAME) {
            return Err(Error::Name);
        }
        let quoted = after.trim_start().strip_prefix('"').ok_or(Error::Value)?;
        let (value, after) = unescaped(quoted).ok_or(Error::Value)?;
        if value.len() > MAX_VALUE_BYTES {
            return Err(Error::Long);
        }
        if labels.iter().any(|(known, _)| known == name) {
            return Err(Error::Twice);
        }
        if labels.len() >= MAX_LABELS {
            return Err(Error::Many);
        }
        labels.push((name.to_owned(), value));
        rest = after.trim_start();
        match rest.strip_prefix(',') {
            Some(after) => rest = after.trim_start(),
            None if rest.is_empty() || rest.starts_with('}') => {}
            None => return Err(Error::Comma),
        }
    }
    Ok((labels, rest))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::domain::series::Labels;

    #[test]
    fn what_an_exporter_writes_is_read() {
        let text = r#"DCGM_FI_DRIVER_VERSION="535.129.03",Hostname="n1" , gpu="0",path="C:\\x",say="\"a\nb\"",e="","#;
        let labels = parse(text).unwrap();
        let value = |name: &str| labels.iter().find(|(known, _)| known == name).unwrap().1.clone();
        assert_eq!(
            (value("Hostname"), value("path"), value("say")),
            ("n1".into(), "C:\\x".into(), "\"a\nb\"".into())
        );
        assert_eq!(labels.len(), 6);
        assert_eq!(parse("  "), Ok(vec![]));
    }

    #[test]
    fn what_is_no_list_of_labels_is_told() {
        let long = format!("a=\"{}\"", "x".repeat(MAX_VALUE_BYTES + 1));
        let many: Vec<_> = (0..=MAX_LABELS).map(|n| format!("l{n}=\"1\"")).collect();
        for (text, error) in [
            ("a", Error::Name),
            ("=\"1\"", Error::Name),
            ("0a=\"1\"", Error::Name),
            ("a-b=\"1\"", Error::Name),
            ("a=1", Error::Value),
            ("a=\"1", Error::Value),
            ("a=\"1\\", Error::Value),
            ("a=\"1\\\"", Error::Value),
            ("a=\"1\" b=\"2\"", Error::Comma),
            ("a=\"1\",,b=\"2\"", Error::Name),
            ("a=\"1\",a=\"2\"", Error::Twice),
            ("a=\"1\"} 5", Error::Name),
            (&long, Error::Long),
            (&many.join(","), Error::Many),
        ] {
            assert_eq!(parse(text), Err(error), "{text}");
        }
    }

    proptest! {
        /// What our own exposition writes comes back as it was.
        #[test]
        fn labels_come_back(pairs in proptest::collection::btree_map("[a-zA-Z_][a-zA-Z0-9_]{0,8}", "\\PC{1,20}|[\\\\\"\n]{1,4}", 0..8)) {
            prop_assume!(!pairs.contains_key(NAME));
            let labels = Labels::new("m", pairs.clone()).unwrap().to_string();
            let inner = labels.trim_start_matches("m").trim_start_matches('{');
            let inner = inner.strip_suffix('}').unwrap_or(inner);
            prop_assert_eq!(parse(inner).unwrap(), pairs.into_iter().collect::<Vec<_>>());
        }

        /// Nothing panics.
        #[test]
        fn any_text_is_labels_or_an_error(text in "\\PC{0,40}|[a=\",\\\\} ]{0,30}") {
            let _ = parse(&text);
        }
    }
}
