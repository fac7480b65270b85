//! PaddlePaddle's cluster files: machines with devices and links, one by one, optionally `alpha_latency`; or a map of mesh
//! groups (machine type -> machines).
//!
//! The files say nothing about memory bandwidth, reached rates, adapters and failures; those come from the preset of the same
//! device model. A model without a preset is an error.

use serde::Deserialize;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};

use super::device::{DeviceKind, DeviceType};
use super::error::ClusterError;
use super::link::{LinkClass, LinkKind};
use super::machine::{Cluster, MachineGroup};
use super::parse::{FORMAT, names};
use super::preset::preset_names;
use super::sourced::{Confidence, Sourced};

#[derive(Deserialize)]
struct PaddleMachine {
    hostname: Option<String>,
    devices: Vec<PaddleDevice>,
    #[serde(default)]
    links: Vec<PaddleLink>,
}

#[derive(Deserialize)]
struct PaddleDevice {
    global_id: u64,
    #[serde(rename = "type")]
    kind: String,
    model: Option<String>,
    memory: Option<f64>,
    sp_gflops: Option<f64>,
    dp_gflops: Option<f64>,
    hp_gflops: Option<f64>,
}

#[derive(Deserialize, Clone)]
struct PaddleLink {
    source_global_id: u64,
    target_global_id: u64,
    #[serde(rename = "type")]
    kind: String,
    bandwidth: f64,
    latency: Option<f64>,
}

/// Where a number of the file stands.
const SOURCE: &str = "PaddlePaddle cluster file";

/// Reads either form.
pub(super) fn read(value: &Value) -> Result<Cluster, ClusterError> {
    let lists: Vec<&Value> = match (value.get("machines"), value.as_object()) {
        (Some(list), _) => vec![list],
        (None, Some(map)) => map
            .iter()
            .filter(|(key, _)| *key != "alpha_latency")
            .map(|(_, group)| group.get("machines").unwrap_or(group))
            .collect(),
        (None, None) => return Err(ClusterError::Parse("expected an object with `format` or `machines`".into())),
    };
    let mut machines: Vec<PaddleMachine> = Vec::new();
    for list in lists {
        let more: Vec<PaddleMachine> =
            serde_json::from_value(list.clone()).map_err(|e| ClusterError::Parse(format!("machines: {e}")))?;
        machines.extend(more);
    }
    let alpha = value.get("alpha_latency");
    Builder::new(&machines)?.build(&machines, alpha)
}

/// Device ids over all machines.
struct Builder {
    /// Machine and kind of each device id.
    devices: BTreeMap<u64, (usize, String)>,
    cluster: Cluster,
}

impl Builder {
    fn new(machines: &[PaddleMachine]) -> Result<Self, ClusterError> {
        let mut devices = BTreeMap::new();
        for (at, machine) in machines.iter().enumerate() {
            for device in &machine.devices {
                if devices.insert(device.global_id, (at, device.kind.clone())).is_some() {
                    let id = device.global_id.to_string();
                    return Err(ClusterError::Duplicate { what: "device global_id", id });
                }
            }
        }
        let cluster = Cluster {
            format: FORMAT.into(),
            name: "paddle".into(),
            device_types: Vec::new(),
            links: Vec::new(),
            machines: Vec::new(),
            switches: Vec::new(),
        };
        Ok(Self { devices, cluster })
    }

    fn build(mut self, machines: &[PaddleMachine], alpha: Option<&Value>) -> Result<Cluster, ClusterError> {
        let links = self.links(machines)?;
        for (at, machine) in machines.iter().enumerate() {
            let name = machine.hostname.clone().unwrap_or_else(|| format!("machine{at}"));
            self.machine(at, &name, machine, &links, machines.len() > 1, alpha)?;
        }
        Ok(self.cluster)
    }

