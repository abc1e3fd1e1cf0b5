//! The reader against servers on loopback that answer as each of the stores does.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::Body;
use axum::extract::{Query as Asked, State};
use axum::http::Response;
use axum::routing::{get, post};
use serde_json::{Value, json};

use super::*;
use crate::domain::series::{Aggregation, Operator, Sample};
use crate::series::remote::testing::{config, series, serve};

type Fields = HashMap<String, String>;

/// A store that gives these samples of one series, and what it was asked.
#[derive(Clone, Default)]
struct Store {
    samples: Vec<(i64, &'static str)>,
    /// Also the one at the range's very beginning, as Prometheus 2 does.
    closed: bool,
    victoria: bool,
    /// More in one answer are 422.
    max_samples: usize,
    asked: Arc<Mutex<Vec<Fields>>>,
}

fn fields(form: &str) -> Fields {
    let url = reqwest::Url::parse(&format!("http://form/?{form}")).unwrap();
    url.query_pairs().into_owned().collect()
}

async fn query(State(store): State<Store>, form: String) -> Response<Body> {
    let fields = fields(&form);
    store.asked.lock().unwrap().push(fields.clone());
    let (selector, width) = fields["query"].rsplit_once('[').unwrap();
    assert_eq!(selector, "{__name__=\"m\"}");
    let width_ms: i64 = width.strip_suffix("ms]").unwrap().parse().unwrap();
    let end_ms: i64 = fields["time"].replace('.', "").parse().unwrap();
    let from_ms = end_ms - width_ms + i64::from(!store.closed);
    let values: Vec<Value> = store
        .samples
        .iter()
        .filter(|(at_ms, _)| (from_ms..=end_ms).contains(at_ms))
        .map(|(at_ms, value)| json!([*at_ms as f64 / 1_000.0, value]))
        .collect();
    let (status, body) = if values.len() > store.max_samples {
        (422, json!({"status": "error", "errorType": "execution", "error": "too many samples"}))
    } else {
        let result = if values.is_empty() {
            json!([])
        } else {
            json!([{"metric": {"__name__": "m"}, "values": values}])
        };
        (200, json!({"status": "success", "data": {"resultType": "matrix", "result": result}}))
    };
    let mut response = Response::builder().status(status);
    if store.victoria {
        response = response.header("X-Server-Hostname", "vm");
    }
    response.body(Body::from(body.to_string())).unwrap()
}

impl Store {
    async fn reader(&self) -> Reader {
        let url = serve(Router::new().route("/api/v1/query", post(query)).with_state(self.clone())).await;
        Reader::new(&config(&url), Metrics::default(), now_ns).unwrap()
    }
}

fn question(from_ms: i64, to_ms: i64) -> Query {
    Query {
        selection: Selection::metric("m"),
        range: Range { from_ms, to_ms },
        buckets: None,
        max_series: 10,
        max_samples: 1_000,
    }
}

const T: i64 = 1_750_329_000_000;

/// A day after the samples that there are.
const NOW_MS: i64 = T + 86_400_000;

fn now_ns() -> i64 {
    NOW_MS * 1_000_000
}

#[tokio::test]
async fn every_store_gives_the_same_answer() {
    let samples = vec![
        (T - 1, "9"),
        (T, "1"),
        (T + 1, "NaN"),
        (T + 500, "+Inf"),
        (T + 3_600_000, "2"),
        (T + 3_600_001, "3"),
    ];
    for (closed, victoria) in [(true, false), (false, false), (false, true)] {
        let store =
            Store { samples: samples.clone(), closed, victoria, max_samples: 100, ..Store::default() };
        let reader = store.reader().await;
        let got = reader.read(&question(T, T + 3_600_000)).await.unwrap();
        let mut expected = vec![(T, 1.0), (T + 1, f64::NAN), (T + 500, f64::INFINITY), (T + 3_600_000, 2.0)];
        if victoria {
            // Where a series ends.
            expected.remove(1);
        }
        let expected = [series("m", &[], &expected)];
        assert_eq!(format!("{got:?}"), format!("{expected:?}"), "{closed} {victoria}");
        let mut buckets = question(T - 1, T + 3_600_001);
        buckets.buckets = Some((60_000, Aggregation::Count));
        let count = if victoria { 2.0 } else { 3.0 };
        let got = reader.read(&buckets).await.unwrap().remove(0);
        let end = |ms: i64| ms + (60_000 - ms % 60_000) % 60_000;
        let expected = [
            (end(T - 1), 1.0),
            (end(T), 1.0),
            (end(T + 1), count - 1.0),
            (end(T + 3_600_000), 1.0),
            (end(T + 3_600_001), 1.0),
        ];
        let mut sums: std::collections::BTreeMap<i64, f64> = std::collections::BTreeMap::new();
        expected.iter().for_each(|(at, count)| *sums.entry(*at).or_default() += count);
        let got: std::collections::BTreeMap<i64, f64> =
            got.samples.iter().map(|s| (s.at_ms, s.value)).collect();
        assert_eq!(got, sums);
    }
}

#[tokio::test]
async fn a_sample_that_is_there_twice_is_shown_once() {
    let samples = vec![(T, "1"), (T, "2"), (T + 1, "3"), (T + 1, "3")];
    let store = Store { samples, victoria: true, max_samples: 100, ..Store::default() };
    let got = store.reader().await.read(&question(T, T + 10)).await.unwrap();
    assert_eq!(got, [series("m", &[], &[(T, 2.0), (T + 1, 3.0)])]);
}

#[tokio::test]
async fn what_is_too_much_at_once_is_asked_for_in_slices() {
    let samples: Vec<_> = (0..500).map(|n| (T + n, "1")).collect();
    for closed in [true, false] {
        let store = Store { samples: samples.clone(), closed, max_samples: 50, ..Store::default() };
        let got = store.reader().await.read(&question(T - 86_400_000, T + 86_400_000)).await.unwrap();
        assert_eq!(got[0].samples.len(), 500);
        assert!(
            got[0].samples.iter().zip(T..).all(|(sample, at_ms)| *sample == Sample { at_ms, value: 1.0 })
        );
        assert!(store.asked.lock().unwrap().len() < 200);
    }
    // The control: with no end to it, it is an error.
    let store = Store { samples, max_samples: 0, ..Store::default() };
    let error = store.reader().await.read(&question(T, T + 1_000)).await.unwrap_err();
    assert!(matches!(&error, Error::Remote(words) if words.contains("too many samples")), "{error}");
}

#[tokio::test]
async fn more_than_was_allowed_is_no_answer() {
    let samples: Vec<_> = (0..100).map(|n| (T + n * 1_000, "1")).collect();
    let store = Store { samples, max_samples: 1_000, ..Store::default() };
    let reader = store.reader().await;
    let mut few = question(T, T + 1_000_000);
    few.max_samples = 99;
    assert!(matches!(reader.read(&few).await, Err(Error::TooMuch { what: "samples", limit: 99 })));
    few.buckets = Some((60_000, Aggregation::Avg));
    assert_eq!(reader.read(&few).await.unwrap()[0].samples.len(), 3);
    few.max_series = 0;
    assert!(matches!(reader.read(&few).await, Err(Error::TooMuch { what: "series", limit: 0 })));
    assert_eq!(reader.read(&question(5, 4)).await.unwrap(), [], "an empty range is no question");
    assert_eq!(reader.read(&question(i64::MIN, i64::MAX)).await.unwrap()[0].samples.len(), 100);
}

async fn told(status: u16, body: impl Into<String>) -> Error {
    let body: String = body.into();
    let answer = move || {
        let response = Response::builder().status(status).body(Body::from(body.clone())).unwrap();
        std::future::ready(response)
    };
    let url = serve(Router::new().fallback(answer)).await;
    Reader::new(&config(&url), Metrics::default(), now_ns).unwrap().read(&question(T, T)).await.unwrap_err()
}

#[tokio::test]
async fn what_is_no_answer_is_told() {
    let good = |more: &str| format!("{{\"status\":\"success\"{more},\"data\":{{\"result\":[]}}}}");
    for (status, body, words) in [
        (404, "not here".to_owned(), "read_url"),
        (200, "<html>".to_owned(), "read_url"),
        (200, "{}".to_owned(), "without data"),
        (500, good(""), "without data"),
        (400, r#"{"status":"error","error":"parse error"}"#.to_owned(), "parse error"),
        (200, good(",\"isPartial\":true"), "only a part"),
        (200, good(",\"warnings\":[\"one of two\"]"), "one of two"),
        (
            200,
            r#"{"data":{"result":[{"metric":{"__name__":"m"},"values":[[1,"x"]]}]}}"#.to_owned(),
            "no value",
        ),
    ] {
        let error = told(status, body).await;
        assert!(matches!(&error, Error::Remote(told) if told.contains(words)), "{words}: {error}");
    }
    let long = told(200, "x".repeat(MAX_ANSWER_BYTES + 1)).await;
    assert!(matches!(long, Error::TooMuch { .. }), "{long}");
}

/// Answers `/api/v1/series` with four series of two metrics, and each of the queries with what `times` says.
async fn directory(victoria: bool, times: fn(&str) -> Value) -> Reader {
    let with = move |body: String| {
        let response = Response::builder();
        let response = if victoria { response.header("X-Server-Hostname", "vm") } else { response };
        response.body(Body::from(body)).unwrap()
    };
    let series = move || async move {
        let odd = json!({"__name__": "m", "a.b": "1"});
        let all = json!([{"__name__": "m", "a": "1"}, {"__name__": "m", "a": "2"}, {"__name__": "n", "a": "1"}, {"__name__": "n", "a": "3"}, odd]);
        with(json!({"status": "success", "data": all}).to_string())
    };
    let query = move |form: String| async move {
        let fields = fields(&form);
        assert_eq!(fields["time"], "1750329000.000");
        with(json!({"status": "success", "data": {"result": times(&fields["query"])}}).to_string())
    };
    let router = Router::new().route("/api/v1/series", post(series)).route("/api/v1/query", post(query));
    Reader::new(&config(&serve(router).await), Metrics::default(), now_ns).unwrap()
}

fn found(metric: &str, a: &str, last_ms: i64) -> Found {
    Found { labels: Arc::new(series(metric, &[("a", a)], &[]).labels), last_ms }
}

#[tokio::test]
async fn series_are_found_with_their_last_time() {
    let range = Range { from_ms: T - 3_599_999, to_ms: T };
    let of_prometheus = |query: &str| match query {
        // The second is too old for an instant, and the third is there but from before the range.
        r#"timestamp({__name__=~"m|n",__name__="m"})"# => {
            json!([{"metric": {"a": "1"}, "value": [0, "1750328999.5"]}])
        }
        r#"max_over_time(timestamp({__name__=~"m|n",__name__="m"})[3600000ms:300000ms])"# => {
            json!([{"metric": {"a": "1"}, "value": [0, "5"]}, {"metric": {"a": "2"}, "value": [0, "1750328000"]}])
        }
        r#"last_over_time({__name__=~"m|n",__name__="n"}[3600000ms])"# => {
            json!([{"metric": {"__name__": "n", "a": "3"}, "value": [0, "NaN"]}])
        }
        r#"{__name__="n",a="3"}[3600000ms]"# => {
            json!([{"metric": {"__name__": "n", "a": "3"}, "values": [[1_750_328_000.1, "1"], [1_750_328_000.2, "1"]]}])
        }
        r#"timestamp({__name__=~"m|n",__name__="n"})"# => {
            json!([{"metric": {"a": "1"}, "value": [0, "1750300000"]}])
        }
        r#"max_over_time(timestamp({__name__=~"m|n",__name__="n"})[3600000ms:300000ms])"# => json!([]),
        other => panic!("{other}"),
    };
    let of_victoria = |query: &str| {
        assert_eq!(query, r#"tlast_over_time({__name__=~"m|n",__name__!=""}[3600000ms]) keep_metric_names"#);
        let of = |metric: &str, a: &str, last: &str| json!({"metric": {"__name__": metric, "a": a}, "value": [0, last]});
        json!([of("m", "1", "1750328999.5"), of("m", "2", "1750328000"), of("n", "3", "1750328000.2")])
    };
    let expected = [found("m", "1", T - 500), found("m", "2", T - 1_000_000), found("n", "3", T - 999_800)];
    let both = Selection::default().and("__name__", Operator::Fits, "m|n");
    for (victoria, times) in [(false, of_prometheus as fn(&str) -> Value), (true, of_victoria)] {
        let reader = directory(victoria, times).await;
        assert_eq!(reader.find(&both, range, 10).await.unwrap(), expected);
        assert_eq!(reader.metrics.unreadable.get(), 1);
        assert!(matches!(
            reader.find(&both, range, 4).await,
            Err(Error::TooMuch { what: "series", limit: 4 })
        ));
    }
}

