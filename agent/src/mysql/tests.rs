use super::*;

fn config(host: &str) -> Config {
    Config { host: host.to_owned(), ..Config::default() }
}

#[test]
fn without_a_host_it_says_how_to_configure_one() {
    let error = config("").login().unwrap_err().to_string();
    assert!(error.contains("[database]") && error.contains("OB_HOST"), "{error}");
}

#[test]
fn a_password_comes_from_the_variable_or_the_files_first_line_and_is_never_shown() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("password");
    std::fs::write(&file, "s3cret\r\n").unwrap();
    let mut config = Config { password_file: file.clone(), ..config("localhost") };
    let login = config.login().unwrap();
    assert_eq!((login.password.reveal(), &*login.address()), ("s3cret", "127.0.0.1:2881"));
    config.password = Some(Secret::new("other".to_owned()));
    assert_eq!(config.login().unwrap().password.reveal(), "other");
    let shown = format!("{config:?} {login:?} {}", toml::to_string(&config).unwrap());
    assert!(!shown.contains("s3cret") && !shown.contains("other"), "{shown}");
    std::fs::write(&file, "x".repeat(PASSWORD_FILE_MAX_BYTES + 1)).unwrap();
    let long = Config { password: None, ..config.clone() }.login().unwrap_err().to_string();
    assert!(long.contains("longer than") && !long.contains("xx"), "{long}");
    std::fs::remove_file(&file).unwrap();
    assert!(matches!(Config { password: None, ..config }.login(), Err(Error::Password { .. })));
}

#[test]
fn an_address_of_the_sixth_version_keeps_its_port() {
    assert_eq!(config("::1").login().unwrap().address(), "[::1]:2881");
}

#[tokio::test]
async fn nobody_there_is_unreachable_and_named() {
    let login = Config { port: 1, ..config("127.0.0.1") }.login().unwrap();
    let error = login.connect(None).await.err().unwrap();
    assert!(matches!(&error, Error::Unreachable { address, .. } if address == "127.0.0.1:1"), "{error}");
}
