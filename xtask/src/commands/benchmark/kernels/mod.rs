//! `benchmark kernels`: losses, networks and operations beside those of others, in one run.

mod rows;

mod ours;
mod plain;
mod plain_network;

mod memory;
mod peer;

mod outcome;

use std::cell::RefCell;
use std::path::PathBuf;

use anyhow::{Context, Result};
use candle_core::utils::get_num_threads;
use serde_json::{Map, Value, json};

use outcome::Measured;
use peer::{Layout, Peer};
use rows::{Row, named, select};

use super::figure::Figure;
use super::gate::Gate;
use super::turns::{Side, here, in_turns};
use crate::system::load;

#[cfg(test)]
pub(super) use ours::SUPCON;
pub(super) use ours::ours as call;
#[cfg(test)]
pub(super) use plain::agreement;
pub(super) use plain::{Step as PlainStep, StepShape};
pub(super) use rows::{Images, Work};

/// The name of the suite.
const SUITE: &str = "kernels";
/// Turns of the quick suite: few, so that it is over soon.
const QUICK_TURNS: u32 = 5;
/// The rows of the quick suite: a loss and a network that plain candle has too.
const QUICK: [&str; 2] = ["supcon-1024", "resnet18-inference-28"];

#[derive(clap::Args)]
pub(crate) struct Kernels {
    /// A Python with torch, torchvision and pytorch-metric-learning, to compare with; it takes its
    /// turns with this program
    #[arg(long, value_name = "PYTHON")]
    vs_pytorch: Option<PathBuf>,
    /// Only rows with one of these in their name
    #[arg(long, value_name = "PATTERN", value_delimiter = ',')]
    only: Vec<String>,
    /// Turns of each side; the median counts
    #[arg(long, value_name = "N", default_value_t = 7, value_parser = clap::value_parser!(u32).range(1..))]
    runs: u32,
    /// The rows and turns of `benchmark --quick`
    #[arg(long, conflicts_with_all = ["only", "runs"])]
    quick: bool,
    /// Print one line of JSON instead of the table
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    gate: Gate,
    /// Print the peak of memory of this row in MiB and end; the program starts itself so
    #[arg(long, value_name = "ROW", hide = true)]
    memory_of: Option<String>,
}

impl Kernels {
    /// Runs the suite.
    pub(crate) fn run(self) -> Result<()> {
        if let Some(name) = &self.memory_of {
            return memory::print(named(name)?.work);
        }
        let (selected, turns) = match self.quick {
            true => (quick_rows()?, QUICK_TURNS),
            false => (select(&self.only)?, self.runs),
        };
        let gate = self.gate.open(SUITE, works(&selected))?;
        let load_before = load();
        warn_if_busy(load_before, 0.0);
        let peer = self.vs_pytorch.as_deref().map(Peer::start).transpose()?.map(RefCell::new);
        let mut measured = Vec::new();
        for row in selected {
            let mut row = measure(row, peer.as_ref(), turns)?;
            if row.row.work.has_memory() {
                row.our_memory = memory::of_ours(&row.row)?;
                if let Some(python) = &self.vs_pytorch {
                    row.pytorch_memory = memory::of_peer(python, &row.row)?;
                }
            }
            eprintln!("{}", row.line());
            measured.push(row);
        }
        let load = [load_before, load()];
        warn_if_busy(load[1], get_num_threads() as f64);
        let versions = peer.map(|peer| peer.into_inner().versions.clone()).unwrap_or_default();
        if self.json {
            println!("{}", outcome::json(&measured, turns, load, versions));
        } else {
            println!("{}", outcome::table(&measured).text());
        }
        gate.judge(&measured.iter().flat_map(Measured::figures).collect::<Vec<Figure>>())
    }
}

/// The rows of the quick suite as JSON, and their ratios.
pub(super) fn quick() -> Result<(Value, Vec<Figure>)> {
    let (mut rows, mut figures) = (Vec::new(), Vec::new());
    for row in quick_rows()? {
        let measured = measure(row, None, QUICK_TURNS)?;
        eprintln!("{}", measured.line());
        rows.push(measured.json());
        figures.extend(measured.figures());
    }
    Ok((rows.into(), figures))
}

/// What the quick suite measures here.
pub(super) fn quick_measured() -> Result<Value> {
    Ok(works(&quick_rows()?))
}

fn quick_rows() -> Result<Vec<Row>> {
    QUICK.into_iter().map(named).collect()
}

/// The work of every row by name, for the gate.
fn works(rows: &[Row]) -> Value {
    rows.iter().map(|row| (row.name.clone(), json!(row.work))).collect::<Map<_, _>>().into()
}

/// Whoever else computes slows one side more than the other; `expected` is what is ours.
fn warn_if_busy(load: Option<f64>, expected: f64) {
    if let Some(load) = load.filter(|&load| load > expected + 1.0) {
        eprintln!("the machine is busy (load {load}): the ratios may be far off");
    }
}

/// The times of one row, all sides in turns.
fn measure(row: Row, peer: Option<&RefCell<Peer>>, turns: u32) -> Result<Measured> {
    let mut sides: Vec<Side<'_>> = vec![here(ours::ours(row.work)?)];
    let plain = plain::plain(row.work)?.map(here);
    let has_plain = plain.is_some();
    sides.extend(plain);
    let layouts: &[Layout] = match peer {
        None => &[],
        Some(_) if row.work.has_layouts() => &[Layout::ChannelsLast, Layout::Default],
        Some(_) => &[Layout::ChannelsLast],
    };
    if let Some(peer) = peer {
        for &layout in layouts {
            peer.borrow_mut().prepare(row.work, layout)?;
            sides.push(Box::new(move |calls| peer.borrow_mut().run(layout, calls)));
        }
    }
    let mut timings = in_turns(&mut sides, turns)?.into_iter();
    drop(sides);
    if let Some(peer) = peer {
        peer.borrow_mut().forget()?;
    }
    let ours = timings.next().context("ours was not measured")?;
    let plain_candle = if has_plain { timings.next() } else { None };
    let (pytorch, pytorch_default_layout) = (timings.next(), timings.next());
    let agreement = plain::agreement_of(&row)?;
    Ok(Measured {
        row,
        agreement,
        ours,
        pytorch,
        pytorch_default_layout,
        plain_candle,
        our_memory: None,
        pytorch_memory: None,
    })
}

#[cfg(test)]
mod tests {
    use super::rows::Work;
    use super::{QUICK, named};

    #[test]
    fn quick_rows_are_a_loss_and_a_network() {
        let works = QUICK.map(|name| named(name).unwrap().work);
        assert!(matches!(works, [Work::Supcon { .. }, Work::Inference(_)]), "{works:?}");
    }
}
