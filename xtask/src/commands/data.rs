//! `data`: look at datasets before training on them.

use std::io::Cursor;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use anyhow::{Context, Result};
use clap::Subcommand;
use image::{ImageFormat, RgbImage};
use s5cl_data::synthetic::TissueConfig;
use s5cl_data::{
    CommonSize, Dataset, Exported, LabelBudget, Spec, export_npz, open, partition, resize,
};
use s5cl_random::named_stream;
use s5cl_trainer::write_atomic;

use crate::evaluation::{sheet, shortcuts};
use crate::experiment::with_labels;
use crate::failure::BadInput;
use crate::run_folder::require_folder;
use crate::system::workspace_root;
use crate::table::{Table, fraction};

/// Images of each class on a contact sheet.
const SHEET_COLUMNS: usize = 8;
/// Side of an image on the sheet in pixels.
const SHEET_TILE: u32 = 128;
/// Neighbors of the baselines that look at no shape.
const SHORTCUT_NEIGHBORS: usize = 15;
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
        /// Also say what color and 8 x 8 pixels alone tell: nearest neighbors (k = 15) fitted on
        /// all training labels
        #[arg(long)]
        baselines: bool,
    },
    /// Write a dataset as one .npz file in MedMNIST layout, to take it to another machine
    Export {
        /// The images: synthetic:tissue, a folder of class folders, or a MedMNIST .npz file
        spec: String,
        /// The folder for NAME.npz
        folder: PathBuf,
        /// Side of the images in pixels; without it they stay as they are
        #[arg(long, value_name = "PIXELS", value_parser = clap::value_parser!(u32).range(1..))]
        size: Option<u32>,
    },
}

impl Args {
    /// Runs the command.
    pub(crate) fn run(self) -> Result<()> {
        match self.command {
            Command::List => list(&workspace_root().join("datasets")),
            Command::Inspect { spec, out, seed, baselines } => {
                inspect(&spec, &out, seed)?;
                if baselines { without_shapes(&spec) } else { Ok(()) }
            }
            Command::Export { spec, folder, size } => export(&spec, &folder, size),
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

fn export(spec: &str, folder: &Path, size: Option<u32>) -> Result<()> {
    let dataset = open(&spec.parse::<Spec>()?)?;
    let dataset = match size {
        Some(size) => dataset.resized(size),
        None => dataset,
    };
    std::fs::create_dir_all(folder)
        .map_err(|e| BadInput::new(format!("cannot create {}: {e}", folder.display())))?;
    let path = folder.join(format!("{}.npz", dataset.name));
    let Exported { train, validation, test } = export_npz(&dataset, &path)?;
    println!("{}: {train} images of train, {validation} of val, {test} of test", path.display());
    Ok(())
}

fn inspect(spec: &str, out: &Path, seed: u64) -> Result<()> {
    require_folder(out)?;
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
    let mut png = Cursor::new(Vec::new());
    contact_sheet(&open(&sheet_spec)?, seed)?.write_to(&mut png, ImageFormat::Png)?;
    write_atomic(out, png.get_ref())?;
    println!("\ncontact sheet, one row a class: {}", out.display());
    Ok(())
}

/// What can be told without looking at shapes, and how fast tiles come on one thread.
fn without_shapes(spec: &str) -> Result<()> {
    let dataset = open(&spec.parse()?)?;
    let size = dataset.common_size()?.longest_side();
    let dataset = Arc::new(dataset.resized(size));
    let parts = partition(&dataset, LabelBudget::All, 0)?;
    let (train, test) =
        (with_labels(&dataset, &parts.labeled)?, with_labels(&dataset, &parts.test)?);
    let started = Instant::now();
    for &sample_idx in parts.labeled.iter().chain(&parts.test) {
        dataset.tile(sample_idx)?;
    }
    let per_second = (train.len() + test.len()) as f64 / started.elapsed().as_secs_f64();
    let mut table = Table::new(&["kNN, k = 15, all labels", "balanced accuracy on test"]);
    let results = shortcuts(&dataset, &train, &test, size, SHORTCUT_NEIGHBORS, 0)?;
    for (name, (_, result)) in ["mean and spread of color", "8 x 8 pixels"].into_iter().zip(results)
    {
        table.row(vec![name.to_owned(), fraction(result.balanced_accuracy)]);
    }
    println!("\n{}\n{per_second:.0} tiles of {size} px a second on one thread", table.text());
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

/// Some images of every class, one row a class; black where a class has fewer.
fn contact_sheet(dataset: &Dataset, seed: u64) -> Result<RgbImage> {
    let mut tiles = Vec::new();
    for class_idx in 0..dataset.n_classes() as u32 {
        let mut members: Vec<usize> = (0..dataset.samples.len())
            .filter(|&i| dataset.samples[i].class_idx == Some(class_idx))
            .collect();
        named_stream(seed, &format!("sheet/{class_idx}")).shuffle(&mut members);
        for column in 0..SHEET_COLUMNS {
            tiles.push(match members.get(column) {
                Some(&sample_idx) => resize(&dataset.tile(sample_idx)?, SHEET_TILE)?,
                None => RgbImage::new(SHEET_TILE, SHEET_TILE),
            });
        }
    }
    Ok(sheet(&tiles, SHEET_COLUMNS, SHEET_GAP))
}
