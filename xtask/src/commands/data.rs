//! `data`: look at datasets before training on them.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use clap::Subcommand;
use image::RgbImage;
use image::imageops::replace;
use s5cl_data::synthetic::TissueConfig;
use s5cl_data::{CommonSize, Dataset, Spec, open, resize};
use s5cl_random::named_stream;

use crate::failure::BadInput;
use crate::table::Table;

/// Images of each class on a contact sheet.
const SHEET_COLUMNS: usize = 8;
/// Side of an image on the sheet in pixels.
const SHEET_TILE: u32 = 128;
/// Pixels between images.
const SHEET_GAP: u32 = 4;

#[derive(clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// List the datasets that have a card in datasets/
    List,
    /// Count a dataset's images and write a contact sheet: one row a class
    Inspect {
        /// The images: synthetic:tissue, a folder of class folders, or a MedMNIST .npz file
        spec: String,
        /// The contact sheet
        #[arg(long, value_name = "FILE.png", default_value = "contact-sheet.png")]
        out: PathBuf,
        /// Which images of each class are shown
        #[arg(long, default_value_t = 0)]
        seed: u64,
    },
}

impl Args {
    /// Runs the command.
    pub(crate) fn run(self) -> Result<()> {
        match self.command {
            Command::List => list(&Path::new(env!("CARGO_MANIFEST_DIR")).join("../datasets")),
            Command::Inspect { spec, out, seed } => inspect(&spec, &out, seed),
        }
    }
}

fn list(folder: &Path) -> Result<()> {
    let entries = std::fs::read_dir(folder)
        .map_err(|e| BadInput::new(format!("cannot read {}: {e}", folder.display())))?;
    let mut cards: Vec<PathBuf> = entries.filter_map(|entry| Some(entry.ok()?.path())).collect();
    cards.retain(|path| path.extension().is_some_and(|extension| extension == "toml"));
    cards.sort();
    let mut table = Table::new(&["name", "classes", "title"]);
    for path in cards {
        let text = std::fs::read_to_string(&path)?;
        let card: toml::Table = text.parse().with_context(|| path.display().to_string())?;
        let text = |key: &str| card.get(key).and_then(toml::Value::as_str).unwrap_or("").to_owned();
        let n_classes = card.get("classes").and_then(toml::Value::as_array).map_or(0, Vec::len);
        table.row(vec![text("name"), n_classes.to_string(), text("title")]);
    }
    print!("{}", table.text());
    Ok(())
}

fn inspect(spec: &str, out: &Path, seed: u64) -> Result<()> {
    let spec: Spec = spec.parse()?;
    // The synthetic set draws the same tissue at any size: the sheet shows it sharp.
    let sheet_spec = match spec.clone() {
        Spec::Synthetic(config) => {
            Spec::Synthetic(TissueConfig { size_pixels: SHEET_TILE, ..config })
        }
        other => other,
    };
    let dataset = open(&spec)?;
    let size = match dataset.common_size()? {
        CommonSize::Same(width, height) => format!("{width} x {height} px"),
        CommonSize::Mixed { smallest, largest } => {
            format!("{} x {} to {} x {} px", smallest.0, smallest.1, largest.0, largest.1)
        }
    };
    println!(
        "{}: {} images of {size}, {} classes\n",
        dataset.name,
        dataset.samples.len(),
        dataset.n_classes()
    );
    print!("{}", counts(&dataset).text());
    contact_sheet(&open(&sheet_spec)?, seed)?
        .save(out)
        .with_context(|| format!("cannot write {}", out.display()))?;
    println!("\ncontact sheet, one row a class: {}", out.display());
    Ok(())
}

fn counts(dataset: &Dataset) -> Table {
    let mut table = Table::new(&["class", "train", "validation", "test", "unsplit"]);
    let splits = [
        Some(s5cl_data::Split::Train),
        Some(s5cl_data::Split::Validation),
        Some(s5cl_data::Split::Test),
        None,
    ];
    let classes = dataset.class_names.iter().enumerate();
    let classes = classes.map(|(idx, name)| (Some(idx as u32), name.as_str()));
    for (class_idx, name) in classes.chain([(None, "(no label)")]) {
        let count = |split| {
            let is_counted = |s: &&s5cl_data::Sample| s.class_idx == class_idx && s.split == split;
            dataset.samples.iter().filter(is_counted).count().to_string()
        };
        let mut row = vec![name.to_owned()];
        row.extend(splits.map(count));
        table.row(row);
    }
    table
}

/// Some images of every class, one row a class.
fn contact_sheet(dataset: &Dataset, seed: u64) -> Result<RgbImage> {
    let cell = SHEET_TILE + SHEET_GAP;
    let rows = dataset.n_classes() as u32;
    let mut sheet = RgbImage::new(cell * SHEET_COLUMNS as u32 - SHEET_GAP, cell * rows - SHEET_GAP);
    for class_idx in 0..rows {
        let mut members: Vec<usize> = (0..dataset.samples.len())
            .filter(|&i| dataset.samples[i].class_idx == Some(class_idx))
            .collect();
        named_stream(seed, &format!("sheet/{class_idx}")).shuffle(&mut members);
        for (column, sample_idx) in members.into_iter().take(SHEET_COLUMNS).enumerate() {
            let tile = resize(&dataset.tile(sample_idx)?, SHEET_TILE)?;
            replace(
                &mut sheet,
                &tile,
                i64::from(cell) * column as i64,
                i64::from(cell * class_idx),
            );
        }
    }
    Ok(sheet)
}
