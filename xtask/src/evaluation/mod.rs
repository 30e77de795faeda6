//! What a model is worth: from its predictions to figures, files and pictures.

mod comparison;
mod part;
mod predictions;
mod shortcuts;

mod details;
mod embeddings;
mod retrieval;

mod atlas;
mod sheet;
mod thumbnails;
mod views;

pub(crate) use atlas::{some_labeled, some_unlabeled};
pub(crate) use comparison::compare;
pub(crate) use details::{Details, Drawing, Parts};
pub(crate) use part::Part;
pub(crate) use predictions::{JudgedImages, write_table};
pub(crate) use retrieval::Retrieval;
pub(crate) use sheet::sheet;
pub(crate) use shortcuts::shortcuts;
