//! A real MariaDB with data of its own, on loopback, gone when dropped. Debian's server, unpacked by `cargo xtask fetch`.

#![expect(clippy::disallowed_methods, reason = "starts processes, and waits in real time")]

use std::fs::{self, File};
use std::io::Write as _;
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use rustix::process::{Pid, Signal, geteuid, kill_process};

use crate::role::eventually;
use crate::tool::tool;

/// Who may do everything, from loopback.
pub const USER: &str = "sextant";
/// With what a configuration file could stumble over.
pub const PASSWORD: &str = "s3cret #1 \"x\"";

/// The server's own tables, in its package.
const SYSTEM_TABLES: [&str; 3] =
    ["mysql_system_tables.sql", "mysql_performance_tables.sql", "mysql_system_tables_data.sql"];
/// A loaded machine may take its time.
const PATIENCE: Duration = Duration::from_secs(60);

/// A running server.
pub struct MariaDb {
    child: Child,
    dir: tempfile::TempDir,
    /// Where it listens, on 127.0.0.1.
    pub port: u16,
}

impl MariaDb {
    /// Makes its tables, starts it, and waits until it listens.
    ///
    /// # Errors
    /// When it does not, with its log.
    pub fn start() -> Result<Self> {
        let program = tool("SEXTANT_MARIADBD", "mariadbd");
        let dir = tempfile::tempdir()?;
        fs::create_dir(dir.path().join("data"))?;
        bootstrap(&program, &share(&program)?, dir.path())?;
        let user = format!("'{USER}'@'127.0.0.1'");
        fs::write(
            dir.path().join("init.sql"),
            format!(
                "CREATE OR REPLACE USER {user} IDENTIFIED BY '{PASSWORD}';\nGRANT ALL ON *.* TO {user};\n"
            ),
        )?;
        // It cannot take a port of its choice and say which: one that was free a moment ago.
        let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
        let child = launch(&program, dir.path(), port)?;
        Ok(Self { child, dir, port })
    }

    /// Kills it, and starts it on its data and its port again.
    ///
    /// # Errors
    /// When it does not come back, with its log.
    pub fn restart(&mut self) -> Result<()> {
        self.child.kill()?;
        self.child.wait()?;
        self.child = launch(&tool("SEXTANT_MARIADBD", "mariadbd"), self.dir.path(), self.port)?;
        Ok(())
    }
}

fn launch(program: &Path, dir: &Path, port: u16) -> Result<Child> {
    let log = dir.join("log");
    let mut command = server(program, &share(program)?, dir);
    command.arg(format!("--port={port}")).arg("--bind-address=127.0.0.1");
    command.arg(format!("--socket={}", dir.join("socket").display()));
    command.arg(format!("--init-file={}", dir.join("init.sql").display()));
    // Small, and as fast as a test wants it: nothing here has to survive the machine.
    command.args(["--innodb-buffer-pool-size=32M", "--innodb-flush-log-at-trx-commit=0", "--skip-log-bin"]);
    command.arg("--performance-schema=ON");
    let mut child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(File::create(&log)?).spawn()?;
    let listens = eventually(PATIENCE, "mariadbd listens", || {
        let said = || fs::read_to_string(&log).unwrap_or_default();
        if let Some(status) = child.try_wait()? {
            bail!("mariadbd ended: {status}\n{}", said());
        }
        // It listens a moment before it has made the user.
        ensure!(said().contains("ready for connections"), "{}", said());
        Ok(TcpStream::connect(("127.0.0.1", port))?)
    });
    if listens.is_err() {
        let _ = child.kill();
        let _ = child.wait();
    }
    listens.map(|_| child)
}

impl Drop for MariaDb {
    fn drop(&mut self) {
        let _ = kill_process(Pid::from_child(&self.child), Signal::KILL);
        let _ = self.child.wait();
    }
}

/// The messages and tables of the server's package: beside its program, or where it is installed.
fn share(program: &Path) -> Result<PathBuf> {
    let unpacked = program.ancestors().nth(2).map(|home| home.join("usr/share/mysql"));
    let places = unpacked.into_iter().chain(["/usr/share/mysql".into(), "/usr/share/mariadb".into()]);
    let found = places.into_iter().find(|place: &PathBuf| place.join(SYSTEM_TABLES[0]).is_file());
    found.with_context(|| format!("the tables of {} are nowhere", program.display()))
}

fn server(program: &Path, share: &Path, dir: &Path) -> Command {
    let mut command = Command::new(program);
    command.arg("--no-defaults").arg(format!("--datadir={}", dir.join("data").display()));
    command.arg(format!("--lc-messages-dir={}", share.display()));
    command.arg(format!("--character-sets-dir={}", share.join("charsets").display()));
    command.arg(format!("--plugin-dir={}", dir.display()));
    if geteuid().is_root() {
        command.arg("--user=root");
    }
    command.stdout(Stdio::null());
    command
}

/// One statement a line, as the server in this mode takes them.
fn bootstrap(program: &Path, share: &Path, dir: &Path) -> Result<()> {
    let mut text = "CREATE DATABASE mysql;\nUSE mysql;\nSET @auth_root_socket=NULL;\n\
                    SET @skip_auth_anonymous=1;\n"
        .to_owned();
    for file in SYSTEM_TABLES {
        text += &fs::read_to_string(share.join(file))?;
    }
    let log = dir.join("bootstrap.log");
    let mut command = server(program, share, dir);
    let mut child = command.arg("--bootstrap").stdin(Stdio::piped()).stderr(File::create(&log)?).spawn()?;
    let told = child.stdin.take().context("no pipe")?.write_all(text.as_bytes());
    let status = child.wait()?;
    ensure!(
        status.success() && told.is_ok(),
        "mariadbd --bootstrap: {status}, {told:?}\n{}",
        fs::read_to_string(&log)?
    );
    Ok(())
}