    /// All links, each end checked.
    fn links(&self, machines: &[PaddleMachine]) -> Result<Vec<PaddleLink>, ClusterError> {
        let mut all = Vec::new();
        for link in machines.iter().flat_map(|m| &m.links) {
            for id in [link.source_global_id, link.target_global_id] {
                if !self.devices.contains_key(&id) {
                    let known = names(self.devices.keys().map(u64::to_string).collect::<Vec<_>>().iter());
                    let place = format!("link {} -> {}", link.source_global_id, link.target_global_id);
                    return Err(ClusterError::Unknown { what: "device", name: id.to_string(), place, known });
                }
            }
            all.push(link.clone());
        }
        Ok(all)
    }

    fn machine(
        &mut self,
        at: usize,
        name: &str,
        machine: &PaddleMachine,
        links: &[PaddleLink],
        several: bool,
        alpha: Option<&Value>,
    ) -> Result<(), ClusterError> {
        let mut accelerators: Vec<&PaddleDevice> =
            machine.devices.iter().filter(|d| !matches!(d.kind.as_str(), "CPU" | "NIC")).collect();
        if accelerators.is_empty() {
            accelerators = machine.devices.iter().filter(|d| d.kind == "CPU").collect();
        }
        let Some(first) = accelerators.first() else { return Err(ClusterError::Empty(name.into())) };
        let models: BTreeSet<_> = accelerators.iter().map(|d| d.model.clone()).collect();
        if models.len() > 1 {
            let what = format!("{} models of device in one machine; describe them as two machines", models.len());
            return Err(ClusterError::Contradiction { place: format!("machine `{name}`"), what });
        }
        let (device, preset) = device(first, name)?;
        let ids: BTreeSet<u64> = accelerators.iter().map(|d| d.global_id).collect();
        let inside = |l: &&PaddleLink| ids.contains(&l.source_global_id) && ids.contains(&l.target_global_id);
        let machine_of = |id: u64| self.devices.get(&id).map(|d| d.0);
        let leaves = |l: &&PaddleLink| {
            (machine_of(l.source_global_id) == Some(at)) != (machine_of(l.target_global_id) == Some(at))
        };
        let intra = slowest(name, "intra", links.iter().filter(inside), LinkKind::Nvl, alpha, &preset)?;
        let mut nic = slowest(name, "nic", links.iter().filter(leaves), LinkKind::Net, alpha, &preset)?;
        if several && nic.is_none() {
            nic = preset.links.iter().find(|l| l.kind == LinkKind::Net).cloned().map(|l| renamed(l, name, "nic"));
        }
        let adapters = machine.devices.iter().filter(|d| d.kind == "NIC").count().max(1) as u32;
        self.cluster.machines.push(MachineGroup {
            name: name.into(),
            count: 1,
            device: device.name.clone(),
            devices: accelerators.len() as u32,
            intra: intra.as_ref().map(|l| l.name.clone()),
            domain: None,
            bridge: None,
            nics: if nic.is_some() { adapters } else { 0 },
            nic: nic.as_ref().map(|l| l.name.clone()),
            switch: None,
        });
        self.cluster.links.extend(intra.into_iter().chain(nic));
        if self.cluster.device_type(&device.name).is_none() {
            self.cluster.device_types.push(device);
        }
        Ok(())
    }
}

/// The device type: the preset of its model, overwritten by what the file says.
fn device(d: &PaddleDevice, machine: &str) -> Result<(DeviceType, Cluster), ClusterError> {
    let kinds = ["CPU", "GPU", "XPU", "DCU", "NPU"];
    let unknown = |what: &'static str, name: String, known: String| {
        Err(ClusterError::Unknown { what, name, place: format!("machine `{machine}`, device {}", d.global_id), known })
    };
    if !kinds.contains(&d.kind.as_str()) {
        return unknown("device kind", d.kind.clone(), kinds.join(", "));
    }
    let model = d.model.clone().unwrap_or_default();
    let Some(preset) = preset_of(&model, d.memory) else {
        return unknown("device model", model, "V100, A100, H100, H200, Ascend 910".into());
    };
    let preset = Cluster::preset(preset)?;
    let Some(mut device) = preset.device_types.first().cloned() else { return Err(ClusterError::Empty(model)) };
    let stated = |v: f64| Sourced::new(v, SOURCE, Confidence::Unstated);
    device.name = model;
    device.kind = if d.kind == "NPU" { DeviceKind::Npu } else { device.kind };
    if let Some(gib) = d.memory {
        device.memory_gib = stated(gib);
    }
    if let Some(g) = d.hp_gflops {
        device.half_tflops = stated(g / 1e3);
    }
    device.single_tflops = d.sp_gflops.map(|g| stated(g / 1e3)).or(device.single_tflops);
    device.double_tflops = d.dp_gflops.map(|g| stated(g / 1e3)).or(device.double_tflops);
    Ok((device, preset))
}

