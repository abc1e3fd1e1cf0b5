//! The node's way out: a spool and a forwarder, or nothing where no receiver is configured.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use prometheus_client::registry::Registry;

use crate::app::host_facts::HostFacts;
use crate::app::reload::Reload;
use crate::app::{delivery_view, wall_ns};
use crate::config::Config;
use crate::delivery::age;
use crate::delivery::forwarder::ForwardMetrics;
use crate::delivery::forwarder::{Forwarder, Sender};
use crate::delivery::spool::Spool;
use crate::delivery::spool::SpoolMetrics;
use crate::delivery::status::StatusDoor;
use crate::delivery::transport::Transport;
use crate::delivery::transport::http::{Credentials, Http};
use crate::delivery::transport::jetstream::JetStream;
use crate::delivery::transport::ring::{Ring, RingMetrics, Times};
use crate::http::node::DeliveryView;
use crate::task::{Phase, Supervisor};

/// Where records go, and how `/status` sees it.
pub(super) struct Delivery {
    pub(super) spool: Option<Spool>,
    pub(super) view: DeliveryView,
}

/// Opens the spool and starts the forwarder.
pub(super) fn start(
    supervisor: &mut Supervisor,
    config: &Config,
    facts: &HostFacts,
    registry: &mut Registry,
    reload: &mut Reload,
) -> Result<Delivery> {
    let forward = &config.forward;
    if forward.receivers.is_empty() && forward.jetstream.servers.is_empty() {
        return Ok(Delivery { spool: None, view: Arc::new(|_| crate::api::status::Delivery::default()) });
    }
    let dir = &config.node.data_dir;
    std::fs::create_dir_all(dir)
        .with_context(|| format!("cannot make {}; --data-dir chooses another place", dir.display()))?;
    let spool = Spool::open(dir, &config.spool, SpoolMetrics::register(registry), wall_ns)
        .with_context(|| format!("cannot open the spool in {}", dir.display()))?;
    age::register(registry, &spool, wall_ns);
    let sender = Sender { node: facts.node.clone(), boot_id: facts.boot_id.clone() };
    if forward.receivers.is_empty() {
        let servers = JetStream::new(&forward.jetstream);
        let (kept, token) = (servers.clone(), supervisor.token(Phase::Delivery));
        supervisor.critical(Phase::Delivery, "servers' durability", async move {
            kept.keep(token).await;
            Ok::<_, Infallible>(())
        });
        return Ok(forward_by(supervisor, config, registry, spool, sender, servers));
    }
    let credentials = Credentials { tls: forward.tls.clone(), key_file: forward.key_file.clone() };
    let plain = forward.receivers.iter().find(|url| url.starts_with("http://"));
    if let Some(url) = plain.filter(|_| !forward.key_file.as_os_str().is_empty()) {
        tracing::warn!(
            url,
            "the receiver's key goes over plain HTTP, where everybody on the way can read it"
        );
    }
    let files = credentials.files();
    let connect_within = Duration::from_millis(forward.connect_timeout_ms);
    let connect = |url: &String| Http::new(url, connect_within, forward.gzip, credentials.clone());
    let receivers = forward.receivers.iter().map(connect).collect::<Result<Vec<_>, _>>()?;
    if !files.is_empty() {
        let again = receivers.clone();
        reload.add("forward_credentials", files, move || {
            let reloaded = again.iter().try_for_each(Http::reload);
            reloaded.map(|()| "for the next batch on".to_owned()).map_err(|error| error.to_string())
        });
    }
    let times = Times {
        answer_within: Duration::from_millis(forward.timeout_ms),
        pause_min: Duration::from_millis(forward.retry_min_ms),
        pause_max: Duration::from_millis(forward.retry_max_ms),
    };
    let ring = Ring::new(&sender.node, receivers, times, RingMetrics::register(registry));
    Ok(forward_by(supervisor, config, registry, spool, sender, ring))
}

fn forward_by<T: Transport>(
    supervisor: &mut Supervisor,
    config: &Config,
    registry: &mut Registry,
    spool: Spool,
    sender: Sender,
    transport: T,
) -> Delivery {
    let metrics = ForwardMetrics::register(registry);
    let forwarder = Forwarder::new(spool.clone(), transport, &config.forward, sender, metrics, wall_ns);
    let door = StatusDoor::new(&spool, Some(forwarder.link()), wall_ns);
    let (token, closing) = (supervisor.token(Phase::Delivery), spool.clone());
    supervisor.critical(Phase::Delivery, "forwarder", async move {
        forwarder.run(token).await;
        closing.close().await;
        Ok::<_, Infallible>(())
    });
    Delivery { spool: Some(spool), view: Arc::new(move |now_ns| delivery_view::of(&door.now(), now_ns)) }
}
