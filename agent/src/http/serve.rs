//! The accept loop: bounded connections over TCP, TLS and unix listeners, bounded handshakes, header limits, graceful end.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use axum::Router;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Duration;
use tokio_rustls::server::TlsStream;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tower::ServiceExt as _;

use super::Common;
use super::metrics::ResultLabel;
use crate::events::Session;
use crate::tls::Acceptor;

/// Pause after a failed accept (out of file descriptors, usually): it would fail again at once.
const ACCEPT_BACKOFF: Duration = Duration::from_millis(100);

/// Where a connection arrived.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Local {
    /// At this address of ours.
    Tcp(SocketAddr),
    /// At the unix socket: only processes of this machine, no web page.
    Unix,
}

impl Local {
    /// A page in a browser of this machine can reach it.
    pub const fn is_loopback(&self) -> bool {
        match self {
            Self::Tcp(address) => match address {
                SocketAddr::V4(v4) => v4.ip().is_loopback(),
                SocketAddr::V6(v6) => {
                    v6.ip().is_loopback() || matches!(v6.ip().to_ipv4_mapped(), Some(v4) if v4.is_loopback())
                }
            },
            Self::Unix => false,
        }
    }
}

/// The connection of a request: an extension of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Connection {
    /// Where it arrived.
    pub local: Local,
    /// Where it came from; none over a unix socket.
    pub peer: Option<IpAddr>,
}

impl Connection {
    /// The sender's name: its address, without the port that changes each time.
    pub fn sender(&self) -> String {
        self.peer.map_or_else(|| "local".to_owned(), |peer| peer.to_string())
    }
}

/// A bound listener.
#[derive(Debug)]
pub enum Listener {
    /// TCP.
    Tcp(TcpListener),
    /// TCP with TLS.
    Tls(TcpListener, Acceptor),
    /// A unix socket.
    Unix(UnixListener),
}

/// Serves until `stop` is cancelled; then takes no more connections, tells those that are open to finish their
/// request, and waits for them up to `grace`.
pub async fn serve(
    listeners: Vec<Listener>,
    router: Router,
    common: Common,
    stop: CancellationToken,
    grace: Duration,
) {
    let permits = Arc::new(Semaphore::new(common.config.max_connections));
    let handshakes = Semaphore::new(common.config.max_handshakes);
    let connections = TaskTracker::new();
    let server = Arc::new(Server { router, common, stop: stop.clone(), connections, handshakes });
    let loops = TaskTracker::new();
    for listener in listeners {
        loops.spawn(accept_loop(listener, Arc::clone(&server), Arc::clone(&permits)));
    }
    loops.close();
    loops.wait().await;
    server.connections.close();
    if tokio::time::timeout(grace, server.connections.wait()).await.is_err() {
        let open = server.connections.len();
        tracing::warn!(
            open,
            grace_ms = grace.as_millis(),
            "connections were still open at the end of the grace time"
        );
    }
}

enum Stream {
    Tcp(TcpStream),
    Tls(TcpStream, Acceptor),
    Unix(UnixStream),
}

struct Server {
    router: Router,
    common: Common,
    stop: CancellationToken,
    connections: TaskTracker,
    handshakes: Semaphore,
}

impl Server {
    fn spawn(self: &Arc<Self>, stream: Stream, from: Connection, permit: OwnedSemaphorePermit) {
        let server = Arc::clone(self);
        self.connections.spawn(async move {
            match stream {
                Stream::Tcp(stream) => connection(&server, stream, from).await,
                Stream::Tls(stream, acceptor) => {
                    if let Some(stream) = server.handshake(stream, &acceptor, from).await {
                        connection(&server, stream, from).await;
                    }
                }
                Stream::Unix(stream) => connection(&server, stream, from).await,
            }
            drop(permit);
        });
    }
}

