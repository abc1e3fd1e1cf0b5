//! `[keys]`, and the file of more keys.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::{Key, MAX_KEYS};

/// A file of [`MAX_KEYS`] keys is a tenth of it.
const MAX_FILE_BYTES: u64 = 1 << 20;

/// Longest name: it stands in log lines.
const MAX_NAME: usize = 64;

/// `[keys]`
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// What needs a key; without a word, `actions`, or `everything` where the reference's variables bring keys.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub required: Option<Required>,
    /// A file of more keys, as `[[keys.key]]` too; empty means none. It is read again when it changes and on SIGHUP, and
    /// one that is wrong then changes nothing.
    pub file: PathBuf,
    /// Keys.
    pub key: Vec<KeyConfig>,
}

/// What needs a key, over TCP.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Required {
    /// What changes the node: anomalies and workloads.
    #[default]
    Actions,
    /// That, and records that come in or are consumed.
    Changes,
    /// Reading too: all but health checks and the API's own description.
    Everything,
}

impl Required {
    pub(super) const fn needs(self, scope: Scope) -> bool {
        match self {
            Self::Actions => matches!(scope, Scope::Act),
            Self::Changes => !matches!(scope, Scope::Read),
            Self::Everything => true,
        }
    }
}

/// What a key is good for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Scope {
    /// Reading.
    Read,
    /// Posting metrics, producing into the queue.
    Write,
    /// Consuming from the queue: acknowledging, giving back, forgetting a group.
    Consume,
    /// Delivering a node's batches.
    Ingest,
    /// Anomalies and workloads.
    Act,
    /// All of it.
    Admin,
}

impl Scope {
    /// All there are.
    pub const ALL: [Self; 6] = [Self::Read, Self::Write, Self::Consume, Self::Ingest, Self::Act, Self::Admin];

    /// As the configuration has it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Write => "write",
            Self::Consume => "consume",
            Self::Ingest => "ingest",
            Self::Act => "act",
            Self::Admin => "admin",
        }
    }
}

impl FromStr for Scope {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Self::ALL.into_iter().find(|scope| scope.name() == text).ok_or_else(|| {
            let all = Self::ALL.map(Self::name).join(", ");
            format!("`{text}` is no scope; there are {all}")
        })
    }
}

/// `[[keys.key]]`
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KeyConfig {
    /// Whose it is, for the log: letters, digits, `.`, `_`, `-`.
    pub name: String,
    /// SHA-256 (hexadecimal) of the key. Nothing slows a guess at it down, so a key is to be long and random.
    pub sha256: String,
    /// What it is good for.
    pub scopes: Vec<Scope>,
}

impl KeyConfig {
    /// Of a key that is known.
    pub fn of(key: &str, name: &str, scopes: Vec<Scope>) -> Self {
        let sha256 = Sha256::digest(key).iter().map(|byte| format!("{byte:02x}")).collect();
        Self { name: name.to_owned(), sha256, scopes }
    }
}

/// The file: a configuration with this one section.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[serde(default)]
    keys: FileKeys,
}

#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct FileKeys {
    key: Vec<KeyConfig>,
}

impl Config {
    /// Checks the keys written here; the file is left for the start.
    ///
    /// # Errors
    /// The first thing that is wrong.
    pub fn check(&self) -> Result<(), String> {
        known(&self.key).map(|_| ())
    }

    pub(super) fn required(&self) -> Required {
        self.required.unwrap_or_default()
    }

    pub(super) fn file(&self) -> Option<&Path> {
        (!self.file.as_os_str().is_empty()).then_some(&*self.file)
    }

    /// All keys, those of the file among them.
    pub(super) fn known(&self) -> Result<Vec<Arc<Key>>, String> {
        let Some(file) = self.file() else { return known(&self.key) };
        let within = |words: String| format!("{}: {words}", file.display());
        let mut all = self.key.clone();
        all.extend(read(file).map_err(within)?);
        known(&all).map_err(within)
    }
}

fn read(file: &Path) -> Result<Vec<KeyConfig>, String> {
    let size_bytes = std::fs::metadata(file).map_err(|error| error.to_string())?.len();
    if size_bytes > MAX_FILE_BYTES {
        return Err(format!("larger than {MAX_FILE_BYTES} bytes"));
    }
    let text = std::fs::read_to_string(file).map_err(|error| error.to_string())?;
    // The parser's own text repeats the line that is wrong, and that may be a key.
    let file: File = toml::from_str(&text).map_err(|error| error.message().to_owned())?;
    Ok(file.keys.key)
}

fn known(all: &[KeyConfig]) -> Result<Vec<Arc<Key>>, String> {
    if all.len() > MAX_KEYS {
        return Err(format!("{} keys are more than {MAX_KEYS}", all.len()));
    }
    let (mut names, mut digests) = (BTreeSet::new(), BTreeSet::new());
    let mut known = Vec::with_capacity(all.len());
    for (index, key) in all.iter().enumerate() {
        let KeyConfig { name, sha256, scopes } = key;
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
        if !(1..=MAX_NAME).contains(&name.len()) || !name.bytes().all(plain) {
            let index = index + 1;
            return Err(format!(
                "key {index}: its name is not 1 to {MAX_NAME} letters, digits, `.`, `_`, `-`"
            ));
        }
        if !names.insert(name) {
            return Err(format!("key {name}: there are two of this name"));
        }
        if scopes.is_empty() {
            let all = Scope::ALL.map(Scope::name).join(", ");
            return Err(format!("key {name}: without scopes it is good for nothing; there are {all}"));
        }
        let Some(digest) = digest(sha256) else {
            // Not repeated: it may be the key itself.
            return Err(format!(
                "key {name}: sha256 is not 64 hexadecimal digits; `sextant key new` prints what belongs here"
            ));
        };
        if !digests.insert(digest) {
            return Err(format!("key {name}: it is the same key as another"));
        }
        known.push(Arc::new(Key { name: name.as_str().into(), digest, scopes: scopes.clone() }));
    }
    Ok(known)
}

fn digest(text: &str) -> Option<[u8; 32]> {
    let nibble = |digit: &u8| char::from(*digit).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    let nibbles: Vec<u8> = text.as_bytes().iter().map(nibble).collect::<Option<_>>()?;
    let bytes: Vec<u8> = nibbles.chunks_exact(2).map(|pair| pair[0] << 4 | pair[1]).collect();
    (text.len() == 64).then_some(bytes)?.try_into().ok()
}
