//! Every source's state in one latest value, for `/readyz`, `/status` and `/metrics`.

use std::convert::Infallible;

use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::domain::source::SourceHealth;
use crate::task::{Phase, Supervisor};

/// Follows all of them and publishes their union: the scheduler first, then the others in their order.
pub(super) fn merged(
    supervisor: &mut Supervisor,
    mut scheduler: watch::Receiver<SourceHealth>,
    mut others: Vec<watch::Receiver<Vec<SourceHealth>>>,
) -> watch::Receiver<Vec<SourceHealth>> {
    let mut states = vec![vec![scheduler.borrow_and_update().clone()]];
    states.extend(others.iter_mut().map(|other| other.borrow_and_update().clone()));
    let (out, all) = watch::channel(states.concat());
    let token = supervisor.token(Phase::Http);
    supervisor.critical(Phase::Http, "health", async move {
        let mut changes = JoinSet::new();
        for (slot, other) in others.into_iter().enumerate() {
            changes.spawn(next(slot + 1, other));
        }
        loop {
            tokio::select! {
                () = token.cancelled() => return Ok::<_, Infallible>(()),
                Ok(()) = scheduler.changed() => states[0] = vec![scheduler.borrow_and_update().clone()],
                Some(Ok(Some((slot, mut other)))) = changes.join_next() => {
                    states[slot] = other.borrow_and_update().clone();
                    changes.spawn(next(slot, other));
                }
                // Sources stop before HTTP does: their last state stands.
                else => break,
            }
            out.send_replace(states.concat());
        }
        token.cancelled().await;
        Ok(())
    });
    all
}

/// Both lists in one, the first one's first.
pub(super) fn joined(supervisor: &mut Supervisor, mut first: Health, mut second: Health) -> Health {
    let both = |first: &mut Health, second: &mut Health| {
        [first.borrow_and_update().clone(), second.borrow_and_update().clone()].concat()
    };
    let (out, all) = watch::channel(both(&mut first, &mut second));
    let token = supervisor.token(Phase::Http);
    supervisor.critical(Phase::Http, "joined health", async move {
        loop {
            // One that has ended says nothing new.
            tokio::select! {
                () = token.cancelled() => return Ok::<_, Infallible>(()),
                Ok(()) = first.changed() => {}
                Ok(()) = second.changed() => {}
                else => break,
            }
            out.send_replace(both(&mut first, &mut second));
        }
        token.cancelled().await;
        Ok(())
    });
    all
}

type Health = watch::Receiver<Vec<SourceHealth>>;

/// Waits for a change; `None` when the source is gone.
async fn next(slot: usize, mut health: Health) -> Option<(usize, Health)> {
    health.changed().await.ok().map(|()| (slot, health))
}
