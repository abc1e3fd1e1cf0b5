//! The screen as a golden text, and what hostile names can do to it.

use std::collections::BTreeMap;

use expect_test::expect;

use super::super::{Counter, Pod, Receiver, Watchdog};
use super::*;
use crate::api::batch::Accounts;
use crate::api::runqueue::{Neighbour, Recent};
use crate::api::scheduler::Exit;
use crate::api::scheduler::event::{Margin, Wait};

fn status() -> Status {
    let counter = |name: &str, total, per_second| Counter { name: name.to_owned(), total, per_second };
    let source = |name: &str, condition: &str, age_ms| Source {
        name: name.to_owned(),
        condition: condition.to_owned(),
        age_ms,
        collections: 41,
        last_duration_us: 1_234,
        ..Source::default()
    };
    let pod = |namespace: Option<&str>, name: Option<&str>, tasks| Pod {
        namespace: namespace.map(str::to_owned),
        name: name.map(str::to_owned),
        uid: "65979e01-4cb1-4d08-9dba-45530253ff00".to_owned(),
        qos: "burstable".to_owned(),
        containers: 2,
        tasks,
        threads: 31,
        cpu_cores: name.map(|_| 1.257),
        throttled_ratio: name.map(|_| 0.124),
        memory_working_set_bytes: name.map(|_| 123 << 20),
        memory_limit_bytes: namespace.map(|_| 1 << 30),
    };
    Status {
        node: Node {
            name: "worker-7".to_owned(),
            version: "0.1.0".to_owned(),
            kernel: "6.18.44".to_owned(),
            timestamp: "2025-06-19T10:30:00Z".to_owned(),
            uptime_s: 90_061,
        },
        scheduler: Scheduler {
            state: "enabled".to_owned(),
            ops: Some("rustland_1.1.4_x86_64_unknown_linux_gnu".to_owned()),
            user_pid: Some(1_234),
            enable_seq: Some(3),
            switch_all: Some(true),
            age_ms: 420,
            counters: vec![
                counter("nr_user_dispatches", 18_446_744_073_709_551_615, Some(1_234.56)),
                counter("nr_kernel_dispatches", 50, Some(0.0)),
                counter("SCX_EV_BYPASS_DURATION", 7, None),
            ],
            gauges: BTreeMap::from([("nr_running".to_owned(), 2), ("nr_queued".to_owned(), 10)]),
            absent: BTreeMap::from([(
                "usersched_pid".to_owned(),
                "no such variable in any section".to_owned(),
            )]),
            variables: 42,
            watchdog: Some(Watchdog {
                margin: Margin {
                    timeout_ns: Some(5_000_000_000),
                    longest: Some(Wait {
                        tid: 718,
                        pid: 717,
                        comm: "stress\u{1b}".to_owned(),
                        cgroup_id: 4_711,
                        wait_ns: 2_600_000_000,
                    }),
                    waiting: Some(3),
                    longest_of_epoch_ns: Some(2_600_000_000),
                    absent: None,
                },
                share: Some(0.52),
                pod: Some("default/web-0".to_owned()),
                warnings: 1,
            }),
            last_exit: Some(Exit {
                ops: "lavd".to_owned(),
                enable_seq: 2,
                kind: "error_stall".to_owned(),
                kind_code: 1026,
                exit_code: 0,
                reason: "runnable task stall".to_owned(),
                msg: "kworker/0:1[32] failed to run for 5.120s".to_owned(),
                detail: String::new(),
                noticed_at_ns: 0,
            }),
        },
        sources: vec![
            source("scheduler", "up", Some(420)),
            Source {
                lacks: vec!["pod labels: mount the CRI socket (--run-root)".to_owned()],
                last_error: Some("connect: permission denied".to_owned()),
                failures: 3,
                ..source("pod_names/cri", "degraded", None)
            },
        ],
        pods: Pods {
            total: 2,
            tasks: 12,
            host_tasks: 180,
            age_ms: Some(999),
            top: vec![pod(Some("monitoring"), Some("loki-0"), 10), pod(None, None, 2)],
            waiting: vec![waiting(Some("loki-0"), 2_400_000_000), waiting(None, 850)],
        },
        delivery: Delivery {
            accounts: Some(Accounts {
                produced: 100,
                acknowledged: 90,
                spooled: 8,
                spooled_bytes: 4_096,
                dropped: BTreeMap::from([("spool_full".to_owned(), 2), ("refused".to_owned(), 0)]),
                oldest_at_ns: Some(0),
                acknowledged_here: None,
            }),
            lag_ms: Some(200_000),
            degraded: Some("no space left on device".to_owned()),
            receivers: vec![Receiver {
                url: "http://receiver:8080".to_owned(),
                state: "retrying".to_owned(),
                last_ack_age_ms: Some(18_120_000),
                last_error: Some("connection refused".to_owned()),
            }],
        },
    }
}

