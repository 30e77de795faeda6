//! `benchmark data`: tiles and views a second on one thread, beside decoding alone. Tiles are read
//! on the thread that asks for them, views are made on that of a loader.

use std::io::Cursor;
use std::sync::Arc;
use std::time::Instant;

use anyhow::{Context, Result};
use image::{ImageFormat, RgbImage, load_from_memory_with_format};
use s5cl_data::{DataError, Dataset, Loader, Spec, open};
use serde_json::{Value, json};

use super::figure::Figure;
use super::gate::Gate;
use super::speed::{SpeedRow, Worker, beside, results, table};
use super::turns::{Side, here};
use crate::batches::BatchMaker;
use crate::config::{Overrides, resolve};
use crate::device::Device;
use crate::experiment::Experiment;
use crate::tiles::unwrap_loader_error;

/// The name of the suite.
const SUITE: &str = "data";
/// Tiles that are read in turn.
const TILES: usize = 45;
/// Tiles that views are made of.
const DRAWN: usize = 180;
/// Batches that the loader makes ahead, as `train` has it.
const PREFETCH: usize = 4;
/// The preset and side of the quick suite.
const QUICK: (&str, u32) = ("s5cl", 32);
/// Turns of the quick suite: few, so that it is over soon.
const QUICK_TURNS: u32 = 5;
/// The peer of everything here: what every reader of tiles has to do.
const DECODING: &str = "decoding a PNG of that size";

#[derive(clap::Args)]
pub(crate) struct Data {
    /// Turns of each side; the median counts
    #[arg(long, value_name = "N", default_value_t = 7, value_parser = clap::value_parser!(u32).range(1..))]
    runs: u32,
    /// The rows and turns of `benchmark --quick`
    #[arg(long, conflicts_with = "runs")]
    quick: bool,
    /// End standard output with the rows as one line of JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    gate: Gate,
}

impl Data {
    /// Runs the suite.
    pub(crate) fn run(self) -> Result<()> {
        let gate = self.gate.open(SUITE, measured())?;
        let rows = if self.quick { quick()? } else { all(self.runs)? };
        println!("{}", table(&rows).text());
        if self.json {
            println!("{}", results(SUITE, &rows));
        }
        gate.judge(&rows.iter().map(SpeedRow::figure).collect::<Vec<Figure>>())
    }
}

/// What every row is of, for the gate.
pub(super) fn measured() -> Value {
    json!({ "tiles": TILES, "drawn": DRAWN, "workers": 1 })
}

/// The rows of the quick suite.
pub(super) fn quick() -> Result<Vec<SpeedRow>> {
    let (preset, side) = QUICK;
    views_of_preset(preset, side, QUICK_TURNS)
}

fn all(turns: u32) -> Result<Vec<SpeedRow>> {
    let mut rows = Vec::new();
    for (name, format) in [("png", ImageFormat::Png), ("jpg", ImageFormat::Jpeg)] {
        rows.extend(reading(name, format, 224, turns)?);
    }
    rows.extend(drawing(32, turns)?);
    for (preset, side) in [("s5cl", 32), ("s5cl", 96), ("faithful", 224)] {
        rows.extend(views_of_preset(preset, side, turns)?);
    }
    Ok(rows)
}

/// Tiles of a folder beside the same bytes, which are in memory for the peer.
fn reading(extension: &str, format: ImageFormat, side: u32, turns: u32) -> Result<Vec<SpeedRow>> {
    let folder = tempfile::tempdir()?;
    let mut files = Vec::new();
    for (idx, tile) in tiles(side)?.iter().enumerate() {
        let class = folder.path().join(["a", "b"][idx % 2]);
        std::fs::create_dir_all(&class)?;
        let bytes = encoded(tile, format)?;
        std::fs::write(class.join(format!("{idx}.{extension}")), &bytes)?;
        files.push(bytes);
    }
    let dataset = open(&Spec::Folder(folder.path().to_owned()))?;
    let workers = vec![tile_by_tile(&dataset), decoding(files, format, "decoding from memory")];
    beside(&format!("read-{extension}-{side}"), "tiles/s", workers, turns)
}

/// Tiles that the program draws.
fn drawing(side: u32, turns: u32) -> Result<Vec<SpeedRow>> {
    let dataset = drawn(side)?;
    let workers = vec![tile_by_tile(&dataset), png(&tiles(side)?)?];
    beside(&format!("draw-{side}"), "tiles/s", workers, turns)
}

/// Whole batches behind a loader of one thread: the tiles are drawn already, and both views of each
/// are made.
fn views_of_preset(preset: &str, side: u32, turns: u32) -> Result<Vec<SpeedRow>> {
    let set = vec![format!("data.spec={}", drawn_spec(side)), format!("data.image_size={side}")];
    let preset_name = Some(preset.to_owned());
    let mut config = resolve(&Overrides { preset: preset_name, set, ..Overrides::default() })?;
    let experiment = Experiment::open(&mut config, None, 1, &Device::cpu())?;
    let maker = BatchMaker::new(&config, &experiment, &mut Vec::new())?;
    let first = maker.batch(0)?;
    let n_images = first.labeled.n_images + first.unlabeled.map_or(0, |pool| pool.n_images);
    let side_of_loader = through_loader(move |step| maker.batch(step));
    let ours = Worker { name: "ours", side: side_of_loader, per_call: 2 * n_images };
    let workers = vec![ours, png(&tiles(side)?)?];
    beside(&format!("views-{preset}-{side}"), "views/s", workers, turns)
}

