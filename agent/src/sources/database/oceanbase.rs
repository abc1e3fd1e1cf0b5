//! OceanBase (4 and later) and seekdb: their statistics by id, and views that some of them lack.
//!
//! Seen from the system tenant the figures are of the whole cluster and there are tenants; from any other, of that tenant.

use std::collections::BTreeMap;

use super::Looks;
use super::flavour::{IDLE, NO_REPLICA};
use crate::domain::database::{FIRST, Figure, Look, OWN, Sample, TenantSample, ratio};
use crate::mysql::{Connection, Error, Table};

/// Statements: select, insert, replace, update, delete, other; the id after each is their time, us.
const STATEMENTS: [&str; 6] = ["40000", "40002", "40004", "40006", "40008", "40018"];
const STATEMENTS_US: [&str; 6] = ["40001", "40003", "40005", "40007", "40009", "40019"];
/// Commits, rollbacks.
const TRANSACTIONS: [&str; 2] = ["30007", "30009"];
/// Reads, writes: how many, how many bytes.
const IO: [&str; 2] = ["60000", "60003"];
const IO_BYTES: [&str; 2] = ["60002", "60005"];
/// Block cache: hits, misses.
const CACHE: [&str; 2] = ["50008", "50009"];
/// Memory, bytes.
const MEMORY: &str = "140003";
/// CPU: what may be used, what is; hundredths of a core.
const CPU: [&str; 2] = ["140005", "140006"];

/// Tenants of users are above 1000, the system's is 1; what lies between is their metadata's.
const SYSSTAT: &str = "SELECT con_id, stat_id, SUM(value) FROM oceanbase.GV$SYSSTAT \
    WHERE (con_id = 1 OR con_id > 1000) AND stat_id IN (40000, 40002, 40004, 40006, 40008, 40018, 40001, 40003, 40005, \
    40007, 40009, 40019, 30007, 30009, 60000, 60003, 60002, 60005, 50008, 50009, 140003, 140005, 140006) \
    GROUP BY con_id, stat_id";
/// Not the statistic of active sessions, which falls below nothing.
const SESSIONS: &str = "SELECT tenant, COUNT(*), COUNT(state = 'ACTIVE' OR NULL) FROM oceanbase.GV$OB_PROCESSLIST \
    WHERE id <> CONNECTION_ID() GROUP BY tenant";
const NOW_US: &str = "SELECT time_to_usec(NOW(6))";
const WATERMARK: &str = "SHOW PARAMETERS LIKE 'trace_log_slow_query_watermark'";
/// Its default, 1 s.
const DEFAULT_WATERMARK_US: f64 = 1_000_000.0;
/// Of all tenants, or of this one.
const DEADLOCKS: [&str; 2] = [
    "SELECT COUNT(DISTINCT event_id) FROM oceanbase.CDB_OB_DEADLOCK_EVENT_HISTORY",
    "SELECT COUNT(DISTINCT event_id) FROM oceanbase.DBA_OB_DEADLOCK_EVENT_HISTORY",
];
/// With tenants and their parts, or in a version that has one of each and no column for it.
const LOG: [&str; 3] = [
    "SELECT tenant_id, ls_id, role, end_scn FROM oceanbase.GV$OB_LOG_STAT",
    "SELECT 1, ls_id, role, end_scn FROM oceanbase.GV$OB_LOG_STAT",
    "SELECT 1, 1, role, end_scn FROM oceanbase.GV$OB_LOG_STAT",
];
const TENANTS: &str =
    "SELECT tenant_id, tenant_name FROM oceanbase.DBA_OB_TENANTS WHERE tenant_type <> 'META'";
const OWN_TENANT: &str = "SHOW TENANT";
const DISK: [&str; 2] = [
    "SELECT tenant_id, SUM(data_disk_in_use + log_disk_in_use) FROM oceanbase.GV$OB_UNITS GROUP BY tenant_id",
    "SELECT 1, SUM(data_disk_in_use + log_disk_in_use) FROM oceanbase.GV$OB_UNITS",
];

