//! What can be typed.

use clap::{Args as Group, Parser, Subcommand};
use std::path::PathBuf;

/// Trains, evaluates and uses the recipes of Chandlery.
#[derive(Debug, Parser)]
#[command(name = "chandlery", version, arg_required_else_help = true)]
pub struct Args {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Train a recipe: poet, poet-base, smoke, pepl, pepl-photos, pepl-smoke
    Train(Train),
    /// Evaluate a finished run again
    Eval(Eval),
    /// Write with a trained model
    Generate(Generate),
    /// Label a folder of images with a trained classifier
    Predict(Predict),
    /// Show where a trained classifier looks
    Cam(Cam),
    /// Compare methods: every method, share of labels and seed, with a table at the end
    Experiment(Experiment),
    /// Plan training on a cluster, and check the cost model against published measurements
    Plan(Plan),
    /// Clusters
    #[command(subcommand)]
    Cluster(Cluster),
    /// Make and convert data
    #[command(subcommand)]
    Data(Data),
}

/// `train`.
#[derive(Debug, Group)]
pub struct Train {
    /// Preset to start from
    pub preset: String,
    /// Change a setting, for example fit.steps=200 (repeatable)
    #[arg(long = "set", value_name = "PATH=VALUE")]
    pub set: Vec<String>,
    /// Run directory [default: runs/PRESET]
    #[arg(long, value_name = "DIR")]
    pub run: Option<PathBuf>,
    /// Go on with an interrupted run
    #[arg(long)]
    pub resume: bool,
    /// Resume although settings or data differ
    #[arg(long)]
    pub accept_changes: bool,
}

/// `eval`.
#[derive(Debug, Group)]
pub struct Eval {
    /// Run directory
    #[arg(default_value = "runs/poet")]
    pub run: PathBuf,
    /// Requests per attribute (recipe poet) [default: the run's own]
    #[arg(long)]
    pub requests: Option<usize>,
    /// Guidance (recipe poet) [default: the run's own]
    #[arg(long)]
    pub guidance: Option<f64>,
}

/// `predict`.
#[derive(Debug, Group)]
pub struct Predict {
    /// Run directory
    pub run: PathBuf,
    /// Folder of images, with all folders in it
    #[arg(long, value_name = "DIR")]
    pub images: PathBuf,
    /// Write the lines here instead of to standard output
    #[arg(long, value_name = "FILE")]
    pub out: Option<PathBuf>,
    /// Also copy every kept image to DIR/LABEL, the others to DIR/unsure, with labels.jsonl and report.html
    #[arg(long, value_name = "DIR")]
    pub into: Option<PathBuf>,
    /// Keep labels of at least this calibrated probability [default: the run's own, see its calibration.json]
    #[arg(long, value_name = "P")]
    pub keep_above: Option<f64>,
    /// Images at a time
    #[arg(long, default_value_t = 32)]
    pub batch: usize,
}

/// `cam`.
#[derive(Debug, Group)]
pub struct Cam {
    /// Run directory
    pub run: PathBuf,
    /// Folder of images, with all folders in it
    #[arg(long, value_name = "DIR")]
    pub images: PathBuf,
    /// cam, grad-cam, grad-cam++, hires-cam, xgrad-cam, layer-cam, eigen-cam, eigen-grad-cam, ablation-cam, score-cam,
    /// finer-cam or rise (repeatable)
    #[arg(long = "method", default_value = "cam")]
    pub methods: Vec<String>,
    /// Folder for the pictures
    #[arg(long, value_name = "DIR")]
    pub out: PathBuf,
    /// At most this many images; 0 = all
    #[arg(long, default_value_t = 0)]
    pub limit: usize,
}

/// `experiment`.
#[derive(Debug, Group)]
pub struct Experiment {
    /// Plan: pepl, pepl-long, or a TOML file
    #[arg(default_value = "pepl")]
    pub plan: String,
    /// Change a setting of every run, for example data.path=DIR (repeatable)
    #[arg(long = "set", value_name = "PATH=VALUE")]
    pub set: Vec<String>,
    /// Folder of the runs and the table [default: runs/experiment-PLAN]
    #[arg(long, value_name = "DIR")]
    pub out: Option<PathBuf>,
    /// Only methods of these names (repeatable)
    #[arg(long)]
    pub only: Vec<String>,
    /// Only say how long it would take
    #[arg(long)]
    pub estimate: bool,
    /// Only make the table of the runs that are there
    #[arg(long)]
    pub table: bool,
}

