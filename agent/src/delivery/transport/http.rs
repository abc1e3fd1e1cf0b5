//! `POST {receiver}/api/v1/ingest` with a [`Batch`] as JSON; 200 carries an [`Ack`].
//!
//! Redirects are not followed: records go where they were told to go, or nowhere.

use std::error::Error as _;
use std::time::Duration;

use reqwest::header::{CONTENT_TYPE, RETRY_AFTER};
use reqwest::{Client, Response, StatusCode, Url, redirect};

use super::{SendError, Transport};
use crate::api::batch::{Ack, Batch, Refusal};

/// An answer is an [`Ack`] or an error of one line; more is not read.
const MAX_ANSWER_BYTES: usize = 64 << 10;

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
    /// The HTTP client cannot be built.
    #[error("receiver: cannot build the HTTP client")]
    Client(#[source] reqwest::Error),
}

/// One receiver over HTTP.
#[derive(Clone, Debug)]
pub struct Http {
    client: Client,
    url: Url,
}

impl Http {
    /// A client of `receiver` (`http://host:port`, with a path where the receiver stands behind one).
    ///
    /// # Errors
    /// [`Error`]; nothing is sent yet.
    pub fn new(receiver: &str, connect_timeout: Duration) -> Result<Self, Error> {
        let wrong = |words: String| Error::Url { url: receiver.to_owned(), words };
        let mut url = Url::parse(receiver).map_err(|cause| wrong(cause.to_string()))?;
        if url.scheme() != "http" {
            return Err(wrong(format!("scheme {} is not http", url.scheme())));
        }
        if !url.username().is_empty() || url.password().is_some() {
            return Err(wrong("user and password do not belong into it".to_owned()));
        }
        url.set_query(None);
        url.set_fragment(None);
        url.path_segments_mut()
            .map_err(|()| wrong("has no host".to_owned()))?
            .pop_if_empty()
            .extend(["api", "v1", "ingest"]);
        let client = Client::builder()
            .user_agent(concat!("sextant/", env!("CARGO_PKG_VERSION")))
            .connect_timeout(connect_timeout)
            .redirect(redirect::Policy::none())
            .build()
            .map_err(Error::Client)?;
        Ok(Self { client, url })
    }
}

impl Transport for Http {
    async fn send(&self, batch: &Batch) -> Result<Ack, SendError> {
        let body = serde_json::to_vec(batch).map_err(|cause| unavailable(cause.to_string()))?;
        let mut response = self
            .client
            .post(self.url.clone())
            .header(CONTENT_TYPE, "application/json")
            .body(body)
            .send()
            .await
            .map_err(|cause| unavailable(chain(&cause)))?;
        let answer = bounded(&mut response).await?;
        match response.status() {
            // Any other 2xx may come from something that stores nothing.
            StatusCode::OK => serde_json::from_slice(&answer)
                .map_err(|cause| unavailable(format!("answer is no acknowledgement: {cause}"))),
            StatusCode::BAD_REQUEST | StatusCode::PAYLOAD_TOO_LARGE | StatusCode::UNPROCESSABLE_ENTITY => {
                Err(refused(response.status(), &answer))
            }
            StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE => Err(SendError::Busy {
                retry_after: retry_after(&response),
                words: words(response.status(), &answer),
            }),
            status => Err(unavailable(words(status, &answer))),
        }
    }

    fn target(&self) -> String {
        self.url.to_string()
    }
}

fn unavailable(words: String) -> SendError {
    SendError::Unavailable { words }
}

fn refused(status: StatusCode, answer: &[u8]) -> SendError {
    match serde_json::from_slice::<Refusal>(answer) {
        Ok(refusal) => SendError::Refused { refused: Some(refusal.refused), words: cut(&refusal.error) },
        Err(_) => SendError::Refused { refused: None, words: words(status, answer) },
    }
}

async fn bounded(response: &mut Response) -> Result<Vec<u8>, SendError> {
    let mut answer = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(|cause| unavailable(chain(&cause)))? {
        if answer.len() + chunk.len() > MAX_ANSWER_BYTES {
            return Err(unavailable(format!("answer is longer than {MAX_ANSWER_BYTES} bytes")));
        }
        answer.extend_from_slice(&chunk);
    }
    Ok(answer)
}

/// Seconds only: the date form is for caches, and needs two clocks that agree.
fn retry_after(response: &Response) -> Option<Duration> {
    let seconds = response.headers().get(RETRY_AFTER)?.to_str().ok()?.trim().parse().ok()?;
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

/// reqwest says "error sending request"; the reason is further down.
fn chain(error: &reqwest::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        text = format!("{text}: {inner}");
        cause = inner.source();
    }
    cut(&text)
}

#[cfg(test)]
mod tests;
