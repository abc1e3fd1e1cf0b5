//! Two network namespaces with a cable between them, real traffic across it, and the worker of a network anomaly.
//!
//! Needs root and `ip` (iproute2). The namespaces go when dropped; nothing else of the machine's network is touched.

#![expect(
    clippy::disallowed_methods,
    clippy::expect_used,
    reason = "starts processes, waits in real time, and fails the test with what went wrong"
)]

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::AsFd as _;
use std::path::PathBuf;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, sync_channel};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use rustix::net::sockopt::set_socket_recv_buffer_size_force;
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use serde_json::{Value, json};
use sextant::kernel::policy::go_first;

use crate::role::sextant;

/// The target's interface.
pub const INTERFACE: &str = "target0";
/// The target's addresses, and two of the peer's for each family.
pub const TARGET: [&str; 2] = ["10.99.0.1", "fd99::1"];
/// See [`TARGET`].
pub const PEER: [&str; 2] = ["10.99.0.2", "fd99::2"];
/// See [`TARGET`].
pub const OTHER: [&str; 2] = ["10.99.0.3", "fd99::3"];
/// A loaded machine may take its time.
const PATIENCE: Duration = Duration::from_secs(20);

/// One of the two.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// Where the anomaly is.
    Target,
    /// The other end of the cable.
    Peer,
}

/// See the module.
#[derive(Debug)]
pub struct Lab {
    name: String,
}

impl Lab {
    /// Makes both, with addresses and a default route from the target to the peer.
    ///
    /// # Errors
    /// Not root, or no `ip`.
    pub fn new(name: &str) -> Result<Self> {
        let lab = Self { name: format!("sxt{}-{name}", std::process::id()) };
        let (target, peer) = (lab.of(Side::Target), lab.of(Side::Peer));
        ip(&["netns", "add", &target])?;
        ip(&["netns", "add", &peer])?;
        let cable = ["type", "veth", "peer", "name", "peer0", "netns", &peer];
        ip(&[&["link", "add", INTERFACE, "netns", &target][..], &cable].concat())?;
        for (netns, device, addresses) in
            [(&target, INTERFACE, &[TARGET][..]), (&peer, "peer0", &[PEER, OTHER][..])]
        {
            for [ipv4, ipv6] in addresses {
                ip(&["-n", netns, "address", "add", &format!("{ipv4}/24"), "dev", device])?;
                ip(&["-n", netns, "address", "add", &format!("{ipv6}/64"), "dev", device, "nodad"])?;
            }
            ip(&["-n", netns, "link", "set", "lo", "up"])?;
            ip(&["-n", netns, "link", "set", device, "up"])?;
        }
        ip(&["-n", &target, "route", "add", "default", "via", PEER[0]])?;
        // Both ends know each other before anything is measured.
        for peer in PEER {
            let echo = Echo::start(&lab, SocketAddr::new(peer.parse()?, 7))?;
            crate::role::eventually(PATIENCE, "the cable is up", || {
                ensure!(round_trips(&lab, echo.at, 1, Duration::ZERO)?[0].is_some(), "no echo");
                Ok(())
            })?;
        }
        Ok(lab)
    }

    /// Name of a namespace, as `ip` has it.
    pub fn of(&self, side: Side) -> String {
        match side {
            Side::Target => format!("{}-a", self.name),
            Side::Peer => format!("{}-b", self.name),
        }
    }

    /// A namespace's file.
    pub fn path(&self, side: Side) -> PathBuf {
        PathBuf::from("/run/netns").join(self.of(side))
    }

    /// Calls something in a namespace; what it opens stays there.
    ///
    /// # Panics
    /// When the namespace is gone.
    pub fn inside<T: Send>(&self, side: Side, call: impl FnOnce() -> T + Send) -> T {
        let file = std::fs::File::open(self.path(side)).expect("the namespace is there");
        let inside = || {
            move_into_link_name_space(file.as_fd(), Some(LinkNameSpaceType::Network)).expect("as root");
            call()
        };
        thread::scope(|scope| scope.spawn(inside).join()).expect("it does not panic")
    }

