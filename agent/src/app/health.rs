//! Every source's state in one latest value, for `/readyz`, `/status` and `/metrics`.

use std::convert::Infallible;

use tokio::sync::watch;

use crate::domain::source::SourceHealth;
use crate::task::{Phase, Supervisor};

/// Follows both and publishes their union: the scheduler first, then the pods source and its name sources.
pub(super) fn merged(
    supervisor: &mut Supervisor,
    mut scheduler: watch::Receiver<SourceHealth>,
    mut pods: watch::Receiver<Vec<SourceHealth>>,
) -> watch::Receiver<Vec<SourceHealth>> {
    let union = |scheduler: &mut watch::Receiver<SourceHealth>,
                 pods: &mut watch::Receiver<Vec<SourceHealth>>| {
        let mut all = vec![scheduler.borrow_and_update().clone()];
        all.extend(pods.borrow_and_update().iter().cloned());
        all
    };
    let (out, all) = watch::channel(union(&mut scheduler, &mut pods));
    let token = supervisor.token(Phase::Http);
    supervisor.critical(Phase::Http, "health", async move {
        loop {
            tokio::select! {
                () = token.cancelled() => return Ok::<_, Infallible>(()),
                // Sources stop before HTTP does: their last state stands.
                changed = scheduler.changed() => if changed.is_err() { break },
                changed = pods.changed() => if changed.is_err() { break },
            }
            out.send_replace(union(&mut scheduler, &mut pods));
        }
        token.cancelled().await;
        Ok(())
    });
    all
}
