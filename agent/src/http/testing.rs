//! What the tests of both roles share: a client of a router without a socket, and a node's snapshots.

use axum::Router;
use axum::body::Body;
use axum::http::{HeaderMap, Request, StatusCode};
use tower::ServiceExt as _;

use super::keys::{self, Keys};
use super::{Common, Config, Identity, Parts, Role, metrics};

pub(super) mod hostile;

/// 2025-06-19T10:30:00Z, the reference document's own.
pub(super) const NOW_NS: i64 = 1_750_329_000_000_000_000;

pub(super) fn identity(role: Role) -> Identity {
    Identity {
        role,
        name: "worker-7".to_owned(),
        kernel: "6.18.44".to_owned(),
        machine_id: "0123456789abcdef0123456789abcdef".to_owned(),
        started_at_ns: NOW_NS - 90_061_000_000_000,
    }
}

/// What both roles need, of a process that has neither role's own parts.
pub(super) fn common(config: Config, keys: &keys::Config) -> Common {
    let (mut registry, _panics) = crate::telemetry::registry("node");
    let metrics = metrics::Metrics::register(registry.sub_registry_with_prefix("sextant"));
    Common::from(Parts {
        config,
        identity: identity(Role::Node),
        keys: Keys::new(keys).expect("keys"),
        clock: || NOW_NS,
        registry,
        events: crate::events::Events::in_memory(|| NOW_NS),
        metrics,
        sources: tokio::sync::watch::channel(Vec::new()).1,
        draining: tokio_util::sync::CancellationToken::new(),
    })
}

/// An answer, read whole.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) status: StatusCode,
    pub(super) headers: HeaderMap,
    pub(super) body: Vec<u8>,
}

impl Answer {
    pub(super) fn text(&self) -> &str {
        std::str::from_utf8(&self.body).expect("UTF-8")
    }

    pub(super) fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error}: {}", self.text()))
    }

    pub(super) fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().expect("ASCII"))
    }
}

pub(super) async fn send(router: &Router, request: Request<Body>) -> Answer {
    let response = router.clone().oneshot(request).await.expect("infallible");
    let (parts, body) = response.into_parts();
    let body = axum::body::to_bytes(body, usize::MAX).await.expect("a complete body").to_vec();
    Answer { status: parts.status, headers: parts.headers, body }
}

/// The status alone: a stream has no end to read to.
pub(super) async fn status(router: &Router, request: Request<Body>) -> StatusCode {
    router.clone().oneshot(request).await.expect("infallible").status()
}

pub(super) async fn get(router: &Router, path: &str) -> Answer {
    send(router, Request::get(path).body(Body::empty()).expect("a request")).await
}

pub(super) async fn post(router: &Router, path: &str, body: impl Into<Body>) -> Answer {
    let request = Request::post(path).header("content-type", "application/json").body(body.into());
    send(router, request.expect("a request")).await
}

/// A node's full set of snapshots, hostile names among them.
pub(super) mod samples {
    use std::sync::Arc;

    use super::NOW_NS;
    use crate::domain::bss::{BssField, BssRecord};
    use crate::domain::database::{History, Sample, TenantSample};
    use crate::domain::exit::{ExitKind, SchedulerExit};
    use crate::domain::pod::{
        CgroupKind, Container, ContainerId, Host, Pod, PodMap, PodUid, QosClass, Runtime, Task, TaskKey,
    };
    use crate::domain::runqueue::{
        Blame, CgroupRun, Losses, Migrations, RunTotals, RunqueuePair, RunqueueReading,
    };
    use crate::domain::scheduler::{
        Epoch, Layout, OpsName, ScalarKind, SchedulerReading, Section, State, Unread, Variable,
    };
    use crate::domain::source::{Condition, SourceHealth};
    use crate::domain::usage::request::Conversion;
    use crate::domain::usage::{
        Bound, Cpu, CpuQuota, CpuShare, DeviceIo, Io, Limits, Memory, MemoryEvents, Pressure, Pressures,
        Rates, Stall, Throttling, Usage, UsageMap,
    };
    use crate::domain::watchdog::{Margin, Wait};