    /// All that `ip` and `tc` show of the target's interfaces and queueing disciplines.
    ///
    /// # Errors
    /// They do not answer.
    pub fn shown(&self) -> Result<String> {
        let netns = self.of(Side::Target);
        Ok(ip(&["-n", &netns, "-o", "link", "show"])? + &run("tc", &["-n", &netns, "qdisc", "show"])?)
    }

    /// Runs `ip` in a namespace; what it prints.
    ///
    /// # Errors
    /// It fails.
    pub fn ip(&self, side: Side, arguments: &[&str]) -> Result<String> {
        ip(&[&["-n", &self.of(side)], arguments].concat())
    }

    /// An order for the target's interface with its default route.
    pub fn order(&self, fault: &Value) -> Value {
        json!({"netns": self.path(Side::Target), "fault": fault})
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        for side in [Side::Target, Side::Peer] {
            // What was never made cannot be removed.
            let _gone = ip(&["netns", "delete", &self.of(side)]);
        }
    }
}

fn ip(arguments: &[&str]) -> Result<String> {
    run("ip", arguments)
}

fn run(program: &str, arguments: &[&str]) -> Result<String> {
    let done = Command::new(program).args(arguments).output().with_context(|| format!("no {program}"))?;
    let said = String::from_utf8_lossy(&done.stderr);
    ensure!(done.status.success(), "{program} {arguments:?}: {said}");
    Ok(String::from_utf8_lossy(&done.stdout).into_owned())
}

/// Sends back what it gets, at one of the peer's addresses.
#[derive(Debug)]
pub struct Echo {
    /// Where.
    pub at: SocketAddr,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Echo {
    /// Starts one.
    ///
    /// # Errors
    /// The address is taken.
    pub fn start(lab: &Lab, at: SocketAddr) -> Result<Self> {
        let socket = udp(lab, Side::Peer, at)?;
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let thread = thread::spawn(move || {
            exactly();
            let mut buffer = [0; 2_048];
            while !stopped.load(Ordering::Relaxed) {
                if let Ok((length, from)) = socket.recv_from(&mut buffer) {
                    // What cannot be sent is lost, as the caller will notice.
                    let _lost = socket.send_to(&buffer[..length], from);
                }
            }
        });
        Ok(Self { at, stop, thread: Some(thread) })
    }
}

impl Drop for Echo {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        let _ended = self.thread.take().map(JoinHandle::join);
    }
}

/// A socket with room for a burst, that waits 50 ms at most.
fn udp(lab: &Lab, side: Side, at: SocketAddr) -> Result<UdpSocket> {
    let socket = lab.inside(side, || UdpSocket::bind(at)).with_context(|| at.to_string())?;
    set_socket_recv_buffer_size_force(&socket, 16 << 20)?;
    socket.set_read_timeout(Some(Duration::from_millis(50)))?;
    Ok(socket)
}

fn target_of(peer: SocketAddr) -> SocketAddr {
    let address: IpAddr = TARGET[usize::from(peer.is_ipv6())].parse().expect("an address");
    SocketAddr::new(address, 0)
}

/// Round trips from the target to an [`Echo`], ms, one every `gap`; `None` for those that did not come back.
///
/// # Errors
/// No socket.
///
/// # Panics
/// When the measuring thread does.
pub fn round_trips(lab: &Lab, to: SocketAddr, count: usize, gap: Duration) -> Result<Vec<Option<f64>>> {
    // A thread of its own, so that the caller stays what it was.
    let measured = thread::scope(|scope| scope.spawn(|| measure(lab, to, count, gap)).join());
    measured.expect("it does not panic")
}

/// What is measured is the fault, not how long this thread waits for a CPU beside other work. Where the kernel refuses,
/// a quiet machine does as well.
fn exactly() {
    let _refused = go_first();
}

