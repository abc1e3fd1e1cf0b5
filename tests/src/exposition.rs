//! What a scraper demands of `/metrics`, as a check of the text: OpenMetrics 1.0, or Prometheus text 0.0.4.
//!
//! A family is its `HELP` and `TYPE`, each exactly once, and then its samples, all in one piece. No family comes twice,
//! and no series: a name with its labels. Names of samples are the family's own, with the suffixes of its type.
//! OpenMetrics ends with `# EOF`, the older text has none. Histograms count up to `+Inf`, which is their `_count`.

use std::collections::HashSet;

use anyhow::{Context, Result, bail, ensure};

/// Which of the two texts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// OpenMetrics 1.0.
    OpenMetrics,
    /// Prometheus text 0.0.4.
    Classic,
}

impl Format {
    /// What a scraper says to get it.
    pub const fn accept(self) -> &'static str {
        match self {
            Self::OpenMetrics => "application/openmetrics-text; version=1.0.0",
            Self::Classic => "text/plain; version=0.0.4",
        }
    }
}

#[derive(Default)]
struct Family<'a> {
    name: &'a str,
    kind: Option<&'a str>,
    help: bool,
    unit: Option<&'a str>,
    samples: usize,
    /// The bucket read last.
    bucket: Option<Bucket<'a>>,
}

struct Bucket<'a> {
    /// All labels but `le`.
    labels: Vec<(&'a str, &'a str)>,
    /// Cumulative.
    count: f64,
    /// The one with everything in it.
    infinite: bool,
}

/// Checks a whole exposition; the number of its series.
///
/// # Errors
/// The first line that breaks a rule, and which rule.
pub fn check(text: &str, format: Format) -> Result<usize> {
    ensure!(text.ends_with('\n'), "the last line has no end");
    let mut lines: Vec<&str> = text.lines().collect();
    if format == Format::OpenMetrics {
        ensure!(lines.pop() == Some("# EOF"), "the last line is not # EOF");
    }
    let (mut families, mut series) = (HashSet::new(), HashSet::new());
    let mut family = Family::default();
    for line in lines {
        let checked = match line.strip_prefix("# ") {
            Some(meta) => family.describe(meta, &mut families),
            None => family.sample(line, format, &mut series),
        };
        checked.with_context(|| line.to_owned())?;
    }
    family.finish()?;
    ensure!(!series.is_empty(), "no series at all");
    Ok(series.len())
}

impl<'a> Family<'a> {
    fn describe(&mut self, meta: &'a str, families: &mut HashSet<&'a str>) -> Result<()> {
        let mut words = meta.splitn(3, ' ');
        let (word, name) = (words.next().unwrap_or_default(), words.next().context("no name")?);
        let rest = words.next().unwrap_or_default();
        ensure!(is_name(name), "not a name");
        if name != self.name {
            self.finish()?;
            ensure!(families.insert(name), "the family comes twice");
            *self = Self { name, ..Self::default() };
        }
        ensure!(self.samples == 0, "after the samples");
        match word {
            "HELP" => ensure!(!std::mem::replace(&mut self.help, true), "HELP comes twice"),
            "TYPE" => ensure!(self.kind.replace(rest).is_none(), "TYPE comes twice"),
            "UNIT" => ensure!(self.unit.replace(rest).is_none(), "UNIT comes twice"),
            _ => bail!("neither HELP, TYPE nor UNIT"),
        }
        Ok(())
    }

