//! `labels_raw`: a label set as one text, `name="value",other="value"` as expositions have it, or `name=value,...`.

use crate::domain::gpu::record::{Pairs, is_column};
use crate::domain::series::{Escaped, Labels, MAX_LABELS, unescaped};

/// Longer than any label set that fits a series.
const MAX_BYTES: usize = 64 << 10;

/// The pairs of the text, in its order, each name once.
pub(super) fn parse(text: &str) -> Result<Pairs, String> {
    if text.len() > MAX_BYTES {
        return Err(format!("{} bytes, at most {MAX_BYTES}", text.len()));
    }
    let mut pairs = Pairs::new();
    let mut rest = text.trim().trim_start_matches('{');
    rest = rest.strip_suffix('}').unwrap_or(rest).trim();
    while !rest.is_empty() {
        let (name, behind) = rest.split_once('=').ok_or_else(|| format!("{:?} has no =", shown(rest)))?;
        let (value, behind) = match behind.strip_prefix('"') {
            Some(quoted) => unescaped(quoted).ok_or("a quote is not closed")?,
            None => {
                let end = behind.find(',').unwrap_or(behind.len());
                (behind[..end].trim().to_owned(), &behind[end..])
            }
        };
        let name = name.trim();
        if pairs.iter().any(|(known, _)| known == name) {
            return Err(format!("label {:?} is there twice", shown(name)));
        }
        pairs.push((name.to_owned(), value));
        if pairs.len() > MAX_LABELS {
            return Err(format!("more than {MAX_LABELS} labels"));
        }
        let behind = behind.trim_start();
        rest = match behind.strip_prefix(',') {
            Some(next) => next.trim_start(),
            None if behind.is_empty() => "",
            None => return Err(format!("{:?} where a comma should be", shown(behind))),
        };
    }
    Ok(pairs)
}

/// The labels that have no column.
pub(super) fn text(labels: &Labels) -> String {
    let further = labels.iter().filter(|(name, _)| !is_column(name));
    further.map(|(name, value)| format!("{name}=\"{}\"", Escaped(value))).collect::<Vec<_>>().join(",")
}

fn shown(text: &str) -> String {
    text.chars().take(20).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn both_forms_are_read() {
        let of = |text| parse(text).unwrap();
        let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        assert_eq!(of(""), []);
        assert_eq!(of("app=ml, tier = gold"), [pair("app", "ml"), pair("tier", "gold")]);
        assert_eq!(of(r#"{a="x,y=\"z\"",b=""}"#), [pair("a", "x,y=\"z\""), pair("b", "")]);
        assert!(parse("novalue").is_err() && parse(r#"a="b"c="d""#).is_err() && parse(r#"a="b\"#).is_err());
        let many: Vec<_> = (0..=MAX_LABELS).map(|n| format!("l{n}=b")).collect();
        assert!(parse(&many.join(",")).is_err() && parse(&many[1..].join(",")).is_ok());
        assert_eq!(parse("a=b,a=c").unwrap_err(), "label \"a\" is there twice");
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(values in prop::collection::vec("\\PC{0,20}|[\"\\\\\n,={}]{0,8}", 1..5)) {
            let named: Vec<_> = values.iter().enumerate().map(|(n, value)| (format!("l{n}"), value.clone())).collect();
            let labels = Labels::new("m", named.clone()).unwrap();
            let expected: Vec<_> = named.into_iter().filter(|(_, value)| !value.is_empty()).collect();
            prop_assert_eq!(parse(&text(&labels)).unwrap(), expected);
        }

        #[test]
        fn nothing_makes_it_panic(text in "\\PC{0,60}|[a\"\\\\\n,={}]{0,30}") {
            let _either = parse(&text);
        }
    }
}
