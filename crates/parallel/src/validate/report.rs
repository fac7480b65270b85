//! The report: every row, and averages by table.

use serde::Serialize;

use super::Base;
use super::quantity::predicted;
use super::{Row, step_of};
use crate::calibrate::Factors;

/// One row's outcome.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Residual {
    /// Row.
    pub id: String,
    /// Table.
    pub table: String,
    /// `normal`, or why the row does not count in averages.
    pub gate: String,
    /// Hardware key.
    pub hardware: String,
    /// The constants were fitted on this row.
    pub calibrated_on: bool,
    /// Plan used.
    pub plan: String,
    /// Quantity compared.
    pub quantity: String,
    /// Unit.
    pub unit: String,
    /// Measurement.
    pub measured: f64,
    /// Prediction.
    pub predicted: f64,
    /// Prediction over measurement minus one, percent.
    pub error_percent: f64,
    /// Why there is no prediction; the numbers above are zero then.
    pub unpredicted: Option<String>,
    /// What the source leaves open and was assumed.
    pub assumed: Vec<String>,
}

/// Averages over the rows of one table that count.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Summary {
    /// Table.
    pub table: String,
    /// Rows that count.
    pub rows: usize,
    /// Mean of the absolute errors, percent.
    pub mean: f64,
    /// Largest absolute error, percent.
    pub max: f64,
    /// Mean of the signed errors, percent.
    pub bias: f64,
}

/// Every row of a table.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Report {
    /// Rows.
    pub residuals: Vec<Residual>,
    /// Factors on the platforms' constants; 1 without calibration.
    pub factors: Factors,
    /// Rows they were fitted on.
    pub calibrated_on: Vec<String>,
}

/// The outcome of one row.
pub(super) fn residual(row: &Row, base: Base, factors: &Factors, calibrated_on: &[String]) -> Residual {
    let mut out = Residual {
        id: row.id.clone(),
        table: row.table.clone(),
        gate: row.gate.clone(),
        hardware: row.hardware.clone(),
        calibrated_on: calibrated_on.contains(&row.id),
        plan: String::new(),
        quantity: String::new(),
        unit: String::new(),
        measured: 0.0,
        predicted: 0.0,
        error_percent: 0.0,
        unpredicted: None,
        assumed: Vec::new(),
    };
    out.unpredicted = fill(&mut out, row, base, factors).err();
    out
}

fn fill(out: &mut Residual, row: &Row, base: Base, factors: &Factors) -> Result<(), String> {
    let case = row.case.as_ref().map_err(Clone::clone)?;
    out.assumed = case.assumed.clone();
    let (plan, step) = step_of(case, &factors.apply(&base.constants(&case.platform)))?;
    out.plan = plan.to_string();
    let measured = super::primary(case).ok_or("nothing measured that follows from the step time")?;
    let value = predicted(case, measured, plan.global_batch, step).ok_or("no such quantity")?;
    (out.quantity, out.unit) = (measured.quantity.clone(), measured.unit.clone());
    (out.measured, out.predicted) = (measured.value, value);
    out.error_percent = 100.0 * (value / measured.value - 1.0);
    Ok(())
}

impl Report {
    /// Averages by table, in the order of first appearance. Rows that calibrated the constants count too and are marked.
    pub fn summaries(&self) -> Vec<Summary> {
        let mut tables: Vec<&str> = Vec::new();
        for r in &self.residuals {
            if !tables.contains(&r.table.as_str()) {
                tables.push(&r.table);
            }
        }
        tables.into_iter().map(|t| self.summary(t, |_| true)).collect()
    }

    /// Averages over the rows of `table` that count and satisfy `keep`.
    pub fn summary(&self, table: &str, keep: impl Fn(&Residual) -> bool) -> Summary {
        let counts = |r: &&Residual| r.table == table && r.gate == "normal" && r.unpredicted.is_none() && keep(r);
        let errors: Vec<f64> = self.residuals.iter().filter(counts).map(|r| r.error_percent).collect();
        let n = errors.len().max(1) as f64;
        Summary {
            table: table.into(),
            rows: errors.len(),
            mean: errors.iter().map(|e| e.abs()).sum::<f64>() / n,
            max: errors.iter().fold(0.0, |m, e| m.max(e.abs())),
            bias: errors.iter().sum::<f64>() / n,
        }
    }

    /// The report as text.
    pub fn to_text(&self) -> String {
        let mut out =
            format!("{:<22} {:<16} {:>10} {:>10} {:>8}  plan\n", "row", "quantity", "measured", "predicted", "error");
        for r in &self.residuals {
            out.push_str(&line(r));
        }
        out.push('\n');
        for s in self.summaries() {
            out.push_str(&format!(
                "table {:<3} {:>3} rows: mean |error| {:.2} %, largest {:.2} %, bias {:+.2} %\n",
                s.table, s.rows, s.mean, s.max, s.bias
            ));
        }
        if !self.calibrated_on.is_empty() {
            let list: Vec<String> = self.factors.named().iter().map(|(n, f)| format!("{n} x {f:.3}")).collect();
            out.push_str(&format!("calibrated on {}: {}\n", self.calibrated_on.join(", "), list.join(", ")));
        }
        out
    }
}

fn line(r: &Residual) -> String {
    if let Some(why) = &r.unpredicted {
        return format!("{:<22} not predicted: {why}\n", r.id);
    }
    let mark = match (r.gate.as_str(), r.calibrated_on) {
        (_, true) => " (calibrated on)",
        ("normal", _) => "",
        _ => " (not averaged)",
    };
    let mut text = format!(
        "{:<22} {:<16} {:>10.2} {:>10.2} {:>+7.2}%  {}{mark}\n",
        r.id, r.quantity, r.measured, r.predicted, r.error_percent, r.plan
    );
    for a in &r.assumed {
        text.push_str(&format!("{:<22}   assumed: {a}\n", ""));
    }
    text
}
