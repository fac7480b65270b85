//! Plans for clusters.

mod measure;

use crate::args::{Plan, PlanCheck};
use crate::{Result, say};
use chandlery::nn::file::write_atomic;
use chandlery::parallel::cli::{self, PlanArgs, ValidateArgs};

/// Plans, or checks the model of costs.
pub fn plan(args: &Plan) -> Result<()> {
    match &args.check {
        Some(PlanCheck::Validate { table, calibrate_on, json }) => {
            let args = ValidateArgs { table: table.clone(), calibrate_on: calibrate_on.clone(), json: *json };
            say(cli::validate(&args)?);
            return Ok(());
        }
        Some(PlanCheck::Measure(args)) => return measure::measure(args),
        None => {}
    }
    let plan = cli::plan(&PlanArgs {
        model: args.model.clone(),
        cluster: args.cluster.clone(),
        global_batch: args.batch,
        tensor: args.tensor.clone(),
        pipeline: args.pipeline.clone(),
        unfused_attention: args.unfused_attention,
    })?;
    say(if args.json { &plan.json } else { &plan.text });
    if let Some(dir) = &args.out {
        std::fs::create_dir_all(dir).map_err(|e| format!("{}: {e}", dir.display()))?;
        let files = [
            ("plan.json", &plan.json),
            ("timeline.svg", &plan.timeline_svg),
            ("map.svg", &plan.map_svg),
            ("plan.html", &plan.html),
        ];
        for (name, content) in files {
            write_atomic(&dir.join(name), |w| w.write_all(content.as_bytes()))?;
        }
        say(format!("pictures: {}", dir.join("plan.html").display()));
    }
    Ok(())
}
