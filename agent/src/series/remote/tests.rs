use super::testing::config;
use super::*;

fn wrong(change: impl FnOnce(&mut Config)) -> String {
    let mut config = config("http://127.0.0.1:9090");
    change(&mut config);
    config.check().unwrap_err()
}

#[test]
fn what_a_configuration_cannot_be_is_told() {
    config("https://h/prefix").check().unwrap();
    assert!(wrong(|c| c.write_url.clear()).contains("write_url: `` is no URL"));
    assert!(wrong(|c| "ftp://h".clone_into(&mut c.read_url)).contains("read_url"));
    let secret = wrong(|c| "http://u:s3cret@h".clone_into(&mut c.read_url));
    assert!(secret.contains("token_file") && !secret.contains("s3cret"), "{secret}");
    assert!(wrong(|c| "http://h?x=1".clone_into(&mut c.read_url)).contains("? or #"));
    assert!(wrong(|c| c.write_protocol = Protocol::Influx).contains("bucket"));
    assert!(wrong(|c| "o".clone_into(&mut c.org)).contains("influx"));
    assert!(wrong(|c| c.timeout_ms = 1).contains("timeout_ms"));
    assert!(wrong(|c| c.retry_ms = u64::MAX).contains("retry_ms"));
    assert!(wrong(|c| c.tls.ca = "ca.pem".into()).contains("https://"));
    for (name, value) in [("Authorization", "x"), ("X-API-Key", "x"), ("a b", "x"), ("a", "x\ny")] {
        let words = wrong(|c| _ = c.headers.insert(name.to_owned(), value.to_owned()));
        assert!(words.contains("headers: "), "{words}");
    }
}

#[test]
fn a_configuration_is_what_is_written_of_it() {
    let text = "write_url = \"http://h/api/v1/write\"\nread_url = \"http://h\"\nwrite_protocol = \"remote-write-2\"\n\
        [headers]\nX-Scope-OrgID = \"a\"\n";
    let config: Config = toml::from_str(text).unwrap();
    config.check().unwrap();
    assert_eq!(config.write_protocol, Protocol::RemoteWrite2);
    assert_eq!(toml::from_str::<Config>(&toml::to_string(&config).unwrap()).unwrap(), config);
    assert!(toml::from_str::<Config>("token = \"x\"").is_err(), "a token is in a file");
}

#[test]
fn the_variables_of_the_reference_are_taken() {
    let of = |name| {
        Some(match name {
            "INFLUXDB_URL" => "http://influxdb:8086",
            "INFLUXDB_TOKEN" => "supersecrettoken",
            "INFLUXDB_ORG" => "telemetryorg",
            "INFLUXDB_BUCKET" => "telem_bucket",
            _ => return None,
        })
    };
    let mut config = Config::default();
    assert_eq!(config.take_reference(|_| None), Ok(false));
    assert_eq!(config, Config::default());
    assert_eq!(config.take_reference(|name| of(name).map(str::to_owned)), Ok(true));
    config.check().unwrap();
    assert_eq!((&*config.org, &*config.bucket), ("telemetryorg", "telem_bucket"));
    assert_eq!(config.read_url, "http://influxdb:8086");
    let shown = format!("{config:?} {}", toml::to_string(&config).unwrap());
    assert!(!shown.contains("supersecret"), "{shown}");
}

#[test]
fn files_are_read_at_the_start_and_again() {
    let dir = tempfile::tempdir().unwrap();
    let token_file = dir.path().join("token");
    let config = Config { token_file: token_file.clone(), ..config("http://127.0.0.1:9") };
    let refused = |config: &Config| Remote::new(config, &Metrics::default(), || 0).unwrap_err().to_string();
    assert!(refused(&config).contains("token_file"));
    for (text, fine) in [("", false), ("two\nlines", false), (&"x".repeat(5_000), false), ("one\n", true)] {
        std::fs::write(&token_file, text).unwrap();
        assert_eq!(Remote::new(&config, &Metrics::default(), || 0).is_ok(), fine, "{text}");
    }
    let remote = Remote::new(&config, &Metrics::default(), || 0).unwrap();
    remote.reload().unwrap();
    std::fs::remove_file(&token_file).unwrap();
    assert!(remote.reload().is_err());
    assert_eq!(config.files(), [token_file]);
}

#[tokio::test]
async fn what_went_wrong_last_is_told_and_forgotten() {
    let config = Config { retry_ms: 0, ..config("http://127.0.0.1:9") };
    let remote = Remote::new(&config, &Metrics::default(), || 0).unwrap();
    let status = remote.status();
    let batch = vec![testing::series("m", &[], &[(1, 1.0)])];
    assert!(matches!(remote.append(batch).await, Err(Error::Remote(_))));
    let told = status.borrow().degraded.clone().unwrap();
    assert!(told.starts_with("cannot be written: "), "{told}");
    let all = Range { from_ms: 0, to_ms: 1 };
    assert!(remote.find(&Selection::metric("m"), all, 1).await.is_err());
    let odd = Selection::default().and("not a name", crate::domain::series::Operator::Equal, "");
    assert!(matches!(remote.find(&odd, all, 1).await, Err(Error::Invalid(_))));
    assert!(status.borrow().degraded.as_ref().unwrap().contains("; cannot be read: "));
    assert_eq!(remote.append(Vec::new()).await.unwrap(), Appended::default());
    assert!(status.borrow().degraded.as_ref().unwrap().starts_with("cannot be read: "));
}
