//! The bits of the losses and of the search on similarities, on any number of threads.

use candle_core::{Device, Result, Tensor, Var};
use s5cl_kernels::{
    CrossContrast, Positives, Reduction, TopK, contrast, cross_contrast, sup_con, top_k,
};
use s5cl_kernels::{Segment, Temperature};

const N_THREADS: [usize; 4] = [1, 2, 3, 5];

/// Numbers between -1 and 1 that look random.
fn draw(n: usize, seed: u64) -> Vec<f32> {
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    let mut next = || {
        state =
            state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 40) as f32 / (1_u64 << 23) as f32 - 1.0
    };
    (0..n).map(|_| next()).collect()
}

fn bits(tensor: &Tensor) -> Result<Vec<u32>> {
    Ok(tensor.flatten_all()?.to_vec1::<f32>()?.into_iter().map(f32::to_bits).collect())
}

/// The bits of a loss and of its gradients.
fn told(loss: &Tensor, variables: &[&Var]) -> Result<Vec<Vec<u32>>> {
    let gradients = loss.backward()?;
    let mut told = vec![bits(loss)?];
    for variable in variables {
        told.push(bits(gradients.get(variable).expect("a gradient"))?);
    }
    assert!(told.iter().flatten().all(|&bits| f32::from_bits(bits).is_finite()));
    Ok(told)
}

fn labels(n: usize) -> Result<Tensor> {
    Tensor::new((0..n as u32).map(|i| i * i % 13).collect::<Vec<_>>(), &Device::Cpu)
}

/// Runs a computation on pools of several sizes and compares the results.
fn check<T: PartialEq + Send>(what: &str, compute: impl Fn() -> Result<T> + Sync) {
    let on_pool = |n_threads| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(n_threads).build().expect("a pool");
        pool.install(|| compute().expect("a result"))
    };
    let expected = on_pool(N_THREADS[0]);
    for n_threads in &N_THREADS[1..] {
        assert!(on_pool(*n_threads) == expected, "{what} differs on {n_threads} threads");
    }
}

#[test]
fn contrast_has_the_same_bits_on_any_number_of_threads() {
    // One block, blocks of both sizes, an odd number of them, tiles that are not kept.
    for (n, dim) in [(64, 64), (320, 64), (1000, 30), (2100, 16), (4500, 8)] {
        for temperature in [0.01_f32, 0.2] {
            check(&format!("{n} x {dim} at {temperature}"), || {
                let rows = Var::from_vec(draw(n * dim, n as u64), (n, dim), &Device::Cpu)?;
                let learned = Var::new(temperature, &Device::Cpu)?;
                let loss = sup_con(&rows, &labels(n)?, learned.as_tensor(), Reduction::MeanValid)?;
                told(&loss, &[&rows, &learned])
            });
        }
    }
}

#[test]
fn contrast_of_segments_has_the_same_bits_on_any_number_of_threads() {
    check("segments", || {
        let rows = Var::from_vec(draw(900 * 32, 1), (900, 32), &Device::Cpu)?;
        let segment = |rows, temperature| Segment {
            rows,
            temperature: Temperature::Fixed(temperature),
            weight: 0.5,
            reduction: Reduction::PmlAvgNonZero,
        };
        let segments = [segment(0..200, 0.2), segment(200..900, 0.7)];
        told(&contrast(&rows, &labels(900)?, &segments)?, &[&rows])
    });
}

#[test]
fn cross_contrast_has_the_same_bits_on_any_number_of_threads() {
    for (n, n_keys) in [(300, 2500), (2500, 300)] {
        check(&format!("{n} queries, {n_keys} keys"), || {
            let queries = Var::from_vec(draw(n * 16, 2), (n, 16), &Device::Cpu)?;
            let keys = Var::from_vec(draw(n_keys * 16, 3), (n_keys, 16), &Device::Cpu)?;
            let (query_labels, key_labels) = (labels(n)?, labels(n_keys)?);
            let config = CrossContrast {
                temperatures: &[0.2],
                positives: Positives::Labels { queries: &query_labels, keys: &key_labels },
                query_weights: None,
                key_weights: None,
                excluded: None,
            };
            told(&cross_contrast(&queries, &keys, &config)?, &[&queries, &keys])
        });
    }
}

#[test]
fn top_k_is_the_same_on_any_number_of_threads() {
    let (queries, keys) = (draw(300 * 16, 4), draw(2000 * 16, 5));
    let search = TopK { k: 7, is_cosine: true, excludes_own: true };
    check("neighbors", || top_k(&queries, &keys, 16, search));
}
