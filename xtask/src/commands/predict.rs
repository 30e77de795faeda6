//! `predict`: the classes of images as a CSV file.

use std::path::PathBuf;
use std::sync::Arc;

use anyhow::Result;
use s5cl_data::open_images;
use s5cl_eval::Probabilities;

use crate::device::DeviceChoice;
use crate::evaluation::write_table;
use crate::inference::Predictor;
use crate::run_folder::{RunFolder, require_folder};

#[derive(clap::Args)]
pub(crate) struct Args {
    /// The run folder
    #[arg(long, value_name = "DIR")]
    run: PathBuf,
    /// An image, a folder of images at any depth, or a MedMNIST .npz file
    #[arg(long, value_name = "PATH")]
    images: PathBuf,
    /// The file to write: path, label, confidence, and one probability a class
    #[arg(long, value_name = "FILE.csv")]
    out: PathBuf,
    /// Where to compute: auto, cpu, cuda, or one of several as in cuda:1
    #[arg(long, default_value = "auto")]
    device: DeviceChoice,
    /// Threads that read images
    #[arg(long, default_value_t = 1)]
    workers: usize,
}

impl Args {
    /// Runs the command.
    pub(crate) fn run(self) -> Result<()> {
        require_folder(&self.out)?;
        let predictor =
            Predictor::open(&RunFolder::open(&self.run)?.weights(), &self.device.open()?)?;
        let dataset = Arc::new(open_images(&self.images)?.resized(predictor.card.image_size));
        let samples: Vec<usize> = (0..dataset.samples.len()).collect();
        let predictions = predictor.predict(&dataset, &samples, self.workers)?;

        let names = &predictor.card.class_names;
        let probabilities = Probabilities::new(predictions.probabilities, names.len())?;
        let told = probabilities.predictions().into_iter().zip(probabilities.confidences());
        let rows = dataset.samples.iter().zip(told).zip(probabilities.rows());
        let rows = rows.map(|((sample, (class_idx, confidence)), row)| {
            let cells = [&sample.id, &names[class_idx as usize], &confidence.to_string()];
            (cells.map(String::from).to_vec(), row)
        });
        write_table(&self.out, &["path", "label", "confidence"], names, rows)?;
        println!("{} images: {}", samples.len(), self.out.display());
        Ok(())
    }
}
