//! `benchmark train-speed`: views a second of the default training step, beside the same step on
//! candle's layers, and beside its encoder alone.

use anyhow::Result;
use s5cl_backbone::ResNetConfig;
use serde_json::{Value, json};

use super::figure::Figure;
use super::gate::Gate;
use super::kernels::{Images, PlainStep, StepShape, Work, call};
use super::speed::{SpeedRow, Worker, beside, results, table};
use super::turns::{Side, here};
use crate::config::{Overrides, RunConfig, resolve};
use crate::device::Device;
use crate::timing::SpanTimes;
use crate::training::{Options, Run};

/// The name of the suite.
const SUITE: &str = "train-speed";
/// Turns of the quick suite: few, so that it is over soon.
const QUICK_TURNS: u32 = 3;
/// Side of the images in pixels.
const SIDE: usize = 32;
/// Steps of a turn that count, behind one that does not: it finds no memory in use yet.
const STEPS: u32 = 4;

#[derive(clap::Args)]
pub(crate) struct TrainSpeed {
    /// Turns of each side; the median counts
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..))]
    runs: u32,
    /// The turns of `benchmark --quick`
    #[arg(long, conflicts_with = "runs")]
    quick: bool,
    /// End standard output with the rows as one line of JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    gate: Gate,
}

impl TrainSpeed {
    /// Runs the suite.
    pub(crate) fn run(self) -> Result<()> {
        let gate = self.gate.open(SUITE, measured()?)?;
        let rows = measure(if self.quick { QUICK_TURNS } else { self.runs })?;
        println!("{}", table(&rows).text());
        if self.json {
            println!("{}", results(SUITE, &rows));
        }
        gate.judge(&rows.iter().map(SpeedRow::figure).collect::<Vec<Figure>>())
    }
}

/// The rows of the quick suite.
pub(super) fn quick() -> Result<Vec<SpeedRow>> {
    measure(QUICK_TURNS)
}

/// What a row is of, for the gate.
pub(super) fn measured() -> Result<Value> {
    let RunConfig { data, encoder, .. } = config()?;
    let images = [data.batch_labeled, data.batch_unlabeled];
    Ok(json!({ "data": data.spec, "images_a_step": images, "encoder": encoder.name }))
}

fn config() -> Result<RunConfig> {
    let set = [
        format!("data.spec=synthetic:tissue?size={SIDE}&images=300"),
        "schedule.warmup_steps=0".to_owned(),
        "evaluation.every=0".to_owned(),
    ];
    resolve(&Overrides { set: set.to_vec(), ..Overrides::default() })
}

fn measure(turns: u32) -> Result<Vec<SpeedRow>> {
    let config = config()?;
    let (n_labeled, n_unlabeled) = (config.data.batch_labeled, config.data.batch_unlabeled);
    let batch = 2 * (n_labeled + n_unlabeled);
    let shape = StepShape { n_labeled, n_unlabeled, side: SIDE, n_classes: 9 };
    let mut plain = PlainStep::new(&ResNetConfig::slim(), shape)?;
    let encoder = Images { encoder: "resnet-slim", size: SIDE, batch };
    let workers = vec![
        Worker { name: "ours", side: whole_steps(&config), per_call: batch },
        Worker { name: "plain candle", side: here(move || plain.call()), per_call: batch },
        Worker {
            name: "its encoder alone",
            side: here(call(Work::Train(encoder))?),
            per_call: batch,
        },
    ];
    beside(&format!("step-s5cl-{SIDE}"), "views/s", workers, turns)
}

/// Runs of a few steps as `train` makes them, the loader's thread included; what comes before the
/// steps and after them does not count.
fn whole_steps(config: &RunConfig) -> Side<'_> {
    Box::new(|calls| {
        let folder = tempfile::tempdir()?;
        let mut config = config.clone();
        config.training.steps = u64::from(STEPS * calls) + 1;
        let times = SpanTimes::default();
        let (device, should_stop) = (Device::cpu(), &|| false);
        let options = Options { device, workers: 1, prefetch: 4, quiet: true, times, should_stop };
        let run = Run::create(config, |_, _| folder.path().join("run"), &options)?;
        run.train()?;
        let events = run.folder.events()?;
        let steps = events.iter().filter(|event| event["kind"] == "train").skip(1);
        let seconds: f64 = steps.filter_map(|step| step["seconds"].as_f64()).sum();
        Ok(seconds / f64::from(STEPS))
    })
}
