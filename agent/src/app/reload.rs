//! Files that are read again while a role runs: keys and certificates.
//!
//! They are looked at every [`PERIOD`], and read again when one of them is not the file that it was, or on SIGHUP. What is
//! wrong with a new file is logged once and told as the health of a source; until it is right, what was in force stays so.

use std::convert::Infallible;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, anyhow};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

use crate::domain::source::{Condition, SourceHealth};
use crate::http::keys::{self, Keys};
use crate::task::{Phase, Supervisor};
use crate::tls::{self, Acceptor};

/// A look is a handful of stat(2); a secret that Kubernetes projects is a minute late anyway.
const PERIOD: Duration = Duration::from_secs(2);

type Again = Arc<dyn Fn() -> Result<String, String> + Send + Sync>;

/// The keys, and how they are read again.
///
/// # Errors
/// A file that is wrong at the start: nothing was in force before.
pub(super) fn keys(config: &keys::Config) -> Result<(Keys, Reload)> {
    let keys = Keys::new(config).map_err(|error| anyhow!("[keys] {error}"))?;
    let mut reload = Reload::default();
    if let Some(file) = keys.file() {
        let (files, again) = (vec![file.to_owned()], keys.clone());
        reload.add("keys", files, move || again.reload().map(|count| format!("{count} keys are known")));
    }
    Ok((keys, reload))
}

/// What is read again.
#[derive(Default)]
pub(super) struct Reload(Vec<Part>);

struct Part {
    files: Vec<PathBuf>,
    again: Again,
    seen: Vec<Option<Stamp>>,
    health: SourceHealth,
}

/// A file as it was: another one, or the same with other contents, has another stamp.
type Stamp = (u64, u64, i64, i64, i64, i64);

impl Reload {
    /// What takes TLS connections in, if anything does, and how its files are read again.
    ///
    /// # Errors
    /// Files that are wrong at the start.
    pub(super) fn tls(&mut self, config: &tls::Server) -> Result<Option<Acceptor>> {
        let acceptor = Acceptor::new(config).context("[http.tls]")?;
        if let Some(again) = acceptor.clone() {
            self.add("tls", again.files(), move || {
                again.reload().map(|()| "for new connections".to_owned()).map_err(|error| tls::words(&error))
            });
        }
        Ok(acceptor)
    }

    /// Files that were read at the start, and how to read them again: what is in force then, or what is wrong.
    pub(super) fn add(
        &mut self,
        name: &'static str,
        files: Vec<PathBuf>,
        again: impl Fn() -> Result<String, String> + Send + Sync + 'static,
    ) {
        let seen = stamps(&files);
        let health =
            SourceHealth { name, condition: Condition::Up, collections: 1, ..SourceHealth::default() };
        self.0.push(Part { files, again: Arc::new(again), seen, health });
    }

    /// Follows them until the role has stopped; the health of each.
    pub(super) fn start(mut self, supervisor: &mut Supervisor) -> watch::Receiver<Vec<SourceHealth>> {
        let (out, health) = watch::channel(self.health());
        let token = supervisor.token(Phase::Http);
        supervisor.critical(Phase::Http, "reload", async move {
            // Without files too: a signal that asks for them to be read must not end the process.
            let mut hangups = signal(SignalKind::hangup())
                .inspect_err(|error| tracing::warn!(%error, "cannot catch SIGHUP"))
                .ok();
            loop {
                let asked = tokio::select! {
                    () = token.cancelled() => return Ok::<_, Infallible>(()),
                    () = tokio::time::sleep(PERIOD), if !self.0.is_empty() => false,
                    Some(()) = hangup(&mut hangups) => true,
                };
                // Files may lie on a file system that hangs.
                let looked = tokio::task::spawn_blocking(move || {
                    let changed = self.look(asked);
                    (self, changed)
                });
                // It is not aborted, and what it calls returns errors.
                let Ok((looked, changed)) = looked.await else { break };
                self = looked;
                if changed {
                    out.send_replace(self.health());
                }
            }
            token.cancelled().await;
            Ok(())
        });
        health
    }

    fn health(&self) -> Vec<SourceHealth> {
        self.0.iter().map(|part| part.health.clone()).collect()
    }

    /// True where something was read again.
    fn look(&mut self, asked: bool) -> bool {
        self.0.iter_mut().fold(false, |read, part| part.look(asked) | read)
    }
}

impl Part {
    fn look(&mut self, asked: bool) -> bool {
        let now = stamps(&self.files);
        if !asked && now == self.seen {
            return false;
        }
        self.seen = now;
        let (name, health) = (self.health.name, &mut self.health);
        match (self.again)() {
            Ok(words) => {
                tracing::info!("{name}: read again, {words}");
                health.condition = Condition::Up;
                health.collections += 1;
                health.lacks.clear();
                health.last_error = None;
            }
            Err(error) => {
                tracing::error!(error, "{name}: what was read before stays in force");
                health.condition = Condition::Degraded;
                health.failures += 1;
                health.lacks = vec!["what is in the files now: what was read before is in force".to_owned()];
                health.last_error = Some(error);
            }
        }
        true
    }
}

async fn hangup(signal: &mut Option<tokio::signal::unix::Signal>) -> Option<()> {
    match signal {
        Some(signal) => signal.recv().await,
        None => std::future::pending().await,
    }
}

fn stamps(files: &[PathBuf]) -> Vec<Option<Stamp>> {
    let stamp = |file: &Path| {
        let of = std::fs::metadata(file).ok()?;
        Some((of.ino(), of.len(), of.mtime(), of.mtime_nsec(), of.ctime(), of.ctime_nsec()))
    };
    files.iter().map(|file| stamp(file)).collect()
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;

    #[test]
    fn a_file_is_read_when_it_changes_and_an_error_is_told_until_it_is_right() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("file");
        std::fs::write(&file, "one").unwrap();
        let read = Arc::new(Mutex::new(Vec::new()));
        let (mut reload, seen, path) = (Reload::default(), Arc::clone(&read), file.clone());
        reload.add("keys", vec![file.clone()], move || {
            let text = std::fs::read_to_string(&path).map_err(|error| error.to_string())?;
            seen.lock().unwrap().push(text.clone());
            if text == "bad" { Err("bad".to_owned()) } else { Ok(text) }
        });
        assert!(!reload.look(false), "it is as it was");
        assert!(reload.look(true), "asked");
        // As Kubernetes does it: another file at the same place.
        std::fs::write(dir.path().join("next"), "bad").unwrap();
        std::fs::rename(dir.path().join("next"), &file).unwrap();
        assert!(reload.look(false));
        let health = &reload.health()[0];
        assert_eq!((health.condition, health.last_error.as_deref()), (Condition::Degraded, Some("bad")));
        assert!(!reload.look(false), "an error is said once");
        std::fs::remove_file(&file).unwrap();
        assert!(reload.look(false), "a file that is gone is an error too");
        std::fs::write(&file, "two").unwrap();
        assert!(reload.look(false));
        let health = &reload.health()[0];
        assert_eq!((health.condition, &health.last_error), (Condition::Up, &None));
        assert_eq!((health.collections, health.failures), (3, 2));
        assert_eq!(*read.lock().unwrap(), ["one", "bad", "two"]);
    }
}
