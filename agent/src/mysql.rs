//! The way to a database that speaks MySQL's protocol: MariaDB, MySQL, OceanBase, seekdb.
//!
//! `[database]` of the configuration and the reference's `OB_*` variables say where it is. A password is never part of
//! what is printed: it comes from a file or from `OB_PASSWORD`, is held as a [`Secret`], and is in no log and no dump.
//! Queries go as text, which proxies and every flavour take. Without TLS: the way to the database is a private one.

use std::path::PathBuf;
use std::time::Duration;

use mysql_async::prelude::{FromRow, Queryable as _};
use mysql_async::{Conn, OptsBuilder, Value};
use serde::{Deserialize, Serialize};

mod secret;

pub use secret::Secret;

/// The reference's port.
const PORT: u16 = 2_881;
/// A database that does not greet by then is as good as none.
const CONNECT: Duration = Duration::from_secs(5);
/// Our own queries read counters and names; one that takes longer waits for a lock.
const QUERY: Duration = Duration::from_secs(10);
/// Larger password files hold something else.
const PASSWORD_FILE_MAX_BYTES: usize = 4 << 10;
/// What access was denied for: wrong name, password or right.
const DENIED: [u16; 4] = [1_044, 1_045, 1_142, 1_227];
const UNKNOWN_DATABASE: u16 = 1_049;

/// `[database]`
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Host name or address; empty: there is no database. `OB_HOST` beats it.
    pub host: String,
    /// `OB_PORT` beats it.
    pub port: u16,
    /// `OB_USER` beats it; OceanBase's have the tenant in them, such as `root@sys`.
    pub user: String,
    /// A file of one line, read at each connection; empty: no password. `OB_PASSWORD` beats it.
    pub password_file: PathBuf,
    /// `OB_PASSWORD`.
    #[serde(skip)]
    pub password: Option<Secret>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            host: String::new(),
            port: PORT,
            user: "root".to_owned(),
            password_file: PathBuf::new(),
            password: None,
        }
    }
}

/// Why a database does not answer.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// None is configured.
    #[error(
        "no database is configured: set host, user and password_file in [database], or OB_HOST, OB_PORT, OB_USER and \
         OB_PASSWORD"
    )]
    None,
    /// The password's file.
    #[error("[database] password_file {path}: {why}")]
    Password {
        /// The file.
        path: String,
        /// What is wrong with it.
        why: String,
    },
    /// Nobody answers there.
    #[error("no connection to the database at {address}: {why}")]
    Unreachable {
        /// `HOST:PORT`.
        address: String,
        /// Why.
        why: String,
    },
    /// It knows this user or password not, or may not allow what is asked.
    #[error("the database denies access: {0}")]
    Denied(String),
    /// There is no such database on the server.
    #[error("{0}")]
    UnknownDatabase(String),
    /// It refused a query.
    #[error("the database refuses: {text} (error {code})")]
    Refused {
        /// The server's number.
        code: u16,
        /// Its words.
        text: String,
    },
}

/// Where a database is and who asks, complete.
#[derive(Clone, Debug)]
pub struct Login {
    /// Host name or address; never `localhost`, which some clients take for a socket file.
    pub host: String,
    /// Port.
    pub port: u16,
    /// User.
    pub user: String,
    /// Password; may be empty.
    pub password: Secret,
}

impl Config {
    /// A database is configured.
    pub const fn is_set(&self) -> bool {
        !self.host.is_empty()
    }

    /// What a connection needs; reads the password's file.
    ///
    /// # Errors
    /// [`Error::None`], [`Error::Password`].
    pub fn login(&self) -> Result<Login, Error> {
        if !self.is_set() {
            return Err(Error::None);
        }
        let host = if self.host == "localhost" { "127.0.0.1" } else { &self.host };
        let password = match &self.password {
            Some(password) => password.clone(),
            None if self.password_file.as_os_str().is_empty() => Secret::default(),
            None => self.read_password()?,
        };
        Ok(Login { host: host.to_owned(), port: self.port, user: self.user.clone(), password })
    }

    fn read_password(&self) -> Result<Secret, Error> {
        let path = &self.password_file;
        let fail = |why: String| Error::Password { path: path.display().to_string(), why };
        let text = std::fs::read_to_string(path).map_err(|error| fail(error.to_string()))?;
        if text.len() > PASSWORD_FILE_MAX_BYTES {
            return Err(fail(format!("longer than {PASSWORD_FILE_MAX_BYTES} bytes")));
        }
        Ok(Secret::new(text.trim_end_matches(['\r', '\n']).to_owned()))
    }
}

/// An answer as text: kinds of columns differ from server to server, their words do not.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Table {
    /// Names of the columns; none where there are no rows.
    pub columns: Vec<String>,
    /// Rows; null is none.
    pub rows: Vec<Vec<Option<String>>>,
}