/// Asks everything once; `since_us` is the server's time of the look before.
pub(super) async fn look(connection: &mut Connection, since_us: Option<f64>) -> Result<Looks, Error> {
    let stats = connection.table(SYSSTAT).await?;
    let own = connection.asked();
    let sessions = connection.table(SESSIONS).await?;
    let mut database = Look::default();
    database.values.insert(OWN.to_owned(), own);
    add_stats(&mut database, &stats, None);
    add_sessions(&mut database, &sessions, None);
    slow_queries(connection, &mut database, since_us).await?;
    match first(connection, &DEADLOCKS).await? {
        Ok(table) => found(&mut database, "deadlocks", table.number(0, 0), ""),
        Err(why) => found(&mut database, "deadlocks", None, &why),
    }
    match first(connection, &LOG).await? {
        Ok(table) => found(&mut database, "lag_s", lag_s(&table), NO_REPLICA),
        Err(why) => found(&mut database, "lag_s", None, &why),
    }
    let names = tenants(connection).await?;
    let disk = first(connection, &DISK).await?;
    let of = |(id, name): (String, String)| {
        let mut look = Look::default();
        add_stats(&mut look, &stats, Some(&id));
        add_sessions(&mut look, &sessions, Some(&name));
        match &disk {
            Ok(table) => {
                found(&mut look, "disk", by_id(table, &id), "the server does not tell it of this tenant");
            }
            Err(why) => found(&mut look, "disk", None, why),
        }
        (name, look)
    };
    Ok(Looks { database, tenants: names.into_iter().map(of).collect(), no_tenants: None })
}

/// Notes a value, or why there is none.
fn found(look: &mut Look, name: &str, value: Option<f64>, why: &str) {
    match value {
        Some(value) => drop(look.values.insert(name.to_owned(), value)),
        None => drop(look.lacks.insert(name.to_owned(), why.to_owned())),
    }
}

/// Statistics of one tenant, or of all together.
fn add_stats(look: &mut Look, table: &Table, tenant: Option<&str>) {
    for (index, row) in table.rows.iter().enumerate() {
        let (Some(Some(id)), Some(Some(stat)), Some(value)) =
            (row.first(), row.get(1), table.number(index, 2))
        else {
            continue;
        };
        if tenant.is_none_or(|tenant| tenant == id) {
            *look.values.entry(stat.clone()).or_default() += value;
        }
    }
}

/// Sessions of one tenant, or of all together; none is 0.
fn add_sessions(look: &mut Look, table: &Table, tenant: Option<&str>) {
    for (name, column) in [("sessions", 1), ("active", 2)] {
        let rows = table.rows.iter().enumerate().filter(|(_, row)| {
            tenant.is_none_or(|tenant| row.first().is_some_and(|name| name.as_deref() == Some(tenant)))
        });
        // A float sum of nothing is minus zero.
        let sum =
            rows.filter_map(|(index, _)| table.number(index, column)).fold(0.0, |sum, count| sum + count);
        look.values.insert(name.to_owned(), sum);
    }
}

fn by_id(table: &Table, id: &str) -> Option<f64> {
    let row = table.rows.iter().position(|row| row.first().is_some_and(|own| own.as_deref() == Some(id)))?;
    table.number(row, 1)
}

