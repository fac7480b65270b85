//! Prints every published row with prediction and error, then table A with each row left out of the fit.
//! `cargo run -p chandlery-parallel --example validate [-- TABLE.json|- [ROW,ROW]]` (`-` = the tables of the crate).

#![allow(clippy::print_stdout, reason = "prints a report")]

use chandlery_parallel::cli::{ValidateArgs, validate};
use chandlery_parallel::validate::{Row, TABLES, leave_one_out, rows};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let table = std::env::args().nth(1).filter(|t| t != "-");
    let calibrate_on =
        std::env::args().nth(2).map(|ids| ids.split(',').map(String::from).collect()).unwrap_or_default();
    println!("{}", validate(&ValidateArgs { table: table.clone(), calibrate_on, json: false })?);
    let text = table.map_or_else(|| Ok(TABLES.to_string()), std::fs::read_to_string)?;
    let rows = rows(&text)?;
    let a: Vec<&Row> = rows.iter().filter(|r| r.table == "A").collect();
    if a.len() > 2 {
        println!("table A, each row left out of a fit from the prior:");
        let left = leave_one_out(&a);
        left.iter().for_each(|r| println!("  {:<10} {:+.2} %", r.id, r.error_percent));
        println!("  mean {:.2} %", left.iter().map(|r| r.error_percent.abs()).sum::<f64>() / left.len() as f64);
    }
    Ok(())
}
