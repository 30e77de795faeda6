//! Embeddings in few dimensions, to be looked at.

mod affinities;
mod descent;
mod pca;
mod t_sne;

pub use pca::Pca;
pub use t_sne::{Tsne, TsneConfig, t_sne};
