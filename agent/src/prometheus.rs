//! The one way to ask a Prometheus a question: its HTTP API, with limits on time and bytes.

use std::time::Duration;

use reqwest::{Client, Url, redirect};

use serde::Deserialize;
use serde::de::DeserializeOwned;

/// Words of a foreign answer that are worth repeating.
const MAX_WORDS: usize = 200;

/// A Prometheus.
#[derive(Clone, Debug)]
pub struct Prometheus {
    client: Client,
    url: Url,
    max_answer_bytes: usize,
}

/// The address `http://HOST:PORT`, with a path where it has one: the API is asked without a password.
///
/// # Errors
/// What is wrong with it.
pub fn address(text: &str) -> Result<Url, String> {
    let url = Url::parse(text).map_err(|error| error.to_string())?;
    if url.scheme() != "http" || !url.has_host() {
        return Err("is no http://HOST:PORT".to_owned());
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err("user and password do not belong into it".to_owned());
    }
    if url.query().is_some() || url.fragment().is_some() {
        return Err("a query does not belong into it".to_owned());
    }
    Ok(url)
}

impl Prometheus {
    /// The one at `url`; nothing is asked yet.
    ///
    /// # Errors
    /// What is wrong with the address, or that there can be no client.
    pub fn new(url: &str, patience: Duration, max_answer_bytes: usize) -> Result<Self, String> {
        let url = address(url)?;
        let builder = Client::builder().user_agent(concat!("sextant/", env!("CARGO_PKG_VERSION")));
        let client = builder.timeout(patience).redirect(redirect::Policy::none()).build();
        let client = client.map_err(|error| error.to_string())?;
        Ok(Self { client, url, max_answer_bytes })
    }

    /// Where it is.
    #[must_use]
    pub fn url(&self) -> &Url {
        &self.url
    }

    /// The series that `/api/v1/ENDPOINT` answers (`query`, `query_range`).
    ///
    /// # Errors
    /// It does not answer, or not as it should; the words are cut.
    pub async fn ask<T: DeserializeOwned>(
        &self,
        endpoint: &str,
        parameters: &[(&str, &str)],
    ) -> Result<Vec<T>, String> {
        let mut url = self.url.clone();
        if let Ok(mut path) = url.path_segments_mut() {
            path.pop_if_empty().extend(["api", "v1", endpoint]);
        }
        url.query_pairs_mut().extend_pairs(parameters);
        let fail = |error: reqwest::Error| cut(&error.without_url().to_string());
        let mut response = self.client.get(url).send().await.map_err(fail)?;
        let mut body = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(fail)? {
            if body.len() + chunk.len() > self.max_answer_bytes {
                return Err(format!("an answer of more than {} bytes", self.max_answer_bytes));
            }
            body.extend_from_slice(&chunk);
        }
        let status = response.status();
        read(&body).map_err(|error| cut(&format!("{status}: {error}")))
    }
}

/// What Prometheus answers; `data` where it succeeded, else `error`.
#[derive(Deserialize)]
struct Answer<T> {
    data: Option<Data<T>>,
    error: Option<String>,
}

#[derive(Deserialize)]
struct Data<T> {
    result: Vec<T>,
}

/// The series of an answer's body.
///
/// # Errors
/// Its own error, or that it is none.
pub fn read<T: DeserializeOwned>(body: &[u8]) -> Result<Vec<T>, String> {
    let answer: Answer<T> = serde_json::from_slice(body).map_err(|error| error.to_string())?;
    let data = answer.data.ok_or_else(|| answer.error.unwrap_or_else(|| "no data".to_owned()))?;
    Ok(data.result)
}

fn cut(text: &str) -> String {
    text.chars().filter(|letter| !letter.is_control()).take(MAX_WORDS).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_plain_address_is_taken() {
        assert!(address("http://127.0.0.1:9090/prefix").is_ok());
        for wrong in
            ["", "9090", "https://x", "ftp://x", "http://", "http://u:p@x", "http://x?a=b", "http://x#a"]
        {
            assert!(address(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn an_answer_is_its_series_or_its_error() {
        let read = |text: &str| read::<u64>(text.as_bytes());
        assert_eq!(read(r#"{"status":"success","data":{"result":[1,2]}}"#), Ok(vec![1, 2]));
        assert_eq!(read(r#"{"status":"error","error":"parse error"}"#), Err("parse error".to_owned()));
        assert_eq!(read("{}"), Err("no data".to_owned()));
        assert!(read("<html>").is_err());
        assert_eq!(cut(&"\nx".repeat(999)).len(), MAX_WORDS);
    }
}
