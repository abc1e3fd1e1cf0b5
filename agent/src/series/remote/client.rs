//! Requests to the store: a URL, headers, a token, a time, and answers of a limited length.
//!
//! Redirects are not followed: samples go where they were told to go, or nowhere.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use arc_swap::ArcSwap;
use http_body_util::{BodyExt as _, Full, LengthLimitError, Limited};
use hyper::body::Bytes;
use hyper::header::{AUTHORIZATION, COOKIE, HeaderName, HeaderValue, RETRY_AFTER, USER_AGENT};
use hyper::{HeaderMap, Request, StatusCode, Uri};
use hyper_rustls::HttpsConnector;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::client::legacy::{Client as Legacy, Error as LegacyError};
use hyper_util::rt::{TokioExecutor, TokioTimer};
use reqwest::Url;

use super::super::Error;
use super::Config;
use crate::telemetry::chain;

/// A token is a line; more is another file.
const MAX_TOKEN_BYTES: u64 = 4_096;

/// Words of a foreign answer that are worth repeating.
const MAX_WORDS: usize = 200;

/// A client of one URL's server.
#[derive(Debug)]
pub(super) struct Client {
    over_tls: bool,
    scheme: &'static str,
    timeout: Duration,
    config: Config,
    way: ArcSwap<Way>,
}

#[derive(Debug)]
struct Way {
    client: Legacy<HttpsConnector<HttpConnector>, Full<Bytes>>,
    headers: HeaderMap,
}

/// What came back.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) status: StatusCode,
    pub(super) headers: HeaderMap,
    pub(super) body: Bytes,
}

/// Why nothing came back.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Failure {
    /// The request did not get there.
    NotSent(String),
    /// Nobody knows whether it did.
    InDoubt(String),
    /// The answer is longer than is read.
    TooLong,
}

impl Client {
    /// Of the server of this URL; `scheme` is the word before the token.
    pub(super) fn new(url: &Url, scheme: &'static str, config: &Config) -> Result<Self, Error> {
        let over_tls = url.scheme() == "https";
        let timeout = Duration::from_millis(config.timeout_ms);
        let way = ArcSwap::from_pointee(Way::new(over_tls, scheme, config)?);
        Ok(Self { over_tls, scheme, timeout, config: config.clone(), way })
    }

    /// Reads the files again, for the next request on.
    pub(super) fn reload(&self) -> Result<(), Error> {
        self.way.store(std::sync::Arc::new(Way::new(self.over_tls, self.scheme, &self.config)?));
        Ok(())
    }

    /// Sends a request with the headers of all of them, and reads at most so many bytes of its answer.
    pub(super) async fn send(
        &self,
        mut request: Request<Full<Bytes>>,
        limit: usize,
    ) -> Result<Answer, Failure> {
        let way = self.way.load_full();
        for (name, value) in &way.headers {
            request.headers_mut().insert(name.clone(), value.clone());
        }
        let exchange = async {
            let answer = way.client.request(request).await.map_err(|error| failure(&error))?;
            let (parts, body) = answer.into_parts();
            let body = Limited::new(body, limit).collect().await.map_err(|error| {
                if error.is::<LengthLimitError>() {
                    Failure::TooLong
                } else {
                    Failure::InDoubt(cut(&chain(&*error)))
                }
            })?;
            Ok(Answer { status: parts.status, headers: parts.headers, body: body.to_bytes() })
        };
        let late = || Failure::InDoubt(format!("no answer within {} ms", self.timeout.as_millis()));
        tokio::time::timeout(self.timeout, exchange).await.map_err(|_| late())?
    }
}

impl Way {
    fn new(over_tls: bool, scheme: &str, config: &Config) -> Result<Self, Error> {
        let wrong = |error| Error::Config(format!("tls: {}", crate::tls::words(&error)));
        let connector =
            config.tls.connector(over_tls, Duration::from_millis(config.timeout_ms)).map_err(wrong)?;
        let client = Legacy::builder(TokioExecutor::new()).pool_timer(TokioTimer::new()).build(connector);
        let mut headers = headers(&config.headers).map_err(Error::Config)?;
        headers.insert(USER_AGENT, HeaderValue::from_static(concat!("sextant/", env!("CARGO_PKG_VERSION"))));
        if let Some(token) = token(scheme, config)? {
            headers.insert(AUTHORIZATION, token);
        }
        Ok(Self { client, headers })
    }
}

