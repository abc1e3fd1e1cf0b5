//! The file of states, and of what is still to be told: what fires stays known over a restart, what is pending does not. It is
//! replaced whole, and synced, before anybody is told.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::{fs, io};

use serde::{Deserialize, Serialize};

use super::owed::Ledger;
use super::state::{Alert, State};

const FILE_NAME: &str = "alerts.json";

/// The format this build reads and writes.
const FORMAT: u32 = 1;

/// 256 rules of 1,000 alerts at half a kilobyte are more than this; nobody has them.
const MAX_BYTES: u64 = 64 << 20;

/// What the file holds.
#[derive(Debug, Serialize, Deserialize)]
pub struct Page {
    format: u32,
    alerts: Vec<Alert>,
    #[serde(default)]
    owed: Ledger,
}

impl Page {
    /// Of all alerts but those that are pending.
    #[must_use]
    pub fn new(all: &Alerts, owed: Ledger) -> Self {
        let is_kept = |alert: &&Alert| alert.state != State::Pending;
        let alerts = all.values().flat_map(BTreeMap::values).filter(is_kept).cloned().collect();
        Self { format: FORMAT, alerts, owed }
    }
}

/// See the module.
#[derive(Clone, Debug)]
pub struct Book {
    path: PathBuf,
}

/// All alerts, by rule and labels.
pub type Alerts = BTreeMap<String, BTreeMap<BTreeMap<String, String>, Alert>>;

impl Book {
    /// In this directory.
    #[must_use]
    pub fn new(directory: &Path) -> Self {
        Self { path: directory.join(FILE_NAME) }
    }

    /// What was kept; a file that is damaged is set aside, and what fires then fires again.
    ///
    /// # Errors
    /// The disk's, but for a file that is not there.
    pub fn load(&self) -> io::Result<(Alerts, Ledger)> {
        let size = match fs::metadata(&self.path) {
            Ok(meta) => meta.len(),
            Err(cause) if cause.kind() == io::ErrorKind::NotFound => return Ok(Default::default()),
            Err(cause) => return Err(cause),
        };
        let page =
            if size > MAX_BYTES { None } else { serde_json::from_slice::<Page>(&fs::read(&self.path)?).ok() };
        let Some(page) = page.filter(|page| page.format == FORMAT) else {
            let aside = self.path.with_extension("damaged");
            fs::rename(&self.path, &aside)?;
            tracing::error!(aside = %aside.display(), "the states of alerts were damaged; what fires is told again");
            return Ok(Default::default());
        };
        let mut all = Alerts::new();
        // What was pending has to hold anew: nobody knows whether it did meanwhile.
        for alert in page.alerts.into_iter().filter(|alert| alert.state != State::Pending) {
            all.entry(alert.rule.clone()).or_default().insert(alert.labels.clone(), alert);
        }
        Ok((all, page.owed))
    }

    /// Keeps it: the file is the old one or the new one, whatever happens. Blocks.
    ///
    /// # Errors
    /// The disk's, and a page that could not be read again.
    pub fn store(&self, page: &Page) -> io::Result<()> {
        let bytes = serde_json::to_vec(page)?;
        if bytes.len() as u64 > MAX_BYTES {
            return Err(io::Error::other(format!("{} bytes, more than {MAX_BYTES}", bytes.len())));
        }
        let fresh = self.path.with_extension("new");
        let mut file = fs::File::create(&fresh)?;
        file.write_all(&bytes)?;
        file.sync_all()?;
        fs::rename(&fresh, &self.path)?;
        let directory = self.path.parent().unwrap_or(Path::new("."));
        fs::File::open(directory)?.sync_all()
    }
}