/// Statements above the server's own mark since its time at the look before.
async fn slow_queries(
    connection: &mut Connection,
    look: &mut Look,
    since_us: Option<f64>,
) -> Result<(), Error> {
    let now_us = match connection.optional(NOW_US).await? {
        Ok(table) => table.number(0, 0),
        Err(_) => None,
    };
    let (Some(now_us), Some(since_us)) = (now_us, since_us) else {
        let why = if now_us.is_some() { &FIRST } else { "the server does not tell its time" };
        found(look, "slow", None, why);
        found(look, "now_us", now_us, why);
        return Ok(());
    };
    found(look, "now_us", Some(now_us), "");
    let mark_us = connection.optional(WATERMARK).await?.ok().and_then(|table| watermark_us(&table));
    let mark_us = mark_us.unwrap_or(DEFAULT_WATERMARK_US);
    let query = format!(
        "SELECT COUNT(*) FROM oceanbase.GV$OB_SQL_AUDIT WHERE request_time > {since_us:.0} AND request_time <= \
         {now_us:.0} AND elapsed_time > {mark_us:.0}"
    );
    match connection.optional(&query).await? {
        Ok(table) => found(look, "slow", table.number(0, 0), ""),
        Err(why) => found(look, "slow", None, &why),
    }
    Ok(())
}

/// The parameter's value, `1s` or `100ms`, in its column.
fn watermark_us(table: &Table) -> Option<f64> {
    let column = table.columns.iter().position(|name| name.eq_ignore_ascii_case("value"))?;
    let text = table.rows.first()?.get(column)?.as_deref()?;
    for (unit, factor) in [("ms", 1e3), ("us", 1.0), ("s", 1e6), ("m", 6e7)] {
        if let Some(number) = text.strip_suffix(unit) {
            return number.trim().parse::<f64>().ok().map(|number| number * factor);
        }
    }
    None
}

/// The follower that is furthest behind its leader, s; none where there is no follower.
fn lag_s(table: &Table) -> Option<f64> {
    let mut leaders = BTreeMap::new();
    let mut followers = Vec::new();
    for (index, row) in table.rows.iter().enumerate() {
        let (Some(end_ns), Some(key)) = (table.number(index, 3), row.get(..2)) else { continue };
        match row.get(2).and_then(Option::as_deref) {
            Some("LEADER") => drop(leaders.insert(key.to_vec(), end_ns)),
            _ => followers.push((key.to_vec(), end_ns)),
        }
    }
    let lags = followers.iter().filter_map(|(key, end_ns)| Some((leaders.get(key)? - end_ns).max(0.0) / 1e9));
    lags.reduce(f64::max)
}

/// Id and name of each, or of the one there is.
async fn tenants(connection: &mut Connection) -> Result<Vec<(String, String)>, Error> {
    let pair = |row: Vec<Option<String>>| match &row[..] {
        [Some(id), Some(name)] => Some((id.clone(), name.clone())),
        _ => None,
    };
    if let Ok(table) = connection.optional(TENANTS).await? {
        return Ok(table.rows.into_iter().filter_map(pair).collect());
    }
    let own = connection.optional(OWN_TENANT).await?.ok();
    let name = own.and_then(|table| table.rows.into_iter().flatten().flatten().next());
    Ok(name.map(|name| ("1".to_owned(), name)).into_iter().collect())
}

/// The answer to the first of these that the server takes, or why it took not even the last.
async fn first(connection: &mut Connection, queries: &[&str]) -> Result<Result<Table, String>, Error> {
    let mut refusal = String::new();
    for query in queries {
        match connection.optional(query).await? {
            Ok(table) => return Ok(Ok(table)),
            Err(why) => refusal = why,
        }
    }
    Ok(Err(refusal))
}

fn megabytes(bytes: Figure) -> Figure {
    bytes.map(|bytes| bytes / 1_048_576.0)
}

/// The sample of two looks.
pub(super) fn sample(now: &Look, before: Option<&Look>, at_ns: i64) -> Sample {
    Sample {
        at_ns,
        qps: now.rate_of_others(before, &STATEMENTS),
        tps: now.rate(before, &TRANSACTIONS),
        active_sessions: now.gauge("active"),
        sql_response_time: ratio(
            now.grown(before, &STATEMENTS_US).map(|us| us / 1e6),
            now.grown(before, &STATEMENTS),
            IDLE,
        ),
        disk_io_bytes: now.rate(before, &IO_BYTES),
        disk_iops: now.rate(before, &IO),
        memory_usage: megabytes(now.gauge(MEMORY)),
        cache_hit_ratio: ratio(
            now.grown(before, &CACHE[..1]).map(|hits| hits * 100.0),
            now.grown(before, &CACHE),
            IDLE,
        ),
        slow_queries: now.gauge("slow"),
        deadlocks: now.grown(before, &["deadlocks"]),
        replication_lag: now.gauge("lag_s"),
        connection_count: now.gauge("sessions"),
    }
}

