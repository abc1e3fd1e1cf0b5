//! The text that Prometheus scrapes, of any exporter: samples, line by line. Strict, and a line that is none costs itself.
//!
//! Format (Prometheus text 0.0.4, OpenMetrics 1.0): `name{label="value",...} value [timestamp] [# exemplar]`; other lines
//! are empty or begin with `#`. No library of this is maintained, permissive and free of a second crate for time.

use super::labels;
use crate::domain::gpu::record::Pairs;
use crate::domain::series::is_name;

/// One line.
#[derive(Debug, PartialEq)]
pub(super) struct Sample<'a> {
    pub(super) name: &'a str,
    pub(super) labels: Pairs,
    pub(super) value: f64,
}

/// What is wrong with a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Error {
    #[error("no metric's name")]
    Name,
    #[error(transparent)]
    Labels(#[from] labels::Error),
    #[error("no closing brace")]
    Brace,
    #[error("no number")]
    Value,
    #[error("more than a number and a time")]
    Rest,
}

/// Every sample, and every line that is none, with its number.
pub(super) fn samples(text: &str) -> impl Iterator<Item = Result<Sample<'_>, (usize, Error)>> {
    text.lines().enumerate().filter_map(|(at, line)| {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            return None;
        }
        Some(sample(line).map_err(|error| (at + 1, error)))
    })
}

fn sample(line: &str) -> Result<Sample<'_>, Error> {
    let end = line.find(|letter: char| letter == '{' || letter.is_whitespace()).ok_or(Error::Value)?;
    let (name, rest) = line.split_at(end);
    if !is_name(name, true) {
        return Err(Error::Name);
    }
    let rest = rest.trim_start();
    let (labels, rest) = match rest.strip_prefix('{') {
        None => (Pairs::new(), rest),
        Some(inner) => {
            let (labels, rest) = labels::take(inner)?;
            (labels, rest.strip_prefix('}').ok_or(Error::Brace)?)
        }
    };
    let mut words = rest.split_whitespace();
    let value = number(words.next().ok_or(Error::Value)?).ok_or(Error::Value)?;
    match words.next() {
        None | Some("#") => {}
        Some(time) if time.parse::<f64>().is_ok() => match words.next() {
            None | Some("#") => {}
            Some(_) => return Err(Error::Rest),
        },
        Some(_) => return Err(Error::Rest),
    }
    Ok(Sample { name, labels, value })
}

/// As the formats have it: Rust takes all of their words and one more.
fn number(word: &str) -> Option<f64> {
    if word.eq_ignore_ascii_case("infinity") { None } else { word.parse().ok() }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::domain::series::Labels;

    fn one(line: &str) -> Result<Sample<'_>, Error> {
        samples(line).next().unwrap().map_err(|(_, error)| error)
    }

    #[test]
    fn an_exporters_lines_are_read() {
        let text = "# HELP DCGM_FI_DEV_GPU_UTIL GPU utilization (in %).\n# TYPE DCGM_FI_DEV_GPU_UTIL gauge\n\
            DCGM_FI_DEV_GPU_UTIL{gpu=\"0\",UUID=\"GPU-1\",modelName=\"NVIDIA {H100}\"} 97\n\nup 1\r\n\
            a:b{} 1.5e3 1395066363000\nx_total 3 # {trace=\"y\"} 1\nx_total{a=\"1\",} +Inf 1.5 # {} 1\n# EOF\n";
        let read: Vec<_> = samples(text).map(Result::unwrap).collect();
        let shown: Vec<_> = read.iter().map(|one| (one.name, one.labels.len(), one.value)).collect();
        assert_eq!(
            shown,
            [
                ("DCGM_FI_DEV_GPU_UTIL", 3, 97.0),
                ("up", 0, 1.0),
                ("a:b", 0, 1_500.0),
                ("x_total", 0, 3.0),
                ("x_total", 1, f64::INFINITY)
            ]
        );
        assert_eq!(read[0].labels[2], ("modelName".to_owned(), "NVIDIA {H100}".to_owned()));
    }

    #[test]
    fn a_line_that_is_none_is_told_and_costs_itself() {
        for (line, error) in [
            ("1a 5", Error::Name),
            ("{a=\"1\"} 5", Error::Name),
            ("<html>", Error::Value),
            ("a", Error::Value),
            ("a x", Error::Value),
            ("a infinity", Error::Value),
            ("a 0x10", Error::Value),
            ("a{b=\"1\" 5", Error::Labels(labels::Error::Comma)),
            ("a{b=\"1\"", Error::Brace),
            ("a{b=1} 5", Error::Labels(labels::Error::Value)),
            ("a{b=\"1\"}", Error::Value),
            ("a 5 yesterday", Error::Rest),
            ("a 5 6 7", Error::Rest),
        ] {
            assert_eq!(one(line), Err(error), "{line}");
        }
        let text = "a 1\nb b\nc 3\n";
        let read: Vec<_> = samples(text).collect();
        assert_eq!((read.len(), read[1].as_ref().err()), (3, Some(&(2, Error::Value))));
        assert!(read[2].is_ok());
    }

    proptest! {
        /// What our own exposition writes comes back as it was.
        #[test]
        fn a_series_comes_back(
            name in "[a-zA-Z_:][a-zA-Z0-9_:]{0,12}",
            labels in proptest::collection::btree_map("[a-z][a-z0-9_]{0,8}", "\\PC{1,20}|[\\\\\"\n{}]{1,4}", 0..6),
            value in proptest::num::f64::ANY,
        ) {
            let series = Labels::new(&name, labels).unwrap();
            let line = format!("{series} {value}");
            // A line end inside a name of a label's value would be one: they are escaped.
            let read = one(&line).unwrap();
            let back = Labels::new(read.name, read.labels).unwrap();
            prop_assert_eq!(back, series);
            prop_assert!(read.value.to_bits() == value.to_bits() || (read.value.is_nan() && value.is_nan()));
        }

        /// Nothing panics, and no line is lost.
        #[test]
        fn any_text_is_samples_or_errors(lines in proptest::collection::vec("\\PC{0,40}|[a{=\",\\\\}# 1]{0,30}", 0..10)) {
            let text = lines.join("\n");
            let wanted = text.lines().filter(|line| !line.trim().is_empty() && !line.trim().starts_with('#')).count();
            prop_assert_eq!(samples(&text).count(), wanted);
        }
    }
}
