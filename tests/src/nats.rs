//! Real NATS servers with JetStream, on loopback, with data of their own, gone when dropped. `cargo xtask fetch` brings
//! the program.

#![expect(clippy::disallowed_methods, reason = "starts processes, and waits in real time")]

use std::fs::{self, File};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use rustix::process::{Pid, Signal, kill_process};

use crate::role::eventually;
use crate::tool::tool;

/// A loaded machine may take its time, and three servers elect a leader.
const PATIENCE: Duration = Duration::from_secs(60);

/// A password with what a configuration file could stumble over.
pub const PASSWORD: &str = "s3cret #1 'x'";

/// How servers are to be.
#[derive(Clone, Debug)]
pub struct Servers {
    /// One, or more that are a cluster.
    pub count: usize,
    /// `always`, or a time such as `2m`.
    pub sync_interval: &'static str,
    /// Whoever connects names `sextant` and [`PASSWORD`].
    pub password: bool,
    /// The name by which leaves know their JetStream; empty is none.
    pub domain: &'static str,
    /// More lines of each server's configuration.
    pub more: String,
    /// Clients speak TLS, as those lines say.
    pub tls: bool,
}

impl Default for Servers {
    fn default() -> Self {
        Self {
            count: 1,
            sync_interval: "always",
            password: false,
            domain: "",
            more: String::new(),
            tls: false,
        }
    }
}

/// Running servers.
pub struct Nats {
    /// One process each; none where it was killed.
    servers: Vec<Option<Child>>,
    ports: Vec<Ports>,
    scheme: &'static str,
    dir: tempfile::TempDir,
}

/// A server without records of its own, between clients and the one that it leads to; gone when dropped.
pub struct Leaf {
    server: Child,
    /// Where clients connect.
    pub url: String,
    _dir: tempfile::TempDir,
}

impl Leaf {
    /// Starts a leaf of the server whose `leafnodes` listen on this port of loopback.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn start(hub: u16) -> Result<Self> {
        let dir = tempfile::tempdir()?;
        let port = free_port()?;
        let remote = format!("remotes: [ {{ url: \"nats-leaf://127.0.0.1:{hub}\" }} ]");
        let text = format!("server_name: leaf\nlisten: \"127.0.0.1:{port}\"\nleafnodes {{ {remote} }}\n");
        fs::write(dir.path().join("n0.conf"), text)?;
        let server = launch(dir.path(), 0)?;
        let url = format!("nats://127.0.0.1:{port}");
        eventually(PATIENCE, "the leaf listens", || Ok(TcpStream::connect(("127.0.0.1", port)).map(drop)?))?;
        Ok(Self { server, url, _dir: dir })
    }
}

impl Drop for Leaf {
    fn drop(&mut self) {
        let _ = self.server.kill();
        let _ = self.server.wait();
    }
}

/// A port that was free a moment ago.
///
/// # Errors
/// When there is none.
pub fn free_port() -> Result<u16> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?.port())
}

#[derive(Clone, Copy, Debug)]
struct Ports {
    client: u16,
    monitor: u16,
    cluster: u16,
}

impl Nats {
    /// Starts servers, and waits until they keep records.
    ///
    /// # Errors
    /// When they do not, with their logs.
    pub fn start(how: &Servers) -> Result<Self> {
        let dir = tempfile::tempdir()?;
        // They cannot take ports of their choice and say which: some that were free a moment ago, all at once.
        let held: Vec<TcpListener> =
            (0..how.count * 3).map(|_| TcpListener::bind("127.0.0.1:0")).collect::<Result<_, _>>()?;
        let port = |at: usize| anyhow::Ok(held[at].local_addr()?.port());
        let ports: Vec<Ports> = (0..how.count)
            .map(|n| Ok(Ports { client: port(n * 3)?, monitor: port(n * 3 + 1)?, cluster: port(n * 3 + 2)? }))
            .collect::<Result<_>>()?;
        drop(held);
        let routes: Vec<String> =
            ports.iter().map(|ports| format!("\"nats://127.0.0.1:{}\"", ports.cluster)).collect();
        for (n, ports) in ports.iter().enumerate() {
            let Ports { client, monitor, cluster } = ports;
            let domain =
                if how.domain.is_empty() { String::new() } else { format!(", domain: {}", how.domain) };
            let mut text = format!(
                "server_name: n{n}\nlisten: \"127.0.0.1:{client}\"\nhttp: \"127.0.0.1:{monitor}\"\nmax_payload: 2MB\n\
                 jetstream {{ store_dir: \"{}\", sync_interval: {}, max_file_store: 64GB, max_mem: 64MB{domain} }}\n",
                dir.path().join(format!("data{n}")).display(),
                how.sync_interval,
            );
            if how.password {
                text += &format!("authorization {{ user: sextant, password: \"{PASSWORD}\" }}\n");
            }
            if how.count > 1 {
                text += &format!(
                    "cluster {{ name: test, listen: \"127.0.0.1:{cluster}\", routes: [{}] }}\n",
                    routes.join(", ")
                );
            }
            text += &how.more;
            fs::write(dir.path().join(format!("n{n}.conf")), text)?;
        }
        let scheme = if how.tls { "tls" } else { "nats" };
        let mut this = Self { servers: (0..how.count).map(|_| None).collect(), ports, scheme, dir };
        for n in 0..how.count {
            this.servers[n] = Some(launch(this.dir.path(), n)?);
        }
        eventually(PATIENCE, "the servers keep records", || this.is_ready(how.count))?;
        Ok(this)
    }

