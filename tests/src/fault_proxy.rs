//! A proxy on loopback that spoils HTTP/1.1 answers: cut, reset, held back, or carried by a connection that all share.

#![expect(clippy::disallowed_methods, reason = "holds answers back in real time")]

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result, ensure};

/// Longer than a scrape's timeout in the tests.
const STALL: Duration = Duration::from_millis(1_300);

/// A server that is stopped holds its connections: their threads end with the test.
const PATIENCE: Duration = Duration::from_secs(60);

/// What becomes of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The connection is reset before a byte of it.
    ResetBefore,
    /// Its head comes, then a reset.
    ResetAfterHead,
    /// Half of its body comes, then the end.
    CutBody,
    /// It comes after the scraper's patience, as far as somebody reads.
    Stall,
    /// It comes, and then the end of the connection.
    CloseAfter,
}

/// How often and how.
#[derive(Clone, Debug, Default)]
pub struct Plan {
    /// Of a hundred answers.
    pub percent: u64,
    /// In turn.
    pub faults: Vec<Fault>,
    /// All clients' requests go over one connection to the server, which is told so (`Via`).
    pub is_pool: bool,
}

/// See the module; ends with the value.
pub struct FaultProxy {
    /// `127.0.0.1:PORT`.
    pub address: String,
    shared: Arc<Shared>,
}

struct Shared {
    upstream: String,
    plan: Mutex<Plan>,
    count: AtomicU64,
    spoiled: AtomicU64,
    pool: Mutex<Option<TcpStream>>,
    ended: AtomicBool,
}

impl FaultProxy {
    /// Before a server at this address.
    ///
    /// # Errors
    /// No port.
    pub fn start(upstream: &str, plan: Plan) -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let address = listener.local_addr()?.to_string();
        let shared = Arc::new(Shared {
            upstream: upstream.to_owned(),
            plan: Mutex::new(plan),
            count: AtomicU64::new(0),
            spoiled: AtomicU64::new(0),
            pool: Mutex::new(None),
            ended: AtomicBool::new(false),
        });
        let accepting = Arc::clone(&shared);
        std::thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                if accepting.ended.load(Ordering::Relaxed) {
                    return;
                }
                let shared = Arc::clone(&accepting);
                // A connection that breaks is what this is about.
                std::thread::spawn(move || drop(shared.serve(client)));
            }
        });
        Ok(Self { address, shared })
    }

    /// No more faults.
    pub fn heal(&self) {
        self.shared.plan().percent = 0;
    }

    /// Answers that were spoiled.
    pub fn spoiled(&self) -> u64 {
        self.shared.spoiled.load(Ordering::Relaxed)
    }
}

impl Drop for FaultProxy {
    fn drop(&mut self) {
        self.shared.ended.store(true, Ordering::Relaxed);
        // Wakes the thread that accepts.
        let _ = TcpStream::connect(&self.address);
    }
}

impl Shared {
    fn plan(&self) -> std::sync::MutexGuard<'_, Plan> {
        self.plan.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn serve(&self, mut client: TcpStream) -> Result<()> {
        client.set_read_timeout(Some(PATIENCE))?;
        let mut own = None;
        while let Some(mut request) = read_message(&mut client)? {
            let is_pool = self.plan().is_pool;
            let answer = if is_pool {
                let mut pool = self.pool.lock().unwrap_or_else(PoisonError::into_inner);
                let at = request.windows(2).position(|two| two == b"\r\n").context("no head")? + 2;
                request.splice(at..at, b"Via: 1.1 pool\r\n".iter().copied());
                self.exchange(&mut pool, &request)
            } else {
                self.exchange(&mut own, &request)
            };
            let answer = answer.inspect_err(|_| _ = client.shutdown(Shutdown::Both))?;
            match self.fault() {
                None => client.write_all(&answer)?,
                Some(fault) => return spoil(client, &answer, fault),
            }
        }
        Ok(())
    }

    fn exchange(&self, server: &mut Option<TcpStream>, request: &[u8]) -> Result<Vec<u8>> {
        let connected = match server.take() {
            Some(connected) => connected,
            None => TcpStream::connect(&self.upstream)?,
        };
        let mut connected = connected;
        connected.set_read_timeout(Some(PATIENCE))?;
        connected.write_all(request)?;
        let answer = read_message(&mut connected)?.context("no answer")?;
        *server = Some(connected);
        Ok(answer)
    }

    /// By chance that a run repeats: the answer's number, mixed.
    fn fault(&self) -> Option<Fault> {
        let plan = self.plan();
        let number = self.count.fetch_add(1, Ordering::Relaxed).wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (number ^ (number >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        if plan.faults.is_empty() || (mixed >> 33) % 100 >= plan.percent {
            return None;
        }
        let turn = self.spoiled.fetch_add(1, Ordering::Relaxed);
        plan.faults.get(usize::try_from(turn).ok()? % plan.faults.len()).copied()
    }
}

fn spoil(mut client: TcpStream, answer: &[u8], fault: Fault) -> Result<()> {
    let head = head_length(answer).unwrap_or(answer.len());
    match fault {
        Fault::ResetBefore => reset(&client)?,
        Fault::ResetAfterHead => {
            client.write_all(&answer[..head])?;
            reset(&client)?;
        }
        Fault::CutBody => client.write_all(&answer[..head + (answer.len() - head) / 2])?,
        Fault::Stall => {
            std::thread::sleep(STALL);
            client.write_all(answer)?;
        }
        Fault::CloseAfter => client.write_all(answer)?,
    }
    Ok(())
}

/// The next close is a reset.
fn reset(stream: &TcpStream) -> Result<()> {
    Ok(rustix::net::sockopt::set_socket_linger(stream, Some(Duration::ZERO))?)
}

/// A head and as many bytes as its `Content-Length` says; none where the connection ends before one begins.
///
/// # Errors
/// When it breaks off, or is larger than anything here.
pub fn read_message(stream: &mut TcpStream) -> Result<Option<Vec<u8>>> {
    let (mut message, mut chunk) = (Vec::new(), [0; 64 << 10]);
    loop {
        if let Some(head) = head_length(&message) {
            let text = String::from_utf8_lossy(&message[..head]).to_ascii_lowercase();
            let length = text.lines().find_map(|line| line.strip_prefix("content-length:"));
            let length: usize = length.map_or(Ok(0), |length| length.trim().parse())?;
            if message.len() >= head + length {
                return Ok(Some(message));
            }
        }
        let read = stream.read(&mut chunk)?;
        if read == 0 && message.is_empty() {
            return Ok(None);
        }
        ensure!(read > 0 && message.len() < 256 << 20, "it breaks off");
        message.extend_from_slice(&chunk[..read]);
    }
}

/// With the empty line at its end.
pub fn head_length(message: &[u8]) -> Option<usize> {
    message.windows(4).position(|four| four == b"\r\n\r\n").map(|at| at + 4)
}
