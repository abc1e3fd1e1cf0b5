//! Samples on their way to the store, one request at a time: stores refuse what comes out of order.
//!
//! A batch is cut into requests of the same bytes each time it comes. A request without an answer is sent again, with
//! jitter, for as long as [`Config::retry_ms`], and its digest is kept beyond that: when its batch is brought again and the
//! store then says "out of order" or "duplicate", it may have been stored, or one of its samples is out of order as ever and
//! the others are not there. So it is halved as every request that is refused, until the samples that the store does not
//! take are alone; these are there already, while those of a first request are a loss ([`halving`]). A request that the
//! store said it has is there as a whole. A batch that comes again after a restart of ours is a first one here: what the
//! store refuses of it as there already is counted as refused, unless the store takes repeats (`out_of_order_time_window`
//! of Prometheus).
//!
//! What is believed: remote write 1.0 by 200 and 204, unless it is a web page; 2.0 by a 2xx whose
//! `X-Prometheus-Remote-Write-Samples-Written` is what was sent, and else 1.0 takes its place for good, beginning with the
//! same samples; the line protocol by 204 alone. 400, 413 and 422 are verdicts on the samples where something of the same
//! part is stored, or an empty write is. Whatever else comes says something about the way or the settings, and no sample is
//! lost for it.

use std::time::Duration;

use backon::{BackoffBuilder as _, ExponentialBuilder};
use http_body_util::Full;
use hyper::body::Bytes;
use hyper::header::{CONTENT_ENCODING, CONTENT_TYPE, HeaderName, HeaderValue};
use hyper::{Method, Request, Uri};
use tokio::sync::{Mutex, Semaphore};
use tokio::time::Instant;
use tracing::warn;

use self::halving::Halving;
use self::part::cut_into_parts;
use self::sent::{Digest, Past, Sent};
use self::verdict::{Judged, Verdict, is_there};
use super::client::{Client, below, url};
use super::wire::{self, Version};
use super::{Config, Metrics, Protocol, line};
use crate::domain::series::SeriesSamples;
use crate::series::{Appended, Error, Refused};

mod halving;
mod part;
mod sent;
mod verdict;

/// Batches that wait for their turn: more are the caller's to hold, in its queue.
const MAX_WAITING: usize = 64;

/// First pause before a request is sent again, and the longest.
const PAUSES: [Duration; 2] = [Duration::from_millis(100), Duration::from_secs(10)];

/// A store that asks for more is asked again all the same: it may have been misconfigured.
const MAX_RETRY_AFTER: Duration = Duration::from_secs(60);

/// An answer is an error of one line; more is not read.
const MAX_ANSWER_BYTES: usize = 64 << 10;

/// Packing a smaller body of lines saves no packet.
const PACK_FROM_BYTES: usize = 1_024;

/// Samples written as one number of each kind.
pub(super) const WRITTEN: HeaderName = HeaderName::from_static("x-prometheus-remote-write-samples-written");
const VERSION: HeaderName = HeaderName::from_static("x-prometheus-remote-write-version");

/// The one who writes.
#[derive(Debug)]
pub struct Writer {
    client: Client,
    to: Uri,
    influx: bool,
    retry: Duration,
    room: Semaphore,
    turn: Mutex<Turn>,
    metrics: Metrics,
}

/// What only the one whose turn it is knows.
#[derive(Debug)]
struct Turn {
    version: Version,
    sent: Sent,
    /// The store does not want to be asked before.
    not_before: Instant,
}

/// What became of a request, and what was known of it before.
#[derive(Debug)]
struct Told {
    verdict: Verdict,
    past: Option<Past>,
    /// The store has it from before.
    there: bool,
}

impl Turn {
    /// Keeps what a verdict says. In the first version a request is stored or refused as a whole: one that had been stored
    /// is there, whatever else is refused then. The second stores what it can, so that nothing is left of one that it takes
    /// in part.
    fn told(&mut self, digest: Digest, past: Option<Past>, verdict: Verdict, samples: u64) -> Told {
        let there = match (&verdict, past) {
            (Verdict::Refused { words }, Some(Past::Stored)) | (Verdict::Partly { words, .. }, Some(_)) => {
                is_there(words)
            }
            _ => false,
        };
        match verdict {
            Verdict::Stored { .. } => self.sent.stored(digest),
            Verdict::Refused { .. } if past.is_none() => self.sent.forget(digest),
            Verdict::Refused { .. } | Verdict::Partly { .. } => {}
        }
        Told { verdict: if there { Verdict::Stored { samples } } else { verdict }, past, there }
    }
}

