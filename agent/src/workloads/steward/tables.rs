//! The tables of sysbench's scripts, `sbtest1` and on: what is there, and room for new ones.

use super::refused;
use crate::domain::workload::Tables;
use crate::mysql::{Connection, Login};
use crate::workloads::Error;
use crate::workloads::sysbench::Made;

/// More tables test the server's dictionary, not its scheduler.
pub(super) const MAX_TABLES: u32 = 1_000;

/// What was made in the database of this connection.
///
/// # Errors
/// No tables, or the database's.
pub(super) async fn made(database: &mut Connection) -> Result<Made, Error> {
    let version: Option<String> =
        database.row("SELECT CONCAT(VERSION(), ' ', @@version_comment)").await.map_err(refused)?;
    let there = numbers(database).await?;
    // Scripts take the first N: a gap would end them.
    let tables = (1..).take_while(|number| there.contains(number)).count();
    let rows = if tables == 0 { 0 } else { rows(database, 1).await? };
    if rows == 0 {
        return Err(Error::Conflict(
            "the database has no tables for a load yet: POST /api/workload/prepare makes them".to_owned(),
        ));
    }
    let oceanbase = version.is_some_and(|version| version.contains("OceanBase"));
    Ok(Made { tables: u32::try_from(tables).unwrap_or(MAX_TABLES), rows, oceanbase })
}

/// Makes the database if it is missing, and room for its tables. Set when all of them are there already.
///
/// # Errors
/// Some of them are there, or the database's.
pub(super) async fn clear_the_way(
    login: &Login,
    name: &str,
    wanted: Tables,
) -> Result<Option<String>, Error> {
    let mut database = login.connect(None).await.map_err(refused)?;
    let done = clear(&mut database, name, wanted).await;
    database.close().await;
    done
}

async fn clear(database: &mut Connection, name: &str, wanted: Tables) -> Result<Option<String>, Error> {
    // The name is letters, digits and _: the configuration was checked.
    database.execute(&format!("CREATE DATABASE IF NOT EXISTS `{name}`")).await.map_err(refused)?;
    database.execute(&format!("USE `{name}`")).await.map_err(refused)?;
    let there = numbers(database).await?;
    if wanted.recreate {
        for number in there {
            database.execute(&format!("DROP TABLE `sbtest{number}`")).await.map_err(refused)?;
        }
        return Ok(None);
    }
    let asked_for: Vec<u32> = (1..=wanted.count).filter(|number| there.contains(number)).collect();
    if asked_for.is_empty() {
        return Ok(None);
    }
    let mut short = asked_for.len() < wanted.count as usize;
    for number in asked_for {
        short |= rows(database, number).await? < u64::from(wanted.rows);
    }
    if short {
        return Err(Error::Conflict(format!(
            "some of the tables sbtest1 to sbtest{} are there, but not all with {} rows: {{\"recreate\":true}} drops \
             and makes them anew",
            wanted.count, wanted.rows
        )));
    }
    Ok(Some("all tables were there already".to_owned()))
}

/// N of each table `sbtestN`.
async fn numbers(database: &mut Connection) -> Result<Vec<u32>, Error> {
    let names: Vec<String> = database.rows("SHOW TABLES LIKE 'sbtest%'").await.map_err(refused)?;
    let number = |name: &String| name.strip_prefix("sbtest")?.parse().ok().filter(|n| *n <= MAX_TABLES);
    Ok(names.iter().filter_map(number).collect())
}

/// Rows that a table was filled with: its ids are counted from 1, and a load keeps them.
async fn rows(database: &mut Connection, number: u32) -> Result<u64, Error> {
    let query = format!("SELECT COALESCE(MAX(id), 0) FROM `sbtest{number}`");
    Ok(database.row::<u64>(&query).await.map_err(refused)?.unwrap_or_default())
}
