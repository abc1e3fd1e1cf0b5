use proptest::prelude::*;

use super::parse::{Given, decode};
use super::*;
use crate::domain::series::Sample;

fn series(metric: &str, labels: &[(&str, &str)], samples: &[(i64, f64)]) -> SeriesSamples {
    let samples = samples.iter().map(|(at_ms, value)| Sample { at_ms: *at_ms, value: *value }).collect();
    SeriesSamples { labels: Labels::new(metric, labels.iter().copied()).unwrap(), samples }
}

fn ms(text: &str) -> Result<Vec<SeriesSamples>, parse::Error> {
    decode(text, Given { precision: Precision::Milliseconds, now_ms: 77, database: "" })
}

#[test]
fn lines_are_read_as_the_format_says() {
    let text = "# a comment\r\n\n\
        cpu,host=a\\ b\\,c\\=d,path=\\x2d usage=1.5e3,ok=t,count=5i,big=7u,note=\"a, b=\\\"c\\\" \\\\\n second line\" 1000\r\n\
        up value=0 \n  cpu,host=a\\ b\\,c\\=d,path=\\x2d usage=-2 500\n\
        od-d.name,t-ag=1 9f=1 3";
    let host = [("host", "a b,c=d"), ("path", "\\x2d")];
    let expected = [
        series("cpu_usage", &host, &[(500, -2.0), (1_000, 1_500.0)]),
        series("cpu_ok", &host, &[(1_000, 1.0)]),
        series("cpu_count", &host, &[(1_000, 5.0)]),
        series("cpu_big", &host, &[(1_000, 7.0)]),
        series("up_value", &[], &[(77, 0.0)]),
        series("od_d_name_9f", &[("t_ag", "1")], &[(3, 1.0)]),
    ];
    assert_eq!(ms(text).unwrap(), expected);
    assert_eq!(ms("m only=\"text\" 5").unwrap(), []);
    assert_eq!(ms("").unwrap(), []);
}

#[test]
fn a_bad_line_is_named_and_nothing_is_taken() {
    for (text, line, words) in [
        ("m v=1\nbad line here x y", 2, "no name or no value"),
        ("m v=1\n\nm,t v=1", 3, "tag \"t\""),
        ("m,t=a=b v=1", 1, "not escaped"),
        (",t=1 v=1", 1, "no measurement"),
        ("m", 1, "field \"\""),
        ("m v=", 1, "\"\" is no value"),
        ("m v=nan", 1, "\"nan\" is no value"),
        ("m v=1e999", 1, "is no value"),
        ("m v=9223372036854775808i", 1, "is no value"),
        ("m v=\"text", 1, "no end"),
        ("m s=\"a\nb\" 1\nm v=1 1x", 3, "\"1x\" is no time"),
        ("m v=1 1 2", 1, "more than"),
        ("m,t=1,t=2 v=1", 1, "label t is there twice"),
        ("m v=1,", 1, "field \"\""),
    ] {
        let error = ms(text).unwrap_err();
        assert!(error.line == line && error.words.contains(words), "{text:?}: {error}");
    }
    let many = "m v=1 1\n".repeat(200_001);
    let error = ms(&many).unwrap_err();
    assert_eq!((error.line, error.too_large), (200_001, true));
    assert!(!ms("m").unwrap_err().too_large);
    let huge = decode("m v=1 9223372036854775807", Given { precision: Precision::Hours, ..Given::default() });
    assert!(huge.unwrap_err().words.contains("too large"));
}

#[test]
fn a_line_that_names_its_tags_for_every_field_is_too_large() {
    let tags = |count: usize, bytes: usize| -> String {
        (0..count).map(|n| format!(",t{n}={n:0>bytes$}")).collect()
    };
    let fields = |count: usize| (0..count).map(|n| format!("a{n}=1")).collect::<Vec<_>>().join(",");
    let line = format!("m{} {} 1\nm v=1 1", tags(38, 1_000), fields(20_000));
    assert!(line.len() < 300_000);
    let error = ms(&line).unwrap_err();
    assert!(
        error.too_large && error.line == 1 && error.words.contains("bytes of labels in a body"),
        "{error}"
    );
    // The controls: fewer fields, and a series that is there again costs nothing.
    assert_eq!(ms(&format!("m{} {} 1", tags(38, 1_000), fields(1_000))).unwrap().len(), 1_000);
    let again = format!("m{} {} 1\n", tags(5, 10), fields(1_000)).repeat(150);
    assert_eq!(ms(&again).unwrap().len(), 1_000);
}

#[test]
fn times_have_their_unit_and_a_database_is_a_label() {
    for (word, at_ms) in [("", 1), ("n", 1), ("u", 1_500), ("ms", 1_500_000), ("s", 1_500_000_000)] {
        let precision = Precision::of(word).unwrap();
        let given = Given { precision, now_ms: 0, database: "d" };
        assert_eq!(
            decode("m v=1 1500000", given).unwrap(),
            [series("m_v", &[("db", "d")], &[(at_ms, 1.0)])],
            "{word}"
        );
    }
    assert_eq!(Precision::of("fortnights"), None);
    let given = Given { database: "d", ..Given::default() };
    assert_eq!(decode("m,db=own v=1 0", given).unwrap(), [series("m_v", &[("db", "own")], &[(0, 1.0)])]);
}

#[test]
fn what_the_format_cannot_say_is_counted() {
    let nan = series("m_v", &[], &[(1, f64::NAN), (2, f64::INFINITY), (3, 1e300), (4, 0.1)]);
    assert_eq!(encode(&[nan]), ("m v=1e300 3\nm v=0.1 4\n".to_owned(), 2));
    for value in ["a\nb", "a\\", "a\\,b", "a\\ b", "a\\\\b"] {
        assert_eq!(encode(&[series("m", &[("t", value)], &[(1, 1.0)])]), (String::new(), 1), "{value:?}");
    }
    let said = series("_up", &[("t", "a,b=c d\\x2d\"")], &[(1, 1.0)]);
    assert_eq!(encode(&[said]), ("_up,t=a\\,b\\=c\\ d\\x2d\" value=1.0 1\n".to_owned(), 0));
}

proptest! {
    /// What is written comes back from a store that names series as this reader does.
    #[test]
    fn what_is_written_is_read(
        metric in "[a-z:][a-z0-9]{0,5}_[a-z0-9]{1,5}",
        tag in "\\PC{1,20}",
        samples in prop::collection::btree_map(any::<i64>(), any::<f64>().prop_filter("finite", |v| v.is_finite()), 1..9),
    ) {
        let samples: Vec<_> = samples.into_iter().collect();
        let one = series(&metric, &[("t", &tag)], &samples);
        let (text, unsaid) = encode(std::slice::from_ref(&one));
        let read = ms(&text).unwrap();
        if unsaid == 0 {
            prop_assert_eq!(read, vec![one]);
        } else {
            prop_assert_eq!(read, vec![]);
        }
    }

    #[test]
    fn no_text_is_a_panic(text in "(\\PC|[\\n\\r,= \"\\\\#]){0,100}") {
        let _ = ms(&text);
    }
}
