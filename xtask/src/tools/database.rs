//! A database server, a load for it, a Prometheus and an Alertmanager: Debian's, unpacked beside their libraries, never installed.

use std::path::PathBuf;

use anyhow::Result;

use super::private;
use crate::cache::Cache;

/// MariaDB's server and what makes its first tables; the tests find the second beside the first.
const SERVER: [&str; 2] = ["mariadbd", "mariadb-install-db"];

/// Where `mariadbd` is. Always the unpacked one: a machine's own may be bound to its own data by its configuration.
pub(super) fn mariadbd(cache: &Cache) -> Result<PathBuf> {
    Ok(private::programs(cache, "mariadb-server-core", &SERVER)?.join(SERVER[0]))
}

/// Where `sysbench` is, with its scripts.
pub(super) fn sysbench(cache: &Cache) -> Result<PathBuf> {
    Ok(private::programs(cache, "sysbench", &["sysbench"])?.join("sysbench"))
}

/// Where a Prometheus is that scrapes what the tests serve.
pub(super) fn prometheus(cache: &Cache) -> Result<PathBuf> {
    Ok(private::programs(cache, "prometheus", &["prometheus"])?.join("prometheus"))
}

/// Where an Alertmanager is that the tests' receivers tell.
pub(super) fn alertmanager(cache: &Cache) -> Result<PathBuf> {
    let name = "prometheus-alertmanager";
    Ok(private::programs(cache, name, &[name])?.join(name))
}
