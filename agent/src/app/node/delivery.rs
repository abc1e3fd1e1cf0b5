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
use crate::delivery::transport::http::{Credentials, Http};
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
    let Some(url) = &config.forward.receiver else {
        return Ok(Delivery { spool: None, view: Arc::new(|_| crate::api::status::Delivery::default()) });
    };
    let dir = &config.node.data_dir;
    std::fs::create_dir_all(dir)
        .with_context(|| format!("cannot make {}; --data-dir chooses another place", dir.display()))?;
    let spool = Spool::open(dir, &config.spool, SpoolMetrics::register(registry), wall_ns)
        .with_context(|| format!("cannot open the spool in {}", dir.display()))?;
    age::register(registry, &spool, wall_ns);
    let forward = &config.forward;
    let credentials = Credentials { tls: forward.tls.clone(), key_file: forward.key_file.clone() };
    if url.starts_with("http://") && !forward.key_file.as_os_str().is_empty() {
        tracing::warn!(
            url,
            "the receiver's key goes over plain HTTP, where everybody on the way can read it"
        );
    }
    let files = credentials.files();
    let transport = Http::new(url, Duration::from_millis(forward.connect_timeout_ms), credentials)?;
    if !files.is_empty() {
        let again = transport.clone();
        reload.add("forward_credentials", files, move || {
            again.reload().map(|()| "for the next batch on".to_owned()).map_err(|error| error.to_string())
        });
    }
    let sender = Sender { node: facts.node.clone(), boot_id: facts.boot_id.clone() };
    let metrics = ForwardMetrics::register(registry);
    let forwarder = Forwarder::new(spool.clone(), transport, &config.forward, sender, metrics, wall_ns);
    let door = StatusDoor::new(&spool, Some(forwarder.link()), wall_ns);
    let (token, closing) = (supervisor.token(Phase::Delivery), spool.clone());
    supervisor.critical(Phase::Delivery, "forwarder", async move {
        forwarder.run(token).await;
        closing.close().await;
        Ok::<_, Infallible>(())
    });
    Ok(Delivery { spool: Some(spool), view: Arc::new(move |now_ns| delivery_view::of(&door.now(), now_ns)) })
}
