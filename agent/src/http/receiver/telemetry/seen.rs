//! Who was seen within a time: GPUs, their hosts, the namespaces whose pods used them.

use std::collections::BTreeMap;

use axum::Json;
use axum::extract::State;
use axum::response::Response;

use super::{Asked, MAX_SERIES, ReceiverState, ask, json, parameters, wire};
use crate::api::time::rfc3339;
use crate::domain::series::{Operator, Range, Selection};
use crate::http::ApiError;
use crate::http::error::Telemetry;
use crate::http::receiver::series::room::{Turn, labels_bytes};
use crate::receiver::telemetry::UUID;
use crate::series::Found;

const HOST: &str = "Hostname";
const DEVICE: &str = "device";
const NAMESPACE: &str = "namespace";

/// Where nothing else is said, who was seen in a day.
const DAY_MS: i64 = 86_400_000;

/// GPUs that were seen.
#[utoipa::path(get, path = "/api/v1/gpus", tag = "telemetry",
    params(("start" = Option<String>, Query, description = "RFC 3339 or seconds since the epoch (also `start_time`): whole days; the last day, and if nobody was seen then, all that is kept"),
        ("end" = Option<String>, Query, description = "the same (also `end_time`); now")),
    responses((status = 200, body = wire::Gpus), (status = 400, body = wire::TelemetryFailure),
        (status = 413, body = wire::TelemetryFailure), (status = 503, body = wire::TelemetryFailure)))]
pub(in super::super) async fn gpus(
    State(receiver): State<ReceiverState>,
    asked: Asked,
) -> Result<Response, Telemetry> {
    let (turn, found) = seen(&receiver, asked).await?;
    let size_bytes = found.iter().map(|one| labels_bytes(&one.labels)).sum();
    let head = format!(r#"{{"count":{},"gpus":["#, found.len());
    let order = in_order(&found);
    Ok(json::list(turn, size_bytes, head, order.into_iter().filter_map(move |at| found.get(at).map(gpu))))
}

/// Hosts of the GPUs that were seen.
#[utoipa::path(get, path = "/api/v1/hosts", tag = "telemetry",
    params(("start" = Option<String>, Query, description = "as of `/api/v1/gpus`"),
        ("end" = Option<String>, Query, description = "as of `/api/v1/gpus`")),
    responses((status = 200, body = wire::Hosts), (status = 400, body = wire::TelemetryFailure),
        (status = 413, body = wire::TelemetryFailure), (status = 503, body = wire::TelemetryFailure)))]
pub(in super::super) async fn hosts(
    State(receiver): State<ReceiverState>,
    asked: Asked,
) -> Result<Json<wire::Hosts>, Telemetry> {
    let counts = counted(&seen(&receiver, asked).await?.1, HOST);
    let hosts = counts.into_iter().map(|(hostname, gpu_count)| wire::HostGpus { hostname, gpu_count });
    let hosts: Vec<_> = hosts.collect();
    Ok(Json(wire::Hosts { count: hosts.len(), hosts }))
}

/// Namespaces whose pods used GPUs.
#[utoipa::path(get, path = "/api/v1/namespaces", tag = "telemetry",
    params(("start" = Option<String>, Query, description = "as of `/api/v1/gpus`"),
        ("end" = Option<String>, Query, description = "as of `/api/v1/gpus`")),
    responses((status = 200, body = wire::Namespaces), (status = 400, body = wire::TelemetryFailure),
        (status = 413, body = wire::TelemetryFailure), (status = 503, body = wire::TelemetryFailure)))]
pub(in super::super) async fn namespaces(
    State(receiver): State<ReceiverState>,
    asked: Asked,
) -> Result<Json<wire::Namespaces>, Telemetry> {
    let counts = counted(&seen(&receiver, asked).await?.1, NAMESPACE);
    let namespaces = counts.into_iter().filter(|(namespace, _)| !namespace.is_empty());
    let namespaces = namespaces.map(|(namespace, gpu_count)| wire::NamespaceGpus { namespace, gpu_count });
    let namespaces: Vec<_> = namespaces.collect();
    Ok(Json(wire::Namespaces { count: namespaces.len(), namespaces }))
}

/// How many of them have each value of a label.
fn counted(gpus: &[Found], label: &str) -> BTreeMap<String, usize> {
    let mut counts = BTreeMap::<&str, usize>::new();
    for gpu in gpus {
        *counts.entry(gpu.labels.get(label).unwrap_or_default()).or_default() += 1;
    }
    counts.into_iter().map(|(value, count)| (value.to_owned(), count)).collect()
}

/// Every GPU once, as the series that was seen last describes it; and the turn that they are held in.
async fn seen(receiver: &ReceiverState, asked: Asked) -> Result<(Turn, Vec<Found>), ApiError> {
    let asked = parameters(asked)?;
    let range = ask::range(asked.start(), asked.end(), (receiver.common.clock)(), DAY_MS)?;
    let selection = Selection::default().and(UUID, Operator::NotEqual, "");
    let turn = receiver.series.room.turn().await?;
    // A GPU has a series for each metric, and one more for each pod that used it.
    let by = [HOST, UUID];
    let mut found = receiver.series.series.newest(&selection, range, &by, MAX_SERIES * 10).await?;
    if found.is_empty() && asked.start().is_none() {
        let always = Range { from_ms: 0, ..range };
        found = receiver.series.series.newest(&selection, always, &by, MAX_SERIES * 10).await?;
    }
    Ok((turn, found))
}

/// Their places, by host, device, UUID.
fn in_order(found: &[Found]) -> Vec<usize> {
    // Looked up once for each GPU, not once for each comparison.
    let keys: Vec<_> =
        found.iter().map(|one| [HOST, DEVICE, UUID].map(|label| one.labels.get(label))).collect();
    let mut order: Vec<_> = (0..found.len()).collect();
    order.sort_unstable_by_key(|at| keys.get(*at));
    order
}

fn gpu(found: &Found) -> wire::Gpu {
    let label = |name| found.labels.get(name).unwrap_or_default().to_owned();
    wire::Gpu {
        hostname: label(HOST),
        device_id: label(DEVICE),
        uuid: label(UUID),
        gpu_id: label("gpu"),
        model_name: label("modelName"),
        container: label("container"),
        pod: label("pod"),
        namespace: label(NAMESPACE),
        last_seen: rfc3339(found.last_ms.saturating_mul(1_000_000)),
    }
}
