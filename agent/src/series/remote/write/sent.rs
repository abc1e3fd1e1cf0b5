//! Requests that may be in the store, by a digest of their bytes.

use std::collections::VecDeque;

use sha2::{Digest as _, Sha256};

/// As many requests as a thousand batches whose answers got lost; the oldest is forgotten.
const MAX_KEPT: usize = 1_024;

/// Of a request's body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Digest([u8; 32]);

impl Digest {
    /// Of these bytes.
    pub(super) fn of(body: &[u8]) -> Self {
        Self(Sha256::digest(body).into())
    }
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Sent(VecDeque<Digest>);

impl Sent {
    /// It was sent before, and may have arrived.
    pub(super) fn has(&self, digest: Digest) -> bool {
        self.0.contains(&digest)
    }

    /// It is being sent.
    pub(super) fn keep(&mut self, digest: Digest) {
        if self.has(digest) {
            return;
        }
        if self.0.len() == MAX_KEPT {
            self.0.pop_front();
        }
        self.0.push_back(digest);
    }

    /// It is not in the store, for certain.
    pub(super) fn forget(&mut self, digest: Digest) {
        self.0.retain(|kept| *kept != digest);
    }
}