    fn sample(
        &mut self,
        line: &'a str,
        format: Format,
        series: &mut HashSet<(&'a str, &'a str)>,
    ) -> Result<()> {
        let end = line.find(['{', ' ']).context("no value")?;
        let (name, rest) = line.split_at(end);
        let (labels, value) = match rest.strip_prefix('{') {
            Some(rest) => labels(rest)?,
            None => (Vec::new(), rest),
        };
        let value = value.strip_prefix(' ').context("no blank before the value")?;
        let (value, timestamp) = value.split_once(' ').map_or((value, None), |(value, at)| (value, Some(at)));
        let value: f64 = value.parse().context("not a number")?;
        match (timestamp, format) {
            (None, _) => {}
            (Some(at), Format::Classic) => _ = at.parse::<i64>().context("not a time in ms")?,
            (Some(at), Format::OpenMetrics) => _ = at.parse::<f64>().context("not a time in s")?,
        }
        let suffix = name.strip_prefix(self.name).context("not of the family above it")?;
        let kind = self.kind.context("no TYPE")?;
        let known = match (kind, format) {
            ("counter", Format::OpenMetrics) => &["_total", "_created"][..],
            ("info", Format::OpenMetrics) => &["_info"],
            ("histogram", _) => &["_bucket", "_count", "_sum", "_created"],
            _ => &[""],
        };
        ensure!(known.contains(&suffix), "no such suffix for a {kind}");
        if kind == "counter" {
            ensure!(name.ends_with("_total") || suffix == "_created", "a counter without _total");
            ensure!(value >= 0.0, "a counter below zero");
        }
        // With a timestamp it is one of several samples.
        let (before, last) = line.rsplit_once(' ').context("no value")?;
        let identity = if timestamp.is_some() {
            (before.rsplit_once(' ').map_or(before, |(series, _)| series), last)
        } else {
            (before, "")
        };
        ensure!(series.insert(identity), "a series twice");
        if kind == "histogram" {
            self.histogram(suffix, labels, value)?;
        }
        self.samples += 1;
        Ok(())
    }

    fn histogram(&mut self, suffix: &str, labels: Vec<(&'a str, &'a str)>, value: f64) -> Result<()> {
        let le = labels.iter().find(|(name, _)| *name == "le").map(|(_, value)| *value);
        let rest: Vec<_> = labels.into_iter().filter(|(name, _)| *name != "le").collect();
        match suffix {
            "_bucket" => {
                let le = le.context("a bucket without le")?;
                let before = self.bucket.take().filter(|before| before.labels == rest);
                ensure!(value >= before.map_or(0.0, |before| before.count), "a bucket below the one before");
                self.bucket = Some(Bucket { labels: rest, count: value, infinite: le == "+Inf" });
            }
            "_count" => {
                let of_these = self.bucket.as_ref().filter(|bucket| bucket.labels == rest);
                // The sums may come before or behind the buckets; buckets that came must end with the count.
                if let Some(bucket) = of_these {
                    let all = bucket.infinite && (value - bucket.count).abs() < f64::EPSILON;
                    ensure!(all, "+Inf is not the count");
                }
            }
            _ => {}
        }
        Ok(())
    }

    fn finish(&self) -> Result<()> {
        let Self { name, kind, help, unit, bucket, .. } = self;
        if name.is_empty() {
            return Ok(());
        }
        ensure!(*help && kind.is_some(), "{name} lacks HELP or TYPE");
        if let Some(unit) = unit {
            ensure!(name.ends_with(&format!("_{unit}")), "{name} does not end with its unit {unit}");
        }
        ensure!(bucket.as_ref().is_none_or(|bucket| bucket.infinite), "{name} lacks the bucket +Inf");
        Ok(())
    }
}

/// `name="value",...}` and what follows; values keep their escapes.
fn labels(text: &str) -> Result<(Vec<(&str, &str)>, &str)> {
    let (mut labels, mut rest) = (Vec::new(), text);
    loop {
        if let Some(behind) = rest.strip_prefix('}') {
            return Ok((labels, behind));
        }
        let (name, behind) = rest.split_once("=\"").context("a label without a value")?;
        ensure!(is_name(name) && !name.contains(':'), "not a label's name: {name}");
        ensure!(labels.iter().all(|(known, _)| *known != name), "the label {name} twice");
        let end = quoted(behind)?;
        labels.push((name, &behind[..end]));
        rest = &behind[end + 1..];
        rest = rest.strip_prefix(',').unwrap_or(rest);
    }
}

/// Where the closing quotation mark is.
fn quoted(text: &str) -> Result<usize> {
    let mut bytes = text.bytes().enumerate();
    while let Some((at, byte)) = bytes.next() {
        match byte {
            b'"' => return Ok(at),
            b'\\' => match bytes.next() {
                Some((_, b'"' | b'\\' | b'n')) => {}
                _ => bail!("an unknown escape"),
            },
            _ => {}
        }
    }
    bail!("a label's value without an end")
}

fn is_name(text: &str) -> bool {
    let mut bytes = text.bytes();
    let first = |byte: u8| byte.is_ascii_alphabetic() || byte == b'_' || byte == b':';
    bytes.next().is_some_and(first) && bytes.all(|byte| first(byte) || byte.is_ascii_digit())
}
