//! DCGM's names for what a GPU says, with unit and kind: those that its exporter shows by default, those of the reference's
//! files, and those that this node reads itself.
//!
//! Names, units and kinds are DCGM's own; help is ours. Names that are not here are taken as they come.

/// What a number counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// How it is now.
    Gauge,
    /// Grows, and begins anew with the driver.
    Counter,
}

/// In what a number is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    /// MHz.
    Megahertz,
    /// Degrees Celsius.
    Celsius,
    /// W.
    Watts,
    /// mJ.
    Millijoules,
    /// Percent, 0 to 100.
    Percent,
    /// MiB.
    Mebibytes,
    /// Bytes.
    Bytes,
    /// KB a second, of PCIe; MB a second, of NVLink's bandwidth.
    Rate,
    /// A share, 0 to 1.
    Ratio,
    /// So many.
    Count,
    /// A number that names something.
    Code,
}

/// A field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Field {
    /// DCGM's name.
    pub name: &'static str,
    /// In what it is.
    pub unit: Unit,
    /// What it counts.
    pub kind: Kind,
    /// What it is, in words.
    pub help: &'static str,
}

const fn gauge(name: &'static str, unit: Unit, help: &'static str) -> Field {
    Field { name, unit, kind: Kind::Gauge, help }
}

const fn counter(name: &'static str, unit: Unit, help: &'static str) -> Field {
    Field { name, unit, kind: Kind::Counter, help }
}

/// Clock of the multiprocessors.
pub const SM_CLOCK: &str = "DCGM_FI_DEV_SM_CLOCK";
/// Clock of the memory.
pub const MEM_CLOCK: &str = "DCGM_FI_DEV_MEM_CLOCK";
/// Temperature of the memory.
pub const MEMORY_TEMP: &str = "DCGM_FI_DEV_MEMORY_TEMP";
/// Temperature of the GPU.
pub const GPU_TEMP: &str = "DCGM_FI_DEV_GPU_TEMP";
/// Power drawn.
pub const POWER_USAGE: &str = "DCGM_FI_DEV_POWER_USAGE";
/// Energy used since the driver was loaded.
pub const TOTAL_ENERGY: &str = "DCGM_FI_DEV_TOTAL_ENERGY_CONSUMPTION";
/// Times that PCIe sent again.
pub const PCIE_REPLAY: &str = "DCGM_FI_DEV_PCIE_REPLAY_COUNTER";
/// Time that the GPU was busy.
pub const GPU_UTIL: &str = "DCGM_FI_DEV_GPU_UTIL";
/// Time that its memory was busy.
pub const MEM_COPY_UTIL: &str = "DCGM_FI_DEV_MEM_COPY_UTIL";
/// Time that the encoder was busy.
pub const ENC_UTIL: &str = "DCGM_FI_DEV_ENC_UTIL";
/// Time that the decoder was busy.
pub const DEC_UTIL: &str = "DCGM_FI_DEV_DEC_UTIL";
/// The last XID.
pub const XID_ERRORS: &str = "DCGM_FI_DEV_XID_ERRORS";
/// Memory that is free.
pub const FB_FREE: &str = "DCGM_FI_DEV_FB_FREE";
/// Memory in use.
pub const FB_USED: &str = "DCGM_FI_DEV_FB_USED";
/// Memory.
pub const FB_TOTAL: &str = "DCGM_FI_DEV_FB_TOTAL";
/// Errors of the memory that were corrected, since the driver was loaded.
pub const ECC_SBE: &str = "DCGM_FI_DEV_ECC_SBE_VOL_TOTAL";
/// Errors of the memory that were not, since the driver was loaded.
pub const ECC_DBE: &str = "DCGM_FI_DEV_ECC_DBE_VOL_TOTAL";
/// Rows replaced for errors that were corrected.
pub const CORRECTABLE_REMAPPED: &str = "DCGM_FI_DEV_CORRECTABLE_REMAPPED_ROWS";
/// Rows replaced for errors that were not.
pub const UNCORRECTABLE_REMAPPED: &str = "DCGM_FI_DEV_UNCORRECTABLE_REMAPPED_ROWS";
/// Replacing a row failed.
pub const ROW_REMAP_FAILURE: &str = "DCGM_FI_DEV_ROW_REMAP_FAILURE";
/// Share of time with work on the GPU.
pub const GR_ENGINE_ACTIVE: &str = "DCGM_FI_PROF_GR_ENGINE_ACTIVE";
/// Share of time with a warp on a multiprocessor.
pub const SM_ACTIVE: &str = "DCGM_FI_PROF_SM_ACTIVE";
/// Share of the warps that could be there.
pub const SM_OCCUPANCY: &str = "DCGM_FI_PROF_SM_OCCUPANCY";
/// Share of time that the tensor cores were busy.
pub const PIPE_TENSOR_ACTIVE: &str = "DCGM_FI_PROF_PIPE_TENSOR_ACTIVE";
/// Share of time that the memory moved data.
pub const DRAM_ACTIVE: &str = "DCGM_FI_PROF_DRAM_ACTIVE";

