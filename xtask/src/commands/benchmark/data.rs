//! `benchmark data`: tiles and views a second on one thread, beside decoding alone.

use std::io::Cursor;

use anyhow::{Context, Result};
use image::{ImageFormat, RgbImage, load_from_memory_with_format};
use s5cl_data::{Dataset, Spec, open};

use super::gate::{Figure, Gate};
use super::speed::{SpeedRow, Worker, beside, json, table};
use super::turns::here;
use crate::batches::BatchMaker;
use crate::config::{Overrides, resolve};
use crate::experiment::Experiment;

/// The name of the suite.
const SUITE: &str = "data";
/// Tiles that are read in turn.
const TILES: usize = 45;
/// Turns of the quick suite: few, so that it is over soon.
const QUICK_TURNS: u32 = 5;
/// The peer of everything here: what every reader of tiles has to do.
const DECODING: &str = "decoding a PNG of that size";

#[derive(clap::Args)]
pub(crate) struct Data {
    /// Turns of each side; the median counts
    #[arg(long, value_name = "N", default_value_t = 7, value_parser = clap::value_parser!(u32).range(1..))]
    runs: u32,
    /// End standard output with the rows as one line of JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    gate: Gate,
}

impl Data {
    /// Runs the suite.
    pub(crate) fn run(self) -> Result<()> {
        let gate = self.gate.open(SUITE)?;
        let mut rows = Vec::new();
        for (name, format) in [("png", ImageFormat::Png), ("jpg", ImageFormat::Jpeg)] {
            rows.extend(reading(name, format, 224, self.runs)?);
        }
        rows.extend(drawing(32, self.runs)?);
        for (preset, side) in [("s5cl", 32), ("s5cl", 96), ("faithful", 224)] {
            rows.extend(views_of_preset(preset, side, self.runs)?);
        }
        println!("{}", table(&rows).text());
        if self.json {
            println!("{}", json(SUITE, &rows));
        }
        gate.judge(&rows.iter().map(SpeedRow::figure).collect::<Vec<Figure>>())
    }
}

/// The rows of the quick suite.
pub(super) fn quick() -> Result<Vec<SpeedRow>> {
    views_of_preset("s5cl", 32, QUICK_TURNS)
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

/// Whole batches, as the loader's threads make them: the tiles are drawn already, and both views of
/// each are made.
fn views_of_preset(preset: &str, side: u32, turns: u32) -> Result<Vec<SpeedRow>> {
    let set = vec![format!("data.spec={}", drawn_spec(side)), format!("data.image_size={side}")];
    let preset_name = Some(preset.to_owned());
    let mut config = resolve(&Overrides { preset: preset_name, set, ..Overrides::default() })?;
    let experiment = Experiment::open(&mut config, None, 1)?;
    let maker = BatchMaker::new(&config, &experiment, &mut Vec::new())?;
    views(&format!("views-{preset}-{side}"), &maker, &tiles(side)?, turns)
}

/// Batch after batch of a maker, beside decoding.
pub(super) fn views(
    work: &str,
    maker: &BatchMaker,
    tiles: &[RgbImage],
    turns: u32,
) -> Result<Vec<SpeedRow>> {
    let first = maker.batch(0)?;
    let n_images = first.labeled.n_images + first.unlabeled.map_or(0, |pool| pool.n_images);
    let mut step = 0;
    let side = here(move || {
        step += 1;
        maker.batch(step).map(drop)
    });
    let ours = Worker { name: "ours", side, per_call: 2 * n_images };
    beside(work, "views/s", vec![ours, png(tiles)?], turns)
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
    format!("synthetic:tissue?size={side}&images=180")
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
    use std::sync::Arc;
    use std::thread::sleep;
    use std::time::Duration;

    use anyhow::Result;
    use image::RgbImage;
    use s5cl_data::{DataError, Dataset, Tiles};

    use super::{BatchMaker, Experiment, Overrides, SpeedRow, drawn_spec, resolve, tiles, views};
    use crate::commands::benchmark::baseline::Baseline;
    use crate::commands::benchmark::gate::Figure;
    use crate::failure::exit_code;

    const SIDE: u32 = 16;
    const TURNS: u32 = 5;

    /// A dataset that rests before every tile.
    struct Sleepy(Arc<Dataset>);

    impl Tiles for Sleepy {
        fn tile(&self, sample_idx: usize) -> Result<RgbImage, DataError> {
            sleep(Duration::from_millis(1));
            self.0.tile(sample_idx)
        }
    }

    fn measured(is_sleepy: bool) -> Result<Vec<Figure>> {
        let set = vec![
            format!("data.spec={}", drawn_spec(SIDE)),
            "data.batch_labeled=8".to_owned(),
            "data.batch_unlabeled=8".to_owned(),
        ];
        let mut config = resolve(&Overrides { set, ..Overrides::default() })?;
        let mut experiment = Experiment::open(&mut config, None, 1)?;
        if is_sleepy {
            let Dataset { name, class_names, samples, .. } = (*experiment.dataset).clone();
            let tiles = Arc::new(Sleepy(experiment.dataset.clone()));
            experiment.dataset = Arc::new(Dataset::new(name, class_names, samples, tiles, &[])?);
        }
        let maker = BatchMaker::new(&config, &experiment, &mut Vec::new())?;
        let rows = views("views", &maker, &tiles(SIDE)?, TURNS)?;
        Ok(rows.iter().map(SpeedRow::figure).collect())
    }

    #[test]
    fn gate_sees_a_sleep_in_the_loader() -> Result<()> {
        let baseline = Baseline::new("data", String::new(), &measured(false)?);
        let path = Path::new("baseline.json");
        baseline.judge(path, &measured(false)?)?;
        let error = baseline.judge(path, &measured(true)?).unwrap_err();
        assert_eq!(exit_code(&error), 1);
        assert!(error.to_string().contains("views over decoding"), "{error}");
        Ok(())
    }
}
