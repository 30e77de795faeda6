//! Files of weights as other libraries write them: what is read from them, and what is refused.

use std::collections::BTreeMap;
use std::path::PathBuf;

use candle_core::{DType, Device, Tensor, Var};
use s5cl_backbone::{KeyReport, WeightsError, WeightsFile, load_weights};
use serde::Deserialize;

use crate::golden_files::{TestResult, array, arrays, assert_close, json, path, values};

fn weights(name: &str) -> PathBuf {
    path(&format!("weights/{name}"))
}

/// Parameters of an encoder with these shapes and of the heads, all zero.
fn model(tensors: &BTreeMap<String, Tensor>) -> TestResult<BTreeMap<String, Var>> {
    let mut parameters = BTreeMap::new();
    for (key, tensor) in tensors {
        let zeros = Var::zeros(tensor.shape(), DType::F32, &Device::Cpu)?;
        parameters.insert(key.clone(), zeros);
    }
    for key in ["embedder.weight", "classifier.weight"] {
        parameters.insert(key.to_owned(), Var::zeros((2, 8), DType::F32, &Device::Cpu)?);
    }
    Ok(parameters)
}

/// Loads the file of a source into the model of another file, whose values must come out.
fn loaded(source: &str, ours: &str) -> TestResult<KeyReport> {
    let expected = arrays(&format!("weights/{ours}_ours.safetensors"))?;
    let parameters = model(&expected)?;
    let report = load_weights(&weights(&format!("{source}.safetensors")), &parameters)?;
    for (key, tensor) in &expected {
        assert_close(key, &parameters[key], tensor, 0.0)?;
    }
    assert_eq!(report.missing, ["classifier.weight", "embedder.weight"]);
    assert_eq!(report.matched.len(), expected.len());
    assert!(report.unexpected.is_empty() && report.misshapen.is_empty(), "{report}");
    Ok(report)
}

#[test]
fn weights_of_other_sources_have_our_names_afterwards() -> TestResult {
    for (source, names, ignored) in [
        ("transformers_vit", "transformers ViT", 2),
        ("transformers_dinov2_swiglu", "transformers DINOv2", 1),
        ("transformers_dinov2_registers", "transformers DINOv2", 1),
        ("transformers_convnext", "transformers ConvNeXt", 0),
        ("torchvision_convnext", "torchvision ConvNeXt", 2),
        ("transformers_resnet", "transformers ResNet", 22),
    ] {
        let report = loaded(source, source)?;
        assert_eq!(report.names, names);
        assert_eq!(report.ignored.len(), ignored, "{source}: {report}");
    }
    Ok(())
}

#[test]
fn weights_under_our_names_are_read_as_they_are() -> TestResult {
    for name in ["transformers_vit_ours", "transformers_resnet_ours"] {
        let report = loaded(name, name.trim_end_matches("_ours"))?;
        assert_eq!((report.names.as_str(), report.prefix.as_str()), ("timm/torchvision", ""));
    }
    Ok(())
}

#[test]
fn weights_of_dinov2_give_the_class_row_to_the_token() -> TestResult {
    // Chunked blocks, and a row of the class token that timm's model with registers lacks.
    let report = loaded("dinov2_own", "transformers_dinov2_registers")?;
    assert_eq!((report.names.as_str(), report.interpolated), ("DINOv2", None));
    assert_eq!(report.ignored, ["mask_token"]);
    Ok(())
}

#[test]
fn weights_behind_prefixes_are_found() -> TestResult {
    let path = weights("torch_checkpoint.pth");
    let norm = |key: &str| -> TestResult<(String, Var)> {
        Ok((key.to_owned(), Var::zeros(2, DType::F32, &Device::Cpu)?))
    };
    let parameters = BTreeMap::from([norm("norm.weight")?, norm("norm.bias")?]);
    let report = load_weights(&path, &parameters)?;
    assert_eq!(report.prefix, "teacher.module.backbone.");
    assert_eq!(report.ignored.len(), 2, "{report}");
    assert_eq!(parameters["norm.weight"].to_vec1::<f32>()?, [-1.0, -0.875]);
    assert_eq!(parameters["norm.bias"].to_vec1::<f32>()?, [-0.75, -0.625]);
    Ok(())
}

