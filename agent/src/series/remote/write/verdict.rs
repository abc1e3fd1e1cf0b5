//! What an answer says about a request's samples.

use std::time::Duration;

use hyper::StatusCode;
use hyper::header::CONTENT_TYPE;

use super::WRITTEN;
use crate::series::remote::client::{Answer, Failure};
use crate::series::remote::wire::Version;

/// What became of the samples of a request.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// So many are stored, all that the request could say.
    Stored {
        /// How many.
        samples: u64,
    },
    /// The others never will be.
    Partly {
        /// How many are.
        stored: u64,
        /// The store's words.
        words: String,
    },
    /// They are not taken as they are.
    Refused {
        /// The store's words.
        words: String,
    },
}

/// What an answer means.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Judged {
    /// A verdict.
    Told(Verdict),
    /// No proof that this version is stored.
    Unproven,
    /// It never will be one while the settings are what they are.
    Wrong(String),
    /// None yet.
    Later(Later),
}

/// A request that is to be sent again.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Later {
    pub(super) words: String,
    /// It is not stored, for certain.
    pub(super) not_taken: bool,
    pub(super) retry_after: Option<Duration>,
}

/// The store says of these samples that it has them.
pub(super) fn is_there(words: &str) -> bool {
    let words = words.to_ascii_lowercase();
    ["out of order", "out-of-order", "duplicate"].iter().any(|said| words.contains(said))
}

/// Judges an answer to `samples` samples, sent as lines or by this version of remote write.
pub(super) fn judge(answer: Result<Answer, Failure>, influx: bool, version: Version, samples: u64) -> Judged {
    let later = |words, not_taken, retry_after| Judged::Later(Later { words, not_taken, retry_after });
    let answer = match answer {
        Ok(answer) => answer,
        Err(Failure::NotSent(words)) => return later(words, true, None),
        Err(Failure::InDoubt(words)) => return later(words, false, None),
        Err(Failure::TooLong) => {
            return later("its answer is longer than an answer to a write".to_owned(), false, None);
        }
    };
    let two = !influx && version == Version::Two;
    let words = answer.words();
    match answer.status {
        status if status.is_success() => well(&answer, influx, two, samples, &words),
        StatusCode::UNSUPPORTED_MEDIA_TYPE if two => Judged::Unproven,
        StatusCode::BAD_REQUEST | StatusCode::PAYLOAD_TOO_LARGE | StatusCode::UNPROCESSABLE_ENTITY => {
            match (two, answer.number(&WRITTEN)) {
                (true, None) => Judged::Unproven,
                (true, Some(stored)) if answer.status != StatusCode::PAYLOAD_TOO_LARGE => {
                    Judged::Told(Verdict::Partly { stored, words })
                }
                _ => Judged::Told(Verdict::Refused { words }),
            }
        }
        StatusCode::TOO_MANY_REQUESTS => later(words, true, answer.retry_after()),
        StatusCode::REQUEST_TIMEOUT => later(words, false, answer.retry_after()),
        status if status.is_server_error() => later(words, false, answer.retry_after()),
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => {
            Judged::Wrong(format!("{words}: is token_file right, and may it write?"))
        }
        StatusCode::NOT_FOUND | StatusCode::METHOD_NOT_ALLOWED => Judged::Wrong(format!(
            "{words}: is write_url right, and does the server take what is written there?"
        )),
        _ => Judged::Wrong(format!("{words}: no answer to a write; is write_url right?")),
    }
}

/// A success, if it is one that can be believed.
fn well(answer: &Answer, influx: bool, two: bool, samples: u64, words: &str) -> Judged {
    if two {
        let proven = answer.number(&WRITTEN) == Some(samples);
        return if proven { Judged::Told(Verdict::Stored { samples }) } else { Judged::Unproven };
    }
    let page = answer.headers.get(CONTENT_TYPE).is_some_and(|kind| kind.as_bytes().starts_with(b"text/html"));
    let believed = match answer.status {
        StatusCode::NO_CONTENT => true,
        // The line protocol's 200 means that some of it may not be stored.
        StatusCode::OK => !influx && !page,
        _ => false,
    };
    if believed {
        return Judged::Told(Verdict::Stored { samples });
    }
    Judged::Wrong(format!(
        "{}: this success says nothing about samples; is write_url right?",
        super::super::client::cut(words)
    ))
}