impl Writer {
    /// For the store of this configuration; nothing is sent yet.
    ///
    /// # Errors
    /// [`Error::Config`].
    pub fn new(config: &Config, metrics: Metrics) -> Result<Self, Error> {
        let influx = config.write_protocol == Protocol::Influx;
        let address = url("write_url", &config.write_url).map_err(Error::Config)?;
        let to = if influx { influx_uri(&address, config)? } else { below(&address, &[])? };
        let version =
            if config.write_protocol == Protocol::RemoteWrite2 { Version::Two } else { Version::One };
        Ok(Self {
            client: Client::new(&address, if influx { "Token" } else { "Bearer" }, config)?,
            to,
            influx,
            retry: Duration::from_millis(config.retry_ms),
            room: Semaphore::new(MAX_WAITING),
            turn: Mutex::new(Turn { version, sent: Sent::default(), not_before: Instant::now() }),
            metrics,
        })
    }

    /// Reads the configuration's files again.
    ///
    /// # Errors
    /// [`Error::Config`]; then everything stays as it was.
    pub fn reload(&self) -> Result<(), Error> {
        self.client.reload()
    }

    /// Writes a batch and returns when the store answered for all of it. What is not finite cannot be said in the line
    /// protocol and is refused there.
    ///
    /// # Errors
    /// [`Error::Busy`] where too many wait already; [`Error::Remote`] where the store does not answer, or not as it should:
    /// the same batch again is what helps, and is no harm.
    pub async fn append(&self, batch: Vec<SeriesSamples>) -> Result<Appended, Error> {
        let _room = self.room.try_acquire().map_err(|_| Error::Busy)?;
        let mut turn = self.turn.lock().await;
        let mut appended = Appended::default();
        for part in cut_into_parts(batch, self.influx) {
            self.deliver(&mut turn, part, &mut appended).await?;
        }
        self.metrics.stored.inc_by(appended.stored);
        self.metrics.refused.inc_by(appended.refused.values().sum());
        Ok(appended)
    }

    /// One request, or as many as it takes to leave out what the store refuses.
    async fn deliver(
        &self,
        turn: &mut Turn,
        part: Vec<SeriesSamples>,
        appended: &mut Appended,
    ) -> Result<(), Error> {
        let mut halving = Halving::of(part);
        let mut leads_there = false;
        // Samples that are there already, as the store said once, and as it is believed.
        let (mut proven, mut believed) = (0, 0);
        while let Some(piece) = halving.next() {
            let samples = count(&piece.series);
            let told = self.send(turn, &piece.series).await?;
            let (stored, words) = match told.verdict {
                Verdict::Stored { samples } => {
                    leads_there = true;
                    if told.there {
                        proven += samples;
                    } else if halving.was_stored(&piece) {
                        // They were out of order as ever.
                        let never_there = std::mem::take(&mut believed);
                        appended.stored -= never_there;
                        refuse(appended, never_there);
                    }
                    (samples, None)
                }
                Verdict::Partly { stored, words } => {
                    leads_there = true;
                    (stored.min(samples), Some(words))
                }
                Verdict::Refused { words } => {
                    if !leads_there {
                        self.probe(turn, &words).await?;
                        leads_there = true;
                    }
                    let doubt = told.past == Some(Past::InDoubt);
                    if halving.halve(&piece, doubt) {
                        continue;
                    }
                    // What is left in doubt has been asked for as long as it is worth.
                    if (doubt || piece.doubt) && is_there(&words) {
                        believed += samples;
                        (samples, None)
                    } else {
                        (0, Some(words))
                    }
                }
            };
            appended.stored += stored;
            refuse(appended, samples - stored);
            if let Some(words) = words {
                warn!(samples = samples - stored, "the store of the series refuses samples: {words}");
            }
        }
        self.metrics.there_already.inc_by(u64::from(proven + believed > 0));
        Ok(())
    }

    /// Whether what refuses samples is a store at all: none refuses an empty write. A server of TLS, for one, answers 400 to
    /// whatever comes without.
    async fn probe(&self, turn: &mut Turn, refusal: &str) -> Result<(), Error> {
        // Of the second version only a store says how much of it was written; else it is not believed.
        if !self.influx && turn.version == Version::Two {
            return Ok(());
        }
        // An empty body is wrong for InfluxDB, a comment is not.
        let body = if self.influx { b"# nothing\n".to_vec() } else { wire::encode(Version::One, &[]) };
        match self.until_told(turn, body, 0).await? {
            Some(Told { verdict: Verdict::Stored { .. }, .. }) => Ok(()),
            _ => Err(Error::Remote(format!(
                "{refusal}: so it says to an empty write too; is write_url right, and its http:// or https://?"
            ))),
        }
    }

