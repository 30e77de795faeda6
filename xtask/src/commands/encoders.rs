//! `encoders`: which encoders there are, and pretrained weights for them.

use anyhow::{Context, Result};
use s5cl_backbone::{Architecture, ENCODERS, KnownEncoder, known_encoder, known_encoders};

use crate::failure::BadInput;
use crate::table::Table;

/// A size that all of them take.
const IMAGE_SIZE: usize = 224;

#[derive(clap::Args)]
pub(crate) struct Args {
    /// All that is known of these weights
    #[arg(value_name = "WEIGHTS")]
    weights: Option<String>,
}

impl Args {
    /// Runs the command.
    pub(crate) fn run(self) -> Result<()> {
        if let Some(name) = &self.weights {
            let known = known_encoder(name).ok_or_else(|| {
                BadInput::new(format!("{name} is not known: cargo xtask encoders lists all"))
            })?;
            describe(known);
            return Ok(());
        }
        let is_trained = |key: &str| !key.contains("running_");
        let mut table = Table::new(&["encoder.name", "parameters", "stages", "image size"]);
        for name in ENCODERS {
            let architecture = Architecture::named(name).context("a name without an encoder")?;
            let shapes = architecture.parameter_shapes(IMAGE_SIZE)?;
            let n: usize = shapes
                .iter()
                .filter(|(key, _)| is_trained(key))
                .map(|(_, shape)| shape.iter().product::<usize>())
                .sum();
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
            let state = if known.verified { "" } else { ", unverified" };
            println!("{id:28}{encoder:22}{place}: {license}{gated}{state}");
        }
        println!("\nunverified: the weights could not be loaded here to compare them");
        Ok(())
    }
}

fn describe(known: &KnownEncoder) {
    let or_none = |text: &str| if text.is_empty() { "-".to_owned() } else { text.to_owned() };
    let place = if known.hub.is_empty() { &known.url } else { &known.hub };
    let scales: Vec<String> = known.microns_per_pixel.iter().map(f64::to_string).collect();
    let license = format!("{}{}", known.license, if known.gated { " (gated)" } else { "" });
    let rows = [
        ("encoder.weights", known.id.clone()),
        ("encoder.name", or_none(&known.encoder)),
        ("from", place.clone()),
        ("file", known.file.clone()),
        ("revision", or_none(&known.revision)),
        ("license", license),
        ("mean", format!("{:?}", known.mean)),
        ("std", format!("{:?}", known.std)),
        ("image size", format!("{} px", known.input_px)),
        ("um/px", or_none(&scales.join(", "))),
        ("citation", known.citation.clone()),
        ("verified", known.verified.to_string()),
    ];
    for (what, value) in rows {
        println!("{what:16} {value}");
    }
}