fn waiting(name: Option<&str>, longest_recent_wait_ns: u64) -> Waiting {
    let neighbours = [("batch/noisy-1\u{1b}", 600_000_000), ("idle CPU", 5)];
    Waiting {
        namespace: name.map(|_| "monitoring".to_owned()),
        name: name.map(str::to_owned),
        uid: "0123456789abcdef0123456789abcdef".to_owned(),
        longest_recent_wait_ns,
        recent: Recent {
            interval_ms: 5_000,
            waits: 900,
            wait_ns: 1_000_000_000,
            p50_ns: Some(12_345),
            p99_ns: name.map(|_| 131_000_000),
            neighbours: neighbours
                .into_iter()
                .filter(|_| name.is_some())
                .map(|(name, wait_ns)| Neighbour { name: name.to_owned(), wait_ns })
                .collect(),
        },
    }
}

#[test]
fn one_screen() {
    expect![[r#"
        sextant 0.1.0 on worker-7, kernel 6.18.44, up 1 d 1 h, 2025-06-19T10:30:00Z

        SCHEDULER
          rustland_1.1.4_x86_64_unknown_linux_gnu enabled, pid 1234, enabled 3 times since boot, all tasks, 42 variables, read 420 ms ago
          nr_queued 10, nr_running 2
          counter                     rate                 total
          nr_user_dispatches      1234.6/s  18446744073709551615
          nr_kernel_dispatches       0.0/s                    50
          SCX_EV_BYPASS_DURATION         -                     7
          usersched_pid has no value: no such variable in any section
          watchdog: stress?[718] in default/web-0 waits 2.60 s of 5.00 s (52 %), 3 waiting, longest so far 2.60 s, warnings 1
          last exit: lavd ended as error_stall (runnable task stall): kworker/0:1[32] failed to run for 5.120s

        SOURCES
          source         condition  last success    took  collections  failures
          scheduler      up           420 ms ago  1.2 ms           41         0
          pod_names/cri  degraded          never  1.2 ms           41         3
          pod_names/cri lacks: pod labels: mount the CRI socket (--run-root)
          pod_names/cri failed: connect: permission denied

        PODS
          2 pods with 12 processes, 180 processes outside pods, walked 999 ms ago
          namespace   pod                                   qos        containers  processes  threads  cpus  throttled              memory
          monitoring  loki-0                                burstable           2         10       31  1.26       12 %  123.0 / 1024.0 MiB
          ?           65979e01-4cb1-4d08-9dba-45530253ff00  burstable           2          2       31     -          -                   -
          namespace   pod                               wait p50     p99     max  per second  because of
          monitoring  loki-0                             12.3 us  131 ms  2.40 s      200 ms  60 % batch/noisy-1?
          ?           0123456789abcdef0123456789abcdef   12.3 us       -  850 ns      200 ms  -

        DELIVERY
          100 records produced, 90 acknowledged, 8 spooled (4096 bytes), 2 dropped, lag 3 min 20 s
          dropped 2: spool_full
          degraded: no space left on device
          receiver              state          last ack  last error
          http://receiver:8080  retrying  5 h 2 min ago  connection refused
    "#]].assert_eq(&render(&status(), false));
}

#[test]
fn an_empty_node_says_what_is_missing() {
    expect![[r#"
        sextant  on , kernel , up 0 ms,

        SCHEDULER
          , 0 variables, read 0 ms ago

        SOURCES

        PODS
          no walk of the processes yet

        DELIVERY
          off: no receiver is configured
    "#]]
    .assert_eq(&render(&Status::default(), false));
}

#[test]
fn names_from_outside_cannot_move_the_cursor_or_break_the_table() {
    let mut hostile = status();
    hostile.pods.top[0].name = Some("\x1b[2J\x07evil\nSOURCES\r".to_owned());
    hostile.scheduler.ops = Some("x".repeat(10_000));
    hostile.sources[1].lacks = vec!["\x1b]0;title\x07".to_owned() + &"y".repeat(10_000)];
    let text = render(&hostile, false);
    assert!(!text.contains(|c: char| c.is_control() && c != '\n'), "{text:?}");
    assert_eq!(text.lines().count(), render(&status(), false).lines().count(), "no line of theirs");
    assert!(text.lines().all(|line| line.chars().count() < 300), "{text}");
    assert!(
        render(&hostile, true).contains("\x1b[1mSCHEDULER\x1b[0m"),
        "colour is ours alone, and only if asked"
    );
}

#[test]
fn durations_have_two_units_at_most() {
    let all =
        [0, 999, 1_000, 59_999, 60_000, 3_599_999, 3_600_000, 86_399_999, 86_400_000, u64::MAX].map(duration);
    expect!["0 ms, 999 ms, 1 s, 59 s, 1 min 0 s, 59 min 59 s, 1 h 0 min, 23 h 59 min, 1 d 0 h, 213503982334 d 14 h"].assert_eq(&all.join(", "));
}
