//! Files, variables and flags become one value, and everything wrong with them is said at once.

use super::*;

#[test]
fn a_warning_at_nothing_or_at_the_end_is_refused() {
    for (percent, errors) in [(0, 1), (1, 0), (50, 0), (99, 0), (100, 1)] {
        let (config, mut found) = parse(&format!("[scheduler.watchdog]\nwarn_percent = {percent}\n"));
        validate(&config, &mut found);
        assert_eq!(found.len(), errors, "{percent}: {found:?}");
    }
}

#[test]
fn a_limit_of_anomalies_is_a_percentage() {
    for key in ["max_percent_of_node", "min_percent_of_memory", "max_percent_of_disk"] {
        for (percent, errors) in [(0, 1), (1, 0), (100, 0), (101, 1)] {
            let (config, mut found) = parse(&format!("[actions]\n{key} = {percent}\n"));
            validate(&config, &mut found);
            assert_eq!(found.len(), errors, "{key} = {percent}: {found:?}");
        }
    }
}

#[test]
fn every_section_reports_its_error_at_once() {
    let text = "[log]\nformat = \"xml\"\n[node]\nintervall_ms = 5\n[receiver]\nlisten = 3\n[nodes]\n";
    let (_, errors) = parse(text);
    assert_eq!(errors.len(), 4, "{errors:#?}");
    assert!(errors[0].contains("[log]") && errors[0].contains("xml"), "{errors:?}");
    assert!(errors[1].contains("intervall_ms"), "{errors:?}");
    assert!(errors[3].contains("[nodes]"), "{errors:?}");
}

#[test]
fn a_dump_of_the_defaults_is_a_valid_file() {
    let dump = toml::to_string(&Config::default()).unwrap();
    let (config, errors) = parse(&dump);
    assert_eq!(errors, Vec::<String>::new());
    assert_eq!(config, Config::default());
}

#[test]
fn flags_beat_the_file() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("sextant.toml");
    std::fs::write(&file, "[node]\ninterval_ms = 5000\nname = \"from-file\"\n").unwrap();
    let args = NodeArgs {
        shared: Shared { config: Some(file), ..Shared::default() },
        interval: Some("250ms".to_owned()),
        ..NodeArgs::default()
    };
    let config = for_node(&args).unwrap();
    assert_eq!((config.node.interval_ms, config.node.name.as_str()), (250, "from-file"));
}

#[test]
fn the_references_variables_beat_the_file_and_their_secret_is_not_dumped() {
    let (mut config, mut errors) = parse("[database]\nhost = \"a\"\nuser = \"u\"\n");
    apply_reference(&mut config, &mut errors, |name| match name {
        "OB_HOST" => Some("obproxy".to_owned()),
        "OB_PORT" => Some("70000".to_owned()),
        "OB_PASSWORD" => Some("s3cret".to_owned()),
        "PROMETHEUS_URL" => Some("ftp://u:p@x".to_owned()),
        _ => None,
    });
    assert_eq!((&*config.database.host, &*config.database.user), ("obproxy", "u"));
    assert!(config.database.login().is_ok_and(|login| login.password.reveal() == "s3cret"));
    validate(&config, &mut errors);
    assert_eq!(errors.len(), 2, "{errors:?}");
    let shown = format!("{} {config:?} {errors:?}", dump(&config));
    assert!(!shown.contains("s3cret"), "{shown}");
}

#[test]
fn bad_values_are_named_with_what_would_be_right() {
    let args = NodeArgs {
        shared: Shared { listen: vec!["localhost".to_owned()], ..Shared::default() },
        receiver: vec!["ftp://x".to_owned()],
        interval: Some("soon".to_owned()),
        ..NodeArgs::default()
    };
    let Errors(errors) = for_node(&args).unwrap_err();
    assert_eq!(errors.len(), 3, "{errors:#?}");
    assert!(errors.iter().all(|error| error.contains("such as") || error.contains("try")), "{errors:?}");
}

#[test]
fn the_references_keys_close_what_they_were_set_to_close() {
    let mut keys = Keys::default();
    apply_reference_keys(&mut keys, |_| None);
    assert_eq!(keys, Keys::default(), "there is no default secret");
    apply_reference_keys(&mut keys, |name| (name == "API_KEY").then(|| "s3cret".to_owned()));
    assert_eq!((keys.required, keys.key.len()), (Some(Required::Everything), 1));
    assert!(!format!("{keys:?}").contains("s3cret"), "{keys:?}");
    let mut keys = Keys { required: Some(Required::Actions), ..Keys::default() };
    apply_reference_keys(&mut keys, |_| Some("s3cret".to_owned()));
    assert_eq!(keys.required, Some(Required::Actions), "what the file says holds");
    assert!(keys.check().unwrap_err().contains("the same key"), "one secret for two is said");
}

#[test]
fn keys_and_certificates_are_checked_and_no_digest_is_dumped() {
    let digest = "0123456789abcdef".repeat(4);
    let key = format!("[[keys.key]]\nname = \"a\"\nsha256 = \"{digest}\"\nscopes = [\"read\"]\n");
    let (config, errors) = parse(&format!("[keys]\nrequired = \"changes\"\n{key}"));
    assert_eq!((errors, config.keys.required), (Vec::new(), Some(Required::Changes)));
    assert!(!dump(&config).contains(&digest), "{}", dump(&config));
    for (text, section) in [
        ("[keys]\nrequired = \"all\"\n", "[keys]"),
        ("[[keys.key]]\nname = \"a\"\nsha256 = \"\"\nscopes = [\"read\"]\n", "[keys]"),
        ("[[keys.key]]\nname = \"a\"\nscopes = [\"root\"]\n", "[keys]"),
        ("[http.tls]\ncert = \"/c\"\n", "[http.tls]"),
        ("[http.tls]\nclient_ca = \"/c\"\n", "[http.tls]"),
        ("[http.rate]\npeer_per_second = -1\n", "[http]"),
        ("[forward]\nreceiver = \"http://r\"\n[forward.tls]\nca = \"/c\"\n", "[forward.tls]"),
    ] {
        let (config, mut errors) = parse(text);
        validate(&config, &mut errors);
        assert_eq!(errors.len(), 1, "{text}: {errors:?}");
        assert!(errors[0].starts_with(section), "{errors:?}");
    }
}

#[test]
fn the_references_variable_says_whose_time_events_have() {
    for (value, mode) in [
        (None, events::Mode::EventTime),
        (Some("true"), events::Mode::EventTime),
        (Some("TRUE"), events::Mode::EventTime),
        (Some("false"), events::Mode::ScrapeTime),
        (Some("1"), events::Mode::ScrapeTime),
    ] {
        let mut config = events::Config::default();
        apply_reference_events(&mut config, |name| {
            value.filter(|_| name == "USE_EXPLICIT_TIMESTAMPS").map(str::to_owned)
        });
        assert_eq!(config.mode, mode, "{value:?}");
    }
    let (config, mut errors) = parse("[events]\nname = \"up\"\nmode = \"scrape-time\"\n");
    validate(&config, &mut errors);
    assert_eq!(errors.len(), 1, "{errors:?}");
}