    pub(in crate::http) fn reading(mono_ns: u64, dispatches: u64) -> SchedulerReading {
        let variable = |name: &str, kind, size| Variable {
            name: name.to_owned(),
            section: ".bss".into(),
            ty: "u64".to_owned(),
            kind,
            offset: 0,
            size,
        };
        let mut bss = BssRecord::default();
        bss.set(BssField::NrUserDispatches, Some(dispatches));
        bss.set(BssField::NrQueued, Some(10));
        let layout = Layout {
            sections: vec![Section {
                name: ".bss".into(),
                map_id: 17,
                size: 4_096,
                mapped: true,
                frozen: false,
            }],
            variables: vec![
                variable("nr_user_dispatches", ScalarKind::Unsigned, 8),
                variable("delta.\"quoted\\\n", ScalarKind::Signed, 8),
                variable("debug", ScalarKind::Bool, 1),
                variable("mode", ScalarKind::Enum(vec![(2, "TWO".to_owned())].into()), 4),
            ],
            unread: vec![Unread {
                name: "table".to_owned(),
                section: ".bss".into(),
                ty: "u64[64]".to_owned(),
                size: 512,
                why: "array",
            }],
        };
        SchedulerReading {
            at_ns: NOW_NS - 420_000_000,
            mono_ns,
            state: State::Enabled,
            switch_all: Some(true),
            nr_rejected: Some(0),
            enable_seq: Some(3),
            hotplug_seq: Some(0),
            ops: Some(OpsName {
                raw: "rustland_1.1.4_x86_64_unknown_linux_gnu".to_owned(),
                base: "rustland".to_owned(),
                version: Some("1.1.4".to_owned()),
            }),
            epoch: Some(Epoch { enable_seq: 3, struct_ops_map_id: 17 }),
            user_pid: Some(1_234),
            events: vec![("SCX_EV_SELECT_CPU_FALLBACK".to_owned(), dispatches / 2)],
            layout: layout.into(),
            raw: vec![dispatches, u64::MAX, 1, 2],
            bss,
            bss_absent: vec![(BssField::UserschedPid, "no such variable in any section".to_owned())],
            margin: Some(Margin {
                timeout_ns: Some(5_000_000_000),
                longest: Some(Wait {
                    tid: 717_721,
                    pid: 717_720,
                    comm: "wor\u{1b}ker".to_owned(),
                    cgroup_id: 4_711,
                    wait_ns: 2_600_000_000,
                }),
                waiting: Some(3),
                longest_of_epoch_ns: Some(2_600_000_000),
                absent: None,
            }),
            stall_warnings: 1,
            last_exit: Some(SchedulerExit {
                ops: "lavd".to_owned(),
                enable_seq: 2,
                kind: ExitKind::ErrorStall,
                exit_code: 0,
                reason: "runnable task stall".to_owned(),
                msg: "kworker/0:1[32] failed to run for 5.120s".to_owned(),
                detail: "exit record".to_owned(),
                noticed_at_ns: NOW_NS - 60_000_000_000,
            }),
        }
    }

