//! `/api/anomaly/*` as clients of the reference backend speak it, with its strengths.
//!
//! Its templates: CPU of two workers at 90 %; 256 MiB of memory in two workers; a delay of 100 ms of what is sent; a
//! disk whose every operation takes 100 ms. The last is what it does to the files of one pod: ten operations a second
//! for a target that has a cgroup of its own; the node as a whole has none, and gets a load of 50 MiB/s instead.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{DEFAULT_DURATION_S, Target, Wrong};
use crate::api::time::rfc3339_seconds;
use crate::domain::action::{
    self, Amount, Anomaly, Asked, Class, Cpu, Disk, DiskLoad, DiskSlow, Kind, Memory, Network, Of, Strength,
};

const CPU_PERCENT: f64 = 90.0;
const WORKERS: u32 = 2;
const DELAY_MS: f64 = 100.0;
const MEMORY_BYTES: u64 = 256 << 20;
/// One after another, each takes 100 ms.
const SLOW_OPERATIONS_PER_S: u64 = 10;
const LOAD_BYTES_PER_S: u64 = 50 << 20;
const LOAD_BLOCK_BYTES: u64 = 64 << 10;
/// Everywhere on a disk, by the file system hierarchy standard.
const LOAD_PATH: &str = "/var/tmp";

/// What `POST /api/anomaly/start` takes; other keys are ignored, as the reference does.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ReferenceRequest {
    /// `cpu_stress`, `memory_stress`, `disk_stress` or `network_delay`.
    #[serde(rename = "type")]
    pub kind: String,
    /// How long, s; 600 by default.
    #[serde(default)]
    pub duration: Option<f64>,
    /// Where; the node by default.
    #[serde(default)]
    pub target: Option<Target>,
}

impl ReferenceRequest {
    /// What is asked for, in the reference's strength.
    ///
    /// # Errors
    /// A type that there is not.
    pub fn asked(&self) -> Result<Asked, Wrong> {
        let target = self.target.as_ref().map_or(action::Target::Node, action::Target::from);
        let strength = match &*self.kind {
            "cpu_stress" => Strength::Cpu(Cpu {
                percent: CPU_PERCENT,
                of: Of::Core,
                workers: Some(WORKERS),
                class: Class::Normal,
                nice: None,
                cpus: Vec::new(),
            }),
            "memory_stress" => Strength::Memory(Memory {
                amount: Amount::Bytes(MEMORY_BYTES),
                workers: Some(WORKERS),
                touch_bytes_per_s: 0,
            }),
            "network_delay" => Strength::Network(Network { delay_ms: DELAY_MS, ..Network::default() }),
            "disk_stress" => Strength::Disk(disk(&target)),
            other => {
                let why =
                    format!("{other:?} is none of cpu_stress, memory_stress, disk_stress, network_delay");
                return Err(Wrong { field: "type", why });
            }
        };
        let duration_s = self.duration.unwrap_or(DEFAULT_DURATION_S);
        Ok(Asked { target, strength, duration_s, ramp_s: 0.0, schedule: None, force: false })
    }
}

fn disk(target: &action::Target) -> Disk {
    if *target == action::Target::Node {
        return Disk::Load(DiskLoad {
            path: LOAD_PATH.to_owned(),
            bytes_per_s: Some(LOAD_BYTES_PER_S),
            operations_per_s: None,
            block_bytes: LOAD_BLOCK_BYTES,
            write_percent: 100.0,
            workers: None,
        });
    }
    Disk::Slow(DiskSlow {
        path: "/".to_owned(),
        read_bytes_per_s: None,
        write_bytes_per_s: None,
        read_operations_per_s: Some(SLOW_OPERATIONS_PER_S),
        write_operations_per_s: Some(SLOW_OPERATIONS_PER_S),
    })
}

fn type_of(anomaly: &Anomaly) -> String {
    let what = match anomaly.kind {
        Kind::Cpu | Kind::Memory | Kind::Disk => "stress",
        Kind::Network if anomaly.unit == action::Unit::Ms => "delay",
        Kind::Network | Kind::Process => "fault",
    };
    format!("{}_{what}", anomaly.kind.name())
}

/// `{"status":"success","message":"..."}`, the reference's.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[schema(as = ReferenceAnomalyStatus)]
pub struct Status {
    /// Always `success`.
    pub status: String,
    /// A sentence.
    pub message: String,
}

impl Status {
    /// With this sentence.
    pub fn success(message: String) -> Self {
        Self { status: "success".to_owned(), message }
    }
}

/// `{"detail":"..."}`: every answer of the reference backend that is no success.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[schema(as = ReferenceAnomalyDetail)]
pub struct Detail {
    /// What went wrong.
    pub detail: String,
}

/// One of `GET /api/anomaly/active`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[schema(as = ReferenceAnomalyActive)]
pub struct Active {
    /// Names it.
    pub id: String,
    /// `cpu_stress`.
    #[serde(rename = "type")]
    pub kind: String,
    /// Where, in words.
    pub target: String,
    /// Wall time.
    pub start_time: String,
    /// s.
    pub duration: f64,
}

impl From<&Anomaly> for Active {
    fn from(anomaly: &Anomaly) -> Self {
        Self {
            id: anomaly.id.clone(),
            kind: type_of(anomaly),
            target: anomaly.target.to_string(),
            start_time: rfc3339_seconds(anomaly.started_at_ns.unwrap_or(anomaly.asked_at_ns)),
            duration: anomaly.duration_s,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(body: &str) -> Asked {
        serde_json::from_str::<ReferenceRequest>(body).unwrap().asked().unwrap()
    }

    #[test]
    fn every_type_has_the_strength_of_its_template() {
        let cpu = asked(r#"{"type": "cpu_stress"}"#);
        assert_eq!((&cpu.target, cpu.duration_s), (&action::Target::Node, DEFAULT_DURATION_S));
        assert!(matches!(&cpu.strength, Strength::Cpu(cpu) if cpu.percent == 90.0 && cpu.workers == Some(2)));
        let memory = asked(r#"{"type": "memory_stress", "duration": 30}"#);
        assert_eq!(memory.duration_s, 30.0);
        assert!(
            matches!(&memory.strength, Strength::Memory(memory) if memory.amount == Amount::Bytes(256 << 20))
        );
        let network = asked(r#"{"type": "network_delay", "target": {"pid": 7}}"#);
        assert_eq!(network.target, action::Target::Pid(7));
        let delay = Network { delay_ms: 100.0, ..Network::default() };
        assert_eq!(network.strength, Strength::Network(delay), "and nothing else of a network's faults");
        assert!(matches!(asked(r#"{"type": "disk_stress"}"#).strength, Strength::Disk(Disk::Load(_))));
        let of_pod = asked(r#"{"type": "disk_stress", "target": {"pod": "default/web"}}"#);
        assert!(matches!(of_pod.strength, Strength::Disk(Disk::Slow(slow)) if slow.path == "/"));
    }

    #[test]
    fn a_type_that_there_is_not_is_named() {
        let request: ReferenceRequest = serde_json::from_str(r#"{"type": "sabotage"}"#).unwrap();
        let wrong = request.asked().unwrap_err();
        assert!(wrong.field == "type" && wrong.why.contains("sabotage"), "{wrong:?}");
    }
}