#[derive(Deserialize)]
struct Golden {
    tensors: BTreeMap<String, Vec<f64>>,
}

#[test]
fn weights_of_torch_save_have_their_values() -> TestResult {
    let golden: Golden = json("weights.json")?;
    for name in ["torch_plain.pth", "torch_protocol4.pth"] {
        let mut file = WeightsFile::open(&weights(name))?;
        for (key, expected) in &golden.tensors {
            assert_eq!(&values(&file.tensor(key)?)?, expected, "{name} {key}");
        }
        let shape = file.tensor("permuted")?.dims().to_vec();
        assert_eq!(shape, [4, 2, 3]);
        assert_eq!(file.shapes().count(), golden.tensors.len() + 1);
        let error = file.tensor("count").unwrap_err().to_string();
        assert!(error.contains("type Long") && error.contains("\"count\""), "{error}");
        let error = file.tensor("absent").unwrap_err().to_string();
        assert!(error.contains("\"absent\" does not exist"), "{error}");
    }
    Ok(())
}

#[test]
fn weights_that_torch_saved_otherwise_are_refused() -> TestResult {
    let class = |name: &str| match WeightsFile::open(&weights(name)) {
        Err(error @ WeightsError::ForeignClass { .. }) => error.to_string(),
        other => panic!("{name} is not refused for its class: {other:?}"),
    };
    let message = class("torch_foreign.pth");
    assert!(message.contains("fractions.Fraction") && message.contains("state_dict"), "{message}");
    assert!(class("torch_module.pth").contains("torch.nn.modules.linear.Linear"));

    let empty = WeightsFile::open(&weights("torch_empty.pth")).unwrap_err().to_string();
    assert!(empty.contains("no tensor") && empty.contains("epoch, args"), "{empty}");
    let mut expanded = WeightsFile::open(&weights("torch_expanded.pth"))?;
    let message = expanded.tensor("w").unwrap_err().to_string();
    assert!(message.contains("repeats values"), "{message}");
    Ok(())
}

#[test]
fn weights_of_torch_save_cut_off_are_refused() -> TestResult {
    let bytes = std::fs::read(weights("torch_plain.pth"))?;
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("weights.pth");
    for length in [3, 100, bytes.len() / 2, bytes.len() - 1] {
        std::fs::write(&file, &bytes[..length])?;
        let opened = WeightsFile::open(&file);
        assert!(matches!(opened, Err(WeightsError::Format { .. })), "{length}: {opened:?}");
    }
    Ok(())
}

#[test]
fn weights_of_another_grid_are_interpolated() -> TestResult {
    let source = "transformers_vit";
    let expected = arrays(&format!("weights/{source}_ours.safetensors"))?;
    let mut shapes = expected.clone();
    shapes.insert("pos_embed".into(), Tensor::zeros((1, 1 + 49, 8), DType::F32, &Device::Cpu)?);
    let parameters = model(&shapes)?;
    let report = load_weights(&weights(&format!("{source}.safetensors")), &parameters)?;
    assert_eq!(report.interpolated, Some([(4, 4), (7, 7)]));
    assert!(report.to_string().contains("from 4x4 to 7x7"), "{report}");
    let class = |tensor: &Tensor| values(&tensor.narrow(1, 0, 1)?);
    let before = array(&expected, "pos_embed")?;
    assert_eq!(class(&parameters["pos_embed"])?, class(before)?);
    Ok(())
}

#[test]
fn weights_with_a_byte_changed_are_read_or_refused() -> TestResult {
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("weights");
    for name in ["torch_plain.pth", "torch_checkpoint.pth", "dinov2_own.safetensors"] {
        let bytes = std::fs::read(weights(name))?;
        // What is not a panic is an answer, whatever it says.
        for index in (0..bytes.len().min(3500)).step_by(7) {
            let mut changed = bytes.clone();
            changed[index] ^= 0b1010_0101;
            std::fs::write(&file, &changed)?;
            if let Ok(mut opened) = WeightsFile::open(&file) {
                let names: Vec<String> = opened.shapes().map(|(name, _)| name.to_owned()).collect();
                for name in names {
                    drop(opened.tensor(&name));
                }
            }
        }
    }
    Ok(())
}