    /// Sends a part until there is a verdict.
    async fn send(&self, turn: &mut Turn, part: &[SeriesSamples]) -> Result<Told, Error> {
        let samples = count(part);
        if !self.influx && turn.version == Version::Two {
            let body = wire::encode(Version::Two, part);
            if let Some(told) = self.until_told(turn, body, samples).await? {
                return Ok(told);
            }
            turn.version = Version::One;
            self.metrics.fallbacks.inc();
            warn!("the store does not prove that it stores remote write 2.0: 1.0 from now on");
        }
        let (body, unsaid) = if self.influx { line::encode(part) } else { (String::new(), 0) };
        if self.influx && body.is_empty() {
            return Ok(Told { verdict: Verdict::Stored { samples: 0 }, past: None, there: false });
        }
        let body = if self.influx { packed(body) } else { wire::encode(Version::One, part) };
        let told = self.until_told(turn, body, samples - unsaid).await?;
        told.ok_or_else(|| Error::Remote("it does not take remote write 1.0".to_owned()))
    }

    /// Sends a body until its fate is known; none where this version is not believed.
    async fn until_told(&self, turn: &mut Turn, body: Vec<u8>, samples: u64) -> Result<Option<Told>, Error> {
        let (digest, body) = (Digest::of(&body), Bytes::from(body));
        let end = Instant::now() + self.retry;
        let mut pauses = ExponentialBuilder::new()
            .with_min_delay(PAUSES[0])
            .with_max_delay(PAUSES[1])
            .without_max_times()
            .with_jitter()
            .build();
        loop {
            tokio::time::sleep_until(turn.not_before).await;
            let past = turn.sent.past(digest);
            // Before it goes: whoever waits for this may be gone when it is there.
            turn.sent.keep(digest);
            self.metrics.requests.inc();
            let answer = self.client.send(self.request(turn.version, &body), MAX_ANSWER_BYTES).await;
            let judged = verdict::judge(answer, self.influx, turn.version, samples);
            let later = match judged {
                Judged::Told(verdict) => return Ok(Some(turn.told(digest, past, verdict, samples))),
                Judged::Unproven => return Ok(None),
                Judged::Wrong(words) => {
                    if past.is_none() {
                        turn.sent.forget(digest);
                    }
                    return Err(Error::Remote(words));
                }
                Judged::Later(later) => later,
            };
            if later.not_taken && past.is_none() {
                turn.sent.forget(digest);
            }
            let pause = pauses.next().unwrap_or(PAUSES[1]);
            // Jitter on top of what was asked for: others were asked the same.
            let pause = later.retry_after.map_or(pause, |asked| asked.min(MAX_RETRY_AFTER) + pause);
            let again = Instant::now() + pause;
            if later.retry_after.is_some() {
                turn.not_before = again;
            }
            if again > end {
                return Err(Error::Remote(later.words));
            }
            self.metrics.retries.inc();
            tokio::time::sleep_until(again).await;
        }
    }

    fn request(&self, version: Version, body: &Bytes) -> Request<Full<Bytes>> {
        let mut request = Request::new(Full::from(body.clone()));
        *request.method_mut() = Method::POST;
        *request.uri_mut() = self.to.clone();
        let headers = request.headers_mut();
        if self.influx {
            headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
            if body.starts_with(&GZIP) {
                headers.insert(CONTENT_ENCODING, HeaderValue::from_static("gzip"));
            }
        } else {
            headers.insert(CONTENT_TYPE, HeaderValue::from_static(version.content_type()));
            headers.insert(CONTENT_ENCODING, HeaderValue::from_static("snappy"));
            headers.insert(VERSION, HeaderValue::from_static(version.number()));
        }
        request
    }
}

/// What a packed body begins with, and no line does.
const GZIP: [u8; 2] = [0x1f, 0x8b];

fn packed(text: String) -> Vec<u8> {
    use std::io::Write as _;
    if text.len() < PACK_FROM_BYTES {
        return text.into_bytes();
    }
    let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    // Writing to memory cannot fail; the text itself is no worse a body.
    let done = packed.write_all(text.as_bytes()).and_then(|()| packed.finish());
    done.unwrap_or_else(|_| text.into_bytes())
}

fn influx_uri(address: &reqwest::Url, config: &Config) -> Result<Uri, Error> {
    let path: &[&str] = if address.path().ends_with("/api/v2/write") { &[] } else { &["api", "v2", "write"] };
    let uri = below(address, path)?;
    let mut query =
        reqwest::Url::parse(&uri.to_string()).map_err(|error| Error::Config(error.to_string()))?;
    query
        .query_pairs_mut()
        .append_pair("org", &config.org)
        .append_pair("bucket", &config.bucket)
        .append_pair("precision", "ms");
    query.as_str().parse().map_err(|error| Error::Config(format!("write_url: {error}")))
}

fn refuse(appended: &mut Appended, samples: u64) {
    if samples > 0 {
        *appended.refused.entry(Refused::ByStore).or_default() += samples;
    }
}

fn count(part: &[SeriesSamples]) -> u64 {
    part.iter().map(|one| one.samples.len() as u64).sum()
}

#[cfg(test)]
mod tests;
