//! A proxy on loopback that does to HTTP/1.1 requests what networks and middle boxes do: loses, cuts, doubles, holds,
//! lies. Which, its owner says for each request.
//!
//! Messages are read whole (their length by `Content-Length`, chunks, or the end of the connection), and their bytes are
//! passed on as they came. One thread serves a connection, one request after another; one behind another takes its turn.

#![expect(clippy::disallowed_methods, reason = "a network holds in real time what it holds")]

mod message;

use std::collections::BTreeMap;
use std::io::{self, Read as _, Write as _};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use anyhow::Result;
use rustix::net::sockopt::set_socket_linger;

use self::message::Message;

/// What is done to one request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Nothing: it goes there, the answer comes back.
    None,
    /// So long on the way there, and so long on the way back.
    Delay(Duration),
    /// It arrives nowhere, and nobody says so.
    Stall,
    /// It arrives nowhere, and the connection is reset.
    Reset,
    /// It arrives; the connection is reset before the answer.
    ResetBeforeAnswer,
    /// It arrives; the connection is reset behind the answer's headers.
    ResetBehindHeaders,
    /// Half of its body arrives, then both connections are closed.
    CutRequest,
    /// It arrives; of the answer's body half comes back, and an end of the connection.
    CutAnswer,
    /// Half of its body arrives, and the word that no more will come; whatever is answered comes back.
    HalfClose,
    /// It arrives twice; the second answer comes back.
    Twice,
    /// The connection is reset, and it arrives so much later, behind others.
    Late(Duration),
    /// It arrives nowhere; this is answered as it stands: [`answer`] makes one.
    Answer(Vec<u8>),
}

impl Fault {
    /// Its name in [`Proxy::done`].
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Delay(_) => "delay",
            Self::Stall => "stall",
            Self::Reset => "reset",
            Self::ResetBeforeAnswer => "reset_before_answer",
            Self::ResetBehindHeaders => "reset_behind_headers",
            Self::CutRequest => "cut_request",
            Self::CutAnswer => "cut_answer",
            Self::HalfClose => "half_close",
            Self::Twice => "twice",
            Self::Late(_) => "late",
            Self::Answer(_) => "answer",
        }
    }
}

/// What the owner is asked about.
#[derive(Clone, Debug)]
pub struct Request {
    /// The first through this proxy is 0.
    pub number: u64,
    /// `POST /path HTTP/1.1`
    pub line: String,
    /// As it came: it may be packed, or in chunks.
    pub body: Vec<u8>,
}

/// A whole answer in JSON.
#[must_use]
pub fn answer(status: &str, body: &str) -> Vec<u8> {
    let length = body.len();
    format!("HTTP/1.1 {status}\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n\r\n{body}")
        .into()
}

/// A running proxy; its connections end with it.
pub struct Proxy {
    address: String,
    shared: Arc<Shared>,
}

type Choose = Box<dyn FnMut(&Request) -> Fault + Send>;

struct Shared {
    upstream: String,
    choose: Mutex<Choose>,
    number: AtomicU64,
    done: Mutex<BTreeMap<&'static str, u64>>,
    /// Everything open, to be shut at the end.
    open: Mutex<BTreeMap<u64, TcpStream>>,
    next_open: AtomicU64,
    ended: AtomicBool,
}

