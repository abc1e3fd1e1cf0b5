//! Who gets in, over the real binary: keys that are rotated while it runs, certificates on both sides.

#![expect(clippy::disallowed_methods, reason = "runs curl and the binary's own verbs")]
#![expect(clippy::unwrap_used, reason = "a test's helpers fail the test")]

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Result, ensure};
use rcgen::{BasicConstraints, CertificateParams, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair};
use rustix::process::{Pid, Signal, kill_process};
use sextant_tests::role::{Role, eventually, sextant};

const SOON: Duration = Duration::from_secs(20);

/// Status of an answer; 0 where there was none.
fn status(args: &[&str]) -> u32 {
    let curl = Command::new("curl").args(["-s", "-o", "/dev/null", "-w", "%{http_code}"]).args(args).output();
    String::from_utf8(curl.unwrap().stdout).unwrap().parse().unwrap()
}

fn body(args: &[&str]) -> String {
    String::from_utf8(Command::new("curl").arg("-s").args(args).output().unwrap().stdout).unwrap()
}

/// A fresh key, and the lines for the configuration.
fn fresh(name: &str, scope: &str) -> (String, String) {
    let made =
        Command::new(sextant()).args(["key", "new", "--name", name, "--scope", scope]).output().unwrap();
    assert!(made.status.success(), "{made:?}");
    let text = String::from_utf8(made.stdout).unwrap();
    let key = text.lines().find(|line| line.starts_with("sextant_")).unwrap().to_owned();
    (key, text[text.find("[[keys.key]]").unwrap()..].to_owned())
}

#[test]
fn the_check_reads_the_keys_and_starts_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let (file, data) = (dir.path().join("keys.toml"), dir.path().join("data"));
    let check = |role: &str| {
        let mut check = Command::new(sextant());
        // Of no matter to the other role.
        check.args([role, "--check"]).env("SEXTANT_RECEIVER", "http://127.0.0.1:1");
        let done = check.arg("--keys-file").arg(&file).arg("--data-dir").arg(&data).output().unwrap();
        let said = [done.stdout, done.stderr].map(|bytes| String::from_utf8(bytes).unwrap());
        (done.status.code(), said.concat())
    };
    for wrong in [None, Some("sextant_nonsense"), Some("[[keys.key]]\nname = \"a\"\nscopes = [\"read\"]\n")] {
        if let Some(text) = wrong {
            std::fs::write(&file, text).unwrap();
        }
        for role in ["node", "receiver"] {
            let (code, said) = check(role);
            assert_eq!(code, Some(1), "{said}");
            assert!(said.starts_with("sextant: [keys] ") && said.contains("keys.toml"), "{said}");
            assert!(!said.contains("nonsense"), "{said}");
        }
    }
    std::fs::write(&file, fresh("a", "read").1 + &fresh("b", "act").1).unwrap();
    for (role, places) in [
        ("node", &["spool in D/spool.redb", "events in D/events.redb"][..]),
        (
            "receiver",
            &[
                "store in D/store.redb",
                "queue in D/queue.redb",
                "series in D/series",
                "events in D/events.redb",
            ],
        ),
    ] {
        let (code, said) = check(role);
        assert_eq!(code, Some(0), "{said}");
        for place in places {
            let line = place.replace('D', &data.display().to_string());
            assert!(said.lines().any(|said| said == line), "{line}: {said}");
        }
        let keys = format!("keys: 2 known, with those of {}", file.display());
        assert!(said.lines().any(|line| line == keys), "{said}");
    }
    assert!(!data.exists(), "nothing is made");
}

