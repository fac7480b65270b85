//! A model at a glance.

use crate::ParamStore;
use candle_core::Var;
use std::fmt::Write;

/// A table of all parameters: name, shape, number of values; then their total, and buffers where there are any.
pub fn summary(store: &ParamStore) -> String {
    let names = store.names();
    let params: Vec<(&String, Var)> = names.iter().filter_map(|name| Some((name, store.get(name)?))).collect();
    let width = names.iter().map(String::len).max().unwrap_or(0).max(7);
    let mut table = String::new();
    for (name, var) in &params {
        let shape = var.dims().iter().map(ToString::to_string).collect::<Vec<_>>().join(" x ");
        let frozen = if store.is_frozen(name) { "  frozen" } else { "" };
        // Writing to a String cannot fail.
        let _ = writeln!(table, "{name:<width$}  {shape:>16}  {:>12}{frozen}", var.elem_count());
    }
    let _ = writeln!(table, "{:<width$}  {:>16}  {:>12}", "total", "", store.n_params());
    let buffers = store.named_buffers();
    if !buffers.is_empty() {
        let values: usize = buffers.iter().map(|(_, var)| var.elem_count()).sum();
        let _ = writeln!(table, "{:<width$}  {:>16}  {values:>12}", "buffers", buffers.len());
    }
    table
}
