//! The accept loop with TLS: who gets an answer, who is turned away, and how soon.

use std::net::SocketAddr;
use std::sync::Arc;

use rustls::pki_types::ServerName;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{Duration, Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;

use super::{Listener, serve};
use crate::http::metrics::ResultLabel;
use crate::http::{Common, Config, keys, layers, testing};
use crate::tls::testing::Authority;
use crate::tls::{Acceptor, Client};

const SOON: Duration = Duration::from_secs(20);

struct Server {
    address: SocketAddr,
    common: Common,
    _stop: tokio_util::sync::DropGuard,
}

async fn start(config: Config, acceptor: &Acceptor) -> Server {
    let common = testing::common(config, &keys::Config::default());
    let routes = axum::Router::new().route("/livez", axum::routing::get(|| async { "ok\n" }));
    let tcp = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = tcp.local_addr().expect("bound");
    let stop = CancellationToken::new();
    let listeners = vec![Listener::Tls(tcp, acceptor.clone())];
    let router = layers::apply(routes, &common);
    tokio::spawn(serve(listeners, router, common.clone(), stop.clone(), SOON));
    Server { address, common, _stop: stop.drop_guard() }
}

impl Server {
    async fn ask(&self, client: &Client) -> std::io::Result<String> {
        let tcp = TcpStream::connect(self.address).await?;
        let connector = tokio_rustls::TlsConnector::from(Arc::new(client.read().expect("a client")));
        let mut stream = connector.connect(ServerName::try_from("localhost").expect("a name"), tcp).await?;
        stream.write_all(b"GET /livez HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n").await?;
        let mut text = String::new();
        stream.read_to_string(&mut text).await?;
        Ok(text)
    }

    fn handshakes(&self, result: &'static str) -> u64 {
        self.common.metrics.handshakes.get_or_create(&ResultLabel { result }).get()
    }
}

#[tokio::test]
async fn an_answer_comes_over_tls_and_plain_words_are_turned_away() {
    let dir = tempfile::tempdir().expect("a directory");
    let ours = Authority::new(dir.path(), "ours");
    let acceptor = Acceptor::new(&ours.server("server", 2999)).expect("files").expect("TLS");
    let server = start(Config::default(), &acceptor).await;
    let client = Client { ca: ours.ca("ours"), ..Client::default() };
    let answer = timeout(SOON, server.ask(&client)).await.expect("in time").expect("an answer");
    assert!(answer.starts_with("HTTP/1.1 200") && answer.ends_with("ok\n"), "{answer}");

    let mut plain = TcpStream::connect(server.address).await.expect("connected");
    plain.write_all(b"GET /livez HTTP/1.1\r\nhost: localhost\r\n\r\n").await.expect("sent");
    let mut bytes = Vec::new();
    timeout(SOON, plain.read_to_end(&mut bytes)).await.expect("an end").ok();
    assert!(!bytes.starts_with(b"HTTP"), "{bytes:?}");
    assert_eq!((server.handshakes("ok"), server.handshakes("failed")), (1, 1));
}

#[tokio::test]
async fn who_says_nothing_is_turned_away_and_holds_others_up_no_longer_than_that() {
    let dir = tempfile::tempdir().expect("a directory");
    let ours = Authority::new(dir.path(), "ours");
    let acceptor = Acceptor::new(&ours.server("server", 2999)).expect("files").expect("TLS");
    let config = Config { max_handshakes: 2, handshake_timeout_ms: 600, ..Config::default() };
    let server = start(config, &acceptor).await;
    let client = Client { ca: ours.ca("ours"), ..Client::default() };
    let begun = Instant::now();
    let mut silent = Vec::new();
    for _ in 0..2 {
        silent.push(TcpStream::connect(server.address).await.expect("connected"));
    }
    sleep(Duration::from_millis(300)).await;
    // Both turns are taken: this one waits for them.
    let answer = timeout(SOON, server.ask(&client)).await.expect("in time").expect("an answer");
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    assert!(begun.elapsed() >= Duration::from_millis(550), "{:?}", begun.elapsed());
    for mut stream in silent {
        let mut byte = [0];
        let end = timeout(SOON, stream.read(&mut byte)).await.expect("an end");
        assert!(matches!(end, Ok(0) | Err(_)), "{end:?}");
    }
    assert_eq!((server.handshakes("ok"), server.handshakes("timeout")), (1, 2));
}
