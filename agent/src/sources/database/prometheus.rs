//! Tenants of OceanBase from a Prometheus that scrapes obagent (its names and labels).
//!
//! Asked when somebody asks: the last half hour in steps of 15 s, as the reference's own list. Each figure is one
//! expression; one that gives nothing is no figure, with the reason.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use serde::Deserialize;
use tokio::sync::Semaphore;

use crate::domain::database::{Figure, TenantSample};
use crate::prometheus;

/// As the reference asks: 120 samples.
const WINDOW_S: i64 = 1_800;
const STEP_S: i64 = 15;
/// A Prometheus that does not answer by then is as good as none; our own request's limit is longer.
const PATIENCE: Duration = Duration::from_secs(5);
/// 120 samples of one series are 3 kB; a hundred series would be none of ours.
const MAX_ANSWER_BYTES: usize = 1 << 20;
/// Askers at once, six expressions each: more only wait at Prometheus.
const MAX_ASKERS: usize = 4;
/// Why there are no figures.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No URL of a Prometheus.
    #[error("PROMETHEUS_URL: {0}")]
    Url(String),
    /// It does not answer, or not as it should.
    #[error("Prometheus: {0}")]
    Answer(String),
    /// As many ask as may.
    #[error("Prometheus is being asked {MAX_ASKERS} times already")]
    Busy,
}

/// A Prometheus.
#[derive(Clone, Debug)]
pub struct Prometheus {
    asked: prometheus::Prometheus,
    askers: Arc<Semaphore>,
}

impl Prometheus {
    /// The one at `http://HOST:PORT`.
    ///
    /// # Errors
    /// [`Error::Url`]; nothing is asked yet.
    pub fn new(url: &str) -> Result<Self, Error> {
        let asked = prometheus::Prometheus::new(url, PATIENCE, MAX_ANSWER_BYTES).map_err(Error::Url)?;
        Ok(Self { asked, askers: Arc::new(Semaphore::new(MAX_ASKERS)) })
    }

    /// A tenant's samples up to `now_ns` (wall time), oldest first; none of a tenant that it does not know.
    ///
    /// # Errors
    /// Why there are none.
    pub async fn tenant(&self, tenant: &str, now_ns: i64) -> Result<Vec<TenantSample>, Error> {
        let _turn = self.askers.try_acquire().map_err(|_| Error::Busy)?;
        let end_s = now_ns.div_euclid(1_000_000_000).div_euclid(STEP_S) * STEP_S;
        let [cpu, memory, disk, iops, sessions, active] = expressions(tenant);
        let (cpu, memory, disk, iops, sessions, active) = tokio::try_join!(
            self.range(&cpu, end_s),
            self.range(&memory, end_s),
            self.range(&disk, end_s),
            self.range(&iops, end_s),
            self.range(&sessions, end_s),
            self.range(&active, end_s),
        )?;
        let series = [&cpu, &memory, &disk, &iops, &sessions, &active];
        let seconds: std::collections::BTreeSet<i64> =
            series.iter().flat_map(|s| s.keys().copied()).collect();
        Ok(seconds
            .into_iter()
            .map(|second| TenantSample {
                at_ns: second.saturating_mul(1_000_000_000),
                tenant: tenant.to_owned(),
                cpu_percent: at(&cpu, second),
                memory_used: at(&memory, second),
                disk_used: at(&disk, second),
                iops: at(&iops, second),
                session_count: at(&sessions, second),
                active_session_count: at(&active, second),
            })
            .collect())
    }

    /// The values of an expression by second.
    async fn range(&self, expression: &str, end_s: i64) -> Result<BTreeMap<i64, f64>, Error> {
        let (start, end, step) = ((end_s - WINDOW_S).to_string(), end_s.to_string(), STEP_S.to_string());
        let parameters = [("query", expression), ("start", &start), ("end", &end), ("step", &step)];
        self.asked.ask("query_range", &parameters).await.map(values).map_err(Error::Answer)
    }
}

#[derive(Deserialize)]
struct Series {
    /// Seconds since the epoch, and the value as text.
    values: Vec<(f64, String)>,
}

fn values(series: Vec<Series>) -> BTreeMap<i64, f64> {
    // Every expression is a sum by tenant, of one tenant.
    let values = series.into_iter().flat_map(|series| series.values);
    let numbers = values.filter_map(|(second, text)| {
        let value = text.parse::<f64>().ok().filter(|value| value.is_finite())?;
        #[expect(
            clippy::cast_possible_truncation,
            reason = "saturates; seconds that were asked for are whole"
        )]
        Some((second.round() as i64, value))
    });
    numbers.collect()
}

fn at(values: &BTreeMap<i64, f64>, second: i64) -> Figure {
    let why = "Prometheus has no value of this tenant at this time: does it scrape obagent?";
    values.get(&second).copied().ok_or_else(|| why.into())
}

/// CPU, memory, disk, operations, sessions, active sessions.
fn expressions(tenant: &str) -> [String; 6] {
    let t = format!("tenant_name=\"{}\"", escape(tenant));
    let sum = |what: &str| format!("sum({what}) by (tenant_name)");
    let stat = |id: &str| sum(&format!("ob_sysstat{{stat_id=\"{id}\",{t}}}"));
    [
        format!("100 * {} / {}", stat("140006"), stat("140005")),
        format!("{} / 1048576", stat("140003")),
        format!(
            "{} / 1048576",
            sum(&format!("ob_tenant_disk_data_size{{{t}}} + ob_tenant_disk_log_size{{{t}}}"))
        ),
        sum(&format!("rate(ob_sysstat{{stat_id=~\"60000|60003\",{t}}}[1m])")),
        sum(&format!("ob_all_session_num{{{t}}}")),
        sum(&format!("ob_active_session_num{{{t}}}")),
    ]
}

/// A label's value between double quotes.
fn escape(text: &str) -> String {
    text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tenants_name_cannot_leave_its_quotes() {
        assert_eq!(escape("a\"} or up{x=\"\\\n"), "a\\\"} or up{x=\\\"\\\\\\n");
        assert_eq!(
            expressions("x\"y")[4],
            "sum(ob_all_session_num{tenant_name=\"x\\\"y\"}) by (tenant_name)"
        );
    }

    #[test]
    fn an_answer_is_its_numbers_or_its_error() {
        let read = |text: &str| prometheus::read(text.as_bytes()).map(values);
        let good = r#"{"status":"success","data":{"resultType":"matrix","result":[{"metric":{},"values":[[15,"1.5"],[30,"NaN"],[45,"2"]]}]}}"#;
        assert_eq!(read(good), Ok([(15, 1.5), (45, 2.0)].into()));
        assert_eq!(
            read(r#"{"status":"error","errorType":"bad_data","error":"parse error"}"#),
            Err("parse error".to_owned())
        );
        assert_eq!(read("{}"), Err("no data".to_owned()));
    }

    #[test]
    fn only_a_plain_address_is_taken() {
        assert!(Prometheus::new("http://127.0.0.1:9090/prefix").is_ok());
        for wrong in ["", "9090", "https://x", "ftp://x", "http://", "http://u:p@x"] {
            let error = Prometheus::new(wrong).unwrap_err().to_string();
            assert!(error.starts_with("PROMETHEUS_URL"), "{error}");
        }
    }
}
