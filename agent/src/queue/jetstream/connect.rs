//! The connection: who we are, whom we trust, and when it is there again.

use std::path::Path;
use std::time::Duration;

use async_nats::{Client, ConnectOptions, Event, ServerAddr};
use tokio::sync::watch;

use super::config::Config;

/// How long the first connection is tried: servers and receivers are often started together.
const FIRST: Duration = Duration::from_secs(10);
const PAUSE: Duration = Duration::from_millis(250);

/// A dead server is noticed after two of these in silence.
const PING: Duration = Duration::from_secs(5);

/// Commands that may wait for the connection; each is a record or less.
const CAPACITY: usize = 4_096;

/// Records that may wait for a group's desk; beyond it they are dropped, and come again when their time is out.
const INBOX: usize = 8_192;

/// Files of secrets are short.
const SECRET_BYTES: u64 = 64 << 10;

/// Connects; the second counts how often it was connected.
pub(super) async fn connect(config: &Config) -> Result<(Client, watch::Receiver<u64>), String> {
    let mut servers = Vec::with_capacity(config.servers.len());
    for server in &config.servers {
        servers.push(server.parse::<ServerAddr>().map_err(|error| format!("{server}: {error}"))?);
    }
    let (connected, connections) = watch::channel(0);
    let attempts = async {
        loop {
            let options = options(config, connected.clone()).await?;
            match options.connect(servers.clone()).await {
                Ok(client) => return Ok::<_, String>(client),
                Err(error) => {
                    tracing::info!(%error, "servers are not there yet");
                    tokio::time::sleep(PAUSE).await;
                }
            }
        }
    };
    let list = config.servers.join(", ");
    let late = || format!("no server of {list} takes the connection within {} s", FIRST.as_secs());
    let client = tokio::time::timeout(FIRST, attempts).await.map_err(|_| late())??;
    Ok((client, connections))
}

async fn options(config: &Config, connected: watch::Sender<u64>) -> Result<ConnectOptions, String> {
    let mut options = ConnectOptions::new()
        .name("sextant")
        .ping_interval(PING)
        .client_capacity(CAPACITY)
        .subscription_capacity(INBOX)
        .event_callback(move |event| {
            let connected = connected.clone();
            async move {
                match event {
                    Event::Connected => connected.send_modify(|times| *times += 1),
                    other => tracing::warn!(event = %other, "connection to the servers"),
                }
            }
        });
    if !config.user.is_empty() {
        let password = secret(&config.password_file).await?;
        options = options.user_and_password(config.user.clone(), password.trim_end().to_owned());
    }
    if !config.credentials_file.as_os_str().is_empty() {
        let text = secret(&config.credentials_file).await?;
        // The library's words could repeat what is in the file.
        let wrong = |_| format!("{} holds no credentials", config.credentials_file.display());
        options = options.credentials(&text).map_err(wrong)?;
    }
    if !config.ca_file.as_os_str().is_empty() {
        options = options.add_root_certificates(config.ca_file.clone()).require_tls(true);
    }
    if !config.cert_file.as_os_str().is_empty() {
        options = options.add_client_certificate(config.cert_file.clone(), config.key_file.clone());
    }
    Ok(options)
}

async fn secret(path: &Path) -> Result<String, String> {
    let path = path.to_owned();
    let reading = tokio::task::spawn_blocking(move || {
        let read = || {
            if std::fs::metadata(&path)?.len() > SECRET_BYTES {
                return Err(std::io::Error::other("too large for a secret"));
            }
            std::fs::read_to_string(&path)
        };
        read().map_err(|error| format!("cannot read {}: {error}", path.display()))
    });
    reading.await.map_err(|error| error.to_string())?
}