/// Batches of a loader, one a call. Every turn has a loader of its own, so that no batch is made
/// while another side has its turn.
fn through_loader<B: Send + 'static>(
    make: impl Fn(u64) -> Result<B, DataError> + Send + Sync + 'static,
) -> Side<'static> {
    let (make, mut done) = (Arc::new(make), 0);
    Box::new(move |calls| {
        let (make, steps) = (Arc::clone(&make), done..done + u64::from(calls));
        done = steps.end;
        let started = Instant::now();
        for batch in Loader::new(steps, 1, PREFETCH, move |step| make(step)) {
            drop(batch.map_err(unwrap_loader_error)?);
        }
        Ok(started.elapsed().as_secs_f64())
    })
}

fn tile_by_tile(dataset: &Dataset) -> Worker<'_> {
    let mut idx = 0;
    let side = here(move || {
        idx = (idx + 1) % dataset.samples.len();
        dataset.tile(idx).map(drop)
    });
    Worker { name: "ours", side, per_call: 1 }
}

fn png(tiles: &[RgbImage]) -> Result<Worker<'static>> {
    let files = tiles.iter().map(|tile| encoded(tile, ImageFormat::Png));
    Ok(decoding(files.collect::<Result<_>>()?, ImageFormat::Png, DECODING))
}

fn decoding(files: Vec<Vec<u8>>, format: ImageFormat, name: &'static str) -> Worker<'static> {
    let mut idx = 0;
    let side = here(move || -> Result<()> {
        idx = (idx + 1) % files.len();
        let image = load_from_memory_with_format(&files[idx], format)?.into_rgb8();
        std::hint::black_box(image);
        Ok(())
    });
    Worker { name, side, per_call: 1 }
}

fn encoded(tile: &RgbImage, format: ImageFormat) -> Result<Vec<u8>> {
    let mut bytes = Cursor::new(Vec::new());
    tile.write_to(&mut bytes, format).context("cannot encode a tile")?;
    Ok(bytes.into_inner())
}

fn drawn_spec(side: u32) -> String {
    format!("synthetic:tissue?size={side}&images={DRAWN}")
}

fn drawn(side: u32) -> Result<Dataset> {
    Ok(open(&drawn_spec(side).parse()?)?)
}

fn tiles(side: u32) -> Result<Vec<RgbImage>> {
    let dataset = drawn(side)?;
    (0..TILES).map(|idx| Ok(dataset.tile(idx)?)).collect()
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::thread::sleep;
    use std::time::Duration;

    use anyhow::Result;
    use serde_json::Value;

    use super::{Figure, Side, SpeedRow, Worker, beside, through_loader};
    use crate::commands::benchmark::baseline::Baseline;
    use crate::failure::exit_code;

    const REST: Duration = Duration::from_millis(20);

    /// Takes so long a call, whatever a clock says.
    fn steady(seconds: f64) -> Side<'static> {
        Box::new(move |calls| Ok(seconds * f64::from(calls)))
    }

    fn figures(ours: Side<'_>) -> Result<Vec<Figure>> {
        let worker = |name, side| Worker { name, side, per_call: 1 };
        let workers = vec![worker("ours", ours), worker("decoding", steady(0.1))];
        Ok(beside("views", "views/s", workers, 1)?.iter().map(SpeedRow::figure).collect())
    }

    #[test]
    fn gate_sees_a_sleep_in_the_loader() -> Result<()> {
        // A sleep is never shorter than it is told, so that no speed of the machine decides here.
        let awake = 0.1 * REST.as_secs_f64();
        let baseline = Baseline::new("data", String::new(), Value::Null, &figures(steady(awake))?);
        let path = Path::new("baseline.json");
        baseline.judge(path, &figures(steady(awake))?)?;
        let sleepy = through_loader(|step| {
            sleep(REST);
            Ok(step)
        });
        let error = baseline.judge(path, &figures(sleepy)?).unwrap_err();
        assert_eq!(exit_code(&error), 1);
        assert!(error.to_string().contains("views over decoding"), "{error}");
        Ok(())
    }

    #[test]
    fn loader_makes_a_batch_a_call_and_tells_of_one_that_fails() -> Result<()> {
        let (sender, made) = std::sync::mpsc::channel();
        let mut side = through_loader(move |step| {
            sender.send(step).unwrap();
            Ok(())
        });
        side(2)?;
        side(1)?;
        drop(side);
        assert_eq!(made.iter().collect::<Vec<u64>>(), [0, 1, 2]);
        let refuse = |_| Err::<(), _>("nowhere".parse::<s5cl_data::Spec>().unwrap_err());
        assert!(through_loader(refuse)(1).is_err());
        Ok(())
    }
}