/// The times of the series `m{a="N"}`, and whether it ends with a mark.
fn ended(a: &str) -> (Vec<i64>, bool) {
    const DAY_MS: i64 = 86_400_000;
    let hour = |last_ms: i64| (0..60).rev().map(|n| last_ms - n * 60_000).collect();
    match a {
        "1" => (hour(NOW_MS - 1_000), false),
        "2" => (hour(NOW_MS - 10 * DAY_MS), false),
        // Between two steps.
        "3" => (vec![NOW_MS - 40 * DAY_MS + 90_000, NOW_MS - 40 * DAY_MS + 90_001], true),
        _ => (Vec::new(), false),
    }
}

/// Answers as Prometheus about these series, and notes the steps that each question costs and where it ends.
fn prometheus(query: &str, at_ms: i64, costs: &Mutex<Vec<(i64, i64)>>) -> Value {
    const STEP_MS: i64 = 300_000;
    let width_ms = |end: &str| -> i64 {
        let width = query.rsplit_once('[').unwrap().1.strip_suffix(end).unwrap();
        width.parse().unwrap()
    };
    let shown = |a: &str, at_ms: i64| {
        let (times, marked) = ended(a);
        let last_ms = times.into_iter().rev().find(|time_ms| *time_ms <= at_ms)?;
        (at_ms - last_ms < STEP_MS && !(marked && at_ms > last_ms + 1)).then_some(last_ms)
    };
    let within = |a: &str, width_ms: i64| -> Vec<i64> {
        ended(a).0.into_iter().filter(|time_ms| (at_ms - width_ms + 1..=at_ms).contains(time_ms)).collect()
    };
    let mut steps = 1;
    let mut result = Vec::new();
    for a in ["1", "2", "3"] {
        let value = if query.starts_with("timestamp(") {
            shown(a, at_ms).map(seconds)
        } else if query.starts_with("max_over_time(timestamp(") {
            let width_ms = width_ms("ms:300000ms])");
            steps = width_ms / STEP_MS;
            let first = ((at_ms - width_ms).div_euclid(STEP_MS) + 1) * STEP_MS;
            let some_steps = (first..=at_ms).step_by(300_000).take(10_000);
            some_steps.filter_map(|step_ms| shown(a, step_ms)).max().map(seconds)
        } else if query.starts_with("last_over_time(") {
            within(a, width_ms("ms])")).last().map(|_| "0".to_owned())
        } else {
            let times =
                if query.contains(&format!("a=\"{a}\"")) { within(a, width_ms("ms]")) } else { Vec::new() };
            let values: Vec<_> =
                times.iter().map(|time_ms| json!([*time_ms as f64 / 1_000.0, "1"])).collect();
            result.push(json!({"metric": {"__name__": "m", "a": a}, "values": values}));
            None
        };
        result.extend(value.map(|value| json!({"metric": {"__name__": "m", "a": a}, "value": [0, value]})));
    }
    costs.lock().unwrap().push((steps, at_ms));
    json!(result)
}

