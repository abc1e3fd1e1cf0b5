use super::*;
use crate::sources::scheduler::sysfs::ops_name;

fn facts(state: State, enable_seq: u64, ops: &str) -> Facts {
    let ops = (!ops.is_empty()).then(|| ops_name(ops));
    Facts { state, enable_seq: Some(enable_seq), ops, ..Facts::default() }
}

fn running(enable_seq: u64, ops: &str) -> Epochs {
    let mut epochs = Epochs::default();
    assert_eq!(epochs.observe(&facts(State::Enabled, enable_seq, ops)), Change::Began);
    assert_eq!(epochs.observe(&facts(State::Enabled, enable_seq, ops)), Change::Same);
    epochs
}

fn life(enable_seq: u64, ops: &str) -> Life {
    Life { ops: ops.to_owned(), enable_seq, settled: true }
}

#[test]
fn a_life_begins_enabled_and_ends_disabled() {
    let mut epochs = Epochs::default();
    for (state, ops) in [(State::Unsupported, ""), (State::Disabled, ""), (State::Enabling, "rustland")] {
        assert_eq!(epochs.observe(&facts(state, 0, ops)), Change::Same);
    }
    assert_eq!(epochs.observe(&facts(State::Enabled, 1, "rustland")), Change::Began);
    assert_eq!(epochs.observe(&facts(State::Enabled, 1, "rustland")), Change::Same);
    assert_eq!(epochs.observe(&facts(State::Disabling, 1, "rustland")), Change::Same);
    assert_eq!(epochs.observe(&facts(State::Disabling, 1, "")), Change::Same, "its name goes first");
    assert_eq!(epochs.observe(&facts(State::Disabled, 1, "")), Change::Ended(life(1, "rustland")));
    assert_eq!(epochs.observe(&facts(State::Disabled, 1, "")), Change::Same, "said once");
}

#[test]
fn another_name_or_number_is_another_life() {
    assert_eq!(running(1, "a").observe(&facts(State::Enabled, 2, "b")), Change::Replaced(life(1, "a")));
    assert_eq!(running(1, "a").observe(&facts(State::Enabled, 2, "a")), Change::Replaced(life(1, "a")));
    assert_eq!(running(1, "a").observe(&facts(State::Enabled, 1, "b")), Change::Replaced(life(1, "a")));
    assert_eq!(running(1, "a").observe(&facts(State::Enabling, 1, "a")), Change::Ended(life(1, "a")));
}

#[test]
fn a_number_that_rises_after_the_first_look_is_asked_about() {
    let begin = || {
        let mut epochs = Epochs::default();
        assert_eq!(epochs.observe(&facts(State::Enabled, 4, "a")), Change::Began);
        epochs
    };
    let after = facts(State::Enabled, 5, "a");
    let mut same = begin();
    assert_eq!(same.observe(&after), Change::Doubtful);
    same.adopt(&after);
    assert_eq!(same.observe(&after), Change::Same);
    assert_eq!(same.life(), Some(&life(5, "a")));

    let mut other = begin();
    assert_eq!(other.observe(&after), Change::Doubtful);
    assert_eq!(other.replace(&after).map(|old| old.enable_seq), Some(4));
    assert_eq!(other.observe(&after), Change::Same);

    let two_more = facts(State::Enabled, 6, "a");
    assert!(matches!(begin().observe(&two_more), Change::Replaced(_)), "negative control: no doubt here");
}

#[test]
fn words_and_kernels_without_numbers_are_followed_by_name() {
    let mut epochs = Epochs::default();
    let other = |ops| facts(State::Other("bypassing".to_owned()), 1, ops);
    assert_eq!(epochs.observe(&other("")), Change::Same);
    assert_eq!(epochs.observe(&other("a")), Change::Began);
    let mut silent = facts(State::Enabled, 0, "a");
    silent.enable_seq = None;
    assert_eq!(epochs.observe(&silent), Change::Same);
    assert_eq!(epochs.observe(&facts(State::Enabled, 1, "")), Change::Same, "name read a moment too late");
    assert!(matches!(epochs.observe(&other("")), Change::Ended(_)));
}