    /// The reference document's pod, and one that nobody could name.
    pub(in crate::http) fn pods() -> PodMap {
        let task = |pid, comm: &str, threads| Task {
            key: TaskKey { pid, starttime_ticks: 99 },
            ppid: 717_576,
            comm: comm.into(),
            threads,
        };
        let container = |id: &str, kind, cgroup_id, tasks| Container {
            id: (!id.is_empty()).then(|| ContainerId(id.to_owned())),
            name: None,
            runtime: Some(Runtime::Containerd),
            kind,
            cgroup: format!("/kubepods.slice/{cgroup_id}"),
            cgroup_id,
            tasks,
            churn: None,
        };
        let id = "5148a146ffbbe8672f11494843d54b8769d2eccc677c02027fc09aba192e3c67";
        let pod = |uid: &str, name: Option<&str>, containers| Pod {
            uid: PodUid(uid.to_owned()),
            name: name.map(str::to_owned),
            namespace: name.map(|_| "monitoring".to_owned()),
            labels: [("app".to_owned(), "loki".to_owned())].into(),
            qos: QosClass::Burstable,
            named_by: name.map(|_| "files"),
            group: None,
            containers,
        };
        let tasks = vec![task(717_720, "pause", 1), task(718_001, "loki", 30)];
        let named = vec![container(id, CgroupKind::Container, 4_242, tasks)];
        let nameless = vec![
            container("", CgroupKind::Pod, 4_243, vec![task(9, "tmux: server", 1)]),
            container("dead", CgroupKind::Container, 4_244, Vec::new()),
            container("mon", CgroupKind::Conmon, 4_245, vec![task(10, "conmon", 1)]),
        ];
        PodMap {
            at_ns: NOW_NS - 999_000_000,
            generation: 7,
            pods: vec![
                pod("65979e01-4cb1-4d08-9dba-45530253ff00", Some("loki-0"), named),
                pod("0123456789abcdef0123456789abcdef", None, nameless),
            ],
            host: Host { tasks: 180, threads: 300, containers: Vec::new() },
            skipped: vec![("permission", 2)],
        }
    }

    /// Two readings, 5 s apart: the named pod's container waits for the host and for an idle CPU.
    pub(in crate::http) fn runqueues() -> RunqueuePair {
        let reading = |mono_ns, waits: u64, backup_ns| {
            let mut totals = RunTotals {
                on_cpu_ns: waits * 40_000,
                blocked_ns: waits * 900_000,
                voluntary_switches: waits - 2,
                involuntary_switches: 2,
                migrations: Migrations { same_core: 1, same_llc: 2, same_node: 0, other_node: 3 },
                longest_recent_wait_ns: 131_000_000,
                ..RunTotals::default()
            };
            totals.waits.slots[13] = waits - 10;
            totals.waits.slots[26] = 10;
            totals.waits.sum_ns = waits * 9_000 + 10 * 100_000_000;
            let group = |path: &str, totals| CgroupRun { cgroup_id: 1, path: path.into(), totals };
            let blame = |runner: Option<&str>, wait_ns| Blame {
                waiter: "/kubepods.slice/4242".into(),
                runner: runner.map(Into::into),
                wait_ns,
            };
            RunqueueReading {
                at_ns: NOW_NS - 1_000_000,
                mono_ns,
                since_ns: NOW_NS - 100_000_000_000,
                cgroups: vec![group("/kubepods.slice/4242", totals), group("/system.slice", totals)],
                blames: vec![blame(Some("/system.slice/backup.service"), backup_ns), blame(None, 7_000_000)],
                losses: Losses { threads: 1, ..Losses::default() },
            }
        };
        let pair = RunqueuePair::default().then(reading(1_000_000_000, 100, 200_000_000));
        pair.then(reading(6_000_000_000, 5_100, 240_000_000))
    }

