//! `benchmark gpu`: a CUDA device against the processor for its results, and against PyTorch on the
//! same device for its speed, in one run.

mod checks;
mod losses;
mod outcome;
mod peer;
mod steps;

use std::path::PathBuf;

use anyhow::{Result, bail};
use serde_json::json;

use crate::commands::benchmark::turns::{Side, in_turns};
use crate::device::{Device, DeviceChoice};
use crate::failure::BadInput;
use crate::system::machine;
use checks::Check;
use outcome::{Peers, Row, report, table};
use peer::Peer;

/// The peers of each kind of work, and by how much ours is to be faster; without a number they are
/// only shown.
const SUPCON_PEERS: [(&str, Option<f64>); 6] = [
    ("dense", None),
    ("dense-tf32", None),
    ("pml", None),
    ("inf-cl", Some(1.0)),
    ("inf-cl-f16", Some(1.0)),
    ("liger-tf32", Some(1.0)),
];
/// How much faster than dense PyTorch the loss is to be, at this number of rows.
const DENSE_TARGET: (usize, f64) = (16_384, 10.0);
const S5CL_LOSS_PEERS: [(&str, Option<f64>); 2] = [("pml", Some(10.0)), ("dense", None)];
const STEP_PEERS: [(&str, Option<f64>); 2] = [("bf16", Some(1.0)), ("bf16-dense-loss", None)];
const RUN_PEERS: [(&str, Option<f64>); 1] = [("bf16", Some(2.0))];

#[derive(clap::Args)]
pub(crate) struct Gpu {
    /// A Python with torch, torchvision, triton and pytorch-metric-learning, to compare with; it
    /// takes its turns with this program
    #[arg(long, value_name = "PYTHON")]
    vs_pytorch: Option<PathBuf>,
    /// Where to compute: cuda, or one of several as in cuda:1; cpu tries the suite with small sizes
    #[arg(long, default_value = "cuda")]
    device: DeviceChoice,
    /// Only works with one of these in their name; checks, losses and steps are names too
    #[arg(long, value_name = "PATTERN", value_delimiter = ',')]
    only: Vec<String>,
    /// Turns of each side; the median counts
    #[arg(long, value_name = "N", default_value_t = 7, value_parser = clap::value_parser!(u32).range(1..))]
    runs: u32,
    /// Write everything that was measured into this file
    #[arg(long, value_name = "FILE.json")]
    out: Option<PathBuf>,
    /// End standard output with the results as one line of JSON
    #[arg(long)]
    json: bool,
}

impl Gpu {
    /// Runs the suite.
    pub(crate) fn run(self) -> Result<()> {
        let device = self.device.open()?;
        let sizes = if device.is_cuda() { Sizes::full() } else { Sizes::small() };
        let mut peer = match &self.vs_pytorch {
            Some(python) => Some(Peer::start(python, device.is_cuda())?),
            None => None,
        };
        let mut checks = Vec::new();
        if self.has("checks") {
            checks = checks::all(&device, &sizes)?;
            for check in &checks {
                eprintln!("{}", check.line());
            }
        }
        let mut rows = Vec::new();
        self.measure(&device, &sizes, &mut peer, &mut rows)?;
        print!("{}", table(&rows).text());
        let versions = peer.map(|peer| peer.hello).unwrap_or_else(|| json!({}));
        let report = report(&device.name, &machine(), &checks, &rows, versions);
        if let Some(out) = &self.out {
            s5cl_trainer::write_atomic(out, format!("{report:#}\n").as_bytes())?;
        }
        if self.json {
            println!("{report}");
        }
        let bad: Vec<String> =
            checks.iter().filter(|check| !check.is_good()).map(Check::line).collect();
        if !bad.is_empty() {
            bail!("the device computes something else: {}", bad.join("; "));
        }
        if rows.is_empty() && checks.is_empty() {
            let message = format!("--only {}: no work has that name", self.only.join(","));
            return Err(BadInput::new(message).into());
        }
        Ok(())
    }