    /// Every server knows the leader of all, which knows every server.
    fn is_ready(&mut self, count: usize) -> Result<()> {
        for n in 0..count {
            if let Some(status) = self.servers[n].as_mut().map(Child::try_wait).transpose()?.flatten() {
                bail!("nats-server {n} ended: {status}\n{}", self.log(n));
            }
            let jsz = self.monitor(n, "jsz")?;
            if count == 1 {
                ensure!(jsz["config"].is_object(), "no JetStream yet: {jsz}");
                continue;
            }
            let meta = &jsz["meta_cluster"];
            let size = meta["cluster_size"].as_u64().and_then(|size| usize::try_from(size).ok());
            ensure!(
                meta["leader"].is_string() && size == Some(count),
                "no leader yet: {meta}\n{}",
                self.log(n)
            );
            if meta["leader"] == format!("n{n}") {
                let replicas = meta["replicas"].as_array().context("no replicas")?;
                let current = replicas.iter().filter(|replica| replica["current"] == true).count();
                ensure!(current + 1 == count, "the leader knows {current} others: {meta}");
            }
        }
        Ok(())
    }

    /// What a server's monitor says.
    ///
    /// # Errors
    /// When it says nothing.
    pub fn monitor(&self, server: usize, page: &str) -> Result<serde_json::Value> {
        let url = format!("http://127.0.0.1:{}/{page}", self.ports[server].monitor);
        let output = Command::new("curl").args(["-s", "--fail", "--max-time", "5", &url]).output()?;
        ensure!(output.status.success(), "{url}: {}", output.status);
        Ok(serde_json::from_slice(&output.stdout)?)
    }

    /// The server that leads this stream.
    ///
    /// # Errors
    /// When none does.
    pub fn leader_of(&self, stream: &str) -> Result<usize> {
        for n in (0..self.servers.len()).filter(|n| self.servers[*n].is_some()) {
            let jsz = self.monitor(n, "jsz?streams=true")?;
            let accounts = jsz["account_details"].as_array().context("no accounts")?;
            let mut streams =
                accounts.iter().flat_map(|account| account["stream_detail"].as_array()).flatten();
            let leader =
                streams.find(|one| one["name"] == stream).map(|one| one["cluster"]["leader"].clone());
            let leader = leader.and_then(|leader| leader.as_str()?.strip_prefix('n')?.parse().ok());
            if let Some(leader) = leader {
                return Ok(leader);
            }
        }
        bail!("nobody leads {stream}")
    }

    /// SIGKILL: no last words, no sync.
    ///
    /// # Errors
    /// When it is not there.
    pub fn kill(&mut self, server: usize) -> Result<()> {
        let mut child = self.servers[server].take().context("it is killed already")?;
        child.kill()?;
        child.wait()?;
        Ok(())
    }

    /// Starts a server that was killed, on its data and its ports.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn revive(&mut self, server: usize) -> Result<()> {
        self.servers[server] = Some(launch(self.dir.path(), server)?);
        let count = self.servers.len();
        eventually(PATIENCE, "the servers keep records again", || self.is_ready(count))
    }

    /// Stops the process of a server, or lets it run on: it is there and says nothing.
    ///
    /// # Errors
    /// When it is not there.
    pub fn freeze(&self, server: usize, frozen: bool) -> Result<()> {
        let child = self.servers[server].as_ref().context("it is killed")?;
        Ok(kill_process(Pid::from_child(child), if frozen { Signal::STOP } else { Signal::CONT })?)
    }

    /// Where clients connect: `nats://127.0.0.1:41234`, one each, or `tls://`.
    pub fn urls(&self) -> Vec<String> {
        self.ports.iter().map(|ports| format!("{}://127.0.0.1:{}", self.scheme, ports.client)).collect()
    }

    /// Where they tell of themselves.
    pub fn monitors(&self) -> Vec<String> {
        self.ports.iter().map(|ports| format!("http://127.0.0.1:{}", ports.monitor)).collect()
    }

    fn log(&self, server: usize) -> String {
        fs::read_to_string(self.dir.path().join(format!("n{server}.log"))).unwrap_or_default()
    }
}

fn launch(dir: &Path, n: usize) -> Result<Child> {
    let log = File::options().create(true).append(true).open(dir.join(format!("n{n}.log")))?;
    let program = tool("SEXTANT_NATS_SERVER", "nats-server");
    let mut command = Command::new(&program);
    command
        .arg("-c")
        .arg(dir.join(format!("n{n}.conf")))
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(log);
    command.spawn().with_context(|| format!("cannot start {}", program.display()))
}

impl Drop for Nats {
    fn drop(&mut self) {
        for child in self.servers.iter_mut().flatten() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}
