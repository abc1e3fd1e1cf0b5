//! `cargo xtask bench events`: posts that are on disk before their answer, and scrapes of a window that is full.
//!
//! Everything is on this machine: the clients' work is beside the receiver's on the same cores.

#![expect(clippy::disallowed_methods, clippy::print_stdout, reason = "measures in real time, for a person")]

use std::io::Write as _;
use std::net::TcpStream;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use sextant_tests::fault_proxy::read_message;
use sextant_tests::process::{peak_rss_bytes, rss_bytes};
use sextant_tests::role::Role;

const CONNECTIONS: usize = 32;
const RUN: Duration = Duration::from_secs(8);
const PENDING: usize = 100_000;
const SCRAPERS: usize = 20;

fn main() -> Result<()> {
    // `cargo test` builds benchmarks too, and runs them with this.
    if std::env::args().any(|argument| argument == "--test") {
        return Ok(());
    }
    posts("one event a post", "/event?type=deploy&service=checkout&n=", "")?;
    let batch = |n: usize| {
        let event = |at| format!(r#"{{"labels":{{"type":"deploy","service":"checkout","n":"{n}.{at}"}}}}"#);
        format!("[{}]", (0..100).map(event).collect::<Vec<_>>().join(","))
    };
    posts("100 events a post", "/event", &batch(0))?;
    disk()?;
    scrapes(20_000)?;
    scrapes(PENDING)
}

fn start(dir: &Path, settings: &str) -> Result<Role> {
    let config = dir.join("receiver.toml");
    let text = format!(
        "[log]\nfilter = \"warn\"\n[events]\nmax_events = 10000000\nmax_size_bytes = 4000000000\n{settings}\n"
    );
    std::fs::write(&config, text)?;
    Role::start("receiver", dir, &["--config", &config.to_string_lossy()])
}

/// Requests on connections of their own, each waiting for its answer, as long as the run.
fn posts(what: &str, path: &str, body: &str) -> Result<()> {
    let dir = tempfile::tempdir()?;
    let role = start(dir.path(), "")?;
    let clients: Vec<_> = (0..CONNECTIONS)
        .map(|client| {
            let (address, path, body) = (role.address().to_owned(), path.to_owned(), body.to_owned());
            std::thread::spawn(move || client_loop(&address, &path, &body, client))
        })
        .collect();
    let mut waits = Vec::new();
    for client in clients {
        waits.extend(client.join().ok().context("a client panicked")??);
    }
    waits.sort_unstable();
    let at = |percent: usize| waits.get(waits.len() * percent / 100).copied().unwrap_or_default();
    let per_second = waits.len() as f64 / RUN.as_secs_f64();
    println!(
        "{what}, {CONNECTIONS} connections: {per_second:.0} posts/s, p50 {:?}, p99 {:?}, {} MB RSS",
        at(50),
        at(99),
        rss_bytes(role.pid())? >> 20
    );
    Ok(())
}

fn client_loop(address: &str, path: &str, body: &str, client: usize) -> Result<Vec<Duration>> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_nodelay(true)?;
    let (since, mut waits) = (Instant::now(), Vec::new());
    while since.elapsed() < RUN {
        let sent = Instant::now();
        let n = waits.len();
        let request = if body.is_empty() {
            format!("POST {path}{client}.{n} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\n\r\n")
        } else {
            format!(
                "POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
                body.len()
            )
        };
        stream.write_all(request.as_bytes())?;
        let answer = read_message(&mut stream)?.context("no answer")?;
        ensure!(answer.starts_with(b"HTTP/1.1 200"), "{}", String::from_utf8_lossy(&answer));
        waits.push(sent.elapsed());
    }
    Ok(waits)
}

/// What one sync costs here: the floor of every post.
fn disk() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let mut file = std::fs::File::create(dir.path().join("file"))?;
    let mut waits = Vec::new();
    for _ in 0..500 {
        let since = Instant::now();
        file.write_all(&[1; 4_096])?;
        file.sync_data()?;
        waits.push(since.elapsed());
    }
    waits.sort_unstable();
    println!("one write and sync of 4 KiB: p50 {:?}, p99 {:?}", waits[250], waits[495]);
    Ok(())
}

/// Scrapers that come all at once, each on a connection of its own, until each has had everything.
fn scrapes(samples: usize) -> Result<()> {
    let dir = tempfile::tempdir()?;
    let role = start(dir.path(), &format!("max_samples_per_scrape = {samples}"))?;
    let before = rss_bytes(role.pid())?;
    let mut stream = TcpStream::connect(role.address())?;
    for at in 0..PENDING / 1_000 {
        let event = |n| format!(r#"{{"labels":{{"type":"deploy","service":"checkout","n":"{at}.{n}"}}}}"#);
        let body = format!("[{}]", (0..1_000).map(event).collect::<Vec<_>>().join(","));
        let head = "POST /event HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json";
        write!(stream, "{head}\r\nContent-Length: {}\r\n\r\n{body}", body.len())?;
        let answer = read_message(&mut stream)?.context("no answer")?;
        ensure!(answer.starts_with(b"HTTP/1.1 200"), "{}", String::from_utf8_lossy(&answer));
    }
    let held = rss_bytes(role.pid())?;
    let scrapers: Vec<_> = (0..SCRAPERS)
        .map(|_| {
            let address = role.address().to_owned();
            std::thread::spawn(move || scraper(&address, PENDING.div_ceil(samples)))
        })
        .collect();
    let mut waits = Vec::new();
    for scraper in scrapers {
        waits.extend(scraper.join().ok().context("a scraper panicked")??);
    }
    waits.sort_unstable();
    println!(
        "{PENDING} pending events, {SCRAPERS} scrapers at once, {samples} samples an answer: p50 {:?}, longest {:?}; \
         {} MB RSS before, {} MB with the events, {} MB at most while they scrape",
        waits[waits.len() / 2],
        waits[waits.len() - 1],
        before >> 20,
        held >> 20,
        peak_rss_bytes(role.pid())? >> 20
    );
    Ok(())
}

fn scraper(address: &str, rounds: usize) -> Result<Vec<Duration>> {
    let mut stream = TcpStream::connect(address)?;
    let mut waits = Vec::new();
    let request = "GET /metrics HTTP/1.1\r\nHost: localhost\r\nX-Prometheus-Scrape-Timeout-Seconds: 10\r\n\
                   User-Agent: bench\r\nAccept: application/openmetrics-text\r\n\r\n";
    for _ in 0..rounds {
        let since = Instant::now();
        stream.write_all(request.as_bytes())?;
        let answer = read_message(&mut stream)?.context("no answer")?;
        waits.push(since.elapsed());
        ensure!(answer.starts_with(b"HTTP/1.1 200"), "{}", String::from_utf8_lossy(&answer));
    }
    Ok(waits)
}
