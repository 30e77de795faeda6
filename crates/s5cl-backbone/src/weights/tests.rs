//! Files that are of no use, and models that they do not fit.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::PathBuf;

use candle_core::{DType, Device, Tensor, Var};
use tempfile::TempDir;
use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, ZipWriter};

use super::{WeightsError, WeightsFile, load_weights, save_weights, verify_sha256};
use crate::{EncoderConfig, Model, ModelConfig, Parameters};

struct Place {
    folder: TempDir,
}

impl Place {
    fn new() -> Self {
        Self { folder: tempfile::tempdir().unwrap() }
    }

    fn file(&self, bytes: &[u8]) -> PathBuf {
        let path = self.folder.path().join("weights");
        std::fs::write(&path, bytes).unwrap();
        path
    }

    /// What opening a file of these bytes says, without the path.
    fn refusal(&self, bytes: &[u8]) -> String {
        match WeightsFile::open(&self.file(bytes)) {
            Err(WeightsError::Format { path, reason }) => {
                assert!(path.ends_with("weights") && !reason.contains('\n'), "{reason}");
                reason
            }
            other => panic!("not refused: {other:?}"),
        }
    }
}

fn safetensors(header: &str, values: &[u8]) -> Vec<u8> {
    [&(header.len() as u64).to_le_bytes(), header.as_bytes(), values].concat()
}

/// A zip archive of these members.
fn archive(members: &[(&str, &[u8])], method: CompressionMethod) -> Vec<u8> {
    let mut bytes = std::io::Cursor::new(Vec::new());
    let mut writer = ZipWriter::new(&mut bytes);
    for (name, content) in members {
        let options = SimpleFileOptions::default().compression_method(method);
        writer.start_file(*name, options).unwrap();
        writer.write_all(content).unwrap();
    }
    writer.finish().unwrap();
    bytes.into_inner()
}

/// The pickle of a dict with one tensor `w` of that many values in the storage `0`.
fn one_tensor(length: u8) -> Vec<u8> {
    let storage = b"(X\x07\0\0\0storagectorch\nFloatStorage\nX\x01\0\0\x000X\x03\0\0\0cpuK\x04tQ";
    let shape = [b'K', 0, b'K', length, 0x85, b'K', 1, 0x85];
    let call = b"\x89NtRs.";
    let rebuild = b"ctorch._utils\n_rebuild_tensor_v2\n(";
    [&b"\x80\x02}X\x01\0\0\0w"[..], rebuild, storage, &shape, call].concat()
}

#[test]
fn weights_file_tells_other_formats_by_their_content() {
    let place = Place::new();
    let mut tar = vec![0; 600];
    tar[257..262].copy_from_slice(b"ustar");
    for (bytes, expected) in [
        (&b""[..], "0 bytes"),
        (b"PK", "zip archive"),
        (b"\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19", "torch.load"),
        (&tar, "old format"),
        (b"././@LongLink.............", "old format"),
        (b"version https://git-lfs.github.com/spec/v1\n", "git lfs pull"),
        (b"<!DOCTYPE html><html>", "web page"),
        (b"\n<html><body>404</body>", "web page"),
        (b"\x89HDF\r\n\x1a\n and more", "neither safetensors nor"),
    ] {
        let refusal = place.refusal(bytes);
        assert!(refusal.contains(expected), "{expected}: {refusal}");
    }
}

#[test]
fn weights_file_of_safetensors_is_checked_before_it_is_read() {
    let place = Place::new();
    let header = "{\"w\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,8]}}";
    let whole = safetensors(header, &[0; 8]);
    WeightsFile::open(&place.file(&whole)).unwrap();
    for length in 9..whole.len() {
        let refusal = place.refusal(&whole[..length]);
        assert!(refusal.contains("cut off"), "{length}: {refusal}");
    }
    let longer = place.refusal(&safetensors(header, &[0; 9]));
    assert!(longer.contains("71 bytes") && longer.contains("tells of 70"), "{longer}");

    let mut hostile = whole.clone();
    hostile[..8].copy_from_slice(&u64::MAX.to_le_bytes());
    assert!(place.refusal(&hostile).contains("header would have"));
    for header in [
        "{\"w\":{\"dtype\":\"F32\",\"shape\":[3],\"data_offsets\":[0,8]}}",
        "{\"w\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[8,0]}}",
        "{\"w\":{\"dtype\":\"F32\",\"shape\":[4294967296,4294967296],\"data_offsets\":[0,8]}}",
        "{\"w\":{\"dtype\":\"Q1\",\"shape\":[2],\"data_offsets\":[0,8]}}",
        "{\"w\":[]}",
        "{\"w\":",
    ] {
        assert!(place.refusal(&safetensors(header, &[0; 8])).contains("safetensors file"));
    }
}

