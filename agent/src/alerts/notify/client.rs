//! Posts of JSON, over HTTP or HTTPS with the certificates of `[alerts.tls]`.
//!
//! Redirects are not followed: alerts go where they were told to go, or nowhere. 2xx is success; a redirect and 4xx but for
//! 408 and 429 are refusals that no repetition mends; anything else is tried again.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Bytes;
use hyper::header::{AUTHORIZATION, CONTENT_TYPE, HeaderValue, USER_AGENT};
use hyper::{Request, StatusCode, Uri};
use hyper_rustls::HttpsConnector;
use hyper_util::client::legacy::Client as Legacy;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use percent_encoding::percent_decode_str;
use reqwest::Url;
use serde_json::Value;

use super::super::Config;
use crate::telemetry::chain;
use crate::tls;

/// An answer is read to its end so that its connection can be used again; more than this is not.
const MAX_ANSWER_BYTES: usize = 64 << 10;

/// Words of a foreign answer that are worth repeating.
const MAX_WORDS: usize = 200;

/// Where posts go.
#[derive(Clone)]
pub(in crate::alerts) struct Place {
    uri: Uri,
    authorization: Option<HeaderValue>,
    /// Scheme, host and port: what is behind them may be a secret.
    pub(super) shown: String,
}

/// What became of a post.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// It has it.
    Taken,
    /// It never will.
    Refused(String),
    /// It may, later.
    Again(String),
}

impl Place {
    /// At a URL and a path behind it; user and password of a URL go along as `Authorization: Basic`.
    ///
    /// # Errors
    /// What is wrong, without the text: it may hold a secret.
    pub(in crate::alerts) fn new(text: &str, path: &[&str]) -> Result<Self, String> {
        let mut url = Url::parse(text).map_err(|cause| format!("is no URL ({cause})"))?;
        if !matches!(url.scheme(), "http" | "https") || !url.has_host() {
            return Err("is no http:// or https:// URL".to_owned());
        }
        let authorization = authorization(&url)?;
        let wrong = |()| "is no URL of a server".to_owned();
        url.set_username("").and_then(|()| url.set_password(None)).map_err(wrong)?;
        url.set_fragment(None);
        if !path.is_empty() {
            url.path_segments_mut().map_err(wrong)?.pop_if_empty().extend(path);
        }
        let uri = url.as_str().parse::<Uri>().map_err(|cause| format!("is no URL ({cause})"))?;
        let host = uri.authority().map_or("", |authority| authority.as_str());
        let shown = format!("{}://{host}", url.scheme());
        Ok(Self { uri, authorization, shown })
    }

    pub(in crate::alerts) fn is_over_tls(&self) -> bool {
        self.uri.scheme_str() == Some("https")
    }
}

/// By RFC 7617.
fn authorization(url: &Url) -> Result<Option<HeaderValue>, String> {
    if url.username().is_empty() && url.password().is_none() {
        return Ok(None);
    }
    let mut pair: Vec<u8> = percent_decode_str(url.username()).collect();
    pair.push(b':');
    pair.extend(percent_decode_str(url.password().unwrap_or_default()));
    let text = format!("Basic {}", base64(&pair));
    let mut value = HeaderValue::from_str(&text).map_err(|cause| cause.to_string())?;
    value.set_sensitive(true);
    Ok(Some(value))
}

/// RFC 4648, with padding.
fn base64(bytes: &[u8]) -> String {
    const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::new();
    for three in bytes.chunks(3) {
        let bits = (0..3).fold(0, |bits, n| (bits << 8) | u32::from(three.get(n).copied().unwrap_or(0)));
        for n in 0..4 {
            let letter = LETTERS.get(((bits >> (18 - 6 * n)) & 63) as usize).copied().unwrap_or(b'=');
            text.push(if n > three.len() { '=' } else { char::from(letter) });
        }
    }
    text
}

type Way = Legacy<HttpsConnector<HttpConnector>, Full<Bytes>>;

/// The way to all targets; clones share it.
#[derive(Clone)]
pub struct Client(Arc<Inner>);

struct Inner {
    tls: tls::Client,
    over_tls: bool,
    timeout: Duration,
    way: ArcSwap<Way>,
}

impl Client {
    /// To the targets of a configuration; nothing is sent yet.
    ///
    /// # Errors
    /// Certificates that cannot be used.
    pub(in crate::alerts) fn new(config: &Config) -> Result<Self, tls::Error> {
        let over_tls = config.is_over_tls();
        let timeout = Duration::from_millis(config.timeout_ms);
        let way = ArcSwap::from_pointee(way(&config.tls, over_tls, timeout)?);
        Ok(Self(Arc::new(Inner { tls: config.tls.clone(), over_tls, timeout, way })))
    }

    /// The files that [`Client::reload`] reads.
    #[must_use]
    pub fn files(&self) -> Vec<PathBuf> {
        if self.0.over_tls { self.0.tls.files() } else { Vec::new() }
    }

    /// Reads the certificates again, for the next post on.
    ///
    /// # Errors
    /// What is wrong with them; then everything stays as it was.
    pub fn reload(&self) -> Result<(), tls::Error> {
        let Inner { tls, over_tls, timeout, way: kept } = &*self.0;
        kept.store(Arc::new(way(tls, *over_tls, *timeout)?));
        Ok(())
    }

    /// Posts once.
    pub(super) async fn post(&self, place: &Place, body: &Value) -> Outcome {
        let exchange = self.exchange(place, body.to_string());
        match tokio::time::timeout(self.0.timeout, exchange).await {
            Err(_) => Outcome::Again(format!("no answer within {} ms", self.0.timeout.as_millis())),
            Ok(Err(words)) => Outcome::Again(words),
            Ok(Ok((status, _))) if status.is_success() => Outcome::Taken,
            Ok(Ok((status, words))) if is_final(status) => Outcome::Refused(format!("{status} {words}")),
            Ok(Ok((status, words))) => Outcome::Again(format!("{status} {words}")),
        }
    }

    async fn exchange(&self, place: &Place, body: String) -> Result<(StatusCode, String), String> {
        let mut request = Request::post(place.uri.clone())
            .header(CONTENT_TYPE, "application/json")
            .header(USER_AGENT, concat!("sextant/", env!("CARGO_PKG_VERSION")));
        if let Some(authorization) = &place.authorization {
            request = request.header(AUTHORIZATION, authorization.clone());
        }
        let request = request.body(Full::from(body)).map_err(|cause| cause.to_string())?;
        let answer = self.0.way.load_full().request(request).await.map_err(|cause| cut(&chain(&cause)))?;
        let status = answer.status();
        // Its words are for the log alone.
        let body = Limited::new(answer.into_body(), MAX_ANSWER_BYTES).collect().await;
        let words = body.map(|body| cut(&String::from_utf8_lossy(&body.to_bytes()))).unwrap_or_default();
        Ok((status, words))
    }
}

fn way(tls: &tls::Client, over_tls: bool, timeout: Duration) -> Result<Way, tls::Error> {
    let connector = tls.connector(over_tls, timeout)?;
    Ok(Legacy::builder(TokioExecutor::new()).pool_timer(TokioTimer::new()).build(connector))
}

fn is_final(status: StatusCode) -> bool {
    let is_refusal = status.is_redirection() || status.is_client_error();
    is_refusal && status != StatusCode::REQUEST_TIMEOUT && status != StatusCode::TOO_MANY_REQUESTS
}

fn cut(text: &str) -> String {
    text.trim().chars().filter(|letter| !letter.is_control()).take(MAX_WORDS).collect()
}

#[cfg(test)]
mod tests;