impl Table {
    /// A cell as a finite number.
    pub fn number(&self, row: usize, column: usize) -> Option<f64> {
        let text = self.rows.get(row)?.get(column)?.as_deref()?;
        text.parse().ok().filter(|number: &f64| number.is_finite())
    }
}

/// An open connection.
pub struct Connection {
    conn: Conn,
    address: String,
    asked: u32,
}

impl Login {
    /// `HOST:PORT`.
    pub fn address(&self) -> String {
        if self.host.contains(':') {
            format!("[{}]:{}", self.host, self.port)
        } else {
            format!("{}:{}", self.host, self.port)
        }
    }

    /// Connects to the server, or to one of its databases.
    ///
    /// # Errors
    /// Why not.
    pub async fn connect(&self, database: Option<&str>) -> Result<Connection, Error> {
        let address = self.address();
        let opts = OptsBuilder::default()
            .ip_or_hostname(self.host.clone())
            .tcp_port(self.port)
            .user(Some(self.user.clone()))
            .pass(Some(self.password.reveal().to_owned()))
            .db_name(database)
            // A socket file that the server names would be one of its own machine.
            .prefer_socket(false)
            .secure_auth(true);
        let connecting = tokio::time::timeout(CONNECT, Conn::new(opts)).await;
        let conn =
            connecting.map_err(|_| unreachable(&address, format!("no greeting within {CONNECT:?}")))?;
        Ok(Connection { conn: conn.map_err(|error| explain(&address, error))?, address, asked: 0 })
    }
}

impl Connection {
    /// The rows of a query.
    ///
    /// # Errors
    /// Why there are none.
    pub async fn rows<T: FromRow + Send + 'static>(&mut self, query: &str) -> Result<Vec<T>, Error> {
        self.asked = self.asked.wrapping_add(1);
        let asking = tokio::time::timeout(QUERY, self.conn.query::<T, _>(query)).await;
        let rows = asking.map_err(|_| unreachable(&self.address, format!("no answer within {QUERY:?}")))?;
        rows.map_err(|error| explain(&self.address, error))
    }

    /// The first row of a query.
    ///
    /// # Errors
    /// Why there is none.
    pub async fn row<T: FromRow + Send + 'static>(&mut self, query: &str) -> Result<Option<T>, Error> {
        Ok(self.rows(query).await?.into_iter().next())
    }

    /// The answer to a query, whatever its columns are.
    ///
    /// # Errors
    /// Why there is none.
    pub async fn table(&mut self, query: &str) -> Result<Table, Error> {
        let rows: Vec<mysql_async::Row> = self.rows(query).await?;
        let columns = rows.first().map(|row| row.columns_ref().iter().map(|c| c.name_str().into_owned()));
        let columns = columns.map(Iterator::collect).unwrap_or_default();
        let rows = rows.into_iter().map(|row| row.unwrap().into_iter().map(text).collect()).collect();
        Ok(Table { columns, rows })
    }

    /// The answer, or why this server has none: it does not know what is asked, or may not say.
    ///
    /// # Errors
    /// The server is not there any more.
    pub async fn optional(&mut self, query: &str) -> Result<Result<Table, String>, Error> {
        match self.table(query).await {
            Ok(table) => Ok(Ok(table)),
            Err(error @ (Error::Refused { .. } | Error::Denied(_) | Error::UnknownDatabase(_))) => {
                Ok(Err(error.to_string()))
            }
            Err(error) => Err(error),
        }
    }

    /// Does something; takes as long as it takes, since what is dropped half is worse.
    ///
    /// # Errors
    /// Why it is not done.
    pub async fn execute(&mut self, query: &str) -> Result<(), Error> {
        self.conn.query_drop(query).await.map_err(|error| explain(&self.address, error))
    }

    /// How many queries it was asked.
    pub fn asked(&self) -> f64 {
        self.asked.into()
    }

    /// Says goodbye; a server that does not hear it closes by itself.
    pub async fn close(self) {
        let _gone = tokio::time::timeout(CONNECT, self.conn.disconnect()).await;
    }
}

fn unreachable(address: &str, why: String) -> Error {
    Error::Unreachable { address: address.to_owned(), why }
}

/// The text protocol sends every value but null as bytes.
fn text(value: Value) -> Option<String> {
    match value {
        Value::NULL => None,
        Value::Bytes(bytes) => Some(String::from_utf8_lossy(&bytes).into_owned()),
        other => Some(other.as_sql(true)),
    }
}

fn explain(address: &str, error: mysql_async::Error) -> Error {
    match error {
        mysql_async::Error::Server(server) if DENIED.contains(&server.code) => Error::Denied(server.message),
        mysql_async::Error::Server(server) if server.code == UNKNOWN_DATABASE => {
            Error::UnknownDatabase(server.message)
        }
        mysql_async::Error::Server(server) => Error::Refused { code: server.code, text: server.message },
        other => Error::Unreachable { address: address.to_owned(), why: other.to_string() },
    }
}

#[cfg(test)]
mod tests;
