//! `POST {receiver}/api/v1/ingest` with a [`Batch`] as JSON, packed with gzip; 200 carries an [`Ack`].
//!
//! Redirects are not followed: records go where they were told to go, or nowhere. Over `https://` the receiver shows a
//! certificate of an authority that is trusted, and the node its own where one is configured.

use std::io::Write as _;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use flate2::Compression;
use flate2::write::GzEncoder;
use http_body_util::{BodyExt as _, Full, LengthLimitError, Limited};
use hyper::body::{Bytes, Incoming};
use hyper::header::{CONTENT_ENCODING, CONTENT_TYPE, HeaderValue, RETRY_AFTER, USER_AGENT};
use hyper::{HeaderMap, Request, Response, StatusCode, Uri};
use hyper_rustls::HttpsConnector;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use reqwest::Url;

use super::{SendError, Transport};
use crate::api::batch::{Ack, Batch, Refusal};
use crate::telemetry::chain;
use crate::tls;

/// A key is a line; more is another file.
const MAX_KEY_BYTES: u64 = 4_096;

/// An answer is an [`Ack`] or an error of one line; more is not read.
const MAX_ANSWER_BYTES: usize = 64 << 10;

/// Packing less saves no packet.
const PACK_FROM_BYTES: usize = 1_024;

/// Words of a foreign answer that are worth repeating in a log line.
const MAX_WORDS: usize = 200;

/// Why the transport cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Not a URL of a receiver.
    #[error("receiver {url}: {words}")]
    Url {
        /// As configured.
        url: String,
        /// What is wrong with it.
        words: String,
    },
    /// The key cannot be read.
    #[error("receiver: key_file {}: {words}", file.display())]
    Key {
        /// The file.
        file: PathBuf,
        /// What is wrong with it.
        words: String,
    },
    /// The certificates cannot be used.
    #[error("receiver: tls: {}", tls::words(.0))]
    Tls(#[from] tls::Error),
}

/// Who the node is to a receiver, and which receiver it trusts; read again by [`Http::reload`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Credentials {
    /// Certificates, for `https://`.
    pub tls: tls::Client,
    /// The file of the key that is sent along, one line; empty means none.
    pub key_file: PathBuf,
}

impl Credentials {
    /// The files that they lie in.
    pub fn files(&self) -> Vec<PathBuf> {
        let mut files = self.tls.files();
        files.extend(self.key_file().cloned());
        files
    }

    fn key_file(&self) -> Option<&PathBuf> {
        Some(&self.key_file).filter(|file| !file.as_os_str().is_empty())
    }

    fn key(&self) -> Result<Option<HeaderValue>, Error> {
        let Some(file) = self.key_file() else { return Ok(None) };
        let wrong = |words: String| Error::Key { file: file.clone(), words };
        let size_bytes = std::fs::metadata(file).map_err(|error| wrong(error.to_string()))?.len();
        if size_bytes > MAX_KEY_BYTES {
            return Err(wrong(format!("larger than {MAX_KEY_BYTES} bytes")));
        }
        let text = std::fs::read_to_string(file).map_err(|error| wrong(error.to_string()))?;
        let mut key = HeaderValue::from_str(text.trim())
            .ok()
            .filter(|key| !key.is_empty())
            .ok_or_else(|| wrong("not one line of a key".to_owned()))?;
        key.set_sensitive(true);
        Ok(Some(key))
    }
}

/// One receiver over HTTP; clones are the same one.
#[derive(Clone, Debug)]
pub struct Http(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    ingest: Uri,
    ready: Uri,
    connect_timeout: Duration,
    gzip: bool,
    credentials: Credentials,
    way: ArcSwap<Way>,
}

/// How requests go out: over which connections, and with which key.
#[derive(Debug)]
pub(crate) struct Way {
    client: Client<HttpsConnector<HttpConnector>, Full<Bytes>>,
    key: Option<HeaderValue>,
}

