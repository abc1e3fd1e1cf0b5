//! Which servers are taken, and servers that fall silent.

use std::time::Duration;

use anyhow::ensure;
use sextant_tests::nats::{Nats, PASSWORD, Servers};
use sextant_tests::role::{Role, eventually};

use crate::place::{Engine, Place};
use crate::stream::Stream;

/// Why a receiver with this `[queue.jetstream]` does not start.
fn refusal(settings: &str) -> String {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("receiver.toml");
    std::fs::write(&file, format!("[queue]\nengine = \"jetstream\"\n[queue.jetstream]\n{settings}\n"))
        .unwrap();
    match Role::start("receiver", dir.path(), &["--config", file.to_str().unwrap()]) {
        Ok(_) => panic!("it started with {settings}"),
        Err(error) => format!("{error:#}"),
    }
}

#[test]
fn a_server_that_does_not_sync_always_is_refused() {
    let lazy = Nats::start(&Servers { sync_interval: "2m", ..Servers::default() }).unwrap();
    let servers = format!("servers = {:?}\nreplicas = 1\n", lazy.urls());
    let words = refusal(&format!("{servers}monitors = {:?}", lazy.monitors()));
    assert!(
        words.contains("n0 acknowledges records before") && words.contains("sync_interval: always"),
        "{words}"
    );
    // What cannot be asked is not believed.
    let words = refusal(&format!("{servers}monitors = [\"http://127.0.0.1:1\"]"));
    assert!(words.contains("does not tell"), "{words}");
    let words = refusal(&servers);
    assert!(words.contains("needs monitors"), "{words}");
    let words = refusal(&format!("{servers}durability = \"replicated\""));
    assert!(words.contains("replicas of 3"), "{words}");
    let words = refusal("servers = [\"nats://127.0.0.1:1\"]\nmonitors = [\"http://127.0.0.1:1\"]");
    assert!(words.contains("no server of nats://127.0.0.1:1 takes the connection"), "{words}");
}

#[test]
fn every_server_of_a_cluster_has_to_be_asked() {
    let servers = Nats::start(&Servers { count: 3, ..Servers::default() }).unwrap();
    let two = servers.monitors()[..2].to_vec();
    let words = refusal(&format!("servers = {:?}\nmonitors = {two:?}", servers.urls()));
    assert!(words.contains("3 servers may hold records, and 2 of them can be asked"), "{words}");
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("receiver.toml");
    // Without syncs, as the words told, and without anybody being asked.
    let text = format!(
        "[queue]\nengine = \"jetstream\"\n[queue.jetstream]\nservers = {:?}\ndurability = \"replicated\"\n",
        servers.urls()
    );
    std::fs::write(&file, text).unwrap();
    Role::start("receiver", dir.path(), &["--config", file.to_str().unwrap()]).unwrap();
}

#[test]
fn a_password_comes_from_a_file_and_is_never_told() {
    let server = Nats::start(&Servers { password: true, ..Servers::default() }).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let (right, wrong) = (dir.path().join("right"), dir.path().join("wrong"));
    std::fs::write(&right, format!("{PASSWORD}\n")).unwrap();
    std::fs::write(&wrong, "s3cret of another").unwrap();
    let settings = |file: &std::path::Path| {
        format!(
            "servers = {:?}\nmonitors = {:?}\nreplicas = 1\nuser = \"sextant\"\npassword_file = {file:?}\n",
            server.urls(),
            server.monitors()
        )
    };
    let words = refusal(&settings(&wrong));
    assert!(words.contains("takes the connection") && !words.contains("s3cret"), "{words}");
    let file = dir.path().join("receiver.toml");
    let text = format!("[queue]\nengine = \"jetstream\"\n[queue.jetstream]\n{}", settings(&right));
    std::fs::write(&file, text).unwrap();
    let role = Role::start("receiver", dir.path(), &["--config", file.to_str().unwrap(), "-vv"]).unwrap();
    let receiver = format!("{}/topics", role.url);
    let told = std::process::Command::new("curl").args(["-s", &receiver]).output().unwrap();
    assert_eq!(String::from_utf8_lossy(&told.stdout), "{}");
    assert!(!role.log().contains("s3cret"));
    let words = refusal("servers = [\"nats://u:s3cret@127.0.0.1:4222\"]");
    assert!(!words.contains("s3cret"), "{words}");
}

/// A server that is there and says nothing: the connection stands, and no heartbeat comes.
#[test]
fn a_pull_that_the_servers_forgot_begins_anew() {
    let server = Nats::start(&Servers::default()).unwrap();
    let place = Place::on(Engine::Single, &server);
    let receiver = place.start("");
    let mut stream = Stream::open(&receiver.role, "topic=t&partition=0&group=g", None);
    receiver.produce("topic=t&partition=0", "before");
    assert_eq!(stream.payload(), "before");
    let restarts = || {
        let metrics = receiver.get("/metrics").text;
        let line = metrics.lines().find_map(|line| line.strip_prefix("sextant_queue_pull_restarts_total "));
        line.unwrap().parse::<u64>().unwrap()
    };
    // The control: as long as heartbeats come, nothing is begun anew.
    std::thread::sleep(Duration::from_secs(3));
    assert_eq!(restarts(), 0);
    server.freeze(0, true).unwrap();
    std::thread::sleep(Duration::from_millis(2_500));
    server.freeze(0, false).unwrap();
    eventually(Duration::from_secs(15), "the watchdog", || {
        ensure!(restarts() > 0, "nothing was begun anew");
        Ok(())
    })
    .unwrap();
    receiver.produce("topic=t&partition=0", "after");
    assert_eq!(stream.payload(), "after");
}

/// A server that is killed and comes back: what waits goes on.
#[test]
fn a_server_that_comes_back_is_used_again() {
    let mut server = Nats::start(&Servers::default()).unwrap();
    let (config, dir) = {
        let place = Place::on(Engine::Single, &server);
        (place.config(""), place.dir)
    };
    let file = dir.path().join("receiver.toml");
    std::fs::write(&file, config).unwrap();
    let receiver = crate::place::Receiver::start(dir.path(), &file);
    receiver.batch("topic=t&partition=0", &["1"]).ids();
    let mut stream = Stream::open(&receiver.role, "topic=t&partition=0&group=g", None);
    assert_eq!(stream.payload(), "1");
    server.kill(0).unwrap();
    let refused = receiver.batch("topic=t&partition=0", &["lost"]);
    assert!(matches!(refused.status, 408 | 503), "{refused:?}");
    eventually(Duration::from_secs(20), "it is told", || {
        let ready = receiver.get("/readyz?verbose=true").text;
        ensure!(ready.contains("degraded"), "{ready}");
        Ok(())
    })
    .unwrap();
    server.revive(0).unwrap();
    eventually(Duration::from_secs(30), "it takes records again", || {
        let kept = receiver.batch("topic=t&partition=0&id=2", &["2"]);
        ensure!(kept.status == 200, "{kept:?}");
        Ok(())
    })
    .unwrap();
    // The first was not acknowledged: where the machine is slow its time is out by now, and it comes again.
    let next = std::iter::from_fn(|| Some(stream.payload())).find(|payload| payload != "1");
    assert!(matches!(next.as_deref(), Some("2" | "lost")), "{next:?}");
}
