//! Room for what questions read: a turn holds a part of it from the question until its answer is read.
//!
//! Invariant: samples and labels in memory for questions, answers included that clients have not read yet, are 64 MB at
//! most. An answer that was not read in half a minute is cut where somebody else waits for its room, and only there.

use std::io;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use axum::body::{Body, Bytes};
use futures_util::stream;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Duration, Instant, sleep, timeout};

use super::{BUSY_RETRY_S, MAX_SAMPLES};
use crate::domain::series::{Labels, SeriesSamples};
use crate::http::ApiError;

/// Questions that there is room for, each with as many samples as it may have.
const AT_ONCE: usize = 4;

/// What room is counted in: a sample.
const UNIT_BYTES: usize = 16;

/// A label's two pointers and the counts before its texts. The texts are counted as well, though labels from this disk share
/// theirs with the index: those of another store are their own.
const LABEL_BYTES: usize = 64;

/// Half of what a request has: who gets no room by then is told so, and may still come again in time.
const PATIENCE: Duration = Duration::from_secs(5);

/// 30 MB of JSON in that time are 8 Mbit/s.
const READ_WITHIN: Duration = Duration::from_secs(30);

/// How often who waits looks for answers that are not read.
const LOOK: Duration = Duration::from_millis(250);

/// See the module.
#[derive(Debug)]
pub(in super::super) struct Room {
    units: Arc<Semaphore>,
    /// Answers that are being read, and since when: as many as there are connections.
    answers: Mutex<Vec<(Instant, Weak<Answer>)>>,
}

impl Room {
    pub(super) fn new() -> Arc<Self> {
        Arc::new(Self { units: Arc::new(Semaphore::new(AT_ONCE * MAX_SAMPLES)), answers: Mutex::default() })
    }

    /// A turn, with room for a whole question.
    ///
    /// # Errors
    /// [`ApiError::Crowded`]: there was none in time.
    pub(in super::super) async fn turn(self: &Arc<Self>) -> Result<Turn, ApiError> {
        let whole = u32::try_from(MAX_SAMPLES).unwrap_or(u32::MAX);
        let taking = Arc::clone(&self.units).acquire_many_owned(whole);
        tokio::pin!(taking);
        let taken = timeout(PATIENCE, async {
            loop {
                tokio::select! {
                    biased;
                    taken = &mut taking => return taken,
                    () = sleep(LOOK) => self.cut_slow(),
                }
            }
        });
        // The semaphore is never closed.
        let permit = taken.await.ok().and_then(Result::ok);
        let permit = permit.ok_or(ApiError::Crowded { retry_after_s: BUSY_RETRY_S })?;
        Ok(Turn { permit, room: Arc::clone(self) })
    }

    fn cut_slow(&self) {
        let mut answers = self.answers.lock().unwrap_or_else(PoisonError::into_inner);
        answers.retain(|(since, answer)| {
            let Some(answer) = answer.upgrade() else { return false };
            let slow = since.elapsed() >= READ_WITHIN && answer.cut();
            if slow {
                tracing::warn!(
                    "an answer that its client did not read in time is cut: others wait for its room"
                );
            }
            !slow
        });
    }

    #[cfg(test)]
    pub(in super::super) fn free(&self) -> usize {
        self.units.available_permits()
    }
}

/// A question's part of the room, until it is dropped.
#[derive(Debug)]
pub(in super::super) struct Turn {
    permit: OwnedSemaphorePermit,
    room: Arc<Room>,
}

impl Turn {
    /// An answer of these pieces, made one by one as its client reads; so long as it is read, it holds room for so many
    /// bytes, and no more than the question had.
    pub(in super::super) fn answer(
        mut self,
        size_bytes: usize,
        pieces: impl Iterator<Item = io::Result<Bytes>> + Send + 'static,
    ) -> Body {
        let all = self.permit.num_permits();
        drop(self.permit.split(all.saturating_sub(size_bytes.div_ceil(UNIT_BYTES))));
        let room = Arc::clone(&self.room);
        let answer = Arc::new(Answer(Mutex::new(State::Read { pieces: Box::new(pieces), _turn: self })));
        let mut answers = room.answers.lock().unwrap_or_else(PoisonError::into_inner);
        answers.retain(|(_, answer)| answer.strong_count() > 0);
        answers.push((Instant::now(), Arc::downgrade(&answer)));
        drop(answers);
        Body::from_stream(stream::iter(std::iter::from_fn(move || answer.next())))
    }
}

