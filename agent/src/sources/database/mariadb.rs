//! MariaDB and MySQL: status variables, and what one of the two has beside them.

use super::Looks;
use super::flavour::{Flavour, IDLE, NO_REPLICA};
use crate::domain::database::{Look, OWN, Sample, ratio};
use crate::mysql::{Connection, Error};

const STATUS: &str = "SHOW GLOBAL STATUS WHERE Variable_name IN ('Uptime', 'Questions', 'Com_commit', 'Com_rollback', \
    'Threads_running', 'Threads_connected', 'Innodb_data_read', 'Innodb_data_written', 'Innodb_data_reads', \
    'Innodb_data_writes', 'Memory_used', 'Innodb_buffer_pool_bytes_data', 'Innodb_buffer_pool_reads', \
    'Innodb_buffer_pool_read_requests', 'Slow_queries', 'Innodb_deadlocks')";

/// Statements since the server began, and their time in ps.
const STATEMENTS: &str = "SELECT SUM(COUNT_STAR), SUM(SUM_TIMER_WAIT) \
    FROM performance_schema.events_statements_summary_global_by_event_name";
const DEADLOCKS: &str = "SELECT `COUNT` FROM information_schema.INNODB_METRICS WHERE NAME = 'lock_deadlocks' AND STATUS = 'enabled'";
/// MariaDB's plugin: a histogram whose rows have their count and their sum in s.
const RESPONSES: &str = "SELECT SUM(`COUNT`), SUM(`TOTAL`) FROM information_schema.QUERY_RESPONSE_TIME";

/// Asks everything once.
pub(super) async fn look(connection: &mut Connection, flavour: &Flavour) -> Result<Looks, Error> {
    let mut look = Look::default();
    let status = connection.table(STATUS).await?;
    let own = connection.asked();
    for row in status.rows {
        if let [Some(name), Some(value)] = &row[..]
            && let Ok(value) = value.parse()
        {
            look.values.insert(name.clone(), value);
        }
    }
    look.values.insert(OWN.to_owned(), own);
    responses(connection, &mut look).await?;
    if !look.values.contains_key("Innodb_deadlocks")
        && let Some(count) = connection.optional(DEADLOCKS).await?.ok().and_then(|table| table.number(0, 0))
    {
        look.values.insert("Innodb_deadlocks".to_owned(), count);
    }
    lag(connection, flavour, &mut look).await?;
    let no_tenants = Some(format!("tenants are OceanBase's, and this server is {flavour}"));
    Ok(Looks { database: look, no_tenants, ..Looks::default() })
}

async fn responses(connection: &mut Connection, look: &mut Look) -> Result<(), Error> {
    for (query, unit_s) in [(STATEMENTS, 1e-12), (RESPONSES, 1.0)] {
        let table = connection.optional(query).await?;
        let found = table.ok().and_then(|table| Some((table.number(0, 0)?, table.number(0, 1)?)));
        // The schema is there and empty where it is switched off.
        if let Some((count, total)) = found.filter(|(count, _)| *count > 0.0) {
            look.values.insert("statements".to_owned(), count);
            look.values.insert("statements_s".to_owned(), total * unit_s);
            return Ok(());
        }
    }
    let why = "the server does not time statements: start it with performance_schema=ON, or (MariaDB) load the plugin \
               QUERY_RESPONSE_TIME and set query_response_time_stats=ON";
    for name in ["statements", "statements_s"] {
        look.lacks.insert(name.to_owned(), why.to_owned());
    }
    Ok(())
}

/// The lag behind its source, if it has one: the column's name is the version's.
async fn lag(connection: &mut Connection, flavour: &Flavour, look: &mut Look) -> Result<(), Error> {
    let queries: &[&str] = match flavour {
        Flavour::MySql { mariadb: true, .. } => &["SHOW ALL SLAVES STATUS"],
        _ => &["SHOW REPLICA STATUS", "SHOW SLAVE STATUS"],
    };
    let mut why = "the server does not tell the state of its replication".to_owned();
    for query in queries {
        let table = match connection.optional(query).await? {
            Ok(table) => table,
            Err(refusal) => {
                why = refusal;
                continue;
            }
        };
        let column = table.columns.iter().position(|name| name.starts_with("Seconds_Behind_"));
        let column = column.unwrap_or(usize::MAX);
        let lags = (0..table.rows.len()).filter_map(|row| table.number(row, column));
        if let Some(lag) = lags.reduce(f64::max) {
            look.values.insert("lag_s".to_owned(), lag);
            return Ok(());
        }
        let stands_alone = table.rows.is_empty();
        why = if stands_alone { NO_REPLICA } else { "its replication does not run" }.to_owned();
        break;
    }
    look.lacks.insert("lag_s".to_owned(), why);
    Ok(())
}

