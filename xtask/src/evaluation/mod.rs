//! What a model is worth: from its predictions to figures, files and pictures.

mod predictions;
mod sheet;
mod shortcuts;
mod thumbnails;

pub(crate) use predictions::{JudgedImages, write_table};
pub(crate) use sheet::sheet;
pub(crate) use shortcuts::shortcuts;
