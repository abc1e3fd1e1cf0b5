//! PromQL's selector of series: `name{label="value",other!="x",third=~"a|b",fourth!~'c'}`.
//!
//! No more of PromQL than this: questions beyond selecting, and buckets, are for a store that evaluates it.

use crate::domain::series::{NAME, Operator, Selection, is_name};

/// Longer than anybody writes by hand or a dashboard makes.
const MAX_BYTES: usize = 8 << 10;

/// Reads it.
pub(crate) fn parse(text: &str) -> Result<Selection, String> {
    if text.len() > MAX_BYTES {
        return Err(format!("{} bytes, at most {MAX_BYTES}", text.len()));
    }
    let text = text.trim();
    let (metric, conditions) = match text.split_once('{') {
        Some((metric, rest)) => (metric.trim(), Some(rest)),
        None => (text, None),
    };
    let mut selection = Selection::default();
    if !metric.is_empty() {
        if !is_name(metric, true) {
            return Err(format!("{:?} is no metric's name", cut(metric)));
        }
        selection = Selection::metric(metric);
    }
    if let Some(rest) = conditions {
        selection = matchers(selection, rest)?;
    }
    if selection.matchers.is_empty() {
        return Err("it names neither a metric nor a label".to_owned());
    }
    Ok(selection)
}

fn matchers(mut selection: Selection, mut rest: &str) -> Result<Selection, String> {
    loop {
        rest = rest.trim_start();
        if let Some(end) = rest.strip_prefix('}') {
            let end = end.trim();
            return if end.is_empty() {
                Ok(selection)
            } else {
                Err(format!("{:?} behind the selector", cut(end)))
            };
        }
        let at = rest.find(['=', '!']).ok_or_else(|| format!("{:?} has no =, !=, =~ or !~", cut(rest)))?;
        let (label, behind) = rest.split_at(at);
        let label = label.trim();
        if label != NAME && !is_name(label, false) {
            return Err(format!("{:?} is no label's name", cut(label)));
        }
        let operators = [Operator::Fits, Operator::FitsNot, Operator::NotEqual, Operator::Equal];
        let found =
            operators.into_iter().find_map(|known| Some((known, behind.strip_prefix(known.symbol())?)));
        let (operator, behind) = found.ok_or_else(|| format!("{:?} is no =, !=, =~ or !~", cut(behind)))?;
        let (value, behind) = quoted(behind.trim_start())?;
        selection = selection.and(label, operator, &value);
        rest = behind.trim_start();
        rest = match rest.strip_prefix(',') {
            Some(next) => next,
            None if rest.starts_with('}') => rest,
            None => return Err("a condition is followed by a comma or a closing brace".to_owned()),
        };
    }
}

/// A text in quotes of either kind, with PromQL's escapes, and what is behind it.
fn quoted(text: &str) -> Result<(String, &str), String> {
    let mut letters = text.char_indices();
    let quote = letters.next().map(|(_, letter)| letter).filter(|letter| ['"', '\''].contains(letter));
    let quote = quote.ok_or_else(|| format!("{:?} is not in quotes", cut(text)))?;
    let mut value = String::new();
    while let Some((at, letter)) = letters.next() {
        match letter {
            '\\' => match letters.next() {
                Some((_, 'n')) => value.push('\n'),
                Some((_, 't')) => value.push('\t'),
                Some((_, known @ ('\\' | '"' | '\''))) => value.push(known),
                Some((_, other)) => return Err(format!("\\{other} is no escape: \\\\ is a backslash")),
                None => break,
            },
            end if end == quote => return Ok((value, &text[at + 1..])),
            other => value.push(other),
        }
    }
    Err("a quote is not closed".to_owned())
}

fn cut(text: &str) -> String {
    text.chars().take(40).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn selectors_are_read_as_promql_reads_them() {
        assert_eq!(parse("up").unwrap(), Selection::metric("up"));
        let expected = Selection::metric("a:b")
            .and("x", Operator::Equal, "1,}\"")
            .and("y", Operator::FitsNot, "a|b\\d")
            .and("z", Operator::NotEqual, "");
        assert_eq!(parse(r#" a:b { x = "1,}\"" , y!~'a|b\\d',z!="",} "#).unwrap(), expected);
        let named = parse(r#"{__name__=~"DCGM_.*"}"#).unwrap();
        assert_eq!(named, Selection::default().and(NAME, Operator::Fits, "DCGM_.*"));
    }

    #[test]
    fn what_is_none_says_why() {
        for wrong in [
            "",
            "{}",
            "a b",
            "up{",
            "up{a}",
            "up{a=b}",
            "up{a=\"b\"",
            "up{a=\"b\"c=\"d\"}",
            "up{a==\"b\"}",
            "up{a=\"b\"} or vector(1)",
            "up{a=\"b\"}[5m]",
            "rate(up[5m])",
            "up{1a=\"b\"}",
            "up{a=\"\\d\"}",
            "up{a=~\"x}",
        ] {
            assert!(parse(wrong).is_err(), "{wrong}");
        }
        assert!(parse(&"a".repeat(MAX_BYTES + 1)).is_err());
    }

    proptest! {
        #[test]
        fn nothing_makes_it_panic(text in "\\PC{0,80}|[a{}=~!\"'\\\\, ]{0,40}") {
            let _either = parse(&text);
        }
    }
}
