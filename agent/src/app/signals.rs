//! SIGINT and SIGTERM, in words.

use tokio::signal::unix::{Signal, SignalKind, signal};

/// Caught from [`Signals::install`] on; one that comes while nobody waits is not lost.
pub(super) struct Signals {
    interrupt: Option<Signal>,
    terminate: Option<Signal>,
}

impl Signals {
    /// Where a handler cannot be installed, the default action holds: the process ends at once.
    pub(super) fn install() -> Self {
        let catch = |kind| {
            signal(kind).inspect_err(|error| tracing::warn!(%error, "cannot catch a stop signal")).ok()
        };
        Self { interrupt: catch(SignalKind::interrupt()), terminate: catch(SignalKind::terminate()) }
    }

    /// The next stop signal's name.
    pub(super) async fn next(&mut self) -> &'static str {
        tokio::select! {
            () = received(self.interrupt.as_mut()) => "SIGINT",
            () = received(self.terminate.as_mut()) => "SIGTERM",
        }
    }
}

async fn received(signal: Option<&mut Signal>) {
    match signal {
        Some(signal) => {
            signal.recv().await;
        }
        None => std::future::pending().await,
    }
}
