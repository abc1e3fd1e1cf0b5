use std::fs;

use super::*;

#[test]
fn names_are_split_into_base_and_version() {
    let split = |raw: &str| {
        let name = ops_name(raw);
        (name.base, name.version)
    };
    let with = |base: &str, version: &str| (base.to_owned(), Some(version.to_owned()));
    assert_eq!(split("rustland_1.1.4_x86_64_unknown_linux_gnu"), with("rustland", "1.1.4"));
    assert_eq!(split("cosmos_1.0.5_g85f140fd_x86_64_unknown_linux_gnu"), with("cosmos", "1.0.5_g85f140fd"));
    assert_eq!(split("my_sched_v0.3_aarch64_unknown_linux_musl"), with("my_sched", "v0.3"));
    assert_eq!(split("lavd_2.0"), with("lavd", "2.0"));
    for whole in ["rustland", "bpfland_ops", "simple_2", "_1.0", "", "é_."] {
        assert_eq!(split(whole), (whole.to_owned(), None));
    }
}

#[test]
fn every_file_but_state_may_be_missing() {
    let sys = tempfile::tempdir().expect("a directory");
    assert_eq!(read(sys.path()).expect("no sched_ext is no error"), Facts::default());
    let dir = sys.path().join("kernel/sched_ext");
    fs::create_dir_all(dir.join("root")).expect("made");
    fs::write(dir.join("state"), "enabled\n").expect("written");
    let facts = read(sys.path()).expect("readable");
    assert_eq!(facts, Facts { state: State::Enabled, ..Facts::default() });

    for (name, text) in [
        ("switch_all", "1\n"),
        ("nr_rejected", "3\n"),
        ("enable_seq", "7\n"),
        ("hotplug_seq", "garbage\n"),
        ("root/ops", "bpfland_1.1.4_x86_64_unknown_linux_gnu\n"),
        ("root/events", "SCX_EV_A 5\nno number\n\nSCX_EV_B 18446744073709551615 more\nSCX_EV_C -1\n"),
    ] {
        fs::write(dir.join(name), text).expect("written");
    }
    let facts = read(sys.path()).expect("readable");
    assert_eq!((facts.switch_all, facts.nr_rejected, facts.enable_seq), (Some(true), Some(3), Some(7)));
    assert_eq!(facts.hotplug_seq, None, "never a made-up number");
    assert_eq!(facts.ops.expect("named").base, "bpfland");
    assert_eq!(facts.events, [("SCX_EV_A".to_owned(), 5), ("SCX_EV_B".to_owned(), u64::MAX)]);
}

#[test]
fn files_that_lie_about_their_size_are_cut() {
    let sys = tempfile::tempdir().expect("a directory");
    let dir = sys.path().join("kernel/sched_ext");
    fs::create_dir_all(dir.join("root")).expect("made");
    fs::write(dir.join("state"), [b'x'; 100_000]).expect("written");
    fs::write(dir.join("root/events"), "E 1\n".repeat(100_000)).expect("written");
    let facts = read(sys.path()).expect("readable");
    assert!(matches!(facts.state, State::Other(word) if word.len() == 4096));
    assert_eq!(facts.events.len(), MAX_EVENTS);
}

#[test]
fn a_state_that_cannot_be_read_is_an_error() {
    let sys = tempfile::tempdir().expect("a directory");
    fs::create_dir_all(sys.path().join("kernel/sched_ext/state")).expect("made");
    let error = read(sys.path()).expect_err("a directory is no file");
    assert!(error.to_string().contains("sched_ext/state"));
}
