//! sysbench 1.0 as a program: where it is, and what it is told.
//!
//! What is secret goes through its configuration file, one `key=value` a line. It cuts a value at the first `#` that begins
//! it and at spaces, unless it is in quotes, which it takes off; it knows no escapes (measured with 1.0.20).

use std::path::{Path, PathBuf};

use super::worker::{self, Order};
use super::{Config, Error};
use crate::domain::workload::Asked;
use crate::mysql::Login;

/// Errors that a load lives with: those of sysbench itself, and those that OceanBase gives for lost races.
const IGNORED: &str = "6002,6004,4012,2013,4016,1062,1213,1020,1205";

/// What was made for it: tables `sbtest1` and on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Made {
    pub(super) tables: u32,
    pub(super) rows: u64,
    /// The database is of OceanBase's family.
    pub(super) oceanbase: bool,
}

/// Where it is.
///
/// # Errors
/// How to install it.
pub(super) fn find(config: &Config) -> Result<PathBuf, Error> {
    let name = &config.sysbench;
    let places: Vec<PathBuf> = if name.components().count() > 1 {
        // A worker begins in another directory.
        vec![std::path::absolute(name).unwrap_or_else(|_| name.clone())]
    } else {
        std::env::split_paths(worker::PATH).map(|place| place.join(name)).collect()
    };
    places.into_iter().find(|path| path.is_file()).ok_or_else(|| {
        Error::Missing(format!(
            "{} is not on this node: install it (Debian, Ubuntu: apt install sysbench; Fedora: dnf install sysbench; \
             openSUSE: zypper install sysbench), or name its file in [workloads] sysbench; ping_pong, fork_storm, \
             cpu_burst and batch need none",
            name.display()
        ))
    })
}

/// A load on tables that are there.
///
/// # Errors
/// A user or password that sysbench cannot be told.
pub(super) fn load(
    path: &Path,
    config: &Config,
    login: &Login,
    made: Made,
    asked: &Asked,
    duration_s: u32,
) -> Result<Order, Error> {
    let mut arguments = common(asked.kind.name(), made.tables, made.rows, asked.threads);
    arguments.push(format!("--time={duration_s}"));
    arguments.extend(["--report-interval=1", "--percentile=95"].map(str::to_owned));
    arguments.extend(asked.rate.map(|rate| format!("--rate={rate}")));
    if made.oceanbase {
        // Its prepared statements need more cursors than it has by default.
        arguments.push("--db-ps-mode=disable".to_owned());
        arguments.push(format!("--mysql-ignore-errors={IGNORED}"));
    }
    arguments.push("run".to_owned());
    order(path, config, login, arguments)
}

/// The making of tables.
///
/// # Errors
/// A user or password that sysbench cannot be told.
pub(super) fn prepare(
    path: &Path,
    config: &Config,
    login: &Login,
    tables: u32,
    rows: u32,
    threads: u32,
) -> Result<Order, Error> {
    let mut arguments = common("oltp_read_write", tables, rows.into(), threads);
    arguments.push("prepare".to_owned());
    order(path, config, login, arguments)
}

fn common(script: &str, tables: u32, rows: u64, threads: u32) -> Vec<String> {
    vec![
        script.to_owned(),
        "--db-driver=mysql".to_owned(),
        format!("--tables={tables}"),
        format!("--table-size={rows}"),
        format!("--threads={threads}"),
    ]
}

fn order(path: &Path, config: &Config, login: &Login, arguments: Vec<String>) -> Result<Order, Error> {
    let mut text = String::new();
    for (key, value) in [
        ("mysql-host", &*login.host),
        ("mysql-port", &login.port.to_string()),
        ("mysql-user", &login.user),
        ("mysql-password", login.password.reveal()),
        ("mysql-db", &config.database),
    ] {
        if value.is_empty() {
            continue;
        }
        let Some(value) = quoted(value) else {
            return Err(Error::Missing(format!(
                "sysbench cannot be told this {key}: it has a line end, or both kinds of quotes beside a space or #"
            )));
        };
        text += &format!("{key}={value}\n");
    }
    Ok(Order::Program {
        path: path.to_owned(),
        scripts: config.sysbench_scripts.clone(),
        config: text,
        arguments,
    })
}

/// A value as its configuration file has it; none if it cannot.
fn quoted(value: &str) -> Option<String> {
    if value.chars().any(char::is_control) {
        return None;
    }
    if !value.contains('"') {
        return Some(format!("\"{value}\""));
    }
    if !value.contains('\'') {
        return Some(format!("'{value}'"));
    }
    let plain = !value.contains([' ', '#']) && !value.starts_with(['"', '\'']);
    plain.then(|| value.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::workload::Kind;
    use crate::mysql::Secret;

    fn login(password: &str) -> Login {
        Login {
            host: "127.0.0.1".to_owned(),
            port: 2_881,
            user: "root@sys".to_owned(),
            password: Secret::new(password.to_owned()),
        }
    }

    fn asked() -> Asked {
        Asked { kind: Kind::Oltp("oltp_read_only"), threads: 4, duration_s: None, rate: Some(50) }
    }

    #[test]
    fn secrets_are_in_the_configuration_and_not_in_the_arguments() {
        let made = Made { tables: 3, rows: 100, oceanbase: true };
        let order =
            load(Path::new("/bin/sysbench"), &Config::default(), &login("s3 cret"), made, &asked(), 60);
        let Ok(Order::Program { config, arguments, .. }) = order else { panic!("no program") };
        assert_eq!(
            config,
            "mysql-host=\"127.0.0.1\"\nmysql-port=\"2881\"\nmysql-user=\"root@sys\"\nmysql-password=\"s3 cret\"\n\
             mysql-db=\"sbtest\"\n"
        );
        let arguments = arguments.join(" ");
        assert!(!arguments.contains("s3 cret") && !arguments.contains("root"), "{arguments}");
        assert_eq!(
            arguments,
            "oltp_read_only --db-driver=mysql --tables=3 --table-size=100 --threads=4 --time=60 --report-interval=1 \
             --percentile=95 --rate=50 --db-ps-mode=disable --mysql-ignore-errors=6002,6004,4012,2013,4016,1062,1213,\
             1020,1205 run"
        );
    }

    #[test]
    fn a_password_is_quoted_as_sysbench_takes_quotes_off() {
        for (password, wanted) in [
            ("plain", Some("\"plain\"")),
            ("#lead", Some("\"#lead\"")),
            (" in ner ", Some("\" in ner \"")),
            ("quo\"te", Some("'quo\"te'")),
            ("q\"u'o", Some("q\"u'o")),
            ("q\"u'o t", None),
            ("\"both'", None),
            ("line\nend", None),
        ] {
            assert_eq!(quoted(password).as_deref(), wanted, "{password}");
        }
        let error = order(Path::new("x"), &Config::default(), &login("se\ncret"), Vec::new());
        let Err(Error::Missing(error)) = error else { panic!("accepted") };
        assert!(error.contains("mysql-password") && !error.contains("cret"), "{error}");
    }

    #[test]
    fn a_node_without_it_says_how_to_get_it() {
        for name in ["no-such-sysbench", "/no/such/sysbench"] {
            let config = Config { sysbench: name.into(), ..Config::default() };
            let Err(Error::Missing(error)) = find(&config) else { panic!("found {name}") };
            assert!(error.contains("apt install sysbench") && error.contains(name), "{error}");
        }
    }
}