/// What is left of an answer.
struct Answer(Mutex<State>);

enum State {
    Read { pieces: Box<dyn Iterator<Item = io::Result<Bytes>> + Send>, _turn: Turn },
    Cut,
    Over,
}

impl std::fmt::Debug for Answer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Answer").finish_non_exhaustive()
    }
}

impl Answer {
    fn next(&self) -> Option<io::Result<Bytes>> {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let next = match &mut *state {
            State::Read { pieces, .. } => pieces.next(),
            // An error, so that the client sees that it is not whole.
            State::Cut => Some(Err(io::Error::new(io::ErrorKind::TimedOut, "not read in time"))),
            State::Over => None,
        };
        if !matches!((&*state, &next), (State::Read { .. }, Some(Ok(_)))) {
            *state = State::Over;
        }
        next
    }

    /// Gives its room back; false where it is read at this moment, or was.
    fn cut(&self) -> bool {
        let Ok(mut state) = self.0.try_lock() else { return false };
        let reads = matches!(*state, State::Read { .. });
        if reads {
            *state = State::Cut;
        }
        reads
    }
}

/// What samples and their labels take, about.
pub(in super::super) fn size_bytes(found: &[SeriesSamples]) -> usize {
    found.iter().map(|one| one.samples.len() * UNIT_BYTES + labels_bytes(&one.labels)).sum()
}

/// What labels take, about.
pub(in super::super) fn labels_bytes(labels: &Labels) -> usize {
    labels.iter().map(|(name, value)| name.len() + value.len() + LABEL_BYTES).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    const WHOLE_BYTES: usize = MAX_SAMPLES * UNIT_BYTES;

    fn two_pieces() -> impl Iterator<Item = io::Result<Bytes>> + Send {
        ["one", "two"].into_iter().map(|text| Ok(Bytes::from(text)))
    }

    async fn read(body: Body) -> Result<Bytes, axum::Error> {
        axum::body::to_bytes(body, 100).await
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_holds_its_room_until_it_is_read_or_nobody_reads_it() {
        let room = Room::new();
        let mut bodies = Vec::new();
        for _ in 0..AT_ONCE {
            bodies.push(room.turn().await.unwrap().answer(WHOLE_BYTES * 2, two_pieces()));
        }
        assert_eq!(room.free(), 0, "all of it, and no more than there is");
        let crowded = room.turn().await.unwrap_err();
        assert_eq!(crowded.status(), 429, "{crowded}");
        assert_eq!(read(bodies.pop().unwrap()).await.unwrap(), "onetwo");
        assert_eq!(room.free(), MAX_SAMPLES);
        drop(bodies.pop());
        assert_eq!(room.free(), 2 * MAX_SAMPLES, "a client that went away");
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_not_read_in_time_is_cut_for_those_who_wait_and_only_for_them() {
        let room = Room::new();
        let whole = room.turn().await.unwrap().answer(WHOLE_BYTES, two_pieces());
        tokio::time::advance(READ_WITHIN * 10).await;
        drop(room.turn().await.unwrap());
        assert_eq!(read(whole).await.unwrap(), "onetwo", "nobody waited");
        let slow = room.turn().await.unwrap().answer(WHOLE_BYTES, two_pieces());
        tokio::time::advance(READ_WITHIN).await;
        let mut others = Vec::new();
        for _ in 0..AT_ONCE {
            others.push(room.turn().await.unwrap());
        }
        assert!(read(slow).await.is_err(), "it is not whole, and must not look so");
        assert_eq!(room.turn().await.unwrap_err().status(), 429);
    }

    #[tokio::test]
    async fn a_small_answer_holds_little() {
        let room = Room::new();
        let _small = room.turn().await.unwrap().answer(UNIT_BYTES * 10 + 1, two_pieces());
        assert_eq!(room.free(), AT_ONCE * MAX_SAMPLES - 11);
    }
}
