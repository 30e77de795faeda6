//! `predict`: the classes of images as a CSV file.

use std::fmt::Write;
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::Result;
use s5cl_data::open_images;
use s5cl_trainer::write_atomic;

use crate::inference::{Predictor, argmax};
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
    /// Threads that read images
    #[arg(long, default_value_t = 1)]
    workers: usize,
}

impl Args {
    /// Runs the command.
    pub(crate) fn run(self) -> Result<()> {
        require_folder(&self.out)?;
        let predictor = Predictor::open(&RunFolder::open(&self.run)?.weights())?;
        let dataset = Arc::new(open_images(&self.images)?.resized(predictor.card.image_size));
        let samples: Vec<usize> = (0..dataset.samples.len()).collect();
        let predictions = predictor.predict(&dataset, &samples, self.workers)?;

        let names = &predictor.card.class_names;
        let mut csv = "path,label,confidence".to_owned();
        for name in names {
            csv.push(',');
            csv.push_str(&field(name));
        }
        csv.push('\n');
        for (sample, row) in
            dataset.samples.iter().zip(predictions.probabilities.chunks(names.len()))
        {
            let class_idx = argmax(row);
            write!(
                csv,
                "{},{},{:.6}",
                field(&sample.id),
                field(&names[class_idx]),
                row[class_idx]
            )?;
            for probability in row {
                write!(csv, ",{probability:.6}")?;
            }
            csv.push('\n');
        }
        write_atomic(&self.out, csv.as_bytes())?;
        println!("{} images: {}", samples.len(), self.out.display());
        Ok(())
    }
}

/// A field as RFC 4180 quotes it where it has to be quoted.
fn field(text: &str) -> String {
    if text.contains([',', '"', '\n', '\r']) {
        format!("\"{}\"", text.replace('"', "\"\""))
    } else {
        text.to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::field;

    #[test]
    fn field_with_a_comma_or_quote_is_quoted() {
        assert_eq!(field("a/b.png"), "a/b.png");
        assert_eq!(field("a, \"b\".png"), "\"a, \"\"b\"\".png\"");
    }
}
