//! The contrastive losses, forward and backward, and the search for the nearest keys.
//!
//! `cargo bench --profile dev -p xtask -p s5cl-kernels --bench similarity`

use std::hint::black_box;
use std::time::Duration;

use candle_core::{Device, Result, Tensor, Var};
use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use s5cl_kernels::{
    CrossContrast, Positives, Reduction, TopK, cross_contrast, nt_xent, sup_con, top_k,
};

/// Values between -1 and 1 that look random.
fn draw(n: usize) -> Vec<f32> {
    let mut state = 1_u64;
    let mut next = || {
        state =
            state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 40) as f32 / (1_u64 << 23) as f32 - 1.0
    };
    (0..n).map(|_| next()).collect()
}

fn rows(n: usize, dim: usize) -> Result<Var> {
    Var::from_vec(draw(n * dim), (n, dim), &Device::Cpu)
}

fn labels(n: usize) -> Result<Tensor> {
    Tensor::from_vec((0..n as u32).map(|i| i % 9).collect(), n, &Device::Cpu)
}

fn square(criterion: &mut Criterion) -> Result<()> {
    let mut group = criterion.benchmark_group("sup_con");
    for (n, dim) in [(64, 64), (320, 64), (1024, 64), (4096, 64), (8192, 64), (4096, 128)] {
        let (rows, labels) = (rows(n, dim)?, labels(n)?);
        for temperature in [0.2, 0.01] {
            let name = BenchmarkId::new(format!("{n} x {dim}"), temperature);
            group.bench_function(name, |bencher| {
                bencher.iter(|| {
                    let reduction = Reduction::PmlAvgNonZero;
                    sup_con(black_box(&rows), &labels, temperature, reduction)?.backward()
                });
            });
        }
    }
    group.finish();
    let rows = rows(256, 64)?;
    criterion.bench_function("nt_xent/256 x 64", |bencher| {
        bencher.iter(|| nt_xent(black_box(&rows), 0.7)?.backward());
    });
    Ok(())
}

fn cross(criterion: &mut Criterion) -> Result<()> {
    let (queries, keys) = (rows(256, 128)?, rows(65_536, 128)?.as_detached_tensor());
    let (of_queries, of_keys) = (labels(256)?, labels(65_536)?);
    let config = CrossContrast {
        temperatures: &[0.2],
        positives: Positives::Labels { queries: &of_queries, keys: &of_keys },
        query_weights: None,
        key_weights: None,
        excluded: None,
    };
    criterion.bench_function("cross_contrast/256 x 65536 x 128", |bencher| {
        bencher.iter(|| cross_contrast(black_box(&queries), &keys, &config)?.backward());
    });
    Ok(())
}

fn search(criterion: &mut Criterion) {
    let (queries, keys) = (draw(1000 * 128), draw(100_000 * 128));
    let search = TopK { k: 10, is_cosine: true, excludes_own: false };
    criterion.bench_function("top_k/1000 x 100000 x 128", |bencher| {
        bencher.iter(|| top_k(black_box(&queries), &keys, 128, search));
    });
}

fn all(criterion: &mut Criterion) {
    square(criterion).expect("shapes that fit");
    cross(criterion).expect("shapes that fit");
    search(criterion);
}

criterion_group! {
    name = benches;
    config = Criterion::default().sample_size(10).measurement_time(Duration::from_secs(2));
    targets = all
}
criterion_main!(benches);