/// A server's URL: no user, no password, nothing behind its path.
pub(super) fn url(name: &str, text: &str) -> Result<Url, String> {
    let wrong =
        |words: &dyn std::fmt::Display| format!("{name}: `{text}` {words}, such as http://10.0.0.6:9090");
    let url = Url::parse(text).map_err(|error| wrong(&format!("is no URL ({error})")))?;
    if !matches!(url.scheme(), "http" | "https") || !url.has_host() {
        return Err(wrong(&"is no http:// or https:// URL"));
    }
    if !url.username().is_empty() || url.password().is_some() {
        // The text is not repeated: it holds a password.
        return Err(format!("{name}: user and password do not belong into it, a token into token_file"));
    }
    if url.query().is_some() || url.fragment().is_some() {
        return Err(wrong(&"has a ? or # part"));
    }
    Ok(url)
}

/// A path of this server.
pub(super) fn below(url: &Url, path: &[&str]) -> Result<Uri, Error> {
    let mut url = url.clone();
    if let Ok(mut segments) = url.path_segments_mut() {
        segments.pop_if_empty().extend(path);
    }
    url.as_str().parse().map_err(|error| Error::Config(format!("{url}: {error}")))
}

/// Configured headers.
pub(super) fn headers(texts: &BTreeMap<String, String>) -> Result<HeaderMap, String> {
    let mut headers = HeaderMap::new();
    for (name, value) in texts {
        let wrong = |words: &str| format!("headers: {name}: {words}");
        let name: HeaderName = name.parse().map_err(|_| wrong("no name of a header"))?;
        if name == AUTHORIZATION || name == COOKIE || name.as_str().contains("key") {
            return Err(wrong("a secret belongs into token_file"));
        }
        headers.insert(name, HeaderValue::from_str(value).map_err(|_| wrong("no value of a header"))?);
    }
    Ok(headers)
}

/// The value of `Authorization`.
fn token(scheme: &str, config: &Config) -> Result<Option<HeaderValue>, Error> {
    let text = if config.token_file.as_os_str().is_empty() {
        let Some(token) = &config.token else { return Ok(None) };
        String::from_utf8_lossy(token.as_bytes()).into_owned()
    } else {
        read(&config.token_file)?
    };
    let wrong =
        || Error::Config(format!("token_file {}: not one line of a token", config.token_file.display()));
    let text = Some(text.trim()).filter(|text| !text.is_empty()).ok_or_else(wrong)?;
    let mut value = HeaderValue::from_str(&format!("{scheme} {text}")).map_err(|_| wrong())?;
    value.set_sensitive(true);
    Ok(Some(value))
}

fn read(file: &Path) -> Result<String, Error> {
    let wrong = |words: String| Error::Config(format!("token_file {}: {words}", file.display()));
    let size_bytes = std::fs::metadata(file).map_err(|error| wrong(error.to_string()))?.len();
    if size_bytes > MAX_TOKEN_BYTES {
        return Err(wrong(format!("larger than {MAX_TOKEN_BYTES} bytes")));
    }
    std::fs::read_to_string(file).map_err(|error| wrong(error.to_string()))
}

fn failure(error: &LegacyError) -> Failure {
    let words = cut(&chain(error));
    if error.is_connect() { Failure::NotSent(words) } else { Failure::InDoubt(words) }
}

impl Answer {
    /// Its status and the beginning of its text, for a person.
    pub(super) fn words(&self) -> String {
        let text = String::from_utf8_lossy(&self.body);
        let text = text.trim();
        if text.is_empty() { self.status.to_string() } else { cut(&format!("{}: {text}", self.status)) }
    }

    /// When it wants to be asked again. Seconds only: the date form needs two clocks that agree.
    pub(super) fn retry_after(&self) -> Option<Duration> {
        self.number(&RETRY_AFTER).map(Duration::from_secs)
    }

    /// A header's number.
    pub(super) fn number(&self, name: &HeaderName) -> Option<u64> {
        self.headers.get(name)?.to_str().ok()?.trim().parse().ok()
    }
}

/// A line of someone else's text.
pub(super) fn cut(text: &str) -> String {
    text.chars().filter(|letter| !letter.is_control()).take(MAX_WORDS).collect()
}