#[tokio::test]
async fn a_question_without_a_start_costs_prometheus_no_more_than_what_it_has() {
    let costs = Arc::new(Mutex::new(Vec::new()));
    let query = {
        let costs = Arc::clone(&costs);
        move |form: String| async move {
            let fields = fields(&form);
            let at_ms = fields["time"].replace('.', "").parse().unwrap();
            json!({"status": "success", "data": {"result": prometheus(&fields["query"], at_ms, &costs)}})
                .to_string()
        }
    };
    // One of them has no sample: blocks hold hours.
    let listed = ["1", "2", "3", "4"].map(|a| json!({"__name__": "m", "a": a}));
    let listed = json!({"status": "success", "data": listed}).to_string();
    let list = move || std::future::ready(listed.clone());
    let router = Router::new().route("/api/v1/series", post(list)).route("/api/v1/query", post(query));
    let reader = Reader::new(&config(&serve(router).await), Metrics::default(), now_ns).unwrap();
    for to_ms in [NOW_MS, i64::MAX] {
        let range = Range { from_ms: 0, to_ms };
        let last = |a: &str| found("m", a, *ended(a).0.last().unwrap());
        let all = reader.find(&Selection::metric("m"), range, 10).await.unwrap();
        assert_eq!(all, ["1", "2", "3"].map(last));
        let costs = std::mem::take(&mut *costs.lock().unwrap());
        assert!(costs.iter().all(|(_, at_ms)| *at_ms <= NOW_MS + MAX_AHEAD_MS), "{costs:?}");
        assert!(costs.iter().map(|(steps, _)| steps).sum::<i64>() < 15_000, "{costs:?}");
        assert!(costs.len() < 60, "{}", costs.len());
    }
}

