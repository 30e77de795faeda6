//! `embed`: the embeddings of images as a safetensors or NumPy file.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Result;
use candle_core::{Device, Tensor};
use s5cl_backbone::save_weights;
use s5cl_data::open_images;
use s5cl_trainer::write_atomic;

use crate::device::DeviceChoice;
use crate::failure::BadInput;
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
    /// The file to write, .safetensors (tensor `embeddings`, the images' paths in its metadata)
    /// or .npy (the paths in a text file beside it)
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
    /// Where to compute: auto, cpu, cuda, or one of several as in cuda:1
    #[arg(long, default_value = "auto")]
    device: DeviceChoice,
    /// Threads that read images
    #[arg(long, default_value_t = 1)]
    workers: usize,
}

enum Format {
    Safetensors,
    Npy,
}

impl Args {
    /// Runs the command.
    pub(crate) fn run(self) -> Result<()> {
        let format = match self.out.extension().and_then(OsStr::to_str) {
            Some("safetensors") => Format::Safetensors,
            Some("npy") => Format::Npy,
            _ => {
                let message = format!(
                    "--out {}: expected a name that ends in .safetensors or .npy",
                    self.out.display()
                );
                return Err(BadInput::new(message).into());
            }
        };
        require_folder(&self.out)?;
        let predictor =
            Predictor::open(&RunFolder::open(&self.run)?.weights(), &self.device.open()?)?;
        let dataset = Arc::new(open_images(&self.images)?.resized(predictor.card.image_size));
        let samples: Vec<usize> = (0..dataset.samples.len()).collect();
        let embeddings = predictor.predict(&dataset, &samples, self.workers)?.embeddings;
        let shape = (samples.len(), predictor.card.embedding_dim);
        let paths: Vec<&str> = dataset.samples.iter().map(|sample| sample.id.as_str()).collect();
        match format {
            Format::Safetensors => write_safetensors(&self.out, embeddings, shape, &paths)?,
            Format::Npy => write_npy(&self.out, &embeddings, shape, &paths)?,
        }
        println!("{} x {}: {}", shape.0, shape.1, self.out.display());
        Ok(())
    }
}

fn write_safetensors(
    out: &Path,
    embeddings: Vec<f32>,
    shape: (usize, usize),
    paths: &[&str],
) -> Result<()> {
    let embeddings = Tensor::from_vec(embeddings, shape, &Device::Cpu)?;
    let tensors = BTreeMap::from([("embeddings".to_owned(), embeddings)]);
    let metadata = BTreeMap::from([("paths".to_owned(), serde_json::to_string(paths)?)]);
    Ok(write_atomic(out, &save_weights(&tensors, &metadata)?)?)
}

fn write_npy(out: &Path, embeddings: &[f32], shape: (usize, usize), paths: &[&str]) -> Result<()> {
    write_atomic(out, &npy_bytes(embeddings, shape))?;
    let beside = out.with_extension("paths.txt");
    Ok(write_atomic(&beside, format!("{}\n", paths.join("\n")).as_bytes())?)
}

/// NumPy's format version 1: magic, header padded to 64 bytes, little-endian values.
fn npy_bytes(values: &[f32], (rows, cols): (usize, usize)) -> Vec<u8> {
    const PREFIX: usize = 10;
    let mut header =
        format!("{{'descr': '<f4', 'fortran_order': False, 'shape': ({rows}, {cols}), }}");
    let padded = (PREFIX + header.len() + 1).next_multiple_of(64) - PREFIX;
    header = format!("{header:<width$}\n", width = padded - 1);
    let mut bytes = b"\x93NUMPY\x01\x00".to_vec();
    bytes.extend((header.len() as u16).to_le_bytes());
    bytes.extend(header.as_bytes());
    bytes.extend(values.iter().flat_map(|value| value.to_le_bytes()));
    bytes
}

#[cfg(test)]
mod tests {
    use super::npy_bytes;

    #[test]
    fn npy_header_is_padded_and_values_follow() {
        let bytes = npy_bytes(&[1.0, 2.0], (1, 2));
        assert_eq!(&bytes[..8], b"\x93NUMPY\x01\x00");
        assert_eq!((bytes.len() - 8) % 64, 0);
        assert!(String::from_utf8_lossy(&bytes).contains("'shape': (1, 2)"));
        assert_eq!(bytes[bytes.len() - 4..], 2_f32.to_le_bytes());
    }
}
