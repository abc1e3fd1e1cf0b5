//! Binds before anything else starts: a taken port is an error at once, and port 0 is known before it is told.

use std::net::SocketAddr;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::path::Path;

use anyhow::{Context, Result, bail};
use tokio::net::{TcpListener, UnixListener, UnixStream};

use crate::http::serve::Listener;
use crate::tls::Acceptor;

/// The listeners of a role and where they are.
pub(super) struct Bound {
    pub(super) listeners: Vec<Listener>,
    pub(super) addresses: Vec<String>,
}

impl Bound {
    /// The TCP ports.
    pub(super) fn ports(&self) -> Vec<u16> {
        let port = |listener: &Listener| match listener {
            Listener::Tcp(listener) | Listener::Tls(listener, _) => Some(listener.local_addr().ok()?.port()),
            Listener::Unix(_) => None,
        };
        self.listeners.iter().filter_map(port).collect()
    }
}

/// Binds every address, with TLS where there is any.
pub(super) async fn tcp(addresses: &[String], tls: Option<&Acceptor>) -> Result<Bound> {
    let mut bound = Bound { listeners: Vec::new(), addresses: Vec::new() };
    for address in addresses {
        let wanted: SocketAddr = address.parse().with_context(|| format!("`{address}` is no ADDR:PORT"))?;
        let listener = TcpListener::bind(wanted).await.with_context(|| {
            format!("cannot listen on {wanted}; --listen 127.0.0.1:0 takes any free port")
        })?;
        let scheme = if tls.is_some() { "https" } else { "http" };
        bound.addresses.push(format!("{scheme}://{}", listener.local_addr()?));
        bound.listeners.push(match tls {
            Some(acceptor) => Listener::Tls(listener, acceptor.clone()),
            None => Listener::Tcp(listener),
        });
    }
    Ok(bound)
}

/// Binds the unix socket, for its owner and group. A socket that nobody answers is a leftover and is replaced;
/// anything else at its place is left alone.
pub(super) async fn unix(path: &Path) -> Result<Listener> {
    if let Ok(metadata) = std::fs::symlink_metadata(path) {
        if !metadata.file_type().is_socket() {
            bail!("{} exists and is no socket", path.display());
        }
        if UnixStream::connect(path).await.is_ok() {
            bail!("another process listens on {}", path.display());
        }
        std::fs::remove_file(path).with_context(|| format!("cannot replace {}", path.display()))?;
    } else if let Some(parent) = path.parent() {
        std::fs::create_dir_all(parent).with_context(|| format!("cannot make {}", parent.display()))?;
    }
    let listener =
        UnixListener::bind(path).with_context(|| format!("cannot listen on {}", path.display()))?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o660))?;
    Ok(Listener::Unix(listener))
}

/// Says on standard output where the role listens: what scripts wait for.
pub(super) fn announce(bound: &Bound) -> Result<()> {
    use std::io::Write;
    let mut out = std::io::stdout().lock();
    for address in &bound.addresses {
        writeln!(out, "listening on {address}")?;
    }
    out.flush()?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_dead_socket_is_replaced_and_a_live_one_or_a_file_is_not() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("run/node.sock");
        drop(unix(&path).await.unwrap());
        let live = unix(&path).await.unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o660);
        assert!(unix(&path).await.unwrap_err().to_string().contains("another process"));
        drop(live);
        let file = dir.path().join("file");
        std::fs::write(&file, "mine").unwrap();
        assert!(unix(&file).await.unwrap_err().to_string().contains("no socket"));
        assert_eq!(std::fs::read_to_string(&file).unwrap(), "mine");
    }

    #[tokio::test]
    async fn a_taken_port_is_an_error_that_says_what_to_do() {
        let first = tcp(&["127.0.0.1:0".to_owned()], None).await.unwrap();
        let taken = first.addresses[0].trim_start_matches("http://").to_owned();
        let error = tcp(&[taken], None).await.err().unwrap();
        assert!(format!("{error:#}").contains("--listen"), "{error:#}");
    }
}
