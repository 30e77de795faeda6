//! `retrieve`: for every query the images of a gallery that look most alike to a trained model.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Result;
use s5cl_data::{Dataset, Sample, open_images};
use s5cl_eval::{Features, RetrievalConfig, RetrievalResult, nearest, retrieval};
use serde_json::json;

use crate::evaluation::{Part, number_groups};
use crate::failure::BadInput;
use crate::inference::Predictor;
use crate::run_folder::{RunFolder, require_folder};
use crate::table::{Table, fraction};

#[derive(clap::Args)]
pub(crate) struct Args {
    /// The run folder
    #[arg(long, value_name = "DIR")]
    run: PathBuf,
    /// The images to search: an image, a folder of images at any depth, or a MedMNIST .npz file
    #[arg(long, value_name = "PATH")]
    gallery: PathBuf,
    /// The images to search for; where they are the gallery's own, none finds itself
    #[arg(long, value_name = "PATH")]
    query: PathBuf,
    /// Images to find for each query
    #[arg(short, default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..))]
    k: u32,
    /// The table to write: query,rank,path,similarity
    #[arg(long, value_name = "FILE.csv")]
    out: Option<PathBuf>,
    /// Threads that read images
    #[arg(long, default_value_t = 1)]
    workers: usize,
    /// End standard output with the figures as one line of JSON
    #[arg(long)]
    json: bool,
}
