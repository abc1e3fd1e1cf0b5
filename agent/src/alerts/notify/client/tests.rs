use std::convert::Infallible;
use std::net::SocketAddr;

use http_body_util::Empty;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use serde_json::json;
use tokio::net::TcpListener;
use tokio::sync::mpsc;

use super::*;
use crate::tls::testing::Authority;

/// A server with a certificate; what is posted to it comes out: path, `Authorization`, body.
async fn served(server: &tls::Server) -> (SocketAddr, mpsc::Receiver<(String, String, String)>) {
    let acceptor = tls::Acceptor::new(server).unwrap().unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (told, came) = mpsc::channel(16);
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let (handshake, told) = (acceptor.accept(stream), told.clone());
            tokio::spawn(async move {
                let Ok(stream) = handshake.await else { return };
                let service = service_fn(|request: Request<Incoming>| {
                    let told = told.clone();
                    async move {
                        let header = request.headers().get(AUTHORIZATION);
                        let key = header.map_or("", |key| key.to_str().unwrap()).to_owned();
                        let path = request.uri().to_string();
                        let body = request.into_body().collect().await.unwrap().to_bytes();
                        told.send((path, key, String::from_utf8(body.to_vec()).unwrap())).await.unwrap();
                        Ok::<_, Infallible>(hyper::Response::new(Empty::<Bytes>::new()))
                    }
                });
                let _gone = http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
            });
        }
    });
    (address, came)
}

fn client(url: &str, ca: PathBuf) -> Client {
    let tls = tls::Client { ca, ..tls::Client::default() };
    Client::new(&Config { webhooks: vec![url.to_owned()], tls, ..Config::default() }).unwrap()
}

#[tokio::test]
async fn a_post_goes_over_tls_to_who_is_trusted_and_to_nobody_else() {
    let dir = tempfile::tempdir().unwrap();
    let (ours, theirs) = (Authority::new(dir.path(), "ours"), Authority::new(dir.path(), "theirs"));
    let (address, mut came) = served(&ours.server("server", 2999)).await;
    let url = format!("https://me:a%2Fb@{address}/hook?key=secret");
    let place = Place::new(&url, &[]).unwrap();
    let outcome = client(&url, ours.ca("ours")).post(&place, &json!({"n": 1})).await;
    assert_eq!(outcome, Outcome::Taken);
    let (path, key, body) = came.recv().await.unwrap();
    // As RFC 7617 has it of `me:a/b`.
    assert_eq!((&*path, &*key, &*body), ("/hook?key=secret", "Basic bWU6YS9i", "{\"n\":1}"));
    assert_eq!(place.shown, format!("https://{address}"));

    let stranger = client(&url, theirs.ca("theirs"));
    let Outcome::Again(words) = stranger.post(&place, &json!({})).await else { panic!("it was told") };
    assert!(words.contains("UnknownIssuer") && !words.contains("secret"), "{words}");
    assert!(came.try_recv().is_err());
}

/// An authority that comes later is trusted from then on, and a file that is none changes nothing.
#[tokio::test]
async fn certificates_are_read_again() {
    let dir = tempfile::tempdir().unwrap();
    let (ours, _) = (Authority::new(dir.path(), "ours"), Authority::new(dir.path(), "theirs"));
    let (address, _came) = served(&ours.server("server", 2999)).await;
    let (url, ca) = (format!("https://{address}/"), dir.path().join("ca.pem"));
    std::fs::copy(ours.ca("theirs"), &ca).unwrap();
    let (client, place) = (client(&url, ca.clone()), Place::new(&url, &[]).unwrap());
    assert_eq!(client.files(), std::slice::from_ref(&ca));
    assert!(matches!(client.post(&place, &json!(1)).await, Outcome::Again(_)));
    std::fs::copy(ours.ca("ours"), &ca).unwrap();
    client.reload().unwrap();
    assert_eq!(client.post(&place, &json!(1)).await, Outcome::Taken);
    std::fs::write(&ca, "nothing").unwrap();
    assert!(client.reload().is_err());
    assert_eq!(client.post(&place, &json!(1)).await, Outcome::Taken);
}

#[test]
fn a_place_is_a_url_and_its_secrets_are_in_no_words() {
    let shown = |url: &str| Place::new(url, &["api", "v2", "alerts"]).map(|place| place.uri.to_string());
    assert_eq!(shown("http://h:9093/").unwrap(), "http://h:9093/api/v2/alerts");
    assert_eq!(shown("http://u:p@h/am#x").unwrap(), "http://h/am/api/v2/alerts");
    for wrong in ["secret", "ftp://secret", "http://", "https:///?secret", "unix:/secret"] {
        let words = shown(wrong).unwrap_err();
        assert!(!words.contains("secret"), "{words}");
    }
}

/// RFC 4648's own vectors.
#[test]
fn base64_is_as_the_standard_has_it() {
    let of = |text: &str| base64(text.as_bytes());
    let known = [("", ""), ("f", "Zg=="), ("fo", "Zm8="), ("foo", "Zm9v"), ("foob", "Zm9vYg==")];
    for (text, expected) in known {
        assert_eq!(of(text), expected);
    }
    assert_eq!(base64(&[0xff, 0xfe, 0xfd]), "//79");
}

#[test]
fn refusals_are_those_that_no_repetition_mends() {
    let all = (100..600).filter_map(|code| StatusCode::from_u16(code).ok());
    let last: Vec<_> = all.filter(|status| is_final(*status)).map(|status| status.as_u16()).collect();
    assert!([301, 400, 404, 422].iter().all(|code| last.contains(code)));
    assert!(![200, 408, 429, 500, 503].iter().any(|code| last.contains(code)));
}