/// `generate`.
#[derive(Debug, Group)]
pub struct Generate {
    /// Run directory
    #[arg(default_value = "runs/poet")]
    pub run: PathBuf,
    /// Form: 五绝 七绝 五律 七律 词 古风
    #[arg(long)]
    pub form: Option<String>,
    /// Dynasty: 唐 宋
    #[arg(long)]
    pub dynasty: Option<String>,
    /// Author, one of the most frequent fifty
    #[arg(long)]
    pub author: Option<String>,
    /// Tune of a ci, for example 浣溪沙
    #[arg(long)]
    pub tune: Option<String>,
    /// Topic
    #[arg(long)]
    pub topic: Option<String>,
    /// Keyword (repeatable)
    #[arg(long = "keyword")]
    pub keywords: Vec<String>,
    /// Length in characters
    #[arg(long)]
    pub length: Option<usize>,
    /// Number of lines
    #[arg(long)]
    pub lines: Option<usize>,
    /// How many poems
    #[arg(long, short, default_value_t = 4)]
    pub n: usize,
    /// Guidance g in (1+g) cond - g uncond [default: the run's own]
    #[arg(long)]
    pub guidance: Option<f64>,
    /// Sampling temperature [default: the run's own]
    #[arg(long)]
    pub temperature: Option<f64>,
    /// Seed
    #[arg(long, default_value_t = 0)]
    pub seed: u64,
}

/// `plan`.
#[derive(Debug, Group)]
#[command(args_conflicts_with_subcommands = true)]
pub struct Plan {
    /// Check the model of costs instead of planning
    #[command(subcommand)]
    pub check: Option<PlanCheck>,
    /// Model preset, or a TOML file
    #[arg(long, default_value = "poet-base")]
    pub model: String,
    /// Cluster preset, or a JSON file
    #[arg(long, default_value = "this-cpu")]
    pub cluster: String,
    /// Sequences per step [default: usual for the model's size]
    #[arg(long)]
    pub batch: Option<u32>,
    /// Tensor degrees allowed (repeatable) [default: all]
    #[arg(long)]
    pub tensor: Vec<u32>,
    /// Pipeline degrees allowed (repeatable) [default: all]
    #[arg(long)]
    pub pipeline: Vec<u32>,
    /// Attention that writes its scores
    #[arg(long)]
    pub unfused_attention: bool,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
    /// Also write plan.json, timeline.svg, map.svg and plan.html to this folder
    #[arg(long, value_name = "DIR")]
    pub out: Option<PathBuf>,
}

/// `plan validate`.
#[derive(Debug, Subcommand)]
pub enum PlanCheck {
    /// Predict published measurements and print every error
    Validate {
        /// Table in the form of the published ones, or `published` or `further` [default: published]
        #[arg(long)]
        table: Option<String>,
        /// Rows to calibrate on, by id
        #[arg(long, value_delimiter = ',')]
        calibrate_on: Vec<String>,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Train a few steps on this machine and print the prediction beside them
    Measure(Measure),
}

/// `plan measure`.
#[derive(Debug, Group)]
pub struct Measure {
    /// Language model: a preset, or a TOML file
    #[arg(long, default_value = "poet")]
    pub model: String,
    /// Cluster preset, or a JSON file
    #[arg(long, default_value = "this-cpu")]
    pub cluster: String,
    /// Sequences per step
    #[arg(long, default_value_t = 24)]
    pub batch: u32,
    /// Threads of each rank [default: its share of the cores]
    #[arg(long, value_parser = clap::value_parser!(u16).range(1..))]
    pub threads: Option<u16>,
    /// Steps that are timed
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u16).range(1..))]
    pub steps: u16,
}

/// `cluster`.
#[derive(Debug, Subcommand)]
pub enum Cluster {
    /// Measure the machine this runs on and print it as a cluster
    Probe {
        /// Ranks that share the cores [default: one a core]
        #[arg(long)]
        ranks: Option<usize>,
    },
}

/// `data`.
#[derive(Debug, Subcommand)]
pub enum Data {
    /// Pack the embedded poems from a fetched package
    PackPoetry {
        /// Folder of the package
        source: PathBuf,
        /// File to write
        out: PathBuf,
    },
    /// Convert a state dict that torch saved to safetensors
    ConvertTorch {
        /// File of torch, also of versions before 1.6
        source: PathBuf,
        /// File to write
        out: PathBuf,
    },
}
