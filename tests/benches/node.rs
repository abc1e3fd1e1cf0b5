//! `cargo xtask bench node`: the whole node process, as a DaemonSet would run it, beside 2,000 sleeping processes in
//! 200 pod groups: size of the binary, memory and CPU at rest with 1 s intervals, and how fast `/api/v1/pods/pids`
//! is answered from memory under 50 clients. Needs root, for the groups.

#![expect(
    clippy::disallowed_methods,
    clippy::print_stdout,
    reason = "a benchmark starts the node and prints"
)]

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use sextant_tests::hand_made::HandMade;
use sextant_tests::process::{cpu_s, mega, rss_bytes};
use sextant_tests::role::{Role, sextant};

const PODS: usize = 200;
const PROCESSES: usize = 10;
const CLIENTS: usize = 50;
const REQUESTS: usize = 200;
/// Between a client's requests.
const PAUSE: Duration = Duration::from_millis(100);
const REST: Duration = Duration::from_secs(30);
/// As large as the node's answer about these processes.
const ANSWER_BYTES: usize = 121_000;

fn main() -> Result<()> {
    let hierarchies = HandMade::hierarchies()?;
    let hierarchy = hierarchies.first().context("no hierarchy")?;
    let mut load = HandMade::new(hierarchy, "bench-node")?;
    for pod in 0..PODS {
        let group = format!("kubepods/burstable/pod{pod:08x}-ba47-11ea-b2a7-0cc47ac5979e/{pod:064x}");
        load.sleepers(&group, PROCESSES)?;
    }
    let dir = tempfile::tempdir()?;
    let receiver = Role::start("receiver", &dir.path().join("receiver"), &[])?;
    let socket = dir.path().join("node.sock");
    let socket = socket.to_str().context("a path of plain letters")?;
    let cgroup = hierarchy.to_str().context("a path of plain letters")?;
    let args = ["--receiver", &receiver.url, "--unix-socket", socket, "--cgroup-root", cgroup];
    let node = Role::start("node", &dir.path().join("node"), &args)?;
    thread::sleep(Duration::from_secs(5));

    println!("binary: {:.1} MB", mega(fs::metadata(sextant())?.len()));
    let before = cpu_s(node.pid())?;
    thread::sleep(REST);
    let busy_s = cpu_s(node.pid())? - before;
    println!(
        "at rest, 1 s interval, forwarding: RSS {:.1} MB, {:.2} % of one core over {} s",
        mega(rss_bytes(node.pid())?),
        busy_s / REST.as_secs_f64() * 100.0,
        REST.as_secs()
    );

    show("/api/v1/pods/pids", &ask(node.address())?);
    println!("RSS after that: {:.1} MB", mega(rss_bytes(node.pid())?));
    drop(node);
    // What the clients, the kernel and this machine take of it.
    show("as many bytes by a bare loop", &ask(&bare(ANSWER_BYTES)?)?);
    Ok(())
}

fn show(what: &str, latencies: &[Duration]) {
    let at = |per_mille: usize| latencies[(latencies.len() - 1) * per_mille / 1000].as_secs_f64() * 1e3;
    println!("{what}, {CLIENTS} clients on the same cores: p50 {:.2} ms, p99 {:.2} ms", at(500), at(990));
}

/// All clients' latencies, sorted.
fn ask(address: &str) -> Result<Vec<Duration>> {
    let clients: Vec<_> = (0..CLIENTS)
        .map(|_| {
            let address = address.to_owned();
            // Fifty dashboards do not ask in the same millisecond.
            thread::sleep(PAUSE / u32::try_from(CLIENTS)?);
            Ok(thread::spawn(move || client(&address)))
        })
        .collect::<Result<_>>()?;
    let mut latencies = Vec::new();
    for client in clients {
        latencies.extend(client.join().map_err(|_| anyhow::anyhow!("a client panicked"))??);
    }
    latencies.sort_unstable();
    Ok(latencies)
}

/// A server that does nothing but answer each request with so many bytes, a thread for each connection.
fn bare(bytes: usize) -> Result<String> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let address = listener.local_addr()?.to_string();
    let mut answer = format!("HTTP/1.1 200 OK\r\ncontent-length: {bytes}\r\n\r\n").into_bytes();
    answer.resize(answer.len() + bytes, b'x');
    let serve = move |mut stream: TcpStream| -> Result<()> {
        stream.set_nodelay(true)?;
        let mut lines = BufReader::new(stream.try_clone()?).lines();
        while let Some(line) = lines.next().transpose()? {
            if line.is_empty() {
                stream.write_all(&answer)?;
            }
        }
        Ok(())
    };
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let serve = serve.clone();
            thread::spawn(move || serve(stream));
        }
    });
    Ok(address)
}

/// One keep-alive connection that asks every [`PAUSE`], as a dashboard would; how long each took to be whole.
fn client(address: &str) -> Result<Vec<Duration>> {
    let stream = TcpStream::connect(address)?;
    stream.set_nodelay(true)?;
    let mut reader = BufReader::new(stream.try_clone()?);
    let mut writer = stream;
    let mut latencies = Vec::with_capacity(REQUESTS);
    let mut body = Vec::new();
    for _ in 0..REQUESTS {
        let asked = Instant::now();
        write!(writer, "GET /api/v1/pods/pids HTTP/1.1\r\nhost: localhost\r\n\r\n")?;
        let mut length = 0;
        let mut line = String::new();
        loop {
            line.clear();
            reader.read_line(&mut line)?;
            if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
                length = value.trim().parse()?;
            }
            if line == "\r\n" {
                break;
            }
            ensure!(!line.is_empty(), "the node closed the connection");
        }
        body.resize(length, 0);
        reader.read_exact(&mut body)?;
        latencies.push(asked.elapsed());
        thread::sleep(PAUSE);
    }
    Ok(latencies)
}