#[test]
fn keys_are_rotated_without_a_restart_and_a_wrong_file_changes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let (file, config) = (dir.path().join("keys.toml"), dir.path().join("receiver.toml"));
    let ((old, old_lines), (new, new_lines)) = (fresh("old", "read"), fresh("new", "read,write"));
    std::fs::write(&file, &old_lines).unwrap();
    std::fs::write(&config, "[keys]\nrequired = \"everything\"\n").unwrap();
    let args = ["--config", config.to_str().unwrap(), "--keys-file", file.to_str().unwrap()];
    let receiver = Role::start("receiver", &dir.path().join("receiver"), &args).unwrap();
    let nodes = format!("{}/api/v1/nodes", receiver.url);
    let produce = format!("{}/produce?topic=t", receiver.url);
    let with = |key: &str, url: &str| status(&["-H", &format!("Authorization: Bearer {key}"), url]);
    let posted = |key: &str| status(&["-H", &format!("X-API-Key: {key}"), "-d", "x", &produce]);
    assert_eq!(status(&[&nodes]), 401);
    assert_eq!((with(&old, &nodes), with(&new, &nodes), posted(&old)), (200, 401, 403));
    for open in ["/livez", "/readyz", "/healthz", "/health", "/openapi.json", "/swagger/"] {
        assert_eq!(status(&[&format!("{}{open}", receiver.url)]), 200, "{open}");
    }

    let reads = |count: usize| {
        eventually(SOON, "the file is read again", || {
            let log = receiver.log();
            ensure!(log.matches("keys: read again").count() == count, "{log}");
            Ok(())
        })
    };
    std::fs::write(&file, format!("{old_lines}{new_lines}")).unwrap();
    reads(1).unwrap();
    assert_eq!((with(&old, &nodes), with(&new, &nodes), posted(&new)), (200, 200, 200), "both, for a while");
    std::fs::write(&file, &new_lines).unwrap();
    reads(2).unwrap();
    assert_eq!((with(&old, &nodes), with(&new, &nodes)), (401, 200));

    std::fs::write(&file, "sextant_nonsense").unwrap();
    let verbose = format!("{}/readyz?verbose", receiver.url);
    let told = |words: &'static str| {
        eventually(SOON, "it is told", || {
            let text = body(&[&verbose]);
            ensure!(text.contains(words), "{text}");
            Ok(())
        })
    };
    told("keys degraded").unwrap();
    assert_eq!(with(&new, &nodes), 200);
    assert!(!receiver.log().contains("sextant_nonsense"), "what is in the file may be a key");

    std::fs::write(&file, &new_lines).unwrap();
    let pid = Pid::from_raw(i32::try_from(receiver.pid()).unwrap()).unwrap();
    kill_process(pid, Signal::HUP).unwrap();
    told("keys up").unwrap();
    assert_eq!(with(&new, &nodes), 200, "SIGHUP asks, and ends nothing");
    assert_eq!(receiver.stop().unwrap(), Some(0));
}

#[test]
fn the_references_variable_closes_the_receiver() {
    let dir = tempfile::tempdir().unwrap();
    let closed = Role::start_with(&[("API_KEY", "their-own-secret")], "receiver", dir.path(), &[]).unwrap();
    let nodes = format!("{}/api/v1/nodes", closed.url);
    assert_eq!(status(&[&nodes]), 401);
    assert_eq!(status(&["-H", "X-API-Key: telemetry-api-secret-2025", &nodes]), 401, "no default secret");
    assert_eq!(status(&["-H", "X-API-Key: their-own-secret", &nodes]), 200);
    assert_eq!(
        status(&["-H", "X-API-Key: their-own-secret", "-d", "{}", &format!("{}/api/v1/ingest", closed.url)]),
        403
    );
    assert!(!closed.log().contains("their-own-secret"));
}

struct Authority {
    dir: PathBuf,
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    fn new(dir: &Path, name: &str) -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(rcgen::DnType::CommonName, name);
        let key = KeyPair::generate().unwrap();
        std::fs::write(dir.join(format!("{name}-ca.pem")), params.self_signed(&key).unwrap().pem()).unwrap();
        Self { dir: dir.to_owned(), issuer: Issuer::new(params, key) }
    }

    /// Writes `NAME.pem` and `NAME.key`.
    fn sign(&self, name: &str) {
        let mut params = CertificateParams::new(vec!["127.0.0.1".to_owned()]).unwrap();
        params.extended_key_usages =
            vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        let key = KeyPair::generate().unwrap();
        let cert = params.signed_by(&key, &self.issuer).unwrap();
        std::fs::write(self.dir.join(format!("{name}.pem")), cert.pem()).unwrap();
        std::fs::write(self.dir.join(format!("{name}.key")), key.serialize_pem()).unwrap();
    }
}

/// A node that delivers to `url`, with these lines for `[forward]`.
fn node(dir: &Path, name: &str, url: &str, forward: &str) -> Role {
    let config = dir.join(format!("{name}.toml"));
    std::fs::write(&config, format!("[forward]\nretry_max_ms = 500\n{forward}")).unwrap();
    let socket = dir.join(format!("{name}.sock"));
    let (config, socket) = (config.to_str().unwrap(), socket.to_str().unwrap());
    let args = ["--receiver", url, "--config", config, "--unix-socket", socket, "--node-name", name];
    Role::start("node", &dir.join(name), &args).unwrap()
}