    fn measure(
        &self,
        device: &Device,
        sizes: &Sizes,
        peer: &mut Option<Peer>,
        rows: &mut Vec<Row>,
    ) -> Result<()> {
        let mut add = |row: Row| {
            eprintln!("{}", row.line());
            rows.push(row);
        };
        for &n in &sizes.supcon {
            let name = format!("supcon-{n}");
            if self.has(&name) || self.has("losses") {
                let call = losses::supcon(n, sizes.dim, &device.tensors)?;
                let peers = SUPCON_PEERS.map(|(side, target)| match side {
                    "dense" if n == DENSE_TARGET.0 => (side, Some(DENSE_TARGET.1)),
                    _ => (side, target),
                });
                let work = json!({
                    "kind": "supcon", "n": n, "dim": sizes.dim, "temperature": losses::TEMPERATURE,
                });
                add(self.losses(&name, call, device, peer, &Peers { work, sides: &peers })?);
            }
        }
        if self.has("s5cl-loss") || self.has("losses") {
            let call = losses::s5cl(sizes.views, &device.tensors)?;
            let [labeled, unlabeled] = sizes.views;
            let work = json!({
                "kind": "s5cl-loss", "labeled": labeled, "unlabeled": unlabeled,
                "dim": losses::S5CL_DIM,
            });
            let peers = Peers { work, sides: &S5CL_LOSS_PEERS };
            add(self.losses("s5cl-loss", call, device, peer, &peers)?);
        }
        if self.has("s5cl-step") || self.has("s5cl-run") || self.has("steps") {
            let ours = steps::ours(device, sizes)?;
            let (step, run) = steps::peers(sizes, &ours)?;
            let mut of_peer = |peers: &Peers<'_>| match peer.as_mut() {
                Some(peer) => peer.medians(peers, self.runs),
                None => Ok(Vec::new()),
            };
            let of_step = of_peer(&Peers { work: step, sides: &STEP_PEERS })?;
            add(Row::new("s5cl-step", ours.milliseconds, ours.memory_mib, of_step));
            let of_run = of_peer(&Peers { work: run, sides: &RUN_PEERS })?;
            add(Row::new("s5cl-run", ours.milliseconds, ours.memory_mib, of_run));
        }
        Ok(())
    }

    /// Times of a loss, ours and the peers' in turns.
    fn losses(
        &self,
        name: &str,
        mut call: losses::Call,
        device: &Device,
        peer: &mut Option<Peer>,
        peers: &Peers<'_>,
    ) -> Result<Row> {
        let memory = losses::memory_mib(&mut call, &device.tensors)?;
        let tensors = device.tensors.clone();
        let ours: Side<'_> = Box::new(move |calls| {
            let started = std::time::Instant::now();
            for _ in 0..calls {
                call()?;
            }
            tensors.synchronize()?;
            Ok(started.elapsed().as_secs_f64())
        });
        let timing = in_turns(&mut [ours], self.runs)?;
        let Some(ours) = timing.first() else { bail!("{name} was not measured") };
        let of_peers = match peer.as_mut() {
            Some(peer) => peer.medians(peers, self.runs)?,
            None => Vec::new(),
        };
        Ok(Row::new(name, ours.median, memory, of_peers))
    }

    fn has(&self, name: &str) -> bool {
        self.only.is_empty() || self.only.iter().any(|pattern| name.contains(pattern.as_str()))
    }
}

/// How much is measured.
pub(super) struct Sizes {
    /// Rows of the contrastive loss, and their length.
    supcon: Vec<usize>,
    dim: usize,
    /// Labeled and unlabeled views of S5CL's own step.
    views: [usize; 2],
    /// Side of the images in pixels, their number, and steps that are taken.
    side: usize,
    n_images: usize,
    steps: u64,
    encoder: &'static str,
}

impl Sizes {
    /// What the targets are for.
    fn full() -> Self {
        Self {
            supcon: vec![4096, 16_384, 65_536],
            dim: 128,
            views: [64, 256],
            side: 224,
            n_images: 2000,
            steps: 60,
            encoder: "resnet18",
        }
    }

    /// What a processor does in seconds.
    fn small() -> Self {
        Self {
            supcon: vec![64],
            dim: 16,
            views: [16, 16],
            side: 16,
            n_images: 180,
            steps: 4,
            encoder: "resnet-slim",
        }
    }
}
