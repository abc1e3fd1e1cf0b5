//! Metrics of workloads: live figures of those that run, by id, and sums by kind.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::{Registry, Unit};

use crate::domain::workload::{Figures, Kind, KindSums, State, Workload};

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Run {
    kind: &'static str,
    result: &'static str,
}

/// A workload that runs; its series end with it, so that there are never more than may run at once.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Live {
    workload: String,
    kind: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Sum {
    kind: &'static str,
}

type Gauges = Family<Live, Gauge<f64, std::sync::atomic::AtomicU64>>;
type Sums = Family<Sum, Counter<f64, std::sync::atomic::AtomicU64>>;

/// Metrics of workloads.
#[derive(Clone, Debug, Default)]
pub struct Metrics {
    runs: Family<Run, Counter>,
    /// Those of which a process is there.
    pub(super) active: Gauge,
    threads: Gauges,
    event_rate: Gauges,
    query_rate: Gauges,
    error_rate: Gauges,
    latency: Gauges,
    events: Sums,
    queries: Sums,
    errors: Sums,
}

impl Metrics {
    /// Registers them as `workload_...`.
    pub fn register(registry: &mut Registry) -> Self {
        let this = Self::default();
        registry.register("workload_runs", "Workloads that are over, by kind and result", this.runs.clone());
        registry.register("workload_active", "Workloads that run", this.active.clone());
        registry.register("workload_threads", "Threads at work", this.threads.clone());
        for (name, help, gauges) in [
            ("workload_event_rate", "Events (transactions) a second", &this.event_rate),
            ("workload_query_rate", "Queries a second", &this.query_rate),
            ("workload_error_rate", "Errors a second that were ignored", &this.error_rate),
        ] {
            registry.register(name, help, gauges.clone());
        }
        let help = "Latency of an event, 95th percentile";
        registry.register_with_unit("workload_latency", help, Unit::Seconds, this.latency.clone());
        for (name, help, sums) in [
            ("workload_events", "Events (transactions), by reports", &this.events),
            ("workload_queries", "Queries, by reports", &this.queries),
            ("workload_errors", "Errors that were ignored, by reports", &this.errors),
        ] {
            registry.register(name, help, sums.clone());
        }
        this
    }

    /// What all workloads of a kind have done.
    pub(super) fn sums(&self, kind: Kind) -> KindSums {
        let sum = |sums: &Sums| sums.get(&Sum { kind: kind.name() }).map(|sum| sum.get());
        let runs = |state: State| {
            let over = self.runs.get(&Run { kind: kind.name(), result: state.name() });
            over.map(|runs| (state, runs.get()))
        };
        KindSums {
            kind,
            runs: State::OVER.into_iter().filter_map(runs).collect(),
            events: sum(&self.events),
            queries: sum(&self.queries),
            errors: sum(&self.errors),
        }
    }

    /// A report, and how much of the sums is new with it.
    pub(super) fn report(&self, workload: &Workload, figures: &Figures, interval_s: u32) {
        let live = live(workload);
        self.threads.get_or_create(&live).set(f64::from(figures.threads));
        self.event_rate.get_or_create(&live).set(figures.events_per_s);
        self.latency.get_or_create(&live).set(figures.latency_ms / 1_000.0);
        let (sum, seconds) = (Sum { kind: workload.kind.name() }, f64::from(interval_s));
        self.events.get_or_create(&sum).inc_by(figures.events_per_s * seconds);
        if let Some(queries) = figures.queries {
            self.query_rate.get_or_create(&live).set(queries.per_s);
            self.error_rate.get_or_create(&live).set(queries.errors_per_s);
            self.queries.get_or_create(&sum).inc_by(queries.per_s * seconds);
            self.errors.get_or_create(&sum).inc_by(queries.errors_per_s * seconds);
        }
    }

    /// A workload is over.
    pub(super) fn over(&self, workload: &Workload, state: State) {
        let live = live(workload);
        for gauges in [&self.threads, &self.event_rate, &self.query_rate, &self.error_rate, &self.latency] {
            gauges.remove(&live);
        }
        self.runs.get_or_create(&Run { kind: workload.kind.name(), result: state.name() }).inc();
    }
}

fn live(workload: &Workload) -> Live {
    Live { workload: workload.id.clone(), kind: workload.kind.name() }
}
