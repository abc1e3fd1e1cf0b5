//! Who asks, and what they may do.
//!
//! A key comes in `X-API-Key` or as `Authorization: Bearer` (`Token`, as InfluxDB's clients say it). Only SHA-256 digests
//! are known here, and what comes is compared with all of them in constant time, so that neither a key nor its place in the
//! list can be measured. A key has a name, for the log, and [`Scope`]s. A process that reaches the unix socket (its owner
//! and group) may do all.
//!
//! ```toml
//! [keys]
//! required = "changes"                  # "actions" by default; "everything" asks readers too
//! file = "/etc/sextant/keys.toml"       # more keys, in the same form; read again when it changes
//!
//! [[keys.key]]                          # `sextant key new` prints these lines
//! name = "grafana"
//! sha256 = "...64 hexadecimal digits..."
//! scopes = ["read"]
//! ```
//!
//! There is no default key. Which scope a route takes, [`super::access`] says.

use std::path::Path;
use std::sync::Arc;

use arc_swap::ArcSwap;
use axum::http::{HeaderMap, header};
use constant_time_eq::constant_time_eq_32;
use sha2::{Digest as _, Sha256};

mod caller;
mod config;
pub mod fresh;

pub(super) use caller::Caller;
pub use config::{Config, KeyConfig, Required, Scope};

/// Keys that are known at once: each that comes is compared with all of them, a few microseconds for so many.
const MAX_KEYS: usize = 256;

/// A key that is known.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Key {
    pub(super) name: Arc<str>,
    digest: [u8; 32],
    scopes: Vec<Scope>,
}

impl Key {
    fn may(&self, scope: Scope) -> bool {
        self.scopes.contains(&scope) || self.scopes.contains(&Scope::Admin)
    }
}

/// The keys of a process; clones share them.
#[derive(Clone, Debug, Default)]
pub struct Keys(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    config: Config,
    known: ArcSwap<Vec<Arc<Key>>>,
}

impl Keys {
    /// Those of the configuration and of its file.
    ///
    /// # Errors
    /// What is wrong with them, in words that repeat no digest.
    pub fn new(config: &Config) -> Result<Self, String> {
        let known = ArcSwap::from_pointee(config.known()?);
        Ok(Self(Arc::new(Inner { config: config.clone(), known })))
    }

    /// Reads the file again; how many keys are known now.
    ///
    /// # Errors
    /// As for [`Keys::new`]; then everything stays as it was.
    pub fn reload(&self) -> Result<usize, String> {
        let known = self.0.config.known()?;
        let count = known.len();
        self.0.known.store(Arc::new(known));
        Ok(count)
    }

    /// How many are known.
    pub fn count(&self) -> usize {
        self.0.known.load().len()
    }

    /// The file that is read again, if there is one.
    pub fn file(&self) -> Option<&Path> {
        self.0.config.file()
    }

    /// A request of this scope needs a key.
    pub(super) fn are_needed(&self, scope: Scope) -> bool {
        self.0.config.required().needs(scope)
    }

    /// The key, if it is known. Every digest is compared, whichever it is.
    pub(super) fn find(&self, presented: &[u8]) -> Option<Arc<Key>> {
        let digest: [u8; 32] = Sha256::digest(presented).into();
        let known = self.0.known.load();
        let same = |found, key: &Arc<Key>| {
            if constant_time_eq_32(&key.digest, &digest) { Some(Arc::clone(key)) } else { found }
        };
        known.iter().fold(None, same)
    }
}

/// What the request brings as its key.
pub(super) fn presented(headers: &HeaderMap) -> Option<&[u8]> {
    if let Some(key) = headers.get("x-api-key") {
        return Some(key.as_bytes());
    }
    let (scheme, key) = headers.get(header::AUTHORIZATION)?.to_str().ok()?.split_once(' ')?;
    let known = ["bearer", "token"].iter().any(|known| scheme.eq_ignore_ascii_case(known));
    known.then(|| key.trim().as_bytes())
}

#[cfg(test)]
pub(super) mod tests;
