//! Samples from others, in the protocols that their senders have.
//!
//! - `POST /api/v1/write` remote write 1.0 and 2.0: Prometheus, vmagent, any agent ([`prometheus`])
//! - `POST /api/v2/write` and `POST /write` InfluxDB's line protocol, both versions: Telegraf, any client ([`lines`])
//!
//! A success means that all of it is stored. What cannot be stored however often it comes is 400, with the rest stored and
//! the reason told; what may be stored later is 503 with `Retry-After`, since Prometheus gives up on any other status, 429
//! and 408 among them, unless it is told otherwise; `[http.rate]` refuses `/api/v1/write` so too.
//!
//! A write holds its turn until it is stored, for seconds where another store is slow or away. So these have turns of their
//! own, and take none of those that nodes' batches and events wait for.

use tokio::sync::SemaphorePermit;
use tokio::time::{Duration, timeout};

use super::ReceiverState;
use crate::domain::series::SeriesSamples;
use crate::http::keys::Caller;
use crate::http::serve::Connection;
use crate::http::{ApiError, BODY_PATIENCE};
use crate::series::{Appended, Error};

pub mod lines;
pub mod prometheus;

/// Writes at once, beside `[http] max_bodies`: a Prometheus has up to 50 on their way, and comes again with those that find
/// no turn. Each has some 10 MB at most.
pub(super) const WRITES: usize = 16;

/// When a store that did not take samples is asked again.
const RETRY_S: u64 = 2;

/// Of the time that a request has, what an answer of ours has: behind it comes 408.
const SHARE_OF_TIME: f64 = 0.9;

/// Who brought them: the key's name, or the address.
fn source(caller: &Caller, connection: Option<&Connection>) -> String {
    match caller {
        Caller::Holder(key) => key.name.to_string(),
        _ => connection.map_or_else(|| "local".to_owned(), Connection::sender),
    }
}

/// Takes a body, in time or not at all as far as the sender knows: once more is no harm.
async fn in_time<T>(
    receiver: &ReceiverState,
    take: impl Future<Output = Result<T, ApiError>>,
) -> Result<T, ApiError> {
    let whole = Duration::from_millis(receiver.common.config.request_timeout_ms);
    let taken = timeout(whole.mul_f64(SHARE_OF_TIME), take).await;
    taken.unwrap_or_else(|_| Err(later("it took longer than a request may")))
}

async fn store(
    receiver: &ReceiverState,
    source: &str,
    batch: Vec<SeriesSamples>,
) -> Result<Appended, ApiError> {
    let appended = receiver.series.series.append(source, batch).await;
    appended.map_err(|error| refusal(&error))
}

/// A turn to write; none is 503.
async fn turn(receiver: &ReceiverState) -> Result<SemaphorePermit<'_>, ApiError> {
    let turn = timeout(BODY_PATIENCE, receiver.series.writes.acquire()).await;
    // The semaphore is never closed.
    turn.ok().and_then(Result::ok).ok_or_else(|| later("too many writes are under way"))
}

fn later(why: &str) -> ApiError {
    ApiError::Degraded { why: why.to_owned(), retry_after_s: RETRY_S }
}

fn refusal(error: &Error) -> ApiError {
    match error {
        Error::Invalid(_) | Error::TooMuch { .. } => ApiError::Invalid(error.to_string()),
        Error::Busy
        | Error::Disk(_)
        | Error::Remote(_)
        | Error::Closed
        | Error::Config(_)
        | Error::Open(_)
        | Error::Thread(_) => later(&error.to_string()),
    }
}

/// What is not stored, in words: `3 of 10 samples are not stored: 2 series_limit, 1 too_old`.
fn not_stored(appended: &Appended, others: u64, why: Option<&str>) -> Option<String> {
    let reasons = appended.refused.iter().filter(|(_, count)| **count > 0);
    let mut reasons: Vec<_> = reasons.map(|(refused, count)| format!("{count} {}", refused.name())).collect();
    if others > 0 {
        reasons.push(format!("{others} with odd labels ({})", why.unwrap_or_default()));
    }
    if reasons.is_empty() {
        return None;
    }
    let refused = appended.refused.values().sum::<u64>() + others;
    let all = appended.stored + refused;
    Some(format!("{refused} of {all} samples are not stored: {}", reasons.join(", ")))
}