#[test]
fn weights_file_whose_header_is_as_long_as_another_magic_is_read() {
    // The length of the header is the first thing in the file: 0x4b50 bytes read "PK", 0x213c "<!".
    let place = Place::new();
    for length in [0x4b50, 0x213c, 0x0280] {
        let header = "{\"w\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4]}}";
        let padded = format!("{header:length$}");
        let bytes = safetensors(&padded, &1_f32.to_le_bytes());
        let mut file = WeightsFile::open(&place.file(&bytes)).unwrap();
        assert_eq!(file.tensor("w").unwrap().to_vec1::<f32>().unwrap(), [1.0]);
    }
}

#[test]
fn weights_file_of_torch_save_is_checked_before_it_is_read() {
    use CompressionMethod::{Deflated, Stored};
    let place = Place::new();
    let values: Vec<u8> = [1_f32, 2.0, 3.0, 4.0].iter().flat_map(|v| v.to_le_bytes()).collect();
    let (pickle, storage) = (one_tensor(4), ("a/data/0", values.as_slice()));
    let members = [("a/data.pkl", pickle.as_slice()), storage];
    let mut file = WeightsFile::open(&place.file(&archive(&members, Stored))).unwrap();
    assert_eq!(file.tensor("w").unwrap().to_vec1::<f32>().unwrap(), [1.0, 2.0, 3.0, 4.0]);

    let longer = one_tensor(5);
    let big = ("a/byteorder", &b"big"[..]);
    let script = ("a/constants.pkl", &b""[..]);
    for (members, method, expected) in [
        (vec![], Stored, "without data.pkl"),
        (vec![storage], Stored, "without data.pkl"),
        (vec![members[0]], Stored, "a/data/0 is missing"),
        (vec![("a/data.pkl", longer.as_slice()), storage], Stored, "\"w\" reaches beyond"),
        (vec![members[0], storage, big], Stored, "big-endian"),
        (vec![members[0], storage, script], Stored, "TorchScript"),
        (vec![members[0], storage], Deflated, "compressed"),
        (vec![("a/data.pkl", b"\x80\x02}".as_slice())], Stored, "cut off"),
        (vec![("a/data.pkl", b"\x80\x02K\x01.".as_slice())], Stored, "no dict of tensors"),
    ] {
        let refusal = place.refusal(&archive(&members, method));
        assert!(refusal.contains(expected), "{expected}: {refusal}");
    }
}

#[test]
fn weights_file_whose_dicts_refer_to_each_other_is_left_unread() {
    // Each dict holds the one before it a thousand times, so that there are 10^9 ways to look.
    let mut pickle = b"\x80\x02}q\x00".to_vec();
    for _ in 0..3 {
        pickle.extend(b"}(");
        for key in 0..1000 {
            pickle.extend(b"X\x04\0\0\0");
            pickle.extend(format!("{key:04}").as_bytes());
            pickle.extend(b"h\x00");
        }
        pickle.extend(b"uq\x00");
    }
    pickle.push(b'.');
    let bytes = archive(&[("a/data.pkl", &pickle)], CompressionMethod::Stored);
    let refusal = Place::new().refusal(&bytes);
    assert!(refusal.contains("more than 131072 entries"), "{refusal}");
}

