//! The cluster object: machines, devices and links, with the provenance of every number.
//!
//! A cluster is a list of machine groups (identical machines are described once), two catalogues (device types and link
//! classes) and optionally a tree of switches. Devices are numbered from 0 in the order of the groups, machine by machine.
//! [`Cluster::from_json`] reads the native form and the files of PaddlePaddle's planner; [`Cluster::preset`] knows published
//! machines. A device, link or preset that is not known is an error: nothing is substituted.

mod device;
mod error;
mod link;
mod machine;
mod paddle;
mod parse;
mod preset;
mod sourced;

pub use device::{DeviceKind, DeviceType, Efficiency};
pub use error::ClusterError;
pub use link::{Knee, LinkClass, LinkKind, Wire};
pub use machine::{Cluster, DeviceAt, MachineGroup, Route, Switch};
pub use parse::{FORMAT, MAX_DEVICES};
pub use preset::preset_names;
pub use sourced::{Confidence, Sourced};

#[cfg(test)]
mod tests;