fn measure(lab: &Lab, to: SocketAddr, count: usize, gap: Duration) -> Result<Vec<Option<f64>>> {
    exactly();
    let socket = udp(lab, Side::Target, target_of(to))?;
    let sending = socket.try_clone()?;
    let begun = Instant::now();
    let sender = thread::spawn(move || {
        exactly();
        for at in 0..count as u64 {
            let mut message = [0; 64];
            message[..8].copy_from_slice(&at.to_ne_bytes());
            message[8..16].copy_from_slice(&begun.elapsed().as_secs_f64().to_ne_bytes());
            // What is dropped at once never comes back either.
            let _lost = sending.send_to(&message, to);
            thread::sleep(gap);
        }
    });
    let mut trips = vec![None; count];
    let mut buffer = [0; 2_048];
    let mut last = Instant::now();
    // Stragglers have half a second after the last one, or after sending.
    while last.elapsed() < Duration::from_millis(500) && trips.contains(&None) {
        if !sender.is_finished() {
            last = Instant::now();
        }
        if let Ok((64, _)) = socket.recv_from(&mut buffer) {
            last = Instant::now();
            let [at, sent] = [&buffer[..8], &buffer[8..16]].map(|part| part.try_into().expect("8 bytes"));
            let (at, sent) = (u64::from_ne_bytes(at), f64::from_ne_bytes(sent));
            if let Some(trip) = usize::try_from(at).ok().and_then(|at| trips.get_mut(at)) {
                trip.get_or_insert((begun.elapsed().as_secs_f64() - sent) * 1e3);
            }
        }
    }
    let _sent = sender.join();
    Ok(trips)
}

/// The middle one of those that came back, ms.
///
/// # Errors
/// None did.
pub fn p50(trips: &[Option<f64>]) -> Result<f64> {
    percentile(trips, 50)
}

/// The one below which so many percent are, of those that came back, ms.
///
/// # Errors
/// None did.
pub fn percentile(trips: &[Option<f64>], percent: usize) -> Result<f64> {
    let mut back: Vec<_> = trips.iter().flatten().copied().collect();
    back.sort_unstable_by(f64::total_cmp);
    let at = (back.len() * percent / 100).min(back.len().saturating_sub(1));
    back.get(at).copied().context("none came back")
}

/// A datagram that arrived.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Arrival {
    /// Its number, from 0 in the order of sending.
    pub number: u64,
    /// Since sending began, s.
    pub at_s: f64,
    /// Every byte is what was sent.
    pub intact: bool,
}

/// Sends `count` datagrams of `bytes` from the target to the peer, or back, `burst` at once and then a pause of a
/// millisecond; what arrives until half a second after the last.
///
/// # Errors
/// No socket.
pub fn stream(from: Side, lab: &Lab, peer: SocketAddr, shape: (u64, usize, u64)) -> Result<Vec<Arrival>> {
    let (count, bytes, burst) = shape;
    let to_side = if from == Side::Target { Side::Peer } else { Side::Target };
    let (receiver, sender) = match from {
        Side::Target => (udp(lab, to_side, peer)?, udp(lab, from, target_of(peer))?),
        Side::Peer => (udp(lab, to_side, target_of(peer))?, udp(lab, from, peer)?),
    };
    sender.connect(receiver.local_addr()?)?;
    let begun = Instant::now();
    let sending = thread::spawn(move || {
        for number in 0..count {
            let _lost = sender.send(&datagram(number, bytes));
            if (number + 1) % burst == 0 {
                thread::sleep(Duration::from_millis(1));
            }
        }
    });
    let mut arrivals = Vec::new();
    let mut buffer = vec![0; 65_536];
    let mut last = Instant::now();
    while last.elapsed() < Duration::from_millis(700) {
        if !sending.is_finished() {
            last = Instant::now();
        }
        if let Ok((length, _)) = receiver.recv_from(&mut buffer) {
            last = Instant::now();
            let number = u64::from_ne_bytes(buffer[..8].try_into().expect("8 bytes"));
            let intact = buffer[..length] == *datagram(number, bytes);
            arrivals.push(Arrival { number, at_s: begun.elapsed().as_secs_f64(), intact });
        }
    }
    let _sent = sending.join();
    Ok(arrivals)
}

fn datagram(number: u64, bytes: usize) -> Vec<u8> {
    let mut text: Vec<u8> = number.to_ne_bytes().into();
    text.extend((8..bytes).map(|at| (at as u64 ^ number).to_le_bytes()[0]));
    text
}

