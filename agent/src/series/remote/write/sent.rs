//! Requests that may be in the store, by a digest of their bytes.

use std::collections::VecDeque;

use sha2::{Digest as _, Sha256};

/// As many requests as one part may cost, or as thousands of batches whose answers got lost; the oldest is forgotten.
const MAX_KEPT: usize = 4_096;

/// Of a request's body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Digest([u8; 32]);

impl Digest {
    /// Of these bytes.
    pub(super) fn of(body: &[u8]) -> Self {
        Self(Sha256::digest(body).into())
    }
}

/// What became of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Past {
    /// It was sent, and may have arrived.
    InDoubt,
    /// The store said that it has it.
    Stored,
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Sent(VecDeque<(Digest, Past)>);

impl Sent {
    /// What became of it when it was sent before.
    pub(super) fn past(&self, digest: Digest) -> Option<Past> {
        self.0.iter().find(|(kept, _)| *kept == digest).map(|(_, past)| *past)
    }

    /// It is being sent.
    pub(super) fn keep(&mut self, digest: Digest) {
        if self.past(digest).is_some() {
            return;
        }
        if self.0.len() == MAX_KEPT {
            self.0.pop_front();
        }
        self.0.push_back((digest, Past::InDoubt));
    }

    /// The store has it.
    pub(super) fn stored(&mut self, digest: Digest) {
        if let Some((_, past)) = self.0.iter_mut().find(|(kept, _)| *kept == digest) {
            *past = Past::Stored;
        }
    }

    /// It is not in the store, for certain.
    pub(super) fn forget(&mut self, digest: Digest) {
        self.0.retain(|(kept, _)| *kept != digest);
    }
}