impl Server {
    /// The connection once both sides agree; none where they do not, or not in time.
    async fn handshake(
        &self,
        stream: TcpStream,
        acceptor: &Acceptor,
        from: Connection,
    ) -> Option<TlsStream<TcpStream>> {
        let limit = Duration::from_millis(self.common.config.handshake_timeout_ms);
        let agreed = tokio::time::timeout(limit, async {
            let _turn = self.handshakes.acquire().await;
            acceptor.accept(stream).await
        });
        let agreed = tokio::select! {
            () = self.stop.cancelled() => return None,
            agreed = agreed => agreed,
        };
        let (result, stream) = match agreed {
            Ok(Ok(stream)) => ("ok", Some(stream)),
            Ok(Err(error)) => {
                tracing::debug!(peer = from.sender(), %error, "TLS handshake failed");
                ("failed", None)
            }
            Err(_) => ("timeout", None),
        };
        self.common.metrics.handshakes.get_or_create(&ResultLabel { result }).inc();
        stream
    }
}

async fn accept_loop(listener: Listener, server: Arc<Server>, permits: Arc<Semaphore>) {
    let stop = server.stop.clone();
    let stalled_ms = server.common.config.stalled_ms;
    let accepting = async {
        loop {
            let accepted = match &listener {
                Listener::Tcp(tcp) => tcp.accept().await.map(|accepted| {
                    let (stream, from) = over_tcp(accepted, stalled_ms);
                    (Stream::Tcp(stream), from)
                }),
                Listener::Tls(tcp, acceptor) => tcp.accept().await.map(|accepted| {
                    let (stream, from) = over_tcp(accepted, stalled_ms);
                    (Stream::Tls(stream, acceptor.clone()), from)
                }),
                Listener::Unix(unix) => unix
                    .accept()
                    .await
                    .map(|(stream, _)| (Stream::Unix(stream), Connection { local: Local::Unix, peer: None })),
            };
            // The permit comes after the connection: a quiet listener must not hold one while it waits.
            match (accepted, Arc::clone(&permits).acquire_owned().await) {
                (Ok((stream, from)), Ok(permit)) => server.spawn(stream, from, permit),
                (Err(error), _) => {
                    tracing::warn!(%error, "accept failed");
                    tokio::time::sleep(ACCEPT_BACKOFF).await;
                }
                (_, Err(_)) => return, // the semaphore is never closed
            }
        }
    };
    tokio::select! {
        () = stop.cancelled() => {}
        () = accepting => {}
    }
}

fn over_tcp((stream, peer): (TcpStream, SocketAddr), stalled_ms: u32) -> (TcpStream, Connection) {
    // Answers are small and complete: waiting for more to send would only delay them.
    let _ = stream.set_nodelay(true);
    // Data that the client does not take, its window closed or its machine gone.
    let _ = rustix::net::sockopt::set_tcp_user_timeout(&stream, stalled_ms);
    // An address that cannot be told is judged as loopback, the strict case.
    let local = stream.local_addr().unwrap_or(([127, 0, 0, 1], 0).into());
    (stream, Connection { local: Local::Tcp(local), peer: Some(peer.ip()) })
}

async fn connection<S>(server: &Server, stream: S, from: Connection)
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let metrics = &server.common.metrics;
    let config = &server.common.config;
    metrics.connections.inc();
    let session = Session::default();
    let service =
        server.router.clone().map_request(move |mut request: axum::http::Request<hyper::body::Incoming>| {
            request.extensions_mut().insert(from);
            request.extensions_mut().insert(session.clone());
            request.map(axum::body::Body::new)
        });
    let mut builder = auto::Builder::new(TokioExecutor::new()).http1_only();
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(Duration::from_millis(config.header_timeout_ms))
        .max_buf_size(config.max_header_bytes);
    let connection = builder.serve_connection(TokioIo::new(stream), TowerToHyperService::new(service));
    tokio::pin!(connection);
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = server.stop.cancelled() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        metrics.connection_errors.inc();
        tracing::debug!(%error, "connection ended with an error");
    }
    metrics.connections.dec();
}

#[cfg(test)]
mod tests;
