//! `plan validate`.

use super::{CliError, read};
use crate::validate::{self as rows, FURTHER, TABLES};

/// Arguments of `plan validate`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ValidateArgs {
    /// Table file, or `published` or `further`, the tables that come with the crate; `published` when absent.
    pub table: Option<String>,
    /// Ids of rows to calibrate on.
    pub calibrate_on: Vec<String>,
    /// JSON instead of text.
    pub json: bool,
}

/// Predicts every row of a table and reports each with its error.
///
/// # Errors
/// A file that cannot be read or is no table; a calibration row that does not exist.
pub fn validate(args: &ValidateArgs) -> Result<String, CliError> {
    let text = match args.table.as_deref() {
        None | Some("published") => TABLES.into(),
        Some("further") => FURTHER.into(),
        Some(path) => read(path)?,
    };
    let report = rows::validate(&text, &args.calibrate_on)?;
    if !args.json {
        return Ok(report.to_text());
    }
    let with_summaries = serde_json::json!({ "report": report, "summaries": report.summaries() });
    serde_json::to_string_pretty(&with_summaries).map_err(|e| CliError::Json(e.to_string()))
}
