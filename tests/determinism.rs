//! The same bits on any number of threads, in our kernels and in candle's matrix products.

use std::collections::BTreeMap;
use std::process::Command;

use candle_core::{Device, Tensor, Var, utils::get_num_threads};
use s5cl_backbone::{
    EncoderConfig, Mode, Model, ModelConfig, Normalization, Parameters, Precision, Trained,
};
use s5cl_kernels::linear;
use s5cl_losses::{
    Hierarchy, HierarchyConfig, LabeledViews, Reduction, SupCon, SupervisedLoss, instance_labels,
};
use s5cl_random::named_stream;

use crate::golden_encoders;
use crate::golden_files::TestResult;

const N_THREADS: [usize; 4] = [1, 2, 3, 5];
/// Starts a line of [`bits_of_everything_are_told`].
const TOLD: &str = "bits of ";

fn uniform(name: &str, shape: (usize, usize)) -> candle_core::Result<Var> {
    let mut random = named_stream(0, name);
    let values: Vec<f32> = (0..shape.0 * shape.1).map(|_| random.uniform_in(-1.0, 1.0)).collect();
    Var::from_vec(values, shape, &Device::Cpu)
}

/// The bits of tensors by name.
type Bits = BTreeMap<String, Vec<u32>>;

fn bits(tensor: &Tensor) -> candle_core::Result<Vec<u32>> {
    let values = tensor.flatten_all()?.to_vec1::<f32>()?;
    Ok(values.into_iter().map(f32::to_bits).collect())
}

/// [`model_step`] of the default encoder, and of a tiny one of each kind.
fn model_steps() -> TestResult<Bits> {
    let mut all = model_step("", EncoderConfig::named("resnet-slim", 32)?)?;
    for (name, architecture, size) in golden_encoders::cases() {
        let image_size = if size == 0 { 32 } else { size };
        let (trained, precision) = (Trained::All, Precision::F32);
        let encoder = EncoderConfig { architecture, image_size, trained, precision };
        all.extend(model_step(&format!("{name} "), encoder)?);
    }
    Ok(all)
}

/// Loss, statistics and every gradient of one step on 24 images, by names with something before.
fn model_step(before: &str, encoder: EncoderConfig) -> TestResult<Bits> {
    let parameters = Parameters::new(0);
    let side = encoder.image_size;
    let config = ModelConfig { encoder, embedding_dim: 64, n_classes: 4 };
    let model = Model::new(&config, &parameters.builder(&Device::Cpu))?;
    let mut random = named_stream(0, "pixels");
    let pixels: Vec<u8> = (0..24 * side * side * 3).map(|_| random.below(256) as u8).collect();
    let pixels = Tensor::from_vec(pixels, (24, side, side, 3), &Device::Cpu)?;
    let output = model.forward(&Normalization::HALF.apply(&pixels)?, Mode::Train)?;

    let hierarchy = Hierarchy::new(&HierarchyConfig::published())?;
    let labels = Tensor::from_vec((0..12_u32).map(|i| i % 4).collect(), 12, &Device::Cpu)?;
    let views =
        LabeledViews { embeddings: &output.embeddings, logits: &output.logits, labels: &labels };
    let loss = hierarchy.forward(views, None)?.total;
    let gradients = loss.backward()?;

    let mut told = Bits::from([(format!("{before}loss"), bits(&loss)?)]);
    for (name, variable) in parameters.all() {
        let told_of = gradients.get(&variable).unwrap_or(variable.as_tensor());
        told.insert(format!("{before}{name}"), bits(told_of)?);
    }
    Ok(told)
}

