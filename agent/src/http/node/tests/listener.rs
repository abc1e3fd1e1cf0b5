//! The accept loop over real sockets on loopback.

use std::net::SocketAddr;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use tokio::task::JoinHandle;
use tokio::time::{Duration, timeout};
use tokio_util::sync::CancellationToken;

use super::harness::{Recorder, node_with};
use crate::http::serve::{Listener, serve};
use crate::http::{Common, Config};

const SOON: Duration = Duration::from_secs(20);

struct Server {
    address: SocketAddr,
    socket: std::path::PathBuf,
    stop: CancellationToken,
    task: JoinHandle<()>,
    common: Common,
    _dir: tempfile::TempDir,
}

async fn start(config: Config) -> Server {
    let node = node_with(config, Recorder::Takes);
    let tcp = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = tcp.local_addr().expect("bound");
    let dir = tempfile::tempdir().expect("a directory");
    let socket = dir.path().join("node.sock");
    let unix = UnixListener::bind(&socket).expect("a socket");
    let stop = CancellationToken::new();
    let listeners = vec![Listener::Tcp(tcp), Listener::Unix(unix)];
    let serving = serve(listeners, node.router, node.common.clone(), stop.clone(), SOON);
    Server { address, socket, stop, task: tokio::spawn(serving), common: node.common, _dir: dir }
}

async fn answer(stream: &mut (impl tokio::io::AsyncRead + Unpin)) -> String {
    let mut text = Vec::new();
    while !text.windows(4).any(|window| window == b"\r\n\r\n") {
        let mut byte = [0; 1024];
        let read = timeout(SOON, stream.read(&mut byte)).await.expect("an answer").expect("readable");
        if read == 0 {
            break;
        }
        text.extend_from_slice(&byte[..read]);
    }
    String::from_utf8_lossy(&text).into_owned()
}

#[tokio::test]
async fn tcp_and_unix_answer_and_the_guard_knows_which_is_which() {
    let server = start(Config::default()).await;
    let post = "POST /api/v1/metrics HTTP/1.1\r\nhost: evil.example\r\ncontent-length: 2\r\nconnection: close\r\n\r\n{}";
    let mut tcp = TcpStream::connect(server.address).await.expect("connected");
    tcp.write_all(post.as_bytes()).await.expect("sent");
    assert!(answer(&mut tcp).await.starts_with("HTTP/1.1 403 "), "rebinding over loopback");
    let mut unix = UnixStream::connect(&server.socket).await.expect("connected");
    unix.write_all(post.as_bytes()).await.expect("sent");
    assert!(answer(&mut unix).await.starts_with("HTTP/1.1 200 "), "no page reaches a unix socket");
    server.stop.cancel();
    timeout(SOON, server.task).await.expect("it stops").expect("no panic");
}

#[tokio::test]
async fn dribbled_and_endless_headers_end_the_connection() {
    let config = Config { header_timeout_ms: 200, ..Config::default() };
    let server = start(config).await;
    let mut slow = TcpStream::connect(server.address).await.expect("connected");
    slow.write_all(b"GET /health HTTP/1.1\r\nhost: loc").await.expect("sent");
    let text = answer(&mut slow).await;
    assert!(text.is_empty() || text.starts_with("HTTP/1.1 408"), "{text}");
    let mut endless = TcpStream::connect(server.address).await.expect("connected");
    let head = format!("GET /health HTTP/1.1\r\nhost: localhost\r\nx: {}", "y".repeat(64 << 10));
    let _ = endless.write_all(head.as_bytes()).await;
    let mut rest = Vec::new();
    let _ = timeout(SOON, endless.read_to_end(&mut rest)).await.expect("it is closed");
    assert!(!String::from_utf8_lossy(&rest).contains(" 200 "));
    let mut garbage = TcpStream::connect(server.address).await.expect("connected");
    garbage.write_all(b"\x16\x03\x01\x00\xff\x00\r\n\r\n").await.expect("sent");
    assert!(answer(&mut garbage).await.starts_with("HTTP/1.1 400 "), "a TLS hello on a plain port");
}

#[tokio::test]
async fn connections_are_bounded_and_idle_ones_do_not_hold_up_the_end() {
    let server = start(Config { max_connections: 1, ..Config::default() }).await;
    let request = b"GET /health HTTP/1.1\r\nhost: localhost\r\n\r\n";
    let mut first = TcpStream::connect(server.address).await.expect("connected");
    first.write_all(request).await.expect("sent");
    assert!(answer(&mut first).await.starts_with("HTTP/1.1 200 "));
    let mut second = TcpStream::connect(server.address).await.expect("in the backlog");
    second.write_all(request).await.expect("sent");
    let mut byte = [0; 1];
    assert!(
        timeout(Duration::from_millis(300), second.read(&mut byte)).await.is_err(),
        "it waits for the first"
    );
    drop(first);
    assert!(answer(&mut second).await.starts_with("HTTP/1.1 200 "), "its turn");
    server.stop.cancel();
    timeout(SOON, server.task).await.expect("the idle connection is told to go").expect("no panic");
}

/// It asks and asks and takes nothing: the kernel's timeout ends the connection.
#[tokio::test]
async fn a_client_that_takes_nothing_loses_its_connection() {
    let open_after = async |stalled_ms| {
        let server = start(Config { stalled_ms, ..Config::default() }).await;
        let mut still = TcpStream::connect(server.address).await.expect("connected");
        let request = b"GET /openapi.json HTTP/1.1\r\nhost: localhost\r\n\r\n";
        // Until both ends' buffers are full, or the server has hung up.
        while let Ok(Ok(())) = timeout(Duration::from_millis(500), still.write_all(request)).await {}
        let ended = async {
            while server.common.metrics.connections.get() > 0 {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        timeout(Duration::from_secs(5), ended).await.is_err()
    };
    assert!(!open_after(500).await, "nobody waits for it for ever");
    assert!(open_after(600_000).await, "the control: it is the timeout that ends it");
}