/// All of them.
pub const FIELDS: [Field; 30] = [
    gauge(SM_CLOCK, Unit::Megahertz, "Clock of the multiprocessors (MHz)"),
    gauge(MEM_CLOCK, Unit::Megahertz, "Clock of the memory (MHz)"),
    gauge(MEMORY_TEMP, Unit::Celsius, "Temperature of the memory (C)"),
    gauge(GPU_TEMP, Unit::Celsius, "Temperature of the GPU (C)"),
    gauge(POWER_USAGE, Unit::Watts, "Power drawn (W)"),
    counter(TOTAL_ENERGY, Unit::Millijoules, "Energy used since the driver was loaded (mJ)"),
    counter(PCIE_REPLAY, Unit::Count, "Times that PCIe sent again"),
    gauge(GPU_UTIL, Unit::Percent, "Time that the GPU was busy (%)"),
    gauge(MEM_COPY_UTIL, Unit::Percent, "Time that its memory was read or written (%)"),
    gauge(ENC_UTIL, Unit::Percent, "Time that the encoder was busy (%)"),
    gauge(DEC_UTIL, Unit::Percent, "Time that the decoder was busy (%)"),
    gauge(XID_ERRORS, Unit::Code, "The last XID error, 0 if there was none"),
    gauge(FB_FREE, Unit::Mebibytes, "Memory that is free (MiB)"),
    gauge(FB_USED, Unit::Mebibytes, "Memory in use (MiB)"),
    gauge(FB_TOTAL, Unit::Mebibytes, "Memory (MiB)"),
    counter(ECC_SBE, Unit::Count, "Memory errors corrected since the driver was loaded"),
    counter(ECC_DBE, Unit::Count, "Memory errors not corrected since the driver was loaded"),
    counter(CORRECTABLE_REMAPPED, Unit::Count, "Rows of memory replaced for errors that were corrected"),
    counter(UNCORRECTABLE_REMAPPED, Unit::Count, "Rows of memory replaced for errors that were not"),
    gauge(ROW_REMAP_FAILURE, Unit::Code, "1 where replacing a row of memory failed"),
    counter("DCGM_FI_DEV_NVLINK_BANDWIDTH_TOTAL", Unit::Rate, "What went over all NVLinks"),
    gauge("DCGM_FI_DEV_VGPU_LICENSE_STATUS", Unit::Code, "1 with a vGPU licence"),
    gauge(GR_ENGINE_ACTIVE, Unit::Ratio, "Share of time with work on the GPU"),
    gauge(SM_ACTIVE, Unit::Ratio, "Share of time with a warp on a multiprocessor, over all of them"),
    gauge(SM_OCCUPANCY, Unit::Ratio, "Warps there, as a share of those that could be"),
    gauge(PIPE_TENSOR_ACTIVE, Unit::Ratio, "Share of time that the tensor cores were busy"),
    gauge(DRAM_ACTIVE, Unit::Ratio, "Share of time that the memory moved data"),
    gauge("DCGM_FI_PROF_PIPE_FP64_ACTIVE", Unit::Ratio, "Share of time that the FP64 pipe was busy"),
    counter("DCGM_FI_PROF_PCIE_TX_BYTES", Unit::Bytes, "Bytes sent over PCIe"),
    counter("DCGM_FI_PROF_PCIE_RX_BYTES", Unit::Bytes, "Bytes received over PCIe"),
];

/// The field of a name, if it is known here.
#[must_use]
pub fn of(name: &str) -> Option<&'static Field> {
    FIELDS.iter().find(|field| field.name == name)
}