#[test]
fn a_node_delivers_with_a_certificate_and_a_key_and_without_either_nothing_arrives() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name).to_str().unwrap().to_owned();
    let (ours, theirs) = (Authority::new(dir.path(), "ours"), Authority::new(dir.path(), "theirs"));
    ours.sign("receiver");
    ours.sign("node");
    theirs.sign("alien");
    let (key, lines) = fresh("nodes", "ingest");
    std::fs::write(at("ingest.key"), format!("{key}\n")).unwrap();
    let config = format!(
        "[keys]\nrequired = \"changes\"\n{lines}[http.tls]\ncert = {:?}\nkey = {:?}\nclient_ca = {:?}\n",
        at("receiver.pem"),
        at("receiver.key"),
        at("ours-ca.pem")
    );
    std::fs::write(at("receiver.toml"), config).unwrap();
    let config = at("receiver.toml");
    let receiver = Role::start("receiver", &dir.path().join("receiver"), &["--config", &config]).unwrap();
    assert!(receiver.url.starts_with("https://"), "{}", receiver.url);

    let nodes = format!("{}/api/v1/nodes", receiver.url);
    let (ca, cert, cert_key) = (at("ours-ca.pem"), at("node.pem"), at("node.key"));
    let shown = ["--cacert", &ca, "--cert", &cert, "--key", &cert_key, &nodes];
    assert_eq!(status(&shown), 200);
    assert_eq!(status(&["--cacert", &ca, &nodes]), 0, "no certificate");
    let (alien, alien_key) = (at("alien.pem"), at("alien.key"));
    assert_eq!(status(&["--cacert", &ca, "--cert", &alien, "--key", &alien_key, &nodes]), 0, "another's");
    assert_eq!(status(&[&nodes.replace("https", "http")]), 0, "plain HTTP");

    let tls = |ca: &str, cert: &str| {
        let (ca, pem, key) = (at(ca), at(&format!("{cert}.pem")), at(&format!("{cert}.key")));
        format!("[forward.tls]\nca = {ca:?}\ncert = {pem:?}\nkey = {key:?}\n")
    };
    let key_file = format!("key_file = {:?}\n", at("ingest.key"));
    let good = node(dir.path(), "good", &receiver.url, &format!("{key_file}{}", tls("ours-ca.pem", "node")));
    eventually(SOON, "the node's records arrive", || {
        let known = body(&shown);
        ensure!(known.contains("\"good\""), "{known}\n{}", good.log());
        Ok(())
    })
    .unwrap();
    let refused = [
        ("keyless", tls("ours-ca.pem", "node"), "401"),
        ("trusts-others", format!("{key_file}{}", tls("theirs-ca.pem", "node")), "UnknownIssuer"),
        ("alien", format!("{key_file}{}", tls("ours-ca.pem", "alien")), ""),
    ];
    for (name, forward, words) in refused {
        let node = node(dir.path(), name, &receiver.url, &forward);
        let url = format!("{}/status?format=json", node.url);
        eventually(SOON, "the node says why", || -> Result<()> {
            let status: serde_json::Value = serde_json::from_str(&body(&[&url]))?;
            let error =
                status["delivery"]["receivers"][0]["last_error"].as_str().unwrap_or_default().to_owned();
            ensure!(!error.is_empty() && error.contains(words), "{name}: {status}");
            Ok(())
        })
        .unwrap();
        assert!(!body(&shown).contains(&format!("\"{name}\"")), "{name}");
    }
    // The key comes while the node runs.
    let late = node(
        dir.path(),
        "late",
        &receiver.url,
        &format!("key_file = {:?}\n{}", at("late.key"), {
            std::fs::write(at("late.key"), "not-it").unwrap();
            tls("ours-ca.pem", "node")
        }),
    );
    std::fs::write(at("late.key"), &key).unwrap();
    eventually(Duration::from_secs(90), "the late one's records arrive", || {
        let known = body(&shown);
        ensure!(known.contains("\"late\""), "{known}\n{}", late.log());
        Ok(())
    })
    .unwrap();
}

#[test]
fn samples_are_replayed_to_a_receiver_that_is_trusted_and_to_no_other() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name).to_str().unwrap().to_owned();
    let (ours, _theirs) = (Authority::new(dir.path(), "ours"), Authority::new(dir.path(), "theirs"));
    ours.sign("receiver");
    ours.sign("sender");
    let (cert, key, ca) = (at("receiver.pem"), at("receiver.key"), at("ours-ca.pem"));
    let config = at("receiver.toml");
    std::fs::write(&config, format!("[http.tls]\ncert = {cert:?}\nkey = {key:?}\nclient_ca = {ca:?}\n"))
        .unwrap();
    let receiver = Role::start("receiver", &dir.path().join("receiver"), &["--config", &config]).unwrap();
    let replay = |ca: &str, cert: &[&str]| {
        let samples = concat!(env!("CARGO_MANIFEST_DIR"), "/fixtures/gpu/dcgm.csv");
        let mut command = Command::new("timeout");
        // One that is not trusted is waited for: somebody may put its certificate right.
        command.args(["--signal=INT", "5"]).arg(sextant()).args(["replay", samples, "--rate", "max"]);
        command.args(["--to", &receiver.url, "--ca", &at(ca)]).args(cert);
        let output = command.output().unwrap();
        String::from_utf8(output.stdout).unwrap() + &String::from_utf8(output.stderr).unwrap()
    };
    let (cert, key) = (at("sender.pem"), at("sender.key"));
    let shown = ["--cert", &*cert, "--cert-key", &key];
    let trusted = replay("ours-ca.pem", &shown);
    assert!(trusted.contains("sent         160\n"), "{trusted}");
    for (ca, shown) in [("theirs-ca.pem", &shown[..]), ("ours-ca.pem", &[])] {
        let words = replay(ca, shown);
        assert!(words.contains("sent         0\n") && words.contains("unsent       160\n"), "{words}");
        assert!(words.contains("waiting") && words.contains("ertificate"), "{words}");
    }
}
