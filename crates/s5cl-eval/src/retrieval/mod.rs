//! What comes back when an image asks for images of its class.

mod left_out;
mod nearest;
mod ranking;
mod result;

pub use left_out::LeftOut;
pub use nearest::{Retrieved, nearest};
pub use ranking::retrieval;
pub use result::{RetrievalAtK, RetrievalResult, retrieval_at_k};
