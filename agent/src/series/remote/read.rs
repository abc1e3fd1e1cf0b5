//! Questions to the store by Prometheus' HTTP API (`/api/v1/query`, `series`, `labels`, `label/NAME/values`).
//!
//! Samples are asked for raw, by an instant query of a range selector, in slices of time that grow as long as answers are
//! small and shrink when one is too long; buckets are made here, as everywhere. Prometheus up to 2 gives the sample at a
//! range's beginning, 3 and VictoriaMetrics do not: a millisecond more is asked for, and what is outside is left out.
//! A sample that is there twice is shown once.
//!
//! In JSON a NaN is `"NaN"`, whatever its bits. Prometheus leaves out where a series ends; VictoriaMetrics, which keeps no
//! other NaN, gives it as one, and it is left out here (it names itself by `X-Server-Hostname`). So a NaN that is read is
//! one that was written, with other bits maybe.
//!
//! Which series there are is told by day (VictoriaMetrics) or by block (Prometheus); those that have no sample in the range
//! are left out when it is asked when their last one was ([`last`]). Names and values of labels are told so without more.
//!
//! Nothing that is asked for can leave its quotes: labels are names, values are [`crate::domain::series::Escaped`]. A `.` in an expression fits a
//! line end in Prometheus 3 and VictoriaMetrics, and did not before.

use std::collections::{BTreeMap, BTreeSet};

use http_body_util::Full;
use hyper::body::Bytes;
use hyper::header::{CONTENT_TYPE, HeaderValue};
use hyper::{Method, Request, StatusCode, Uri};

use self::answer::{Matrix, Pairs};
use self::selector::selector;
use self::slices::Slices;
use self::taken::Taken;
use super::client::{Answer, Client, Failure, below, url};
use super::{Config, Metrics};
use crate::domain::series::{Labels, Range, Selection, SeriesSamples, is_name};
use crate::series::limit::at_most;
use crate::series::{Error, Found, MAX_AHEAD_MS, Query, WallClock};

mod answer;
mod back;
mod last;
mod selector;
mod slices;
mod taken;

/// Half a million samples; with what they become in memory some 50 MiB a question.
const MAX_ANSWER_BYTES: usize = 16 << 20;

/// Names or values of labels in one answer: as many as there may be series of a day.
const MAX_WORDS: usize = 200_000;

/// The one who reads.
#[derive(Debug)]
pub struct Reader {
    client: Client,
    query: Uri,
    series: Uri,
    labels: Uri,
    address: reqwest::Url,
    metrics: Metrics,
    clock: WallClock,
}

impl Reader {
    /// For the store of this configuration; nothing is asked yet.
    ///
    /// # Errors
    /// [`Error::Config`].
    pub fn new(config: &Config, metrics: Metrics, clock: WallClock) -> Result<Self, Error> {
        let address = url("read_url", &config.read_url).map_err(Error::Config)?;
        let below = |path: &str| below(&address, &["api", "v1", path]);
        Ok(Self {
            client: Client::new(&address, "Bearer", config)?,
            query: below("query")?,
            series: below("series")?,
            labels: below("labels")?,
            address,
            metrics,
            clock,
        })
    }

    /// Reads the configuration's files again.
    ///
    /// # Errors
    /// [`Error::Config`]; then everything stays as it was.
    pub fn reload(&self) -> Result<(), Error> {
        self.client.reload()
    }

    /// The series that have samples in the range, by their labels, each with its samples or buckets in ascending order.
    ///
    /// # Errors
    /// [`Error::Invalid`], [`Error::TooMuch`], [`Error::Remote`].
    pub async fn read(&self, query: &Query) -> Result<Vec<SeriesSamples>, Error> {
        let selector = selector(&query.selection)?;
        let mut found: BTreeMap<Labels, Taken> = BTreeMap::new();
        let mut unreadable = 0;
        let mut slices = Slices::of(self.clamped(query.range));
        while let Some(slice) = slices.slice() {
            let Some((answer, size_bytes)) = self.samples(&selector, slice, slices.can_shrink()).await?
            else {
                slices.shrink();
                continue;
            };
            slices.was_read(size_bytes, MAX_ANSWER_BYTES);
            for Matrix { labels, samples } in answer {
                let Some(labels) = labels.into_labels() else {
                    unreadable += 1;
                    continue;
                };
                let samples = samples.into_iter().filter(|sample| slice.contains(sample.at_ms));
                let mut samples = samples.peekable();
                if samples.peek().is_none() {
                    continue;
                }
                let taken = found.entry(labels).or_insert_with(|| Taken::new(query.buckets));
                samples.for_each(|sample| taken.push(sample));
            }
            at_most("series", found.len(), query.max_series)?;
            at_most("samples", found.values().map(Taken::len).sum(), query.max_samples)?;
        }
        self.metrics.unreadable.inc_by(unreadable);
        let all = found.into_iter().map(|(labels, taken)| SeriesSamples { labels, samples: taken.finish() });
        let all: Vec<_> = all.filter(|one| !one.samples.is_empty()).collect();
        at_most("samples", all.iter().map(|one| one.samples.len()).sum(), query.max_samples)?;
        Ok(all)
    }

    /// The series that have samples in the range, by their labels.
    ///
    /// # Errors
    /// As for [`Reader::read`].
    pub async fn find(&self, selection: &Selection, range: Range, limit: usize) -> Result<Vec<Found>, Error> {
        let (all, victoria): (Vec<Pairs>, _) = self.list(&self.series, selection, range, limit).await?;
        at_most("series", all.len(), limit)?;
        let count = all.len();
        let labels: BTreeSet<_> = all.into_iter().filter_map(Pairs::into_labels).collect();
        self.metrics.unreadable.inc_by((count - labels.len()) as u64);
        last::of(self, selection, self.clamped(range), labels, victoria).await
    }

