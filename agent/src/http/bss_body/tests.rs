//! The decoder against recorded answers of Go's own, and our extensions.

use expect_test::expect;
use proptest::prelude::*;

use super::*;
use crate::api::bss::CompatRecord;

/// See the file's head for how it was made.
const GO: &str = include_str!("../../../../tests/fixtures/bss_decoder/go_encoding_json.tsv");

/// `\xNN` is a byte, `\rN(TEXT)` is TEXT N times.
fn unescape(text: &str) -> Vec<u8> {
    let mut out = Vec::new();
    let mut rest = text;
    while let Some((plain, escaped)) = rest.split_once('\\') {
        out.extend_from_slice(plain.as_bytes());
        if let Some(run) = escaped.strip_prefix('r') {
            let (count, tail) = run.split_once('(').expect("a run");
            let (unit, tail) = tail.split_once(')').expect("a run's end");
            out.extend_from_slice(unit.repeat(count.parse().expect("a count")).as_bytes());
            rest = tail;
        } else {
            out.push(u8::from_str_radix(&escaped[1..3], 16).expect("two hex digits"));
            rest = &escaped[3..];
        }
    }
    out.extend_from_slice(rest.as_bytes());
    out
}

/// The eleven values as the stand-in prints them.
fn values(record: &Record) -> String {
    let r = CompatRecord::from(record);
    [
        r.usersched_pid,
        r.nr_queued,
        r.nr_scheduled,
        r.nr_running,
        r.nr_online_cpus,
        r.nr_user_dispatches,
        r.nr_kernel_dispatches,
        r.nr_cancel_dispatches,
        r.nr_bounce_dispatches,
        r.nr_failed_dispatches,
        r.nr_sched_congested,
    ]
    .map(|value| value.to_string())
    .join(" ")
}

/// Both texts say the same: nothing at all, no JSON (where exactly it breaks is each parser's own business), or
/// the same value of a wrong type.
fn same_reason(go: &str, ours: &BodyError) -> bool {
    let not_json = go == "unexpected EOF" || go.starts_with("invalid character");
    match ours {
        BodyError::Empty => go == "EOF",
        BodyError::Truncated(_) | BodyError::TooDeep => not_json,
        // A top-level number is refused anyway; Go does so before it sees what follows (`01`).
        BodyError::Syntax(_) => not_json || go.starts_with("json: cannot unmarshal number into Go value"),
        typed => {
            let words = go.find(" into Go ").map(|end| &go[..end + " into ".len()]);
            words.is_some_and(|words| typed.to_string().starts_with(words))
        }
    }
}

/// Disagreements with the recorded answers; `decode` is a parameter so that a broken decoder can be judged too.
fn disagreements(decode: impl Fn(&[u8]) -> Result<Posted, BodyError>) -> Vec<String> {
    let rows = GO.lines().filter(|line| !line.starts_with('#'));
    let judge = |row: &str| {
        let (body, answer) = row.split_once('\t').expect("a body");
        let (status, text) = answer.split_once('\t').expect("a status");
        let ours = decode(&unescape(body));
        let same = match (&ours, status) {
            (Ok(posted), "200") => !posted.batch && values(&posted.records[0]) == text,
            (Err(error), "400") => same_reason(text, error),
            _ => false,
        };
        (!same).then(|| format!("{body}\n  go:   {status} {text}\n  ours: {ours:?}"))
    };
    rows.filter_map(judge).collect()
}

#[test]
fn every_recorded_body_is_taken_as_go_takes_it() {
    let rows = GO.lines().filter(|line| !line.starts_with('#')).count();
    assert!(rows > 1_400, "the fixture was cut to {rows} rows");
    // Top-level arrays are our extension: Go refuses every one that is JSON.
    let found =
        disagreements(|body| match (body.iter().find(|byte| !byte.is_ascii_whitespace()), decode(body)) {
            (Some(b'['), Err(error @ (BodyError::Syntax(_) | BodyError::Truncated(_)))) => Err(error),
            (Some(b'['), _) => Err(BodyError::Type { found: "array".into(), target: "the record".into() }),
            (_, ours) => ours,
        });
    assert!(found.is_empty(), "{} of {rows} differ:\n{}", found.len(), found.join("\n"));
}