impl Proxy {
    /// A proxy before `upstream` (`HOST:PORT`) that asks `choose` what to do to each request.
    ///
    /// # Errors
    /// When no port can be had.
    pub fn start(upstream: &str, choose: impl FnMut(&Request) -> Fault + Send + 'static) -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let address = listener.local_addr()?.to_string();
        let shared = Arc::new(Shared {
            upstream: upstream.to_owned(),
            choose: Mutex::new(Box::new(choose)),
            number: AtomicU64::new(0),
            done: Mutex::default(),
            open: Mutex::default(),
            next_open: AtomicU64::new(0),
            ended: AtomicBool::new(false),
        });
        let served = Arc::clone(&shared);
        thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                if served.ended.load(Ordering::Relaxed) {
                    return;
                }
                let shared = Arc::clone(&served);
                // A broken connection is what it is for.
                thread::spawn(move || _ = shared.serve(client));
            }
        });
        Ok(Self { address, shared })
    }

    /// `HOST:PORT`.
    #[must_use]
    pub fn address(&self) -> &str {
        &self.address
    }

    /// `http://HOST:PORT`.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// How often each fault was begun, by its name.
    #[must_use]
    pub fn done(&self) -> BTreeMap<&'static str, u64> {
        lock(&self.shared.done).clone()
    }

    /// From now on it asks this.
    pub fn choose(&self, choose: impl FnMut(&Request) -> Fault + Send + 'static) {
        *lock(&self.shared.choose) = Box::new(choose);
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.shared.ended.store(true, Ordering::Relaxed);
        // Wakes the listener.
        let _ = TcpStream::connect(&self.address);
        for stream in lock(&self.shared.open).values() {
            let _ = stream.shutdown(Shutdown::Both);
        }
    }
}

impl Shared {
    /// One client's connection, until either side or a fault ends it.
    fn serve(&self, client: TcpStream) -> io::Result<()> {
        let mut client = self.hold(client)?;
        let mut server = None;
        while let Some(request) = message::read(&mut client.stream, false)? {
            let asked = Request {
                number: self.number.fetch_add(1, Ordering::Relaxed),
                line: request.line(),
                body: request.body().to_vec(),
            };
            let fault = (lock(&self.choose))(&asked);
            *lock(&self.done).entry(fault.name()).or_default() += 1;
            let server = match &mut server {
                Some(server) => server,
                none => none.insert(self.connect()?),
            };
            if !act(&fault, &request, &mut client.stream, &mut server.stream)? {
                return Ok(());
            }
        }
        Ok(())
    }

    fn connect(&self) -> io::Result<Held<'_>> {
        self.hold(TcpStream::connect(&self.upstream)?)
    }

    fn hold(&self, stream: TcpStream) -> io::Result<Held<'_>> {
        stream.set_nodelay(true)?;
        let id = self.next_open.fetch_add(1, Ordering::Relaxed);
        lock(&self.open).insert(id, stream.try_clone()?);
        Ok(Held { stream, id, shared: self })
    }
}

/// A connection that ends with the proxy at the latest.
struct Held<'a> {
    stream: TcpStream,
    id: u64,
    shared: &'a Shared,
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        // The copy would hold it open.
        lock(&self.shared.open).remove(&self.id);
    }
}

/// Does it; false when the connection has ended.
fn act(fault: &Fault, request: &Message, client: &mut TcpStream, server: &mut TcpStream) -> io::Result<bool> {
    match fault {
        Fault::None => client.write_all(&ask(server, request)?.bytes)?,
        Fault::Delay(time) => {
            thread::sleep(*time);
            let answer = ask(server, request)?;
            thread::sleep(*time);
            client.write_all(&answer.bytes)?;
        }
        Fault::Answer(answer) => client.write_all(answer)?,
        Fault::Twice => {
            ask(server, request)?;
            client.write_all(&ask(server, request)?.bytes)?;
        }
        Fault::Stall => {
            // Until the client has enough of it.
            while client.read(&mut [0; 1_024])? > 0 {}
            return Ok(false);
        }
        Fault::Reset => return reset(client),
        Fault::ResetBeforeAnswer => {
            ask(server, request)?;
            return reset(client);
        }
        Fault::ResetBehindHeaders => {
            let answer = ask(server, request)?;
            client.write_all(answer.head())?;
            // What lies unread at the other side is lost with a reset: give it time to be read.
            thread::sleep(Duration::from_millis(20));
            return reset(client);
        }
        Fault::CutRequest => {
            server.write_all(request.half())?;
            return Ok(false);
        }
        Fault::CutAnswer => {
            client.write_all(ask(server, request)?.half())?;
            return Ok(false);
        }
        Fault::HalfClose => {
            server.write_all(request.half())?;
            server.shutdown(Shutdown::Write)?;
            io::copy(server, client)?;
            return Ok(false);
        }
        Fault::Late(time) => {
            let (mut server, request, time) = (server.try_clone()?, request.clone(), *time);
            thread::spawn(move || {
                thread::sleep(time);
                // Nobody is left who could be told.
                ask(&mut server, &request).map(drop)
            });
            return reset(client);
        }
    }
    Ok(true)
}