    /// The names of labels.
    ///
    /// # Errors
    /// As for [`Reader::read`].
    pub async fn label_names(&self, range: Range) -> Result<BTreeSet<String>, Error> {
        self.words("names of labels", &self.labels, &Selection::default(), range).await
    }

    /// The values that a label has among these series.
    ///
    /// # Errors
    /// As for [`Reader::read`].
    pub async fn label_values(
        &self,
        name: &str,
        selection: &Selection,
        range: Range,
    ) -> Result<BTreeSet<String>, Error> {
        if !is_name(name, false) {
            return Err(Error::Invalid(format!("{name:?} is no name of a label")));
        }
        let uri = below(&self.address, &["api", "v1", "label", name, "values"])?;
        self.words("values of a label", &uri, selection, range).await
    }

    async fn words(
        &self,
        what: &'static str,
        uri: &Uri,
        selection: &Selection,
        range: Range,
    ) -> Result<BTreeSet<String>, Error> {
        let (words, _): (Vec<String>, _) = self.list(uri, selection, range, MAX_WORDS).await?;
        at_most(what, words.len(), MAX_WORDS)?;
        Ok(words.into_iter().collect())
    }

    /// The samples of a slice and their answer's size; none where the answer is too long and a shorter slice may do.
    async fn samples(
        &self,
        selector: &str,
        slice: Range,
        can_shrink: bool,
    ) -> Result<Option<(Vec<Matrix>, usize)>, Error> {
        let query = format!("{selector}[{}ms]", width_ms(slice));
        let answer = match self.instant(query, slice.to_ms).await {
            Ok(answer) => answer,
            Err(Failure::TooLong) if can_shrink => return Ok(None),
            Err(failure) => return Err(told(failure)),
        };
        // More samples than the store reads at once.
        if answer.status == StatusCode::UNPROCESSABLE_ENTITY && can_shrink {
            return Ok(None);
        }
        let size_bytes = answer.body.len();
        answer::matrix(&answer).map(|matrix| Some((matrix, size_bytes)))
    }

    /// An instant query at a time.
    async fn instant(&self, query: String, at_ms: i64) -> Result<Answer, Failure> {
        let fields = [
            ("query", query),
            ("time", seconds(at_ms)),
            // VictoriaMetrics shows the last half minute only when it is asked to, and answers from a cache.
            ("latency_offset", "1ms".to_owned()),
            ("nocache", "1".to_owned()),
        ];
        self.ask(&self.query, &fields).await
    }

    /// A list, and whether VictoriaMetrics gave it.
    async fn list<T: serde::de::DeserializeOwned>(
        &self,
        uri: &Uri,
        selection: &Selection,
        range: Range,
        limit: usize,
    ) -> Result<(Vec<T>, bool), Error> {
        let range = self.clamped(range);
        if range.from_ms > range.to_ms {
            return Ok((Vec::new(), false));
        }
        let fields = [
            ("start", seconds(range.from_ms)),
            ("end", seconds(range.to_ms)),
            // One more tells that there are more.
            ("limit", limit.saturating_add(1).to_string()),
            ("match[]", selector(selection)?),
        ];
        let answer = self.ask(uri, &fields).await.map_err(told)?;
        Ok((answer::list(&answer)?, answer::is_victoria(&answer)))
    }

    /// The part of a range in which samples may be: since 1970, and no further ahead than any is taken.
    fn clamped(&self, range: Range) -> Range {
        let ahead_ms = (self.clock)().div_euclid(1_000_000).saturating_add(MAX_AHEAD_MS);
        Range { from_ms: range.from_ms.max(0), to_ms: range.to_ms.min(ahead_ms) }
    }

    async fn ask(&self, uri: &Uri, fields: &[(&str, String)]) -> Result<Answer, Failure> {
        self.metrics.questions.inc();
        let form = form(fields);
        let by_get = uri.path().ends_with("/values");
        let mut request = Request::new(Full::from(if by_get { Bytes::new() } else { form.clone().into() }));
        if by_get {
            // A label's values are only given so.
            let whole = format!("{uri}?{form}");
            *request.uri_mut() =
                whole.parse().map_err(|_| Failure::NotSent("the question is too long".to_owned()))?;
        } else {
            *request.method_mut() = Method::POST;
            *request.uri_mut() = uri.clone();
            let kind = HeaderValue::from_static("application/x-www-form-urlencoded");
            request.headers_mut().insert(CONTENT_TYPE, kind);
        }
        self.client.send(request, MAX_ANSWER_BYTES).await
    }
}

fn form(fields: &[(&str, String)]) -> String {
    // The only part of it that is read is the query.
    let Ok(mut url) = reqwest::Url::parse("http://form/") else { return String::new() };
    url.query_pairs_mut().extend_pairs(fields);
    url.query().unwrap_or_default().to_owned()
}

fn told(failure: Failure) -> Error {
    match failure {
        Failure::NotSent(words) | Failure::InDoubt(words) => Error::Remote(words),
        Failure::TooLong => {
            Error::TooMuch { what: "bytes in an answer of the store", limit: MAX_ANSWER_BYTES }
        }
    }
}

/// Milliseconds that have both ends in them.
const fn width_ms(range: Range) -> i64 {
    range.to_ms.saturating_sub(range.from_ms).saturating_add(1)
}

/// As the API takes a time.
fn seconds(ms: i64) -> String {
    format!("{}.{:03}", ms.div_euclid(1_000), ms.rem_euclid(1_000))
}

#[cfg(test)]
mod tests;
