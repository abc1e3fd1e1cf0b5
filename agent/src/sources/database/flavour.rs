//! What kind of server answers, by its own words.

use std::fmt;

use crate::mysql::{Connection, Error};

/// Why a server that stands alone has no lag.
pub(super) const NO_REPLICA: &str = "the server has no replica and is none";

/// Why a ratio of an idle server has no value.
pub(super) const IDLE: &str = "nothing was asked of it since the reading before";

/// A server's kind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Flavour {
    /// MariaDB or MySQL.
    MySql { version: String, mariadb: bool },
    /// OceanBase or seekdb.
    OceanBase { version: String },
}

impl fmt::Display for Flavour {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::MySql { version, mariadb: true } => write!(f, "MariaDB {version}"),
            Self::MySql { version, mariadb: false } => write!(f, "MySQL {version}"),
            Self::OceanBase { version } => write!(f, "OceanBase {version}"),
        }
    }
}

/// Asks the server.
pub(super) async fn of(connection: &mut Connection) -> Result<Flavour, Error> {
    let rows = connection.table("SELECT VERSION(), @@version_comment").await?.rows;
    let words: Vec<String> = rows.into_iter().flatten().flatten().collect();
    Ok(told(words.first().map_or("", String::as_str), words.get(1).map_or("", String::as_str)))
}

fn told(version: &str, comment: &str) -> Flavour {
    let both = format!("{version} {comment}");
    // It also calls itself MySQL, for those who look for that.
    if both.contains("OceanBase") {
        return Flavour::OceanBase { version: version.to_owned() };
    }
    Flavour::MySql { version: version.to_owned(), mariadb: both.contains("MariaDB") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn servers_are_known_by_their_words() {
        for (version, comment, wanted) in [
            ("10.11.18-MariaDB-0+deb12u1", "Debian 12", "MariaDB 10.11.18-MariaDB-0+deb12u1"),
            ("8.4.3", "MySQL Community Server - GPL", "MySQL 8.4.3"),
            (
                "5.7.25-OceanBase seekdb-v1.2.0.0",
                "OceanBase 4.3.5.3 seekdb",
                "OceanBase 5.7.25-OceanBase seekdb-v1.2.0.0",
            ),
            ("5.7.25", "OceanBase 4.2.1 (r1)", "OceanBase 5.7.25"),
            ("", "", "MySQL "),
        ] {
            assert_eq!(told(version, comment).to_string(), wanted);
        }
    }
}
