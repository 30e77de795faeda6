//! `encoders`: which encoders there are, and pretrained weights for them.

use anyhow::{Context, Result};
use s5cl_backbone::{Architecture, ENCODERS, KnownEncoder, known_encoders};

use crate::table::Table;

/// A size that all of them take.
const IMAGE_SIZE: usize = 224;

#[derive(clap::Args)]
pub(crate) struct Args {}

impl Args {
    /// Runs the command.
    pub(crate) fn run(self) -> Result<()> {
        let mut table = Table::new(&["encoder.name", "parameters", "stages", "image size"]);
        for name in ENCODERS {
            let architecture = Architecture::named(name).context("a name without an encoder")?;
            let shapes = architecture.parameter_shapes(IMAGE_SIZE)?;
            let n: usize = shapes.values().map(|shape| shape.iter().product::<usize>()).sum();
            let size = match architecture.image_size_step() {
                1 => format!("{} px or more", architecture.smallest_image()),
                step => format!("a multiple of {step} px"),
            };
            let n_stages = architecture.n_stages().to_string();
            table.row(vec![name.to_owned(), format!("{:.1} M", n as f64 / 1e6), n_stages, size]);
        }
        println!("{}", table.text());
        println!("{:28}{:22}from", "encoder.weights", "encoder.name");
        for known in known_encoders() {
            let KnownEncoder { id, encoder, hub, url, license, .. } = known;
            let place = if hub.is_empty() { url } else { hub };
            let encoder = if encoder.is_empty() { "(not here)" } else { encoder };
            let gated = if known.gated { ", gated" } else { "" };
            println!("{id:28}{encoder:22}{place}: {license}{gated}");
        }
        let n_verified = known_encoders().iter().filter(|known| known.verified).count();
        println!(
            "\n{n_verified} of {} weights were loaded and compared with their authors' code; the \
             others are unverified",
            known_encoders().len()
        );
        Ok(())
    }
}
