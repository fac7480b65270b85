//! A model at a glance.

use crate::ParamStore;
use std::fmt::Write;

/// A table of all parameters: name, shape, number of values; then the total.
pub fn summary(store: &ParamStore) -> String {
    let vars = store.named_vars();
    let width = vars.iter().map(|(name, _)| name.len()).max().unwrap_or(0).max(5);
    let mut table = String::new();
    for (name, var) in &vars {
        let shape = var.dims().iter().map(ToString::to_string).collect::<Vec<_>>().join(" x ");
        // Writing to a String cannot fail.
        let _ = writeln!(table, "{name:<width$}  {shape:>16}  {:>12}", var.elem_count());
    }
    let _ = writeln!(table, "{:<width$}  {:>16}  {:>12}", "total", "", store.n_params());
    table
}
