//! Which of the known encoders keys and shapes are those of.

use std::collections::BTreeMap;

use super::file::WeightsFile;
use super::load::fits;
use super::mapping::Mapping;
use super::positions::POSITIONS;
use crate::{Architecture, ENCODERS};

/// A size that every architecture can be built for; only [`POSITIONS`] depends on it.
const IMAGE_SIZE: usize = 14 * 16;

/// The encoder of a file, if it is one of [`ENCODERS`].
pub(super) fn encoder_of_file(file: &WeightsFile) -> Option<&'static str> {
    let names: Vec<&str> = file.shapes().map(|(name, _)| name).collect();
    let mut mappings = Mapping::all(&names);
    mappings.find_map(|mapping| encoder_of(|key| file.joined_shape(&mapping.complete(key)?)))
}

/// The encoder that has these shapes by our keys, and no other parameter.
pub(super) fn encoder_of(shape: impl Fn(&str) -> Option<Vec<usize>>) -> Option<&'static str> {
    let known = |name: &&str| -> bool {
        let architecture = Architecture::named(name);
        let shapes = architecture.map(|a| a.parameter_shapes(IMAGE_SIZE));
        shapes.is_some_and(|shapes| shapes.is_ok_and(|shapes| is_all_there(&shapes, &shape)))
    };
    // A larger one of a family has all keys of a smaller one.
    ENCODERS.into_iter().rfind(known)
}

fn is_all_there(
    shapes: &BTreeMap<String, Vec<usize>>,
    shape: &impl Fn(&str) -> Option<Vec<usize>>,
) -> bool {
    shapes.iter().all(|(key, expected)| {
        shape(key).is_some_and(|shape| key == POSITIONS || fits(&shape, expected))
    })
}