/// Passes a request on and waits for the answer.
fn ask(server: &mut TcpStream, request: &Message) -> io::Result<Message> {
    server.write_all(&request.bytes)?;
    message::read(server, true)?.ok_or_else(|| io::ErrorKind::UnexpectedEof.into())
}

/// Has it closed with RST.
fn reset(client: &TcpStream) -> io::Result<bool> {
    set_socket_linger(client, Some(Duration::ZERO))?;
    Ok(false)
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A server that counts whole requests and answers each with its body twice over.
    fn server(requests: Arc<AtomicU64>) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        thread::spawn(move || {
            for mut client in listener.incoming().map_while(Result::ok) {
                let requests = Arc::clone(&requests);
                thread::spawn(move || {
                    while let Ok(Some(request)) = message::read(&mut client, false) {
                        requests.fetch_add(1, Ordering::Relaxed);
                        let body = String::from_utf8(request.body().repeat(2)).unwrap();
                        client.write_all(&answer("200 OK", &body)).unwrap();
                    }
                    let _ = client.write_all(&answer("400 Bad Request", ""));
                });
            }
        });
        address
    }

    /// What a client sees of one request: the status and the body, or how it ended.
    fn ask(address: &str) -> io::Result<String> {
        let mut client = TcpStream::connect(address)?;
        client.set_read_timeout(Some(Duration::from_millis(500)))?;
        client.write_all(b"POST / HTTP/1.1\r\ncontent-length: 4\r\n\r\nping")?;
        let answer = message::read(&mut client, true)?.ok_or(io::ErrorKind::UnexpectedEof)?;
        Ok(format!("{} {}", answer.line(), String::from_utf8_lossy(answer.body())))
    }

    #[test]
    fn each_fault_is_seen_on_both_sides() {
        use io::ErrorKind::{ConnectionReset, UnexpectedEof, WouldBlock};
        let good = || Ok("HTTP/1.1 200 OK pingping".to_owned());
        let late = Fault::Late(Duration::from_millis(100));
        let cases: [(Fault, Result<String, io::ErrorKind>, u64); 12] = [
            (Fault::None, good(), 1),
            (Fault::Delay(Duration::from_millis(30)), good(), 1),
            (Fault::Twice, good(), 2),
            (Fault::Stall, Err(WouldBlock), 0),
            (Fault::Reset, Err(ConnectionReset), 0),
            (Fault::ResetBeforeAnswer, Err(ConnectionReset), 1),
            (Fault::ResetBehindHeaders, Err(ConnectionReset), 1),
            (Fault::CutRequest, Err(UnexpectedEof), 0),
            (Fault::CutAnswer, Err(UnexpectedEof), 1),
            (Fault::HalfClose, Ok("HTTP/1.1 400 Bad Request ".to_owned()), 0),
            (late, Err(ConnectionReset), 1),
            (Fault::Answer(answer("418 Teapot", "no")), Ok("HTTP/1.1 418 Teapot no".to_owned()), 0),
        ];
        for (fault, seen, arrived) in cases {
            let requests = Arc::new(AtomicU64::new(0));
            let (name, copy) = (fault.name(), fault.clone());
            let proxy = Proxy::start(&server(Arc::clone(&requests)), move |_| copy.clone()).unwrap();
            let got = ask(proxy.address()).map_err(|error| error.kind());
            assert_eq!(got, seen, "{fault:?}");
            // What comes late, or is not to come at all, has its time.
            thread::sleep(Duration::from_millis(200));
            assert_eq!(requests.load(Ordering::Relaxed), arrived, "{fault:?}");
            assert_eq!(proxy.done(), [(name, 1)].into());
        }
    }
}
