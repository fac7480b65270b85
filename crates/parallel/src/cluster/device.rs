//! Device types: what one accelerator or processor can do.

use serde::{Deserialize, Serialize};

use super::sourced::Sourced;

/// The kinds of device PaddlePaddle's files name, and neural processors.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum DeviceKind {
    /// A general processor (one socket or one machine's cores together).
    Cpu,
    /// A graphics processor.
    Gpu,
    /// A neural processor (Ascend).
    Npu,
    /// A Kunlun processor.
    Xpu,
    /// A Hygon processor.
    Dcu,
}

/// The share of nominal rates that real kernels reach. Fitted by calibration, or measured by the probe.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Efficiency {
    /// Share of the matrix peak that a very large matrix product reaches, 0..=1.
    pub matrix: Sourced,
    /// Size of an operand's shorter side at which a product reaches half of `matrix` (saturation; 0 = none).
    pub half_size: Sourced,
    /// Share of the memory bandwidth that an elementwise kernel reaches, 0..=1.
    pub memory: Sourced,
}

/// One type of device.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DeviceType {
    /// Name by which machine groups refer to it.
    pub name: String,
    /// Kind.
    pub kind: DeviceKind,
    /// Dense matrix peak in half precision, TFLOP/s (never the 2:4-sparse figure).
    pub half_tflops: Sourced,
    /// Peak in single precision, TFLOP/s.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub single_tflops: Option<Sourced>,
    /// Peak in double precision, TFLOP/s.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub double_tflops: Option<Sourced>,
    /// Memory, GiB (2^30 bytes).
    pub memory_gib: Sourced,
    /// Memory bandwidth, GB/s (10^9 bytes).
    pub memory_gb_s: Sourced,
    /// Reached shares of the nominal rates.
    pub efficiency: Efficiency,
    /// Failures of one device per hour.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failures_per_hour: Option<Sourced>,
    /// Price of one device for an hour, in the currency the source names.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub price_per_hour: Option<Sourced>,
}

impl DeviceType {
    /// Matrix peak in half precision, FLOP/s.
    pub fn half_flops(&self) -> f64 {
        self.half_tflops.value * 1e12
    }

    /// Memory in bytes.
    pub fn memory_bytes(&self) -> f64 {
        self.memory_gib.value * (1u64 << 30) as f64
    }

    /// Memory bandwidth in bytes per second, nominal.
    pub fn memory_rate(&self) -> f64 {
        self.memory_gb_s.value * 1e9
    }
}
