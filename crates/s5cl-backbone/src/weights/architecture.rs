//! Which of the known encoders keys and shapes are those of.

use super::file::WeightsFile;
use super::mapping::Mapping;
use crate::ENCODERS;

/// The encoder of a file, if it is one of [`ENCODERS`].
pub(super) fn encoder_of_file(file: &WeightsFile) -> Option<String> {
    let names: Vec<&str> = file.shapes().map(|(name, _)| name).collect();
    Mapping::all(&names).find_map(|mapping| {
        encoder_of(&|key| {
            let name = mapping.complete(key)?;
            file.shape(name.first()?).map(<[usize]>::to_vec)
        })
    })
}

/// The encoder with these shapes by our keys.
pub(super) fn encoder_of(shape: &dyn Fn(&str) -> Option<Vec<usize>>) -> Option<String> {
    let found =
        vit(shape).or_else(|| convnext(shape)).or_else(|| resnet(shape)).or_else(|| other(shape));
    found.filter(|name| ENCODERS.contains(&name.as_str()))
}

/// How many in a row of the keys that a number makes are there.
fn count(shape: &dyn Fn(&str) -> Option<Vec<usize>>, key: impl Fn(usize) -> String) -> usize {
    (0..).take_while(|&index| shape(&key(index)).is_some()).count()
}

fn vit(shape: &dyn Fn(&str) -> Option<Vec<usize>>) -> Option<String> {
    let patches = shape("patch_embed.proj.weight")?;
    let depth = count(shape, |block| format!("blocks.{block}.norm1.weight"));
    let size = match (patches.first()?, depth) {
        (384, 12) => "small",
        (768, 12) => "base",
        (1024, 24) => "large",
        _ => return None,
    };
    Some(format!("vit-{size}-{}", patches.last()?))
}

fn convnext(shape: &dyn Fn(&str) -> Option<Vec<usize>>) -> Option<String> {
    let dim = *shape("stem.0.weight")?.first()?;
    let depths = [0, 1, 2, 3]
        .map(|stage| count(shape, |block| format!("stages.{stage}.blocks.{block}.conv_dw.weight")));
    (dim == 96 && depths == [3, 3, 9, 3]).then(|| "convnext-tiny".to_owned())
}

fn resnet(shape: &dyn Fn(&str) -> Option<Vec<usize>>) -> Option<String> {
    let stem = shape("conv1.weight")?;
    let (channels, kernel) = (*stem.first()?, *stem.last()?);
    let depths = [1, 2, 3, 4]
        .map(|stage| count(shape, |block| format!("layer{stage}.{block}.conv1.weight")));
    let has_bottlenecks = shape("layer1.0.conv3.weight").is_some();
    let name = match (has_bottlenecks, depths, channels, kernel) {
        (false, [2, 2, 2, 2], 64, 7) => "resnet18",
        (false, [2, 2, 2, 2], 64, 3) => "resnet18-small",
        (false, [1, 1, 1, 1], 16, 3) => "resnet-slim",
        (false, [3, 4, 6, 3], 64, 7) => "resnet34",
        (true, [3, 4, 6, 3], 64, 7) => "resnet50",
        (true, [3, 4, 23, 3], 64, 7) => "resnet101",
        _ => return None,
    };
    Some(name.to_owned())
}

fn other(shape: &dyn Fn(&str) -> Option<Vec<usize>>) -> Option<String> {
    let known = [
        ("block1.layer.3.conv1.weight", [32, 32, 3, 3], "wide-resnet28-2"),
        ("features.7.0.weight", [1280, 256, 1, 1], "efficientnet-v2-s"),
    ];
    let fits = |(key, expected, _): &(&str, [usize; 4], &str)| {
        shape(key).is_some_and(|shape| shape == expected)
    };
    known.iter().find(|known| fits(known)).map(|&(_, _, name)| name.to_owned())
}
