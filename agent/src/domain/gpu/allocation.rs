//! Which pods have which device, by the ids that device plugins give to devices.
//!
//! Forms (what the kubelet is told, so what it tells):
//! - `GPU-<uuid>`, `MIG-<uuid>`: a whole device, a MIG device;
//! - `<id>::<n>`: one of several shares of a device (time slicing, MPS);
//! - `nvidia0`, `nvidia0/vgpu1`, `nvidia0/gi2`, `nvidia0/gi2/vgpu0`: by the device's name, with GPU instance and share (GKE);
//! - DRA: the name of a device in a pool, `gpu-0`, `gpu-0-mig-...`, or an attribute of it that holds one of the above.

use std::collections::BTreeMap;

use super::Device;

/// A container that has a device.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Worker {
    /// Its pod's namespace.
    pub namespace: String,
    /// Its pod.
    pub pod: String,
    /// Itself.
    pub container: String,
}

/// What an id of a device plugin names.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum DeviceId {
    /// A device by its own id: `GPU-...`, `MIG-...`, or another vendor's.
    Uuid(String),
    /// A device by its name on the node, or a GPU instance of it.
    Name {
        /// `nvidia0`.
        device: String,
        /// `gi2` is `2`.
        instance: Option<String>,
    },
}

/// Longer ids name nothing that we know.
const MAX_ID_BYTES: usize = 256;

impl DeviceId {
    /// What it names; `None` of an empty or an endless one.
    #[must_use]
    pub fn parse(id: &str) -> Option<Self> {
        let id = id.trim();
        if id.is_empty() || id.len() > MAX_ID_BYTES {
            return None;
        }
        // A share of a device is the device.
        let whole = id.split_once("::").map_or(id, |(whole, _)| whole);
        let mut parts = whole.split('/');
        let first = parts.next().filter(|first| !first.is_empty())?;
        let is_name = |text: &str, before: &str| {
            text.strip_prefix(before)
                .is_some_and(|number| !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit()))
        };
        if is_name(first, "nvidia") {
            let mut instance = None;
            for part in parts {
                if is_name(part, "gi") {
                    instance = part.strip_prefix("gi").map(str::to_owned);
                }
            }
            return Some(Self::Name { device: first.to_owned(), instance });
        }
        // As the DRA driver of NVIDIA names whole GPUs in its pool.
        if let Some(number) = first.strip_prefix("gpu-").filter(|_| is_name(first, "gpu-")) {
            return Some(Self::Name { device: format!("nvidia{number}"), instance: None });
        }
        Some(Self::Uuid(whole.to_owned()))
    }
}

/// Who has which device.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Allocations(BTreeMap<DeviceId, Vec<Worker>>);

impl Allocations {
    /// Gives a device to one more container.
    pub fn add(&mut self, id: DeviceId, worker: Worker) {
        let workers = self.0.entry(id).or_default();
        // Two shares of one device in one container are one worker.
        if !workers.contains(&worker) {
            workers.push(worker);
        }
    }

    /// Devices that somebody has.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Nobody has any.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Who has a device; nobody is known of one that was never given out.
    #[must_use]
    pub fn workers(&self, device: &Device) -> &[Worker] {
        let instance = Some(device.instance_id.clone()).filter(|id| !id.is_empty());
        let name = DeviceId::Name { device: device.device.clone(), instance };
        let found = self.0.get(&DeviceId::Uuid(device.uuid.clone())).or_else(|| self.0.get(&name));
        found.map_or(&[], Vec::as_slice)
    }
}