/// Sends these bytes by TCP from the target to the peer; what arrived, and how long it took.
///
/// # Errors
/// No connection.
pub fn transfer(lab: &Lab, to: SocketAddr, bytes: &[u8]) -> Result<(Vec<u8>, Duration)> {
    let listener = lab.inside(Side::Peer, || TcpListener::bind(to))?;
    let receiving = thread::spawn(move || -> Result<Vec<u8>> {
        let (mut stream, _) = listener.accept()?;
        stream.set_read_timeout(Some(PATIENCE))?;
        let mut got = Vec::new();
        stream.read_to_end(&mut got)?;
        Ok(got)
    });
    let begun = Instant::now();
    let mut stream = lab.inside(Side::Target, || TcpStream::connect_timeout(&to, PATIENCE))?;
    stream.write_all(bytes)?;
    drop(stream);
    let got = receiving.join().map_err(|_| anyhow::anyhow!("the receiver panicked"))??;
    Ok((got, begun.elapsed()))
}

/// The worker of a network anomaly, of the real binary; killed when dropped.
#[derive(Debug)]
pub struct Worker {
    child: Child,
    stdin: Option<ChildStdin>,
    lines: Receiver<Value>,
}

impl Worker {
    /// Starts one for `seconds` and waits until its fault has begun.
    ///
    /// # Errors
    /// With its words when it cannot begin.
    pub fn start(order: &Value, seconds: u64) -> Result<Self> {
        let worker = Self::spawn(order, seconds)?;
        let first = worker.lines.recv_timeout(PATIENCE).context("the worker said nothing")?;
        match first["error"].as_str() {
            Some(error) => bail!("{error}"),
            None => ensure!(first == json!({"joined": true}), "{first}"),
        }
        Ok(worker)
    }

    /// Starts one.
    ///
    /// # Errors
    /// No binary.
    pub fn spawn(order: &Value, seconds: u64) -> Result<Self> {
        Self::spawn_by(Command::new(sextant()), order, seconds)
    }

    /// Starts one without these capabilities (`setpriv`'s list: `-net_admin,-bpf`); its last word.
    ///
    /// # Errors
    /// No binary, no `setpriv`.
    pub fn without(capabilities: &str, order: &Value) -> Result<Value> {
        let mut setpriv = Command::new("setpriv");
        setpriv.args(["--bounding-set", capabilities, "--inh-caps", capabilities]).arg(sextant());
        Self::spawn_by(setpriv, order, 60)?.ended()
    }

    fn spawn_by(mut command: Command, order: &Value, seconds: u64) -> Result<Self> {
        let now = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
        let deadline_ns = (u64::try_from(now.tv_sec)? + seconds) * 1_000_000_000;
        let work = json!({"network": {"order": order, "measure": "lost"}});
        let order = json!({"deadline_ns": deadline_ns, "groups": [], "work": work});
        command.args(["anomaly-worker", "--id", "lab", "--order", &order.to_string()]);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
        let (stdin, stdout) = (child.stdin.take(), child.stdout.take().context("no pipe")?);
        // A line a second: a test that reads none for a quarter of an hour is none of these.
        let (sender, lines) = sync_channel(1_024);
        thread::spawn(move || {
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                let Ok(line) = serde_json::from_str(&line) else { continue };
                if sender.send(line).is_err() {
                    return;
                }
            }
        });
        Ok(Self { child, stdin, lines })
    }

    /// Its process.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Lets go of it, and waits until it ended by itself; its last report.
    ///
    /// # Errors
    /// It fails, or does not end.
    pub fn stop(mut self) -> Result<Value> {
        drop(self.stdin.take());
        let status = self.child.wait()?;
        let last = self.lines.iter().last().context("no report")?;
        ensure!(status.success(), "{status}: {last}");
        Ok(last["details"].clone())
    }

    /// Waits until it ends by itself; its last word.
    ///
    /// # Errors
    /// It says nothing.
    pub fn ended(mut self) -> Result<Value> {
        let last = self.lines.iter().last().context("no report")?;
        self.child.wait()?;
        Ok(last)
    }

    /// SIGKILL, and waits until the process is gone.
    ///
    /// # Errors
    /// It was gone before.
    pub fn kill(mut self) -> Result<()> {
        self.child.kill()?;
        self.child.wait()?;
        Ok(())
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        // Gone before, mostly.
        let _gone = self.child.kill();
        let _gone = self.child.wait();
    }
}
