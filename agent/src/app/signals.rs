//! SIGINT and SIGTERM, in words.

use tokio::signal::unix::{Signal, SignalKind, signal};

/// The next stop signal's name. Where no handler can be installed, none ever comes and the default action holds.
pub(super) async fn first() -> &'static str {
    tokio::select! {
        () = next(signal(SignalKind::interrupt())) => "SIGINT",
        () = next(signal(SignalKind::terminate())) => "SIGTERM",
    }
}

async fn next(handler: std::io::Result<Signal>) {
    match handler {
        Ok(mut signals) => {
            signals.recv().await;
        }
        Err(error) => {
            tracing::warn!(%error, "cannot catch a stop signal");
            std::future::pending::<()>().await;
        }
    }
}
