use super::*;

fn alert(n: usize) -> Alert {
    Alert {
        rule: format!("R{n}"),
        labels: BTreeMap::new(),
        state: State::Firing,
        value: Some(1.0),
        active_at_ms: 1,
        fired_at_ms: Some(2),
        resolved_at_ms: None,
        severity: String::new(),
        summary: String::new(),
    }
}

fn outbox(ledger: Ledger, readers: &[&str]) -> Outbox {
    let readers = readers.iter().map(|&reader| reader.to_owned()).collect();
    Outbox::new(ledger, &readers, Metrics::default())
}

/// The first alert of what a reader is given now.
fn given(reader: &mut Reader) -> Option<String> {
    Some(reader.next().now_or_never()?[0].rule.clone())
}

#[test]
fn each_reader_tells_each_post_once_over_a_restart_and_none_before_it_is_kept() {
    let out = outbox(Ledger::default(), &["a", "b"]);
    let mut a = out.reader("a");
    out.push(&[alert(1)]);
    assert_eq!(given(&mut a), None, "it is not on disk");
    out.release();
    out.push(&[alert(2)]);
    out.release();
    assert_eq!(given(&mut a).as_deref(), Some("R1"));
    assert_eq!(given(&mut a).as_deref(), Some("R1"), "it was not told");
    assert!(a.is_wanted() && !out.has_moved());
    a.told();
    assert!(out.has_moved() && !out.has_moved());
    assert_eq!(given(&mut a).as_deref(), Some("R2"));
    assert_eq!(out.0.metrics.untold.get(), 3);
    // Killed: what `a` has not told, and all of `b`, is told by who comes after; a new reader begins with what comes.
    let text = serde_json::to_string(&out.snapshot()).unwrap();
    let out = outbox(serde_json::from_str(&text).unwrap(), &["a", "b", "new"]);
    let (mut a, mut b, mut new) = (out.reader("a"), out.reader("b"), out.reader("new"));
    assert_eq!((given(&mut a).as_deref(), given(&mut new)), (Some("R2"), None));
    assert_eq!(given(&mut b).as_deref(), Some("R1"));
    a.told();
    for _ in 0..2 {
        given(&mut b).unwrap();
        b.told();
    }
    assert_eq!((out.0.metrics.untold.get(), out.snapshot().posts.len()), (0, 0));
    // Whom nobody reads for any more holds up nothing.
    out.push(&[alert(3)]);
    assert_eq!(outbox(out.snapshot(), &["new"]).snapshot().posts.len(), 1);
    assert!(outbox(out.snapshot(), &["other"]).snapshot().posts.is_empty());
}

#[test]
fn what_waits_is_bounded_the_oldest_goes_and_is_counted_for_who_waited() {
    let out = outbox(Ledger::default(), &["up", "down"]);
    let (mut up, mut down) = (out.reader("up"), out.reader("down"));
    for n in 0..MAX_POSTS + 5 {
        out.push(&[alert(n)]);
        out.release();
        given(&mut up).unwrap();
        up.told();
        if n == 0 {
            assert_eq!(given(&mut down).as_deref(), Some("R0"));
        }
    }
    let dropped = || {
        out.0.metrics.posts.get_or_create(&crate::alerts::metrics::ResultLabel { result: "dropped" }).get()
    };
    assert!(!down.is_wanted());
    down.told();
    assert_eq!((given(&mut down).as_deref(), dropped()), (Some("R5"), 5));
    let many: Vec<_> = (0..MAX_ALERTS).map(alert).collect();
    out.push(&many);
    let lengths: Vec<_> = out.snapshot().posts.iter().map(Vec::len).collect();
    assert_eq!((lengths.len(), lengths[0], lengths[32]), (33, MAX_IN_POST, MAX_ALERTS - 32 * MAX_IN_POST));
}

#[test]
fn a_file_that_says_nonsense_breaks_nothing() {
    let text = r#"{"first": 7, "posts": [[], []], "next": {"a": 2, "b": 100, "c": 8}}"#;
    let out = outbox(serde_json::from_str(text).unwrap(), &["a", "b", "c"]);
    assert_eq!(
        out.snapshot().next,
        [("a", 7), ("b", 9), ("c", 8)].map(|(name, next)| (name.to_owned(), next)).into()
    );
}

#[test]
fn an_id_is_of_the_firing_and_fits() {
    let one = alert(1);
    let end = Alert { state: State::Resolved, resolved_at_ms: Some(9), ..one.clone() };
    let again = Alert { fired_at_ms: Some(10), ..one.clone() };
    let other = Alert { labels: [("a".to_owned(), "b".repeat(1_000))].into(), ..one.clone() };
    let ids: BTreeSet<_> = [&one, &end, &again, &other].map(Alert::id).into();
    assert_eq!(ids.len(), 4);
    assert!(ids.iter().all(|id| id.len() <= 128));
    let later = Alert { value: None, summary: "x".to_owned(), ..one.clone() };
    assert_eq!(later.id(), one.id());
}
