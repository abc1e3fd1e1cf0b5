//! Files that are wrong, and handshakes that must not come about.

use std::sync::Arc;

use rustls::pki_types::ServerName;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::testing::Authority;
use super::*;

/// What both sides say of a handshake, and of a byte sent after it: in TLS 1.3 a client learns of its refusal only then.
async fn meet(server: &Server, client: &Client) -> Result<(), String> {
    let acceptor = Acceptor::new(server).unwrap().unwrap();
    met(&acceptor, client).await
}

async fn met(acceptor: &Acceptor, client: &Client) -> Result<(), String> {
    let (near, far) = tokio::io::duplex(64 << 10);
    let connector = tokio_rustls::TlsConnector::from(Arc::new(client.read().unwrap()));
    let asked = async {
        let name = ServerName::try_from("localhost").unwrap();
        let mut stream = connector.connect(name, near).await.map_err(|error| error.to_string())?;
        stream.write_all(b"?").await.map_err(|error| error.to_string())?;
        let mut byte = [0];
        stream.read_exact(&mut byte).await.map_err(|error| error.to_string()).map(|_| ())
    };
    let answered = async {
        let mut stream = acceptor.accept(far).await.map_err(|error| error.to_string())?;
        let mut byte = [0];
        stream.read_exact(&mut byte).await.map_err(|error| error.to_string())?;
        stream.write_all(b"!").await.map_err(|error| error.to_string())
    };
    let (asked, answered) = tokio::join!(asked, answered);
    match (asked, answered) {
        (Ok(()), Ok(())) => Ok(()),
        (asked, answered) => Err(format!("{asked:?} {answered:?}")),
    }
}

#[tokio::test]
async fn only_the_right_authority_and_a_certificate_that_is_not_over_are_trusted() {
    let dir = tempfile::tempdir().unwrap();
    let (ours, theirs) = (Authority::new(dir.path(), "ours"), Authority::new(dir.path(), "theirs"));
    let trusts = |authority: &str| Client { ca: ours.ca(authority), ..Client::default() };
    let good = ours.server("good", 2999);
    assert_eq!(meet(&good, &trusts("ours")).await, Ok(()));
    let error = meet(&good, &trusts("theirs")).await.unwrap_err();
    assert!(error.contains("UnknownIssuer"), "{error}");
    let error = meet(&ours.server("over", 2021), &trusts("ours")).await.unwrap_err();
    assert!(error.contains("Expired") || error.contains("expired"), "{error}");
    let error = meet(&theirs.server("alien", 2999), &trusts("ours")).await.unwrap_err();
    assert!(error.contains("UnknownIssuer"), "{error}");
}

#[tokio::test]
async fn with_an_authority_of_clients_only_theirs_get_in() {
    let dir = tempfile::tempdir().unwrap();
    let (ours, theirs) = (Authority::new(dir.path(), "ours"), Authority::new(dir.path(), "theirs"));
    let server = Server { client_ca: ours.ca("ours"), ..ours.server("server", 2999) };
    assert_eq!(meet(&server, &ours.client("node", 2999, "ours")).await, Ok(()));
    let nobody = Client { ca: ours.ca("ours"), ..Client::default() };
    for (who, client) in [
        ("no certificate", nobody.clone()),
        ("one of another authority", theirs.client("alien", 2999, "ours")),
        ("one that is over", ours.client("over", 2021, "ours")),
    ] {
        assert!(meet(&server, &client).await.is_err(), "{who}");
    }
    let open = Server { client_ca: PathBuf::new(), ..server };
    assert_eq!(meet(&open, &nobody).await, Ok(()), "the control: it was the certificate");
}

#[tokio::test]
async fn new_files_are_taken_and_wrong_ones_change_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let ours = Authority::new(dir.path(), "ours");
    let files = ours.server("server", 2021);
    let acceptor = Acceptor::new(&files).unwrap().unwrap();
    let client = Client { ca: ours.ca("ours"), ..Client::default() };
    assert!(met(&acceptor, &client).await.is_err(), "it is over");
    std::fs::rename(dir.path().join("server.key"), dir.path().join("kept.key")).unwrap();
    ours.sign("server", 2999);
    acceptor.reload().unwrap();
    assert_eq!(met(&acceptor, &client).await, Ok(()), "renewed");

    std::fs::copy(dir.path().join("kept.key"), &files.key).unwrap();
    let error = words(&acceptor.reload().unwrap_err());
    assert!(error.contains("server.pem: not with this key"), "{error}");
    std::fs::write(&files.cert, "-----BEGIN CERTIFICATE-----\n?").unwrap();
    assert!(acceptor.reload().is_err());
    std::fs::write(&files.cert, "").unwrap();
    assert!(words(&acceptor.reload().unwrap_err()).contains("no certificate"));
    std::fs::remove_file(&files.cert).unwrap();
    assert!(words(&acceptor.reload().unwrap_err()).contains("server.pem"));
    assert_eq!(met(&acceptor, &client).await, Ok(()), "what was there is in force");
}

#[test]
fn halves_and_files_that_are_something_else_are_named() {
    let dir = tempfile::tempdir().unwrap();
    let ours = Authority::new(dir.path(), "ours");
    let whole = ours.server("server", 2999);
    assert!(Acceptor::new(&Server::default()).unwrap().is_none());
    for half in [
        Server { key: PathBuf::new(), ..whole.clone() },
        Server { cert: PathBuf::new(), ..whole.clone() },
        Server { client_ca: ours.ca("ours"), ..Server::default() },
    ] {
        assert!(matches!(half.wanted(), Err(Error::Half(_))), "{half:?}");
    }
    let swapped = Server { cert: whole.key.clone(), key: whole.cert.clone(), ..whole.clone() };
    assert!(Acceptor::new(&swapped).is_err());
    let huge = dir.path().join("huge");
    std::fs::write(&huge, vec![b'#'; 2 << 20]).unwrap();
    let error = Acceptor::new(&Server { cert: huge, ..whole }).unwrap_err();
    assert!(error.to_string().contains("larger"), "{error}");
    let client = Client { ca: ours.ca("ours"), ..Client::default() };
    assert!(client.read().is_ok());
    assert!(matches!(Client { cert: ours.ca("ours"), ..client }.read(), Err(Error::Half(_))));
}
