//! Keys: who is known, what wrong ones are told, what a file that is wrong changes.

use super::*;

/// Keys whose names are their scopes' and whose secrets are given.
pub(in crate::http) fn of(keys: &[(&str, &[Scope])]) -> Config {
    let key = |(secret, scopes): &(&str, &[Scope])| {
        KeyConfig::of(secret, &format!("holder-of-{secret}"), scopes.to_vec())
    };
    Config { key: keys.iter().map(key).collect(), ..Config::default() }
}

fn caller(keys: &Keys, headers: &[(&'static str, &'static str)]) -> Caller {
    let headers: HeaderMap =
        headers.iter().map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap())).collect();
    let known = |key| keys.find(key).map_or(Caller::Stranger, Caller::Holder);
    presented(&headers).map_or(Caller::Nobody, known)
}

#[test]
fn none_and_a_wrong_one_are_401_one_without_the_scope_403_the_right_one_passes() {
    let config = of(&[("right", &[Scope::Act]), ("reader", &[Scope::Read]), ("root", &[Scope::Admin])]);
    let keys = Keys::new(&config).unwrap();
    let verdict =
        |headers: &_| caller(&keys, headers).may(Scope::Act).map_err(|error| error.status().as_u16());
    assert_eq!(verdict(&[]), Err(401));
    assert_eq!(verdict(&[("authorization", "Basic right")]), Err(401));
    for wrong in ["", "wrong", "right ", "Right", "holder-of-right"] {
        assert_eq!(verdict(&[("x-api-key", wrong)]), Err(401), "{wrong:?}");
    }
    assert_eq!(verdict(&[("x-api-key", "reader")]), Err(403));
    assert_eq!(verdict(&[("x-api-key", "right")]), Ok(()));
    assert_eq!(verdict(&[("x-api-key", "root")]), Ok(()));
    assert_eq!(verdict(&[("authorization", "bearer right")]), Ok(()));
    assert_eq!(verdict(&[("x-api-key", "wrong"), ("authorization", "bearer right")]), Err(401));
    assert!(Caller::Local.may(Scope::Act).is_ok());
    assert!(Keys::default().find(b"").is_none() && Keys::default().find(b"right").is_none());
}

#[test]
fn a_digest_itself_opens_nothing() {
    let config = of(&[("right", &[Scope::Act])]);
    let keys = Keys::new(&config).unwrap();
    assert!(keys.find(config.key[0].sha256.as_bytes()).is_none());
    assert!(keys.find(&keys.find(b"right").unwrap().digest).is_none());
}

#[test]
fn what_is_wrong_with_a_key_is_said_without_repeating_it() {
    let good = of(&[("secret-of-mine", &[Scope::Read])]);
    let wrong = |change: &dyn Fn(&mut Config)| {
        let mut config = good.clone();
        change(&mut config);
        config.check().unwrap_err()
    };
    for digest in ["", "secret-of-mine", &"0".repeat(63), &"0".repeat(65), &"g".repeat(64), &"é".repeat(32)]
    {
        let error = wrong(&|config| digest.clone_into(&mut config.key[0].sha256));
        assert!(error.contains("sha256 is not"), "{error}");
        let rest = error.replace("holder-of-secret-of-mine", "");
        assert!(digest.is_empty() || !rest.contains(digest), "{error}");
    }
    assert!(wrong(&|config| config.key[0].scopes.clear()).contains("without scopes"));
    assert!(wrong(&|config| "a b".clone_into(&mut config.key[0].name)).contains("its name"));
    assert!(wrong(&|config| config.key.push(config.key[0].clone())).contains("two of this name"));
    let twice = wrong(&|config| {
        config.key.push(config.key[0].clone());
        "other".clone_into(&mut config.key[1].name);
    });
    assert!(twice.contains("the same key"), "{twice}");
    let many = (0..=MAX_KEYS).map(|index| format!("{index}")).collect::<Vec<_>>();
    let many: Vec<(&str, &[Scope])> = many.iter().map(|key| (key.as_str(), &[Scope::Read][..])).collect();
    assert!(of(&many).check().unwrap_err().contains("more than"));
    assert!(of(&many[1..]).check().is_ok());
}

#[test]
fn a_file_is_read_again_and_a_wrong_one_changes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("keys.toml");
    let write = |keys: &[(&str, &[Scope])]| {
        let text: String = of(keys).key.iter().map(fresh::lines).collect();
        std::fs::write(&file, text).unwrap();
    };
    let config = Config { file: file.clone(), ..of(&[("inline", &[Scope::Read])]) };
    assert!(Keys::new(&config).unwrap_err().contains("keys.toml"), "a file that is not there is an error");
    write(&[("old", &[Scope::Act])]);
    let keys = Keys::new(&config).unwrap();
    let known = |keys: &Keys| ["inline", "old", "new"].map(|key| keys.find(key.as_bytes()).is_some());
    assert_eq!(known(&keys), [true, true, false]);

    for wrong in [
        "[[keys.key]]\nname = \"x\"\nsha256 = \"the-secret-itself\"\nscopes = [\"read\"]",
        "[[keys.key]]\nname = \"x\"\nkey = \"the-secret-itself\"",
        "[keys]\nrequired = \"actions\"",
        "[[key]]",
        "the-secret-itself",
        &fresh::lines(&of(&[("inline", &[Scope::Admin])]).key[0]),
    ] {
        std::fs::write(&file, wrong).unwrap();
        let error = keys.reload().unwrap_err();
        assert!(error.contains("keys.toml") && !error.contains("secret-itself"), "{error}");
        assert_eq!(known(&keys), [true, true, false], "{wrong}");
    }
    std::fs::write(&file, vec![b'#'; 2 << 20]).unwrap();
    assert!(keys.reload().unwrap_err().contains("larger"));
    write(&[("new", &[Scope::Act])]);
    assert_eq!(keys.reload(), Ok(2));
    assert_eq!(known(&keys), [true, false, true], "the old one is void");
}

#[test]
fn a_fresh_key_opens_with_the_lines_that_it_comes_with() {
    let (key, config) = fresh::key([7; 32], "ci", vec![Scope::Read, Scope::Ingest]).unwrap();
    let text = fresh::lines(&config);
    assert!(!text.contains(&key), "{text}");
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("keys.toml");
    std::fs::write(&file, text).unwrap();
    let keys = Keys::new(&Config { file, ..Config::default() }).unwrap();
    let holder = Caller::Holder(keys.find(key.as_bytes()).unwrap());
    assert!(holder.may(Scope::Ingest).is_ok() && holder.may(Scope::Act).is_err());
    assert!(fresh::key([7; 32], "a b", vec![Scope::Read]).is_err());
    assert!(fresh::key([7; 32], "ci", Vec::new()).is_err());
}

#[test]
fn what_needs_a_key_grows_with_what_is_required() {
    let needs =
        |required: Required| Scope::ALL.into_iter().filter(move |scope| required.needs(*scope)).count();
    assert_eq!([Required::Actions, Required::Changes, Required::Everything].map(needs), [1, 5, 6]);
    assert!(!Required::Changes.needs(Scope::Read) && Required::Actions.needs(Scope::Act));
}