/// What came back.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    /// Time that was asked for.
    pub(crate) retry_after: Option<Duration>,
    pub(crate) body: Bytes,
}

impl Answer {
    /// Its status and the beginning of what it says, for a line.
    pub(crate) fn words(&self) -> String {
        words(self.status, &self.body)
    }
}

impl Http {
    /// A client of `receiver` (`http://host:port` or `https://`, with a path where the receiver stands behind one), to
    /// which batches go packed or plain.
    ///
    /// # Errors
    /// [`Error`]; nothing is sent yet.
    pub fn new(
        receiver: &str,
        connect_timeout: Duration,
        gzip: bool,
        credentials: Credentials,
    ) -> Result<Self, Error> {
        let ingest = endpoint(receiver, &["api", "v1", "ingest"])?;
        let ready = endpoint(receiver, &["readyz"])?;
        let way = ArcSwap::from_pointee(Way::new(&ingest, connect_timeout, &credentials)?);
        Ok(Self(Arc::new(Inner { ingest, ready, connect_timeout, gzip, credentials, way })))
    }

    /// Reads the credentials again, for the next batch on.
    ///
    /// # Errors
    /// [`Error`]; then everything stays as it was.
    pub fn reload(&self) -> Result<(), Error> {
        let Inner { ingest, connect_timeout, credentials, way, .. } = &*self.0;
        way.store(Arc::new(Way::new(ingest, *connect_timeout, credentials)?));
        Ok(())
    }
}

impl Http {
    /// The batch in JSON, and whether it is packed.
    async fn body(&self, batch: &Batch) -> Result<(Vec<u8>, bool), String> {
        let plain = batch.to_json(&self.target()).map_err(|cause| cause.to_string())?;
        if !self.0.gzip || plain.len() < PACK_FROM_BYTES {
            return Ok((plain, false));
        }
        // A megabyte takes tens of milliseconds.
        let packing = tokio::task::spawn_blocking(move || {
            let mut packed = GzEncoder::new(Vec::new(), Compression::fast());
            packed.write_all(&plain).and_then(|()| packed.finish())
        });
        let packed = packing.await.map_err(|cause| cause.to_string())?.map_err(|cause| cause.to_string())?;
        Ok((packed, true))
    }
}

impl Way {
    /// To a server at an address; nothing is sent yet.
    pub(crate) fn new(
        url: &Uri,
        connect_timeout: Duration,
        credentials: &Credentials,
    ) -> Result<Self, Error> {
        let over_tls = url.scheme_str() == Some("https");
        let connector = credentials.tls.connector(over_tls, connect_timeout)?;
        let mut client = Client::builder(TokioExecutor::new());
        let client = client.pool_timer(TokioTimer::new()).build(connector);
        Ok(Self { client, key: credentials.key()? })
    }

    /// With this key, where no file has one.
    pub(crate) fn or_key(self, key: Option<HeaderValue>) -> Self {
        Self { key: self.key.or(key), ..self }
    }

    /// Sends JSON, packed or plain.
    ///
    /// # Errors
    /// Why there is no answer.
    pub(crate) async fn post(&self, url: &Uri, body: Vec<u8>, packed: bool) -> Result<Answer, String> {
        let mut request = Request::post(url.clone())
            .header(CONTENT_TYPE, "application/json")
            .header(USER_AGENT, concat!("sextant/", env!("CARGO_PKG_VERSION")));
        if let Some(key) = &self.key {
            request = request.header("x-api-key", key.clone());
        }
        if packed {
            request = request.header(CONTENT_ENCODING, "gzip");
        }
        let request = request.body(Full::from(body)).map_err(|cause| cause.to_string())?;
        let response = self.client.request(request).await.map_err(|cause| cut(&chain(&cause)))?;
        let (status, retry_after) = (response.status(), retry_after(response.headers()));
        Ok(Answer { status, retry_after, body: bounded(response).await? })
    }
}

