//! AMD's GPUs by the files of their driver: `/sys/class/drm/card*/device`, and the hwmon directory in it.
//!
//! Layout (kernel documentation of amdgpu and of hwmon): percent as they are, VRAM in bytes, temperatures in thousandths of
//! a degree, power in millionths of a watt, clocks in Hz. They get the names that DCGM has for the same things. Every file
//! may be absent; what is not there is no value.

use std::fs;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use crate::domain::gpu::fields::{
    FB_FREE, FB_TOTAL, FB_USED, GPU_TEMP, GPU_UTIL, MEM_CLOCK, MEM_COPY_UTIL, MEMORY_TEMP, POWER_USAGE,
    SM_CLOCK,
};
use crate::domain::gpu::{Device, DeviceReading, Metric};

/// AMD's number among PCI vendors.
const VENDOR: &str = "0x1002";

/// Cards looked at; a node has 16 at most, and each a file for a virtual function or two.
const MAX_CARDS: usize = 128;

/// A file is a number or a name.
const MAX_FILE_BYTES: u64 = 4_096;

const MIB: f64 = 1_048_576.0;

/// Every card there is, of the host whose `/sys` this is.
pub(super) fn read(sys: &Path, hostname: &str) -> Vec<DeviceReading> {
    let Ok(entries) = fs::read_dir(sys.join("class/drm")) else { return Vec::new() };
    let mut cards: Vec<(u32, PathBuf)> = entries
        .filter_map(|entry| {
            let entry = entry.ok()?;
            // `card0`, not its outputs (`card0-DP-1`).
            let number = entry.file_name().to_str()?.strip_prefix("card")?.parse().ok()?;
            Some((number, entry.path().join("device")))
        })
        .take(MAX_CARDS)
        .collect();
    cards.sort_unstable();
    let cards =
        cards.into_iter().filter(|(_, device)| text(&device.join("vendor")).as_deref() == Some(VENDOR));
    cards.map(|(number, device)| card(number, &device, hostname)).collect()
}

fn card(number: u32, path: &Path, hostname: &str) -> DeviceReading {
    let pci_bus_id = text(&path.join("uevent"))
        .and_then(|lines| {
            lines.lines().find_map(|line| line.strip_prefix("PCI_SLOT_NAME=").map(str::to_owned))
        })
        .unwrap_or_default();
    let device = Device {
        gpu: number.to_string(),
        // Cards for consumers have no id of their own; their slot tells them apart.
        uuid: text(&path.join("unique_id")).unwrap_or_else(|| pci_bus_id.clone()),
        device: format!("card{number}"),
        model_name: text(&path.join("product_name"))
            .or_else(|| Some(format!("AMD {}", text(&path.join("device"))?)))
            .unwrap_or_default(),
        hostname: hostname.to_owned(),
        pci_bus_id,
        driver_version: text(&path.join("driver/module/version")).unwrap_or_default(),
        ..Device::default()
    };
    let hwmon = hwmon(path);
    let sensor = |file: &str, parts: f64| Some(number_in(&hwmon.as_ref()?.join(file))? / parts);
    let (total, used) =
        (number_in(&path.join("mem_info_vram_total")), number_in(&path.join("mem_info_vram_used")));
    let figures = [
        (GPU_UTIL, number_in(&path.join("gpu_busy_percent"))),
        (MEM_COPY_UTIL, number_in(&path.join("mem_busy_percent"))),
        (FB_TOTAL, total.map(|bytes| bytes / MIB)),
        (FB_USED, used.map(|bytes| bytes / MIB)),
        (FB_FREE, total.zip(used).map(|(total, used)| (total - used).max(0.0) / MIB)),
        (GPU_TEMP, sensor("temp1_input", 1e3)),
        (MEMORY_TEMP, sensor("temp3_input", 1e3)),
        (POWER_USAGE, sensor("power1_average", 1e6).or_else(|| sensor("power1_input", 1e6))),
        (SM_CLOCK, sensor("freq1_input", 1e6)),
        (MEM_CLOCK, sensor("freq2_input", 1e6)),
    ];
    let values = figures.into_iter().filter_map(|(name, value)| Some((Metric::from(name), value?))).collect();
    DeviceReading { device, values, workers: Vec::new() }
}