/// The sample of two looks.
pub(super) fn sample(now: &Look, before: Option<&Look>, at_ns: i64) -> Sample {
    // Every counter begins anew with the server, also those that have outgrown their old value since.
    let before = before.filter(|before| now.gauge("Uptime") >= before.gauge("Uptime"));
    let megabytes = |name| now.gauge(name).map(|bytes| bytes / 1_048_576.0);
    // Our own connection, and our own question.
    let others = |name| now.gauge(name).map(|count| (count - 1.0).max(0.0));
    let missed = ratio(
        now.grown(before, &["Innodb_buffer_pool_reads"]),
        now.grown(before, &["Innodb_buffer_pool_read_requests"]),
        IDLE,
    );
    Sample {
        at_ns,
        qps: now.rate_of_others(before, &["Questions"]),
        tps: now.rate(before, &["Com_commit", "Com_rollback"]),
        active_sessions: others("Threads_running"),
        sql_response_time: ratio(
            now.grown(before, &["statements_s"]),
            now.grown(before, &["statements"]),
            IDLE,
        ),
        disk_io_bytes: now.rate(before, &["Innodb_data_read", "Innodb_data_written"]),
        disk_iops: now.rate(before, &["Innodb_data_reads", "Innodb_data_writes"]),
        memory_usage: megabytes("Memory_used").or_else(|_| megabytes("Innodb_buffer_pool_bytes_data")),
        cache_hit_ratio: missed.map(|missed| (1.0 - missed).clamp(0.0, 1.0) * 100.0),
        slow_queries: now.grown(before, &["Slow_queries"]),
        deadlocks: now.grown(before, &["Innodb_deadlocks"]),
        replication_lag: now.gauge("lag_s"),
        connection_count: others("Threads_connected"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::database::FIRST;

    fn look(at_s: f64, factor: f64) -> Look {
        let names = [
            OWN,
            "Uptime",
            "Questions",
            "Com_commit",
            "Com_rollback",
            "Innodb_data_read",
            "Innodb_data_written",
            "Innodb_data_reads",
            "Innodb_data_writes",
            "Innodb_buffer_pool_reads",
            "Slow_queries",
            "statements",
        ];
        let mut values: std::collections::BTreeMap<_, _> =
            names.iter().map(|name| ((*name).to_owned(), factor * 10.0)).collect();
        for (name, value) in [
            ("Innodb_buffer_pool_read_requests", factor * 100.0),
            ("statements_s", factor),
            ("Threads_running", 1.0),
            ("Threads_connected", 5.0),
            ("Memory_used", 3.0 * 1_048_576.0),
        ] {
            values.insert(name.to_owned(), value);
        }
        Look { at_s, values, ..Look::default() }
    }

    #[test]
    fn two_looks_make_a_sample() {
        let sample = sample(&look(12.0, 2.0), Some(&look(10.0, 1.0)), 7);
        assert_eq!((sample.at_ns, sample.qps, sample.tps), (7, Ok(0.0), Ok(10.0)), "every question was ours");
        assert_eq!((sample.sql_response_time, sample.cache_hit_ratio), (Ok(0.1), Ok(90.0)));
        assert_eq!((sample.active_sessions, sample.connection_count), (Ok(0.0), Ok(4.0)));
        assert_eq!((sample.memory_usage, sample.slow_queries), (Ok(3.0), Ok(10.0)));
        assert!(sample.deadlocks.unwrap_err().contains("Innodb_deadlocks"), "this server has none");
    }

    #[test]
    fn a_server_that_began_anew_gives_no_rate_even_where_it_counts_more() {
        let mut now = look(12.0, 2.0);
        now.values.insert("Uptime".to_owned(), 1.0);
        let sample = sample(&now, Some(&look(10.0, 1.0)), 0);
        assert_eq!((sample.qps, sample.slow_queries), (Err(FIRST), Err(FIRST)));
        assert_eq!(sample.memory_usage, Ok(3.0));
    }

    #[test]
    fn an_idle_server_has_no_ratio() {
        let mut now = look(12.0, 1.0);
        now.values.insert("Uptime".to_owned(), 12.0);
        let sample = sample(&now, Some(&look(10.0, 1.0)), 0);
        assert_eq!((sample.qps, sample.cache_hit_ratio), (Ok(0.0), Err(IDLE.into())));
    }
}