    /// A container of v2 with everything, and one of which little is known.
    pub(in crate::http) fn usage() -> UsageMap {
        let throttling = Throttling { nr_periods: 300, nr_throttled: 36, throttled_usec: 24_262_294 };
        let stall = Stall { avg10_bp: 5_555, avg60_bp: 2_645, avg300_bp: 671, total_usec: 21_104_719 };
        let pressure = Some(Pressure { some: stall, full: Some(Stall { total_usec: 1, ..stall }) });
        let full = Usage {
            epoch: 9,
            mono_ns: 1,
            cpu: Some(Cpu {
                usage_usec: 5_979_315,
                user_usec: Some(4_352_526),
                system_usec: Some(1_626_789),
                throttling: Some(throttling),
            }),
            memory: Some(Memory {
                current_bytes: 23_003_136,
                working_set_bytes: Some(22_765_568),
                rss_bytes: Some(155_648),
                file_bytes: Some(22_269_952),
                swap_bytes: Some(0),
                events: MemoryEvents {
                    low: Some(0),
                    high: Some(3),
                    max: Some(2),
                    oom: Some(1),
                    oom_kill: Some(1),
                },
            }),
            io: Some(Io {
                rbytes: 9_580_544,
                wbytes: 4_096,
                rios: Some(26),
                wios: Some(1),
                devices: vec![DeviceIo {
                    major: 254,
                    minor: 0,
                    rbytes: 9_580_544,
                    wbytes: 4_096,
                    rios: Some(26),
                    wios: Some(1),
                }],
            }),
            pids: Some(31),
            pressure: Pressures { cpu: pressure, memory: pressure, io: pressure },
            limits: Limits {
                cpu: Some(Bound::At(CpuQuota { quota_usec: 20_000, period_usec: 100_000 })),
                cpu_share: Some(CpuShare::Weight(39)),
                memory_max: Some(Bound::At(128 << 20)),
                memory_high: Some(Bound::Unlimited),
                memory_min_bytes: Some(0),
                memory_low_bytes: Some(1 << 20),
                pids_max: Some(Bound::At(64)),
            },
            rates: Rates {
                cpu_cores: Some(0.196),
                throttled_ratio: Some(0.12),
                read_bytes_per_second: Some(1_024.0),
                write_bytes_per_second: Some(0.0),
            },
        };
        let little = Usage {
            epoch: 10,
            cpu: Some(Cpu { usage_usec: 1_500, ..Cpu::default() }),
            limits: Limits { cpu_share: Some(CpuShare::Shares(2)), ..Limits::default() },
            ..Usage::default()
        };
        UsageMap {
            at_ns: NOW_NS - 700_000_000,
            groups: [(4_242, full), (4_244, little)].into(),
            conversion: Some(Conversion::Linear),
        }
    }

    /// As in the reference's document, but for what its server could not know.
    pub(in crate::http) fn database() -> History {
        let at_ns = 1_704_888_000_000_000_000;
        let sample = Sample {
            at_ns,
            qps: Ok(1_000.5),
            tps: Ok(500.2),
            active_sessions: Ok(50.0),
            sql_response_time: Ok(0.1),
            disk_io_bytes: Ok(1_024_000.0),
            disk_iops: Ok(1_000.0),
            memory_usage: Ok(8_192.0),
            cache_hit_ratio: Ok(95.5),
            slow_queries: Ok(5.0),
            deadlocks: Ok(0.0),
            replication_lag: Err("the server has no replica and is none".into()),
            connection_count: Ok(100.0),
        };
        let tenant = TenantSample {
            at_ns,
            tenant: "tenant1".to_owned(),
            cpu_percent: Ok(45.5),
            memory_used: Ok(1_024.5),
            disk_used: Err("the server does not tell it".into()),
            iops: Ok(1_000.0),
            session_count: Ok(50.0),
            active_session_count: Ok(10.0),
        };
        History {
            server: Some("OceanBase 4.3.5.3".to_owned()),
            samples: vec![Arc::new(sample)],
            tenants: [("tenant1".to_owned(), vec![Arc::new(tenant)])].into(),
            ..History::default()
        }
    }

    pub(in crate::http) fn sources() -> Vec<SourceHealth> {
        let source = |name, condition| SourceHealth {
            name,
            condition,
            collections: 41,
            last_success_at_ns: Some(NOW_NS - 420_000_000),
            last_duration_ns: 1_234_000,
            ..SourceHealth::default()
        };
        vec![
            source("scheduler", Condition::Up),
            SourceHealth {
                lacks: vec!["pod labels: mount the CRI socket (--run-root)".to_owned()],
                last_error: Some("connect: permission denied".to_owned()),
                failures: 3,
                last_success_at_ns: None,
                ..source("pod_names/cri", Condition::Degraded)
            },
        ]
    }
}