/// Negative control: a plain derived decoder is what one would write first, and it is not Go's.
#[test]
fn a_plain_decoder_disagrees() {
    let plain = |body: &[u8]| {
        let record = serde_json::from_slice::<Record>(body).map_err(BodyError::Syntax)?;
        Ok(Posted { records: vec![record], batch: false })
    };
    assert!(disagreements(plain).len() > 100);
}

fn refusal(body: &str) -> String {
    decode(body.as_bytes()).expect_err(body).to_string()
}

#[test]
fn messages_name_the_field_and_the_record() {
    expect!["json: cannot unmarshal number -1 into field nr_queued of type uint64"]
        .assert_eq(&refusal(r#"{"nr_queued":-1}"#));
    expect!["json: cannot unmarshal number 4294967296 into field usersched_pid of type uint32"]
        .assert_eq(&refusal(r#"{"usersched_pid":4294967296}"#));
    expect!["json: cannot unmarshal string into field metrics[1].nr_running of type uint64"]
        .assert_eq(&refusal(r#"{"metrics":[{},{"nr_running":"2"}]}"#));
    expect!["json: cannot unmarshal bool into field [0].nr_running of type uint64"]
        .assert_eq(&refusal(r#"[{"nr_running":true}]"#));
    expect!["json: cannot unmarshal null into metrics[1]"].assert_eq(&refusal(r#"{"metrics":[{},null]}"#));
    expect!["json: cannot unmarshal array into [0]"].assert_eq(&refusal("[[]]"));
    expect!["json: cannot unmarshal string into the record"].assert_eq(&refusal(r#""x""#));
    expect!["json: a batch needs at least one record"].assert_eq(&refusal("[]"));
    expect!["json: field nr_queued stands beside the batch in metrics"]
        .assert_eq(&refusal(r#"{"nr_queued":1,"metrics":[{}]}"#));
    expect!["unexpected EOF (EOF while parsing a list at line 1 column 14)"]
        .assert_eq(&refusal(r#"{"metrics":[{}"#));
    expect!["json: cannot unmarshal string into field usersched_last_run_at of type uint64"]
        .assert_eq(&refusal(r#"{"usersched_last_run_at":"x"}"#));
    assert!(
        refusal(&format!("{{\"nr_queued\":{}}}", "9".repeat(10_000))).len() < 150,
        "input is not echoed whole"
    );
}

#[test]
fn a_batch_is_taken_whole_and_bounded() {
    let both = [
        r#"[{"nr_queued":1},{"NR_queued":2,"x":[]}]"#,
        r#"{"x":1,"metrics":[{"nr_queued":1},{"nr_queued":2}]}"#,
    ];
    for body in both {
        let posted = decode(body.as_bytes()).expect(body);
        assert!(posted.batch);
        assert_eq!(posted.records.iter().map(|r| r.nr_queued).collect::<Vec<_>>(), [Some(1), Some(2)]);
    }
    // Go ignores the key; where it cannot be our batch, so do we. Within a batch it is a key like any other.
    for body in [r#"{"metrics":{"cpu_time":1},"nr_queued":3}"#, r#"{"metrics":null,"nr_queued":3}"#] {
        assert_eq!(decode(body.as_bytes()).expect(body).records[0].nr_queued, Some(3));
    }
    assert_eq!(decode(br#"[{"metrics":[1]}]"#).expect("a record").records.len(), 1);
    let of = |n: usize| format!("[{}]", vec!["{}"; n].join(","));
    assert_eq!(decode(of(MAX_BATCH).as_bytes()).expect("at the limit").records.len(), MAX_BATCH);
    assert!(matches!(decode(of(MAX_BATCH + 1).as_bytes()), Err(BodyError::BatchTooLong(_))));
}

#[test]
fn what_is_missing_is_none_and_both_first_keys_are_kept() {
    let record = decode(br#"{"usersched_last_run_at":18446744073709551615,"usersched_pid":7}"#)
        .expect("a record")
        .records[0];
    assert_eq!((record.usersched_last_run_at, record.usersched_pid), (Some(u64::MAX), Some(7)));
    assert_eq!(record.nr_queued, None);
}

proptest! {
    #[test]
    fn no_body_panics(body in proptest::collection::vec(any::<u8>(), 0..200)) {
        let _ = decode(&body);
    }

    #[test]
    fn no_json_like_body_panics(body in r#"[\[\]{}",:0-9a-z\\. \-]{0,80}"#) {
        let _ = decode(body.as_bytes());
    }
}