/// Products that are spread over threads: an embedder's, those of a loss on 512 views, candle's.
fn large_products() -> TestResult<Bits> {
    let (encodings, weight) = (uniform("encodings", (640, 128))?, uniform("weight", (64, 128))?);
    let embeddings = linear(&encodings, &weight, None)?;
    let gradients = embeddings.sqr()?.sum_all()?.backward()?;
    let mut told = Bits::from([("embedder".to_owned(), bits(&embeddings)?)]);
    for (name, variable) in [("encodings", &encodings), ("weight", &weight)] {
        let gradient = gradients.get(variable).ok_or("no gradient")?;
        told.insert(format!("embedder {name}"), bits(gradient)?);
    }

    let embeddings = uniform("embeddings", (512, 64))?;
    let loss = SupCon { temperature: 0.7, reduction: Reduction::MeanValid };
    let value = loss.forward(&embeddings, &instance_labels(256, &Device::Cpu)?)?;
    let gradients = value.backward()?;
    let gradient = gradients.get(&embeddings).ok_or("no gradient")?;
    told.insert("supcon".to_owned(), bits(&value)?);
    told.insert("supcon embeddings".to_owned(), bits(gradient)?);
    // Deeper than one block of gemm's inner dimension, and of no round size.
    let (deep, wide) = (uniform("deep", (131, 2051))?, uniform("wide", (2051, 67))?);
    told.insert("deep".to_owned(), bits(&deep.matmul(&wide)?)?);
    Ok(told)
}

/// 64-bit FNV-1a.
fn digest(bits: &[u32]) -> u64 {
    bits.iter().flat_map(|bits| bits.to_le_bytes()).fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
    })
}

#[test]
fn model_gradients_are_the_same_on_any_pool() -> TestResult {
    let on_pool = |n_threads: usize| -> TestResult<Bits> {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(n_threads).build()?;
        pool.install(|| model_steps().map_err(|error| error.to_string())).map_err(Into::into)
    };
    let expected = on_pool(N_THREADS[0])?;
    assert!(expected.len() > 300, "only {} tensors", expected.len());
    for n_threads in &N_THREADS[1..] {
        for (name, bits) in on_pool(*n_threads)? {
            assert!(bits == expected[&name], "{name} differs on {n_threads} threads");
        }
    }
    Ok(())
}

/// Checks that there is something to compare and prints a digest of it for
/// [`bits_are_the_same_in_processes_with_any_number_of_threads`], which runs this test in
/// processes of its own.
#[test]
fn bits_of_everything_are_told() -> TestResult {
    println!("{TOLD}nothing {} {}", get_num_threads(), rayon::current_num_threads());
    for (name, bits) in model_steps()?.into_iter().chain(large_products()?) {
        let is_alive = bits.iter().all(|&bits| f32::from_bits(bits).is_finite())
            && bits.iter().any(|&bits| f32::from_bits(bits) != 0.0);
        assert!(is_alive, "{name} is zero or not finite");
        println!("{TOLD}{name} {:016x}", digest(&bits));
    }
    Ok(())
}

/// candle asks the environment for the number of threads of a matrix product, and not the pool
/// that it runs on: only another process shows whether its bits depend on it.
#[test]
fn bits_are_the_same_in_processes_with_any_number_of_threads() -> TestResult {
    let test = concat!(module_path!(), "::bits_of_everything_are_told");
    let test = test.split_once("::").map_or(test, |(_crate_name, path)| path);
    let in_process = |n_threads: usize| -> TestResult<Vec<String>> {
        let output = Command::new(std::env::current_exe()?)
            .args(["--exact", test, "--nocapture", "--test-threads", "1"])
            .env("RAYON_NUM_THREADS", n_threads.to_string())
            .env_remove("CANDLE_NUM_THREADS")
            .output()?;
        let output = String::from_utf8(output.stdout)?;
        // The harness writes the test's name in front of the first line.
        let told = output.lines().filter_map(|line| line.split_once(TOLD));
        let mut told: Vec<String> = told.map(|(_, told)| told.to_owned()).collect();
        assert!(told.len() > 40, "told only {told:?} in\n{output}");
        assert_eq!(told.remove(0), format!("nothing {n_threads} {n_threads}"));
        Ok(told)
    };
    let expected = in_process(N_THREADS[0])?;
    for n_threads in &N_THREADS[1..] {
        assert_eq!(in_process(*n_threads)?, expected, "{n_threads} threads");
    }
    Ok(())
}
