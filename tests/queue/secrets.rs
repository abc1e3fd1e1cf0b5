//! Servers that ask who comes: certificates of both sides, and files of credentials.

use std::path::Path;

use data_encoding::BASE64URL_NOPAD;
use nkeys::KeyPair as Nkey;
use rcgen::{BasicConstraints, CertificateParams, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair};
use serde_json::{Value, json};
use sextant_tests::nats::{Nats, Servers};

use crate::nodes::{arrived, node, receiver};

/// Writes `ca.pem`, and `NAME.pem` and `NAME.key` of each name, all signed by it.
fn certificates(dir: &Path, names: &[&str]) {
    std::fs::create_dir_all(dir).unwrap();
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let key = KeyPair::generate().unwrap();
    std::fs::write(dir.join("ca.pem"), params.self_signed(&key).unwrap().pem()).unwrap();
    let issuer = Issuer::new(params, key);
    for name in names {
        let mut params = CertificateParams::new(vec!["127.0.0.1".to_owned()]).unwrap();
        params.extended_key_usages =
            vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        let key = KeyPair::generate().unwrap();
        let cert = params.signed_by(&key, &issuer).unwrap();
        std::fs::write(dir.join(format!("{name}.pem")), cert.pem()).unwrap();
        std::fs::write(dir.join(format!("{name}.key")), key.serialize_pem()).unwrap();
    }
}

/// Signed claims, as `nsc` makes them.
fn token(issuer: &Nkey, subject: &Nkey, name: &str, claims: &Value) -> String {
    let encode = |value: &Value| BASE64URL_NOPAD.encode(value.to_string().as_bytes());
    let head = encode(&json!({ "typ": "JWT", "alg": "ed25519-nkey" }));
    let body = encode(&json!({
        "jti": name, "iat": 1_700_000_000, "iss": issuer.public_key(), "sub": subject.public_key(), "name": name,
        "nats": claims,
    }));
    let text = format!("{head}.{body}");
    let signature = BASE64URL_NOPAD.encode(&issuer.sign(text.as_bytes()).unwrap());
    format!("{text}.{signature}")
}

/// A server's configuration with one account, and the file of a user of it.
fn account() -> (String, String) {
    let (operator, account, user) = (Nkey::new_operator(), Nkey::new_account(), Nkey::new_user());
    let system = Nkey::new_account();
    let limits = json!({
        "subs": -1, "data": -1, "payload": -1, "imports": -1, "exports": -1, "wildcards": true, "conn": -1, "leaf": -1,
        "mem_storage": -1, "disk_storage": -1, "streams": -1, "consumer": -1, "max_ack_pending": -1,
    });
    let claims = |kind: &str, more: Value| {
        let mut claims = json!({ "type": kind, "version": 2 });
        claims.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        claims
    };
    let of_operator = token(&operator, &operator, "operator", &claims("operator", json!({})));
    let of_account = token(&operator, &account, "account", &claims("account", json!({ "limits": limits })));
    let of_system = token(&operator, &system, "system", &claims("account", json!({})));
    let none = json!({ "subs": -1, "data": -1, "payload": -1, "pub": {}, "sub": {} });
    let of_user = token(&account, &user, "user", &claims("user", none));
    let more = format!(
        "operator: {of_operator}\nsystem_account: {1}\nresolver: MEMORY\n\
         resolver_preload: {{ {0}: {of_account}, {1}: {of_system} }}\n",
        account.public_key(),
        system.public_key()
    );
    let seed = user.seed().unwrap();
    let credentials = format!(
        "-----BEGIN NATS USER JWT-----\n{of_user}\n------END NATS USER JWT------\n\n\
         -----BEGIN USER NKEY SEED-----\n{seed}\n------END USER NKEY SEED------\n"
    );
    (more, credentials)
}

#[test]
fn certificates_of_both_sides_are_shown_and_checked() {
    let dir = tempfile::tempdir().unwrap();
    let (ours, theirs) = (dir.path().join("ours"), dir.path().join("theirs"));
    certificates(&ours, &["server", "us"]);
    certificates(&theirs, &["alien"]);
    let at = |dir: &Path, name: &str| format!("{:?}", dir.join(name));
    let (cert, key, ca) = (at(&ours, "server.pem"), at(&ours, "server.key"), at(&ours, "ca.pem"));
    let more = format!("tls {{ cert_file: {cert}, key_file: {key}, ca_file: {ca}, verify: true }}\n");
    let server = Nats::start(&Servers { more, tls: true, ..Servers::default() }).unwrap();
    let way = |ca: String, cert: String, key: String| {
        let (servers, monitors) = (server.urls(), server.monitors());
        format!(
            "servers = {servers:?}\nmonitors = {monitors:?}\nreplicas = 1\nca_file = {ca}\ncert_file = {cert}\n\
             key_file = {key}\n"
        )
    };
    let right = way(at(&ours, "ca.pem"), at(&ours, "us.pem"), at(&ours, "us.key"));
    let there = receiver(&dir.path().join("receiver"), &right).unwrap();
    let node = node(&dir.path().join("node"), &right).unwrap();
    arrived(&node, &there, 1);
    // A server that another authority vouches for, and a client that one does.
    let foreign = way(at(&theirs, "ca.pem"), at(&ours, "us.pem"), at(&ours, "us.key"));
    let alien = way(at(&ours, "ca.pem"), at(&theirs, "alien.pem"), at(&theirs, "alien.key"));
    for wrong in [foreign, alien] {
        let refused = receiver(&dir.path().join("refused"), &wrong).map(drop).unwrap_err();
        assert!(format!("{refused:#}").contains("takes the connection"), "{refused:#}");
    }
}

#[test]
fn credentials_come_from_a_file_and_are_never_told() {
    let dir = tempfile::tempdir().unwrap();
    let (more, credentials) = account();
    let (_, others) = account();
    let server = Nats::start(&Servers { more, ..Servers::default() }).unwrap();
    let file = |name: &str, text: &str| {
        let path = dir.path().join(name);
        std::fs::write(&path, text).unwrap();
        path
    };
    let way = |file: &Path| {
        let (servers, monitors) = (server.urls(), server.monitors());
        format!("servers = {servers:?}\nmonitors = {monitors:?}\nreplicas = 1\ncredentials_file = {file:?}\n")
    };
    let right = way(&file("right.creds", &credentials));
    let there = receiver(&dir.path().join("receiver"), &right).unwrap();
    let node = node(&dir.path().join("node"), &right).unwrap();
    arrived(&node, &there, 1);
    let seed = credentials.lines().find(|line| line.starts_with("SU")).unwrap();
    assert!(!there.log().contains(seed) && !node.log().contains(seed));
    for (name, text, words) in [
        ("others.creds", others.as_str(), "takes the connection"),
        ("empty.creds", "", "holds no credentials"),
        ("cut.creds", &credentials[..credentials.len() / 2], "holds no credentials"),
    ] {
        let refused = receiver(&dir.path().join("refused"), &way(&file(name, text))).map(drop).unwrap_err();
        let refused = format!("{refused:#}");
        assert!(refused.contains(words) && !refused.contains(seed), "{name}: {refused}");
    }
}
