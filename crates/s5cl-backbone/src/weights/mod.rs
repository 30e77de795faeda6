//! Weights in and out: safetensors and files of `torch.save` with the names of several sources,
//! with a report of the keys; safetensors out.

mod error;
mod hash;
mod report;

mod file;
mod safetensors_file;
mod stored;
mod torch;

mod architecture;
mod key_map;
mod load;
mod mapping;
mod pattern;
mod positions;
mod resample;

mod save;

pub use error::WeightsError;
pub use file::WeightsFile;
pub use hash::{sha256, verify_sha256};
pub use load::load_weights;
pub use report::KeyReport;
pub use save::{read_metadata, save_weights};

#[cfg(test)]
mod tests;