/// The preset whose device carries this model's name.
fn preset_of(model: &str, memory: Option<f64>) -> Option<&'static str> {
    let upper = model.to_uppercase();
    let small = memory.is_some_and(|m| m < 20.0);
    let known = preset_names();
    let pick = |name: &'static str| known.contains(&name).then_some(name);
    match upper.as_str() {
        m if m.contains("V100") => pick(if small { "v100-16-dgx1" } else { "v100-paddle" }),
        m if m.contains("A100") => pick(if memory.is_some_and(|g| g < 60.0) { "a100-40" } else { "a100" }),
        m if m.contains("H100") => pick("h100"),
        m if m.contains("H200") => pick("h200"),
        m if m.contains("ASCEND") && m.contains("910") => pick("ascend910"),
        _ => None,
    }
}

fn renamed(link: LinkClass, machine: &str, what: &str) -> LinkClass {
    LinkClass { name: format!("{machine}-{what}"), ..link }
}

/// The slowest of `links` as a class of its own; `None` when there are none. A latency the file does not give comes from
/// `alpha_latency`, else from the preset's class of that kind.
fn slowest<'a>(
    machine: &str,
    what: &'static str,
    links: impl Iterator<Item = &'a PaddleLink>,
    kind: LinkKind,
    alpha: Option<&Value>,
    preset: &Cluster,
) -> Result<Option<LinkClass>, ClusterError> {
    let mut worst: Option<&PaddleLink> = None;
    for link in links {
        let place = || format!("link {} -> {}", link.source_global_id, link.target_global_id);
        if !(link.bandwidth.is_finite() && link.bandwidth > 0.0) {
            let expected = "above 0 GB/s";
            return Err(ClusterError::OutOfRange {
                field: "bandwidth",
                place: place(),
                value: link.bandwidth,
                expected,
            });
        }
        serde_json::from_value::<LinkKind>(link.kind.clone().into()).map_err(|_| ClusterError::Unknown {
            what: "link type",
            name: link.kind.clone(),
            place: place(),
            known: "LOC, SYS, PHB, PIX, PIB, NVL, NVB, HCCS, NET".into(),
        })?;
        if worst.is_none_or(|w| link.bandwidth < w.bandwidth) {
            worst = Some(link);
        }
    }
    let Some(link) = worst else { return Ok(None) };
    let like = preset.links.iter().find(|l| (l.kind == LinkKind::Net) == (kind == LinkKind::Net));
    let Some(like) = like else { return Err(ClusterError::Missing { field: "latency", place: what.into() }) };
    let path = if what == "intra" { "/intra/ring" } else { "/inter/ring" };
    let stated = |v: f64| Sourced::new(v, SOURCE, Confidence::Unstated);
    let from_alpha = alpha.and_then(|a| a.pointer(path)).and_then(Value::as_f64);
    let latency = link.latency.filter(|l| *l > 0.0).or(from_alpha).map_or(like.latency_us.clone(), stated);
    let class = LinkClass {
        name: String::new(),
        kind: serde_json::from_value(link.kind.clone().into()).unwrap_or(kind),
        gb_s: stated(link.bandwidth),
        pair_gb_s: None,
        latency_us: latency,
        reached: like.reached.clone(),
        knees: Vec::new(),
    };
    Ok(Some(renamed(class, machine, what)))
}
