//! Ids of weights on the Hugging Face Hub, and the files behind them.
//!
//! | what | where |
//! |---|---|
//! | `owner/name@revision`, `owner/name@revision:file` | [`HubId`] |
//! | which file of a repository holds the weights | [`choose_file`] |
//! | whom to ask, as whom, and where files are kept | [`HubConfig`] |
//! | an id in, a file on this disk out | `fetch`, with the feature `client` |
//!
//! Without that feature nothing here opens a file or a connection.

mod id;

mod choice;
mod config;

#[cfg(feature = "client")]
mod cache;
#[cfg(feature = "client")]
mod error;
#[cfg(feature = "client")]
mod fetch;
#[cfg(feature = "client")]
mod partial;
#[cfg(feature = "client")]
mod server;

pub use choice::choose_file;
pub use config::HubConfig;
#[cfg(feature = "client")]
pub use error::HubError;
#[cfg(feature = "client")]
pub use fetch::{Download, fetch};
pub use id::{HubId, IdError};

#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct ReadmeExamples;
