//! Whole steps of a run, as `train` takes them.

use anyhow::{Context, Result};
use s5cl_kernels::{device_memory, forget_peak_memory};
use serde_json::{Value, json};

use super::Sizes;
use crate::config::{Overrides, RunConfig, resolve};
use crate::device::Device;
use crate::timing::SpanTimes;
use crate::training::{Options, Run};

/// Steps at the beginning that do not count.
const WARM_UP: usize = 2;
/// Steps of the two runs whose losses are compared.
const CURVE_STEPS: u64 = 50;

/// What our steps take.
pub(super) struct Steps {
    pub(super) milliseconds: f64,
    pub(super) memory_mib: Option<f64>,
}

/// Steps of S5CL on drawn tissue in the device's best precision.
pub(super) fn ours(device: &Device, sizes: &Sizes) -> Result<Steps> {
    forget_peak_memory(&device.tensors)?;
    let config = config(sizes, sizes.steps, "auto")?;
    let mut seconds = of_steps(device, config, "seconds")?.split_off(WARM_UP);
    seconds.sort_by(f64::total_cmp);
    let median = seconds.get(seconds.len() / 2).context("no step was measured")?;
    let memory = device_memory(&device.tensors)?;
    let memory_mib = memory.map(|memory| memory.peak as f64 / f64::from(1 << 20));
    Ok(Steps { milliseconds: 1e3 * median, memory_mib })
}

/// How far the losses of the same run on the device and on the processor are apart at most,
/// relative to the loss.
pub(super) fn curves_apart(device: &Device, sizes: &Sizes) -> Result<f64> {
    let (supcon, dim) = (Vec::new(), sizes.dim);
    let (side, n_images, views, encoder) = (32, 600, [32, 32], "resnet-slim");
    let steps = CURVE_STEPS;
    let sizes = Sizes { supcon, dim, views, side, n_images, steps, encoder };
    let config = || -> Result<RunConfig> {
        let mut config = config(&sizes, CURVE_STEPS, "f32")?;
        // Pseudo-labels flip at once where probabilities differ by a rounding.
        config.loss.pseudo_labels_after_steps = CURVE_STEPS;
        Ok(config)
    };
    let ours = of_steps(device, config()?, "total")?;
    let expected = of_steps(&Device::cpu(), config()?, "total")?;
    if ours.is_empty() || ours.len() != expected.len() {
        return Ok(f64::INFINITY);
    }
    let apart = ours.iter().zip(&expected).map(|(a, b)| (a - b).abs() / b.abs());
    Ok(apart.fold(0.0, |most, apart| if apart > most || apart.is_nan() { apart } else { most }))
}

/// The works of the peers that are like ours: a step on images that are on the device, and a run
/// whose views are made by processes.
pub(super) fn peers(sizes: &Sizes, _: &Steps) -> Result<(Value, Value)> {
    let [labeled, unlabeled] = sizes.views;
    let step = json!({
        "kind": "s5cl-step", "labeled": labeled, "unlabeled": unlabeled, "size": sizes.side,
    });
    let workers = std::thread::available_parallelism().map_or(1, usize::from);
    let run = json!({
        "kind": "s5cl-run", "labeled": labeled, "unlabeled": unlabeled, "size": sizes.side,
        "workers": workers,
    });
    Ok((step, run))
}

fn config(sizes: &Sizes, steps: u64, precision: &str) -> Result<RunConfig> {
    let [labeled, unlabeled] = sizes.views.map(|views| views / 2);
    let set = [
        format!("data.spec=synthetic:tissue?size={}&images={}", sizes.side, sizes.n_images),
        format!("data.batch_labeled={labeled}"),
        format!("data.batch_unlabeled={unlabeled}"),
        format!("encoder.name={}", sizes.encoder),
        format!("training.steps={steps}"),
        format!("training.precision={precision}"),
        "loss.pseudo_labels_after_steps=2".to_owned(),
        "evaluation.every=0".to_owned(),
        format!("checkpoint.every={steps}"),
    ];
    resolve(&Overrides { set: set.to_vec(), ..Overrides::default() })
}

/// A number of every step of a run.
fn of_steps(device: &Device, config: RunConfig, key: &str) -> Result<Vec<f64>> {
    let folder = tempfile::tempdir()?;
    let workers = std::thread::available_parallelism().map_or(1, usize::from);
    let (times, should_stop, quiet) = (SpanTimes::default(), &|| false, true);
    let device = device.clone();
    let options = Options { device, workers, prefetch: 2 * workers, quiet, times, should_stop };
    let run = Run::create(config, |_, _| folder.path().join("run"), &options)?;
    run.train()?;
    let events = run.folder.events()?;
    let steps = events.iter().filter(|event| event["kind"] == "train");
    Ok(steps.filter_map(|step| step[key].as_f64()).collect())
}