#[test]
fn weights_file_that_would_be_copied_often_is_refused() {
    let place = Place::new();
    let text = |text: &str| {
        [b"X".as_slice(), &(text.len() as u32).to_le_bytes(), text.as_bytes()].concat()
    };
    let storage = |key: &str| {
        let (kind, class) = (text("storage"), b"ctorch\nFloatStorage\n");
        [b"(", kind.as_slice(), class, &text(key), &text("cpu"), b"K\x01tQ"].concat()
    };
    let long = "k".repeat(300);
    let ones = [b"(".as_slice(), &b"K\x01".repeat(65), b"t"].concat();
    let tensor = [
        b"ctorch._utils\n_rebuild_tensor_v2\n(".as_slice(),
        &storage("0"),
        b"K\0",
        &ones,
        &ones,
        b"\x89}tR",
    ];
    let name = [b"}".as_slice(), &text(&long), b"K\x01s"].concat();
    for (pickle, expected) in [
        (storage(&long), "by too long a name"),
        (tensor.concat(), "too many dimensions"),
        (name, "a name of 300 bytes"),
    ] {
        let pickle = [b"\x80\x02".as_slice(), &pickle, b"."].concat();
        let refusal =
            place.refusal(&archive(&[("a/data.pkl", &pickle)], CompressionMethod::Stored));
        assert!(refusal.contains(expected), "{expected}: {refusal}");
    }
}

/// The parameters of a model with an encoder of that name.
fn model(encoder: &str) -> BTreeMap<String, Var> {
    let parameters = Parameters::new(0);
    let config = ModelConfig {
        encoder: EncoderConfig::named(encoder, 32).unwrap(),
        embedding_dim: 8,
        n_classes: 3,
    };
    Model::new(&config, &parameters.builder(&Device::Cpu)).unwrap();
    parameters.all()
}

#[test]
fn weights_of_another_encoder_name_the_one_that_fits() {
    let place = Place::new();
    let theirs = model("resnet18-small");
    let detached = |(key, value): (&String, &Var)| {
        (format!("state_dict.module.{key}"), value.as_detached_tensor())
    };
    let bytes = save_weights(&theirs.iter().map(detached).collect(), &BTreeMap::new()).unwrap();
    let refused = load_weights(&place.file(&bytes), &model("resnet-slim")).unwrap_err();
    let message = refused.to_string();
    assert!(message.contains("encoder.name = \"resnet18-small\""), "{message}");
    assert!(message.contains(" of 64 keys matched") && !message.contains('\n'), "{message}");

    // A file with a gap is no better known by its name.
    let mut tensors: BTreeMap<_, _> = theirs.iter().map(detached).collect();
    tensors.remove("state_dict.module.bn1.bias");
    let bytes = save_weights(&tensors, &BTreeMap::new()).unwrap();
    let message = load_weights(&place.file(&bytes), &theirs).unwrap_err().to_string();
    assert!(message.contains("1 missing (bn1.bias)"), "{message}");
    assert!(!message.contains("encoder.name"), "{message}");
}

#[test]
fn weights_without_any_key_of_the_encoder_are_refused() {
    let place = Place::new();
    let ones = Tensor::ones(2, DType::F32, &Device::Cpu).unwrap();
    let tensors = BTreeMap::from([("classifier.bias".to_owned(), ones)]);
    let path = place.file(&save_weights(&tensors, &BTreeMap::new()).unwrap());
    for parameters in [BTreeMap::new(), model("resnet-slim")] {
        let refused = load_weights(&path, &parameters);
        assert!(matches!(refused, Err(WeightsError::Mismatch { .. })), "{refused:?}");
    }
}

#[test]
fn weights_of_another_hash_are_refused_with_both() {
    let place = Place::new();
    let path = place.file(b"abc");
    let hash = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
    for expected in [hash, &hash.to_uppercase()] {
        verify_sha256(&path, expected).unwrap();
    }
    for expected in [hash.replace('b', "c").as_str(), "abc", ""] {
        let message = verify_sha256(&path, expected).unwrap_err().to_string();
        assert!(message.contains(hash) && message.contains(expected), "{message}");
    }
    let absent = verify_sha256(&path.join("absent"), hash);
    assert!(matches!(absent, Err(WeightsError::Io { .. })), "{absent:?}");
}
