use super::*;

fn target(life: u64) -> Target {
    Target { life, ops: "rustland".to_owned(), enable_seq: life, timeout_ns: Ok(5_000_000_000) }
}

fn start() -> (tempfile::TempDir, Watchdog) {
    let sys = tempfile::tempdir().expect("a directory");
    let watchdog = Watchdog::start(Config::default(), sys.path(), || 42);
    (sys, watchdog)
}

/// What the keeper's thread says in the end.
#[expect(clippy::disallowed_methods, reason = "the keeper is a thread in real time")]
pub(in crate::sources::scheduler) fn patiently<T>(mut look: impl FnMut() -> Option<T>) -> T {
    let mut looks = (0..10_000).map(|_| {
        thread::sleep(Duration::from_millis(3));
        look()
    });
    looks.find_map(|seen| seen).expect("said within 30 s")
}

#[test]
fn without_a_target_there_is_no_margin_and_without_types_the_reason() {
    let (_sys, watchdog) = start();
    assert_eq!(watchdog.margin(), None);
    for life in [1, 2] {
        watchdog.watch(Some(target(life)));
        let looked = || watchdog.margin().filter(|(margin, _)| margin.absent.as_deref() != Some(NOT_YET));
        let (margin, _) = patiently(looked);
        assert!(margin.absent.as_ref().is_some_and(|why| why.contains("no types of its own")), "{margin:?}");
        assert_eq!((margin.timeout_ns, margin.longest), (Some(5_000_000_000), None));
    }
    watchdog.watch(None);
    assert_eq!(watchdog.margin(), None);
    assert_eq!(watchdog.warnings().count(), 0);
}

#[test]
fn walks_come_several_times_per_timeout() {
    let shared = Arc::<Shared>::default();
    let (out, _warnings) = sync_channel(1);
    let keeper = Keeper { config: Config::default(), sys: PathBuf::new(), wall: || 0, shared, out };
    let every = |timeout_ns| keeper.interval(&Target { timeout_ns, ..target(1) }).as_millis();
    assert_eq!(every(Ok(30_000_000_000)), 1_000);
    assert_eq!(every(Ok(5_000_000_000)), 500);
    assert_eq!(every(Ok(1)), 50);
    assert_eq!(every(Err("unreadable".to_owned())), 1_000);
}