/// A tenant's sample of two looks.
pub(super) fn tenant(name: &str, now: &Look, before: Option<&Look>, at_ns: i64) -> TenantSample {
    let share = ratio(now.gauge(CPU[1]), now.gauge(CPU[0]), "it has no share of the CPUs");
    TenantSample {
        at_ns,
        tenant: name.to_owned(),
        cpu_percent: share.map(|share| share * 100.0),
        memory_used: megabytes(now.gauge(MEMORY)),
        disk_used: megabytes(now.gauge("disk")),
        iops: now.rate(before, &IO),
        session_count: now.gauge("sessions"),
        active_session_count: now.gauge("active"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(columns: &[&str], rows: &[&[&str]]) -> Table {
        let owned = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect();
        let cells = |row: &&[&str]| row.iter().map(|cell| Some((*cell).to_owned())).collect();
        Table { columns: owned(columns), rows: rows.iter().map(cells).collect() }
    }

    #[test]
    fn statistics_are_of_one_tenant_or_of_all() {
        let stats = table(&[], &[&["1", "40000", "5"], &["1002", "40000", "7"], &["1002", "30007", "1"]]);
        let (mut all, mut one) = (Look::default(), Look::default());
        add_stats(&mut all, &stats, None);
        add_stats(&mut one, &stats, Some("1002"));
        assert_eq!((all.values["40000"], one.values["40000"], all.values["30007"]), (12.0, 7.0, 1.0));
        let sessions = table(&[], &[&["sys", "3", "1"], &["shop", "9", "4"]]);
        add_sessions(&mut all, &sessions, None);
        add_sessions(&mut one, &sessions, Some("shop"));
        assert_eq!((all.values["sessions"], all.values["active"]), (12.0, 5.0));
        assert_eq!((one.values["sessions"], one.values["active"]), (9.0, 4.0));
    }

    #[test]
    fn the_lag_is_of_the_follower_furthest_behind() {
        let log = |rows: &[&[&str]]| lag_s(&table(&[], rows));
        assert_eq!(log(&[&["1", "1", "LEADER", "1700000000000000000"]]), None, "a single replica");
        let lag = log(&[
            &["1", "1", "LEADER", "1700000003000000000"],
            &["1", "1", "FOLLOWER", "1700000002000000000"],
            &["1", "1", "FOLLOWER", "1700000000500000000"],
            &["1", "2", "FOLLOWER", "1"],
        ]);
        assert!((lag.unwrap() - 2.5).abs() < 1e-6, "{lag:?}");
        let ahead = log(&[&["1", "1", "LEADER", "5"], &["1", "1", "FOLLOWER", "9"]]);
        assert_eq!(ahead, Some(0.0), "never negative");
    }

    #[test]
    fn the_mark_of_slow_queries_has_units() {
        for (text, wanted) in [("1s", Some(1e6)), ("100ms", Some(1e5)), ("2m", Some(1.2e8)), ("soon", None)] {
            assert_eq!(watermark_us(&table(&["name", "value"], &[&["x", text]])), wanted, "{text}");
        }
    }

    #[test]
    fn a_look_without_anything_is_reasons_and_no_zero() {
        let empty = sample(&Look::default(), None, 0);
        assert!(empty.figures().iter().all(|(_, figure)| figure.is_err()));
        assert!(tenant("x", &Look::default(), None, 0).figures().iter().all(|(_, figure)| figure.is_err()));
    }
}