/// The first of them: a card has one.
fn hwmon(path: &Path) -> Option<PathBuf> {
    let mut found: Vec<_> =
        fs::read_dir(path.join("hwmon")).ok()?.filter_map(|entry| Some(entry.ok()?.path())).collect();
    found.sort_unstable();
    found.into_iter().next()
}

fn number_in(path: &Path) -> Option<f64> {
    text(path)?.parse().ok()
}

/// A file without blanks around it; an empty one is none.
fn text(path: &Path) -> Option<String> {
    let mut text = String::new();
    fs::File::open(path).ok()?.take(MAX_FILE_BYTES).read_to_string(&mut text).ok()?;
    let text = text.trim();
    (!text.is_empty()).then(|| text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(root: &Path, files: &[(&str, &str)]) {
        for (path, text) in files {
            let path = root.join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
    }

    #[test]
    fn a_card_is_read_with_its_units() {
        let sys = tempfile::tempdir().unwrap();
        write(
            sys.path(),
            &[
                ("class/drm/card1/device/vendor", "0x1002\n"),
                ("class/drm/card1/device/unique_id", "8a3f0b2c1d4e5f60\n"),
                ("class/drm/card1/device/product_name", "AMD Instinct MI300X OAM\n"),
                (
                    "class/drm/card1/device/uevent",
                    "DRIVER=amdgpu\nPCI_CLASS=120000\nPCI_SLOT_NAME=0000:1b:00.0\n",
                ),
                ("class/drm/card1/device/gpu_busy_percent", "87\n"),
                ("class/drm/card1/device/mem_busy_percent", "12\n"),
                ("class/drm/card1/device/mem_info_vram_total", "206141652992\n"),
                ("class/drm/card1/device/mem_info_vram_used", "1073741824\n"),
                ("class/drm/card1/device/hwmon/hwmon4/temp1_input", "45500\n"),
                ("class/drm/card1/device/hwmon/hwmon4/power1_average", "167000000\n"),
                ("class/drm/card1/device/hwmon/hwmon4/freq1_input", "2100000000\n"),
                ("class/drm/card1-DP-1/status", "connected\n"),
                ("class/drm/renderD128/device/vendor", "0x1002\n"),
            ],
        );
        let readings = read(sys.path(), "n1");
        let [card] = &*readings else { panic!("{readings:?}") };
        let device = &card.device;
        assert_eq!((&*device.uuid, &*device.gpu, &*device.device), ("8a3f0b2c1d4e5f60", "1", "card1"));
        assert_eq!((&*device.model_name, &*device.pci_bus_id), ("AMD Instinct MI300X OAM", "0000:1b:00.0"));
        let value = |name: &str| card.values.iter().find(|(known, _)| known == name).map(|(_, value)| *value);
        assert_eq!((value(GPU_UTIL), value(MEM_COPY_UTIL)), (Some(87.0), Some(12.0)));
        assert_eq!((value(FB_USED), value(FB_FREE)), (Some(1_024.0), Some(195_568.0)));
        assert_eq!(
            (value(GPU_TEMP), value(POWER_USAGE), value(SM_CLOCK)),
            (Some(45.5), Some(167.0), Some(2_100.0))
        );
        assert_eq!((value(MEM_CLOCK), value(MEMORY_TEMP)), (None, None), "absent is no value");
    }

    #[test]
    fn another_vendors_card_and_one_that_says_nothing_are_no_trouble() {
        let sys = tempfile::tempdir().unwrap();
        assert!(read(sys.path(), "n1").is_empty(), "no /sys/class/drm");
        write(
            sys.path(),
            &[
                ("class/drm/card0/device/vendor", "0x8086\n"),
                ("class/drm/card2/device/vendor", "0x1002\n"),
                ("class/drm/card2/device/gpu_busy_percent", "not a number\n"),
                ("class/drm/card2/device/mem_info_vram_used", ""),
                ("class/drm/version", "drm 1.1.0\n"),
            ],
        );
        let readings = read(sys.path(), "n1");
        let [card] = &*readings else { panic!("{readings:?}") };
        assert_eq!((&*card.device.device, card.values.len()), ("card2", 0));
    }
}
