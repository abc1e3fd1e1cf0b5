//! The file of states: what fires stays known over a restart, what is pending does not. It is replaced whole, and synced,
//! before anybody is told.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::{fs, io};

use serde::{Deserialize, Serialize};

use super::state::{Alert, State};

const FILE_NAME: &str = "alerts.json";

/// The format this build reads and writes.
const FORMAT: u32 = 1;

/// 256 rules of 1,000 alerts at half a kilobyte are more than this; nobody has them.
const MAX_BYTES: u64 = 64 << 20;

#[derive(Serialize, Deserialize)]
struct Page {
    format: u32,
    alerts: Vec<Alert>,
}

/// See the module.
#[derive(Debug)]
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
    pub fn load(&self) -> io::Result<Alerts> {
        let size = match fs::metadata(&self.path) {
            Ok(meta) => meta.len(),
            Err(cause) if cause.kind() == io::ErrorKind::NotFound => return Ok(Alerts::new()),
            Err(cause) => return Err(cause),
        };
        let page =
            if size > MAX_BYTES { None } else { serde_json::from_slice::<Page>(&fs::read(&self.path)?).ok() };
        let Some(page) = page.filter(|page| page.format == FORMAT) else {
            let aside = self.path.with_extension("damaged");
            fs::rename(&self.path, &aside)?;
            tracing::error!(aside = %aside.display(), "the states of alerts were damaged; what fires is told again");
            return Ok(Alerts::new());
        };
        let mut all = Alerts::new();
        // What was pending has to hold anew: nobody knows whether it did meanwhile.
        for alert in page.alerts.into_iter().filter(|alert| alert.state != State::Pending) {
            all.entry(alert.rule.clone()).or_default().insert(alert.labels.clone(), alert);
        }
        Ok(all)
    }

    /// Keeps them: the file is the old one or the new one, whatever happens.
    ///
    /// # Errors
    /// The disk's.
    pub fn store(&self, all: &Alerts) -> io::Result<()> {
        let told = |alert: &&Alert| alert.state != State::Pending;
        let alerts = all.values().flat_map(BTreeMap::values).filter(told).cloned().collect();
        let bytes = serde_json::to_vec(&Page { format: FORMAT, alerts })?;
        let fresh = self.path.with_extension("new");
        let mut file = fs::File::create(&fresh)?;
        file.write_all(&bytes)?;
        file.sync_all()?;
        fs::rename(&fresh, &self.path)?;
        let directory = self.path.parent().unwrap_or(Path::new("."));
        fs::File::open(directory)?.sync_all()
    }
}
