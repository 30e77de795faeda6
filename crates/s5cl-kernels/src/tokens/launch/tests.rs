//! The kernels against the passes on the CPU.

use half::{bf16, f16};

use super::{Batch, Embeddings};
use crate::checks::draw;
use crate::cuda::emulated::{EmulatedGpu, with_emulated_gpu};
use crate::cuda::stored::Stored;
use crate::cuda::{Gpu, Pointer};
use crate::tokens::{Shape, TokenPool, tokens_backward, tokens_forward};

fn drawn<T: Stored>(seed: u64, n: usize) -> Vec<T> {
    draw(seed, n).into_iter().map(T::nearest).collect()
}

fn wide<T: Stored>(values: &[T]) -> Vec<f32> {
    values.iter().map(|v| v.to_f32()).collect()
}

fn nearest<T: Stored>(values: &[f32]) -> Vec<f32> {
    values.iter().map(|&v| T::nearest(v).to_f32()).collect()
}

fn check<T: Stored>(gpu: &EmulatedGpu, batch: usize, shape: Shape) {
    let Shape { n_prefix, n_patches, dim } = shape;
    let what = format!("{:?} {batch} x {shape:?}", T::TYPE);
    let (of_prefix, of_positions) = (n_prefix * dim, n_patches * dim);
    let patches = drawn::<T>(1, batch * of_positions);
    let (prefix, positions) = (draw(2, of_prefix.max(1)), draw(3, of_positions));
    let mut expected = vec![0.0; batch * (of_prefix + of_positions)];
    let gradient = drawn::<T>(4, expected.len());
    tokens_forward(&wide(&patches), &prefix[..of_prefix], &positions, &mut expected);
    let mut expected_patches = vec![0.0; patches.len()];
    let sums = tokens_backward(&wide(&gradient), (of_prefix, of_positions), &mut expected_patches);

    let tokens = Batch { batch, shape };
    let [patches, above] = [&patches, &gradient].map(|values| gpu.upload(values).unwrap());
    let [out, of_patches] =
        [expected.len(), expected_patches.len()].map(|n| gpu.allocate::<T>(n).unwrap());
    let given = [&prefix, &positions].map(|values| gpu.upload(values).unwrap());
    let sums_of = [of_prefix, of_positions].map(|n| gpu.allocate::<f32>(n.max(1)).unwrap());
    let pair = |[prefix, positions]: [Pointer<f32>; 2]| Embeddings { prefix, positions };
    let (from, to) = (above.pointer(), of_patches.pointer());
    // SAFETY: everything was allocated for these shapes.
    unsafe {
        let given = pair(given.each_ref().map(|m| m.pointer()));
        tokens.forward(gpu, patches.pointer(), given, out.pointer()).unwrap();
        tokens.backward(gpu, from, to, pair([Pointer::NULL; 2])).unwrap();
        let into = pair(sums_of.each_ref().map(|m| m.pointer()));
        tokens.backward(gpu, from, to, into).unwrap();
    }
    assert_eq!(wide(&gpu.download(&out)), nearest::<T>(&expected), "{what}");
    assert_eq!(wide(&gpu.download(&of_patches)), expected_patches, "{what}: patches' gradient");
    let [prefix, positions] = sums_of.each_ref().map(|memory| gpu.download(memory));
    assert_eq!(prefix[..of_prefix], sums.0, "{what}: prefix's gradient");
    assert_eq!(positions, sums.1, "{what}: positions' gradient");
}

fn check_pool<T: Stored>(gpu: &EmulatedGpu, batch: usize, shape: Shape, pool: TokenPool) {
    let Shape { n_prefix, n_patches, dim } = shape;
    let what = format!("{:?} {batch} x {shape:?} {pool:?}", T::TYPE);
    let values = drawn::<T>(1, batch * (n_prefix + n_patches) * dim);
    let gradient = draw(2, batch * pool.width() * dim);
    let (mut expected, mut of_tokens) = (vec![0.0; gradient.len()], vec![0.0; values.len()]);
    pool.forward(&wide(&values), &mut expected, shape);
    pool.backward(&gradient, &mut of_tokens, shape);
    let tokens = Batch { batch, shape };
    let (given, above) = (gpu.upload(&values).unwrap(), gpu.upload(&gradient).unwrap());
    let out = gpu.allocate::<f32>(gradient.len()).unwrap();
    let to = gpu.allocate::<T>(values.len()).unwrap();
    // SAFETY: everything was allocated for these shapes.
    unsafe {
        tokens.pool(gpu, pool, given.pointer(), out.pointer()).unwrap();
        tokens.pool_gradient(gpu, pool, above.pointer(), to.pointer()).unwrap();
    }
    assert_eq!(gpu.download(&out), expected, "{what}: the same sums");
    assert_eq!(wide(&gpu.download(&to)), nearest::<T>(&of_tokens), "{what}: the same shares");
}

#[test]
fn token_kernels_are_the_passes_on_the_cpu() {
    with_emulated_gpu(|gpu| {
        let shapes = [(1, [1, 1, 1]), (3, [0, 5, 16]), (2, [5, 9, 24]), (4, [1, 49, 7])];
        for (batch, [n_prefix, n_patches, dim]) in shapes {
            let shape = Shape { n_prefix, n_patches, dim };
            check::<f32>(gpu, batch, shape);
            check::<bf16>(gpu, batch, shape);
            check::<f16>(gpu, batch, shape);
            for pool in [TokenPool::Class, TokenPool::Mean, TokenPool::ClassAndMean] {
                if n_prefix == 0 && pool != TokenPool::Mean {
                    continue;
                }
                check_pool::<f32>(gpu, batch, shape, pool);
                check_pool::<bf16>(gpu, batch, shape, pool);
                check_pool::<f16>(gpu, batch, shape, pool);
            }
        }
    });
}