/// Something that the receiver answers.
pub(crate) fn endpoint(receiver: &str, path: &[&str]) -> Result<Uri, Error> {
    let wrong = |words: String| Error::Url { url: receiver.to_owned(), words };
    let mut url = Url::parse(receiver).map_err(|cause| wrong(cause.to_string()))?;
    if !matches!(url.scheme(), "http" | "https") {
        return Err(wrong(format!("scheme {} is neither http nor https", url.scheme())));
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err(wrong("user and password do not belong into it".to_owned()));
    }
    url.set_query(None);
    url.set_fragment(None);
    url.path_segments_mut().map_err(|()| wrong("has no host".to_owned()))?.pop_if_empty().extend(path);
    url.as_str().parse().map_err(|cause: hyper::http::uri::InvalidUri| wrong(cause.to_string()))
}

impl Transport for Http {
    async fn send(&self, batch: &Batch) -> Result<Ack, SendError> {
        let (body, packed) = self.body(batch).await.map_err(unavailable)?;
        let way = self.0.way.load_full();
        let answer = way.post(&self.0.ingest, body, packed).await.map_err(unavailable)?;
        match answer.status {
            // Any other 2xx may come from something that stores nothing.
            StatusCode::OK => serde_json::from_slice(&answer.body)
                .map_err(|cause| unavailable(format!("answer is no acknowledgement: {cause}"))),
            StatusCode::BAD_REQUEST | StatusCode::PAYLOAD_TOO_LARGE | StatusCode::UNPROCESSABLE_ENTITY => {
                Err(refused(&answer))
            }
            StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE => {
                Err(SendError::Busy { retry_after: answer.retry_after, words: answer.words() })
            }
            _ => Err(unavailable(answer.words())),
        }
    }

    async fn ready(&self) -> bool {
        let Ok(request) = Request::get(self.0.ready.clone()).body(Full::default()) else { return false };
        let answer = self.0.way.load_full().client.request(request).await;
        answer.is_ok_and(|answer| answer.status() == StatusCode::OK)
    }

    fn target(&self) -> String {
        self.0.ingest.to_string()
    }
}

fn unavailable(words: String) -> SendError {
    SendError::Unavailable { words }
}

fn refused(answer: &Answer) -> SendError {
    match serde_json::from_slice::<Refusal>(&answer.body) {
        Ok(refusal) => SendError::Refused { refused: Some(refusal.refused), words: cut(&refusal.error) },
        // Smaller batches may pass whoever said this.
        Err(_) if answer.status == StatusCode::PAYLOAD_TOO_LARGE => {
            SendError::Refused { refused: None, words: answer.words() }
        }
        // A receiver says what it refuses. Others say so of a request that was broken on its way, which no record pays for.
        Err(_) => unavailable(answer.words()),
    }
}

async fn bounded(response: Response<Incoming>) -> Result<Bytes, String> {
    let answer = Limited::new(response.into_body(), MAX_ANSWER_BYTES).collect().await;
    answer.map(http_body_util::Collected::to_bytes).map_err(|cause| {
        if cause.is::<LengthLimitError>() {
            return format!("answer is longer than {MAX_ANSWER_BYTES} bytes");
        }
        cut(&chain(&*cause))
    })
}

/// Seconds only: the date form is for caches, and needs two clocks that agree.
fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let seconds = headers.get(RETRY_AFTER)?.to_str().ok()?.trim().parse().ok()?;
    Some(Duration::from_secs(seconds))
}

fn words(status: StatusCode, answer: &[u8]) -> String {
    let text = String::from_utf8_lossy(answer);
    let text = text.trim();
    if text.is_empty() { status.to_string() } else { cut(&format!("{status}: {text}")) }
}

fn cut(text: &str) -> String {
    text.chars().filter(|letter| !letter.is_control()).take(MAX_WORDS).collect()
}

#[cfg(test)]
mod tests;