#[tokio::test]
async fn names_and_values_are_asked_for_where_they_are() {
    let names = |form: String| async move {
        let fields = fields(&form);
        assert_eq!((&*fields["match[]"], &*fields["limit"]), ("{__name__!=\"\"}", "200001"));
        assert_eq!((&*fields["start"], &*fields["end"]), ("0.001", "1750329000.000"));
        json!({"status": "success", "data": ["b", "a"]}).to_string()
    };
    let values = |Asked(fields): Asked<Fields>| async move {
        assert_eq!(fields["match[]"], "{__name__=\"m\",a!=\"\\\"} or up{\"}");
        json!({"status": "success", "data": ["2", "1"]}).to_string()
    };
    let router = Router::new()
        .route("/prefix/api/v1/labels", post(names))
        .route("/prefix/api/v1/label/gpu/values", get(values));
    let url = serve(router).await;
    let reader = Reader::new(&config(&format!("{url}/prefix/")), Metrics::default(), now_ns).unwrap();
    let selection = Selection::metric("m").and("a", Operator::NotEqual, "\"} or up{");
    let range = Range { from_ms: 1, to_ms: T };
    let set = |words: [&str; 2]| words.map(str::to_owned).into();
    assert_eq!(reader.label_names(range).await.unwrap(), set(["a", "b"]));
    assert_eq!(reader.label_values("gpu", &selection, range).await.unwrap(), set(["1", "2"]));
    assert!(matches!(reader.label_values("gpu/../x", &selection, range).await, Err(Error::Invalid(_))));
}
