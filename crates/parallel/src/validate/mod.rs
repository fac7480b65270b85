//! Prediction against measurement, row by row, none hidden.
//!
//! A table is a JSON file with a list `rows`, in the form of `tables/published.json` in this crate. Every row is printed: with
//! prediction, measurement and error, or with the reason why there is no prediction. Rows whose `gate` is not `normal` are
//! printed and left out of the averages.

mod quantity;
mod report;
mod row;

pub use quantity::{predicted, step_flops};
use report::residual;
pub use report::{Report, Residual, Summary};
pub use row::{Case, Measured, read};

use crate::calibrate::{self, Factors};
use crate::cost::{Constants, Plan, Platform, Timing, even_cut, predict};
use crate::memory::stage_memory;
use serde_json::Value;

/// The published tables A to D; the constants of the presets were fitted on A.
pub const TABLES: &str = include_str!("../../tables/published.json");

/// Further published measurements, none of which a constant was fitted on.
pub const FURTHER: &str = include_str!("../../tables/further.json");

/// A table that cannot be read.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum ValidateError {
    /// No JSON, or without `rows`.
    #[error("table: {0}")]
    Table(String),
    /// A row to calibrate on that does not exist or cannot be predicted.
    #[error("cannot calibrate on row `{row}`: {why}")]
    Calibration {
        /// Its id.
        row: String,
        /// Why.
        why: String,
    },
}

/// One row: its id, table and gate, and the case or the reason why there is none.
#[derive(Clone, Debug)]
pub struct Row {
    /// Id.
    pub id: String,
    /// Table it belongs to.
    pub table: String,
    /// `normal`, or why it does not count.
    pub gate: String,
    /// Hardware key.
    pub hardware: String,
    /// What was run.
    pub case: Result<Case, String>,
}

/// Reads all rows of a table.
///
/// # Errors
/// Text that is not a table. Rows that cannot be understood are kept, with the reason.
pub fn rows(text: &str) -> Result<Vec<Row>, ValidateError> {
    let value: Value = serde_json::from_str(text).map_err(|e| ValidateError::Table(e.to_string()))?;
    let list = value.get("rows").and_then(Value::as_array);
    let list = list.ok_or_else(|| ValidateError::Table("no list `rows`".into()))?;
    let word = |v: &Value, default: &str| v.as_str().unwrap_or(default).to_string();
    let one = |(at, row): (usize, &Value)| Row {
        id: word(&row["id"], &format!("row {at}")),
        table: word(&row["table"], "?"),
        gate: word(&row["gate"], "normal"),
        hardware: word(&row["hardware"], "?"),
        case: read(row),
    };
    Ok(list.iter().enumerate().map(one).collect())
}

/// Seconds of a step of `case` under `constants`, and the plan: the fastest of the candidates that fit the memory, or of
/// all when none fits.
pub fn step_of(case: &Case, constants: &Constants) -> Result<(Plan, f64), String> {
    let platform = case.platform.with(*constants);
    let mut best: Option<(bool, f64, &Plan)> = None;
    let mut why = "no candidate plan".to_string();
    for plan in &case.plans {
        let cut = even_cut(case.model.layers, plan.virtual_stages());
        match predict(&case.model, plan, &platform, &cut, Timing::Replay) {
            Err(e) => why = e.to_string(),
            Ok(p) => {
                let memory = stage_memory(&case.model, plan, &cut);
                let over = memory.iter().any(|d| d.total() > platform.memory);
                if best.is_none_or(|(o, s, _)| (over, p.step_s) < (o, s)) {
                    best = Some((over, p.step_s, plan));
                }
            }
        }
    }
    best.map(|(_, step, plan)| (*plan, step)).ok_or(why)
}

/// The first quantity of a case that follows from its own step time.
fn primary(case: &Case) -> Option<&Measured> {
    let batch = case.plans.first()?.global_batch;
    case.measured.iter().find(|m| predicted(case, m, batch, 1.0).is_some())
}

/// Seconds of a step that the first usable measurement implies.
pub fn measured_step(case: &Case) -> Option<f64> {
    let batch = case.plans.first()?.global_batch;
    quantity::implied_step(case, primary(case)?, batch)
}

/// What a fit starts from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Base {
    /// The constants of each row's platform.
    Shipped,
    /// [`calibrate::prior`], which has seen none of the tables.
    Prior,
}

impl Base {
    /// Its constants on `platform`.
    pub fn constants(self, platform: &Platform) -> Constants {
        match self {
            Self::Shipped => platform.constants,
            Self::Prior => calibrate::prior(platform),
        }
    }
}

/// Fits factors on `rows`.
pub fn fit_on(rows: &[&Row], base: Base) -> Factors {
    let cases = rows.iter().filter_map(|r| r.case.as_ref().ok());
    let usable: Vec<(&Case, f64)> = cases.filter_map(|c| Some((c, measured_step(c)?))).collect();
    let measured: Vec<f64> = usable.iter().map(|u| u.1).collect();
    calibrate::fit(&measured, |row, factors| {
        let case = usable[row].0;
        step_of(case, &factors.apply(&base.constants(&case.platform))).ok().map(|s| s.1)
    })
}

/// Predicts every row. Constants are those of each row's platform, times factors fitted on the rows named in
/// `calibrate_on`.
///
/// # Errors
/// A table that cannot be read, a calibration row that does not exist or cannot be predicted.
pub fn validate(text: &str, calibrate_on: &[String]) -> Result<Report, ValidateError> {
    let rows = rows(text)?;
    let factors = calibration(&rows, calibrate_on)?;
    let residuals = rows.iter().map(|row| residual(row, Base::Shipped, &factors, calibrate_on)).collect();
    Ok(Report { residuals, factors, calibrated_on: calibrate_on.to_vec() })
}

/// Predicts each of `rows` with factors fitted on all the others, from the prior that has seen none.
pub fn leave_one_out(rows: &[&Row]) -> Vec<Residual> {
    let one = |left: usize| {
        let others: Vec<&Row> = rows.iter().enumerate().filter(|(k, _)| *k != left).map(|(_, r)| *r).collect();
        residual(rows[left], Base::Prior, &fit_on(&others, Base::Prior), &[])
    };
    (0..rows.len()).map(one).collect()
}

fn calibration(rows: &[Row], names: &[String]) -> Result<Factors, ValidateError> {
    let mut chosen = Vec::new();
    for name in names {
        let fail = |why: String| ValidateError::Calibration { row: name.clone(), why };
        let row = rows.iter().find(|r| &r.id == name).ok_or_else(|| fail("there is no such row".into()))?;
        let case = row.case.as_ref().map_err(|e| fail(e.clone()))?;
        measured_step(case).ok_or_else(|| fail("it measures nothing that can be predicted".into()))?;
        step_of(case, &case.platform.constants).map_err(fail)?;
        chosen.push(row);
    }
    Ok(fit_on(&chosen, Base::Shipped))
}

#[cfg(test)]
mod tests;
