//! Tests of the set as a whole.

use std::collections::{BTreeMap, BTreeSet};

use super::*;
use crate::Split;

/// FNV-1a over the bytes of the first 100 tiles of the standard set.
const PINNED: u64 = 0x3777_09df_63b8_6704;

/// Largest mean difference, in gray levels, between a tile of 32 pixels and one of 128 pixels
/// averaged down: edges are softer on the coarse canvas, and absorption is not linear.
const SIZE_TOLERANCE: f32 = 4.0;

fn standard(size_pixels: u32) -> Tissue {
    let config = TissueConfig { size_pixels, ..TissueConfig::standard() };
    Tissue::new(config).expect("a valid config")
}

#[test]
fn tiles_are_pinned() {
    let tissue = standard(32);
    let mut hash = 0xcbf2_9ce4_8422_2325_u64;
    for sample_idx in 0..100 {
        for byte in tissue.tile(sample_idx).into_raw() {
            hash = (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3);
        }
    }
    assert_eq!(hash, PINNED, "the tiles changed: {hash:#018x}");
}

#[test]
fn tile_shows_the_same_tissue_at_any_size() {
    let (coarse, fine) = (standard(32), standard(128));
    for sample_idx in 0..45 {
        let (small, large) = (coarse.tile(sample_idx), fine.tile(sample_idx));
        let mut difference = 0.0;
        for (x, y, pixel) in small.enumerate_pixels() {
            for c in 0..3 {
                let block = (0..16).map(|i| large.get_pixel(4 * x + i % 4, 4 * y + i / 4)[c]);
                let mean = block.map(f32::from).sum::<f32>() / 16.0;
                difference += (mean - f32::from(pixel[c])).abs();
            }
        }
        let mean = difference / (3.0 * 32.0 * 32.0);
        assert!(mean < SIZE_TOLERANCE, "sample {sample_idx} differs by {mean}");
    }
}

#[test]
fn tile_depends_on_seed_and_index_alone() {
    let tissue = standard(32);
    let small = Tissue::new(TissueConfig { images: 45, ..TissueConfig::standard() });
    assert_eq!(small.expect("a valid config").tile(2000), tissue.tile(2000));
    let reseeded = Tissue::new(TissueConfig { seed: 1, ..TissueConfig::standard() });
    assert_ne!(reseeded.expect("a valid config").tile(0), tissue.tile(0));
    let drawn = std::thread::scope(|scope| {
        let workers: Vec<_> = (0..4).map(|_| scope.spawn(|| tissue.tile(31))).collect();
        workers.into_iter().map(|worker| worker.join().expect("a tile")).collect::<Vec<_>>()
    });
    assert!(drawn.iter().all(|tile| *tile == tissue.tile(31)));
}

#[test]
fn tile_is_never_constant() {
    for size_pixels in [16, 33, 200] {
        let tissue = standard(size_pixels);
        for sample_idx in 0..27 {
            let tile = tissue.tile(sample_idx);
            let levels: BTreeSet<u8> = tile.into_raw().into_iter().collect();
            assert!(levels.len() > 8, "sample {sample_idx} has {} levels", levels.len());
        }
    }
}

#[test]
fn patients_are_in_one_split_each() {
    let mut splits = BTreeMap::new();
    let tissue = standard(32);
    for sample in tissue.samples() {
        let split = splits.entry(&sample.patient).or_insert(sample.split).to_owned();
        assert_eq!(split, sample.split, "{} of {}", sample.id, sample.patient);
    }
    assert_eq!(splits.len(), 40);
}

#[test]
fn classes_and_splits_are_balanced() {
    let tissue = standard(32);
    let count = |class: u32, split: Split| {
        let of = |s: &&TissueSample| s.class_idx == class && s.split == split;
        tissue.samples().iter().filter(of).count()
    };
    for class in 0..9 {
        assert!((216..=218).contains(&count(class, Split::Train)));
        assert!((49..=51).contains(&count(class, Split::Validation)));
        assert!((66..=68).contains(&count(class, Split::Test)));
    }
    let ids: BTreeSet<_> = tissue.samples().iter().map(|sample| &sample.id).collect();
    assert_eq!(ids.len(), 3000);
}

#[test]
fn config_out_of_range_is_refused_with_its_value() {
    for size_pixels in [0, 15, 513] {
        let config = TissueConfig { size_pixels, ..TissueConfig::standard() };
        assert_eq!(Tissue::new(config).err(), Some(TissueError::Size(size_pixels)));
    }
    for images in [0, 44, usize::MAX] {
        let config = TissueConfig { images, ..TissueConfig::standard() };
        assert_eq!(Tissue::new(config).err(), Some(TissueError::Images(images)));
    }
    assert!(TissueError::Size(7).to_string().contains("size_pixels is 7"));
}
