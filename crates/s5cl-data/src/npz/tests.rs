//! Archives that are right in every allowed way, and wrong in each way that has an error.

use std::path::Path;

use zip::CompressionMethod::{Deflated, Stored};

use super::npy::{Header, Integer};
use super::open;
use crate::test_support::{TempFolder, npy, npy_with, npz};
use crate::{CommonSize, Split};

type Members = Vec<(&'static str, Vec<u8>)>;

/// Three training images of 2x2 pixels, one test image; the bytes count up.
fn small() -> Members {
    let pixels: Vec<u8> = (0..48).collect();
    vec![
        ("train_images.npy", npy("|u1", "(3, 2, 2, 3)", &pixels[..36])),
        ("train_labels.npy", npy("|u1", "(3, 1)", &[0, 2, 1])),
        ("test_images.npy", npy("|u1", "(1, 2, 2, 3)", &pixels[36..])),
        ("test_labels.npy", npy("|u1", "(1, 1)", &[1])),
    ]
}

fn replaced(member: &str, bytes: Vec<u8>) -> Members {
    let mut members = small();
    members.iter_mut().find(|(name, _)| *name == member).unwrap().1 = bytes;
    members
}

fn message(members: &Members) -> String {
    let folder = TempFolder::new();
    let path = folder.write("cells.npz", &npz(members, Stored));
    let message = open(&path).unwrap_err().to_string();
    assert!(message.starts_with(&path.display().to_string()), "{message}");
    assert!(!message.contains('\n'), "{message}");
    message
}

#[test]
fn npz_stored_and_deflated_give_the_same_dataset() {
    let folder = TempFolder::new();
    for (name, method) in [("stored.npz", Stored), ("deflated.npz", Deflated)] {
        let dataset = open(&folder.write(name, &npz(&small(), method))).unwrap();
        assert_eq!(dataset.name, name.trim_end_matches(".npz"));
        assert_eq!(dataset.class_names, ["0", "1", "2"]);
        let labels: Vec<_> = dataset.samples.iter().map(|s| s.class_idx.unwrap()).collect();
        assert_eq!(labels, [0, 2, 1, 1]);
        assert_eq!(dataset.samples[2].id, "train/00002");
        assert_eq!(dataset.samples[3].id, "test/00000");
        assert_eq!(dataset.samples[3].split, Some(Split::Test));
        assert_eq!(dataset.tile(1).unwrap().into_raw(), (12..24).collect::<Vec<u8>>());
        assert_eq!(dataset.tile(3).unwrap().into_raw(), (36..48).collect::<Vec<u8>>());
        assert_eq!(dataset.common_size().unwrap(), CommonSize::Same(2, 2));
        assert!(dataset.tile(4).is_err());
    }
}

#[test]
fn npz_digest_follows_pixels_and_labels_but_not_the_file() {
    let folder = TempFolder::new();
    let digest = |name: &str, members: &Members, method| {
        open(&folder.write(name, &npz(members, method))).unwrap().digest().to_owned()
    };
    let original = digest("a.npz", &small(), Stored);
    assert_eq!(original, digest("b.npz", &small(), Deflated));
    let other_label = replaced("test_labels.npy", npy("|u1", "(1, 1)", &[2]));
    assert_ne!(original, digest("c.npz", &other_label, Stored));
    let other_pixels = replaced("test_images.npy", npy("|u1", "(1, 2, 2, 3)", &[7; 12]));
    assert_ne!(original, digest("d.npz", &other_pixels, Stored));
}

#[test]
fn npz_gray_images_become_rgb() {
    let folder = TempFolder::new();
    for shape in ["(3, 1, 2)", "(3, 1, 2, 1)"] {
        let members = replaced("train_images.npy", npy("|u1", shape, &[10, 20, 30, 40, 50, 60]));
        let dataset = open(&folder.write("gray.npz", &npz(&members, Stored))).unwrap();
        let tile = dataset.tile(1).unwrap();
        assert_eq!(tile.dimensions(), (2, 1));
        assert_eq!(tile.into_raw(), [30, 30, 30, 40, 40, 40]);
    }
}

#[test]
fn npz_labels_of_every_integer_type_are_read() {
    let folder = TempFolder::new();
    for (size, kind) in [1, 2, 4, 8].into_iter().flat_map(|n| [(n, 'u'), (n, 'i')]) {
        for (order, shape) in [('<', "(3, 1)"), ('>', "(3,)")] {
            let elements: Vec<u8> = [0_u64, 2, 1]
                .iter()
                .flat_map(|label| match order {
                    '<' => label.to_le_bytes()[..size].to_vec(),
                    _ => label.to_be_bytes()[8 - size..].to_vec(),
                })
                .collect();
            let labels = npy(&format!("{order}{kind}{size}"), shape, &elements);
            let members = replaced("train_labels.npy", labels);
            let dataset = open(&folder.write("labels.npz", &npz(&members, Stored))).unwrap();
            let labels: Vec<_> = dataset.samples.iter().map(|s| s.class_idx.unwrap()).collect();
            assert_eq!(labels, [0, 2, 1, 1], "{order}{kind}{size}");
        }
    }
}

#[test]
fn npz_missing_members_are_named_with_what_is_there() {
    let mut members = small();
    members.remove(0);
    let there = "it holds test_images.npy, test_labels.npy, train_labels.npy";
    assert!(message(&members).ends_with(&format!("no member train_images.npy; {there}")));
    // Half a split is a mistake; no half is a split that is not there.
    let mut members = small();
    members.pop();
    assert!(message(&members).contains("no member test_labels.npy"));
}

#[test]
fn npz_wrong_shapes_and_types_are_shown() {
    let images = |shape: &str, n| replaced("train_images.npy", npy("|u1", shape, &vec![0; n]));
    let labels =
        |descr, shape, elements: &[u8]| replaced("train_labels.npy", npy(descr, shape, elements));
    let cases = [
        (images("(3, 2, 2, 4)", 48), "train_images.npy has shape [3, 2, 2, 4]; expected [N, H, W"),
        (images("(3, 12)", 36), "has shape [3, 12]; expected [N, H, W, 3] or [N, H, W]"),
        (images("(3, 0, 2, 3)", 0), "H and W at least 1"),
        (images("(4, 2, 2, 3)", 36), "36 bytes of data are not shape [4, 2, 2, 3] of |u1"),
        (images("(9999999999, 9999999999, 9999999999)", 1), ""),
        (labels("|u1", "(3, 2)", &[0; 6]), "train_labels.npy has shape [3, 2]; expected [N] or"),
        (labels("<f4", "(3,)", &[0; 12]), "its type is <f4; expected an integer type"),
        (labels("|u1", "(2,)", &[0, 1]), "train_labels.npy: 2 labels for 3 images"),
        (labels("|i1", "(3,)", &[0, 255, 1]), "train_labels.npy, row 1: label -1 is not in 0..="),
        (labels("<u4", "(3,)", &[0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0]), "row 1: label 65536"),
    ];
    for (members, expected) in cases {
        let message = message(&members);
        assert!(message.contains(expected), "{message}\n{expected}");
    }
    let floats = replaced("train_images.npy", npy("<f4", "(3, 1, 1)", &[0; 12]));
    assert!(message(&floats).contains("its type is <f4; expected u1 (uint8, 0 to 255)"));
}

#[test]
fn npz_of_one_class_is_refused() {
    let members = vec![
        ("train_images.npy", npy("|u1", "(2, 1, 1)", &[0, 0])),
        ("train_labels.npy", npy("|u1", "(2, 1)", &[0, 0])),
    ];
    assert!(message(&members).contains("only one class, `0`"));
}

#[test]
fn npz_damaged_archives_are_refused() {
    let folder = TempFolder::new();
    let whole = npz(&small(), Deflated);
    let refused = |name: &str, bytes: &[u8]| {
        let message = open(&folder.write(name, bytes)).unwrap_err().to_string();
        assert!(message.contains(name), "{message}");
        message
    };
    for length in [0, 10, whole.len() / 2, whole.len() - 1] {
        let message = refused("truncated.npz", &whole[..length]);
        assert!(message.contains("damaged or no .npz archive"), "{message}");
    }
    // A flipped bit in the last byte of stored pixels shows in the member's checksum.
    let mut flipped = npz(&small(), Stored);
    let pixels: Vec<u8> = (0..36).collect();
    let at = flipped.windows(36).position(|window| window == pixels).unwrap();
    flipped[at + 35] ^= 1;
    assert!(refused("flipped.npz", &flipped).contains("train_images.npy"));
    assert!(open(Path::new("no/such.npz")).unwrap_err().to_string().contains("no/such.npz"));
}

#[test]
fn npy_headers_of_all_versions_are_read() {
    let dictionary = "{\"shape\": (4,), \"fortran_order\": False, \"descr\": \">u2\"}";
    for version in 1..=3 {
        let file = npy_with(version, dictionary, &[1, 2]);
        let mut rest = file.as_slice();
        let header = Header::read(&mut rest).unwrap();
        assert_eq!((header.descr.as_str(), header.shape), (">u2", vec![4]));
        assert_eq!(rest, [1, 2]);
    }
    let refused = |file: &[u8]| Header::read(&mut &*file).unwrap_err();
    assert!(refused(&npy_with(4, dictionary, &[])).contains("version 4"));
    let fortran = dictionary.replace("False", "True");
    assert!(refused(&npy_with(1, &fortran, &[])).contains("Fortran order"));
    assert!(refused(&npy_with(1, "{'descr': [('a', '<i4')]}", &[])).contains("simple descr"));
    assert!(refused(b"\x93NUMPY\x01\x00\xff\xff{").contains("shorter"));
    assert!(refused(b"GIF89a").contains("no .npy header"));
}

#[test]
fn npy_scalar_shape_is_one_element() {
    let file = npy("<i8", "()", &[]);
    assert_eq!(Header::read(&mut file.as_slice()).unwrap().n_elements(), Some(1));
}

#[test]
fn npy_integers_keep_their_sign_and_saturate() {
    let read = |descr, element: &[u8]| Integer::parse(descr).unwrap().read(element);
    assert_eq!(read("<i2", &[0xfe, 0xff]), -2);
    assert_eq!(read(">i4", &[0xff, 0xff, 0xff, 0xfe]), -2);
    assert_eq!(read("<u8", &[0xff; 8]), i64::MAX);
    assert_eq!(Integer::parse("<f8"), None);
    assert_eq!(Integer::parse("|b1"), None);
}
