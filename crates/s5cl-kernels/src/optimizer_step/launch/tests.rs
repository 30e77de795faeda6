//! The kernels against the operations on the CPU.

use candle_core::{Device, Result, Tensor, Var};

use super::{Item, MOST_TENSORS, Scale, VALUES_OF_BLOCK, average, norm, step};
use crate::checks::{draw, values};
use crate::cuda::emulated::{EmulatedGpu, with_emulated_gpu};
use crate::cuda::{Gpu, Memory, Pointer};
use crate::optimizer_step::{
    GradientScale, Slot, StepConfig, StepItem, StepRule, average_step, gradient_norm,
    optimizer_step,
};

type OnGpu = Memory<EmulatedGpu, f32>;

const RULES: [StepRule; 5] = [
    StepRule::Adamax { betas: [0.9, 0.99], epsilon: 1e-8 },
    StepRule::AdamW { betas: [0.9, 0.99], epsilon: 1e-8 },
    StepRule::Sgd { momentum: 0.9, nesterov: true },
    StepRule::Sgd { momentum: 0.9, nesterov: false },
    StepRule::Sgd { momentum: 0.0, nesterov: false },
];
const N_STEPS: u64 = 3;

fn config(steps: u64) -> StepConfig {
    StepConfig { learning_rate: 0.02, weight_decay: 0.01, steps }
}

/// Lengths around those of a vector, a block and a launch.
fn lengths() -> Vec<usize> {
    let edges = [1, 3, 4, 5, 0, 1023, 1024, 1025];
    let around = [VALUES_OF_BLOCK - 1, VALUES_OF_BLOCK, VALUES_OF_BLOCK + 1];
    let mut lengths = [&edges[..], &around, &[2 * VALUES_OF_BLOCK + 7]].concat();
    lengths.resize(MOST_TENSORS + 3, 2);
    lengths
}

/// Drawn values of each length.
fn drawn(seed: u64) -> Vec<Vec<f32>> {
    let drawn = lengths().into_iter().zip(0..);
    drawn.map(|(len, i)| draw(1000 * seed + i, len)).collect()
}

fn upload(gpu: &EmulatedGpu, values: &[Vec<f32>]) -> Vec<OnGpu> {
    values.iter().map(|values| gpu.upload(values).unwrap()).collect()
}

fn download(gpu: &EmulatedGpu, memory: &[OnGpu]) -> Vec<Vec<f32>> {
    memory.iter().map(|memory| gpu.download(memory)).collect()
}

fn zeros() -> Vec<Vec<f32>> {
    lengths().into_iter().map(|len| vec![0.0; len]).collect()
}

/// Of each tensor the pointers to what changes, what it follows, and its state.
fn items(of: [Option<&[OnGpu]>; 4]) -> Vec<Item> {
    let pointer = |memory: Option<&[OnGpu]>, i: usize| {
        memory.map_or(Pointer::NULL, |memory| memory[i].pointer())
    };
    let item = |(i, len)| Item { at: of.map(|memory| pointer(memory, i)), len };
    lengths().into_iter().enumerate().map(item).collect()
}

/// Parameters and both slots after all steps.
fn path_on_gpu(gpu: &EmulatedGpu, rule: StepRule, scale: Scale) -> [Vec<Vec<f32>>; 3] {
    let n_slots = rule.slots().len();
    let parameters = upload(gpu, &drawn(0));
    let slots = [upload(gpu, &zeros()), upload(gpu, &zeros())];
    for steps in 1..=N_STEPS {
        let gradients = upload(gpu, &drawn(steps));
        let slot = |k: usize| (k < n_slots).then_some(slots[k].as_slice());
        let items = items([Some(&parameters), Some(&gradients), slot(0), slot(1)]);
        step(gpu, rule.formula(config(steps)).unwrap(), scale, &items).unwrap();
    }
    let [first, second] = slots.map(|slot| download(gpu, &slot));
    [download(gpu, &parameters), first, second]
}

/// The same with the operation on the CPU.
fn path_on_cpu(rule: StepRule, scale: GradientScale<'_>) -> Result<[Vec<Vec<f32>>; 3]> {
    let parameters = drawn(0).into_iter().map(|values| Var::new(values, &Device::Cpu));
    let parameters: Vec<Var> = parameters.collect::<Result<_>>()?;
    let zeros = |len| Slot::zeros(len, &Device::Cpu);
    let slots = lengths().into_iter().map(|len| rule.slots().iter().map(|_| zeros(len)).collect());
    let mut slots: Vec<Vec<Slot>> = slots.collect::<Result<_>>()?;
    for steps in 1..=N_STEPS {
        let gradients = drawn(steps).into_iter().map(|values| Tensor::new(values, &Device::Cpu));
        let gradients: Vec<Tensor> = gradients.collect::<Result<_>>()?;
        let each = parameters.iter().zip(&gradients).zip(&mut slots);
        let mut items: Vec<StepItem<'_>> = each
            .map(|((parameter, gradient), slots)| StepItem { parameter, gradient, slots })
            .collect();
        optimizer_step(rule, config(steps), scale, &mut items)?;
    }
    let of_slot = |k: usize| -> Result<Vec<Vec<f32>>> {
        let lengths = lengths();
        let each = slots.iter().zip(&lengths).map(|(slots, &len)| match slots.get(k) {
            Some(slot) => values(&slot.to_tensor(len)?),
            None => Ok(vec![0.0; len]),
        });
        each.collect()
    };
    let moved = parameters.iter().map(|parameter| values(parameter));
    Ok([moved.collect::<Result<_>>()?, of_slot(0)?, of_slot(1)?])
}

/// The emulation rounds every product and sum by itself, as the CPU does: the bits are the same.
#[test]
fn step_kernels_are_the_operation_on_the_cpu() {
    with_emulated_gpu(|gpu| {
        for rule in RULES {
            let expected = path_on_cpu(rule, GradientScale::Given(0.5)).unwrap();
            assert!(path_on_gpu(gpu, rule, Scale::given(0.5)) == expected, "{rule:?}");
        }
    });
}

#[test]
fn step_kernels_clip_by_a_norm_that_is_on_the_device() {
    with_emulated_gpu(|gpu| {
        for (size, largest, loss_scale) in
            [(8.0, 2.0, None), (8.0, 0.0, None), (3e4, 0.7, Some(1024.0))]
        {
            let on_device = gpu.upload(&[size]).unwrap();
            let loss_scale: Option<f32> = loss_scale;
            let scale_on_device = loss_scale.map(|scale| gpu.upload(&[scale]).unwrap());
            let scale_pointer = scale_on_device.as_ref().map(Memory::pointer);
            let scale = Scale::by_norm(on_device.pointer(), largest, scale_pointer);

            let norm = Tensor::new(size, &Device::Cpu).unwrap();
            let loss_scale = loss_scale.map(|scale| Tensor::new(scale, &Device::Cpu).unwrap());
            let by_norm =
                GradientScale::ByNorm { norm: &norm, largest, loss_scale: loss_scale.as_ref() };
            let expected = path_on_cpu(RULES[0], by_norm).unwrap();
            assert!(path_on_gpu(gpu, RULES[0], scale) == expected, "{size}, {largest}");
            assert!(expected[0] != drawn(0), "nothing has moved");
        }
    });
}

#[test]
fn step_kernels_change_nothing_where_the_norm_is_not_finite() {
    with_emulated_gpu(|gpu| {
        for size in [f64::INFINITY, f64::NAN] {
            for rule in RULES {
                let norm = gpu.upload(&[size]).unwrap();
                let scale = Scale::by_norm(norm.pointer(), 1.0, None);
                let [parameters, first, second] = path_on_gpu(gpu, rule, scale);
                assert!(parameters == drawn(0), "{rule:?}, {size}");
                assert!(first == zeros() && second == zeros(), "{rule:?}, {size}");
            }
        }
    });
}

#[test]
fn step_kernels_take_tensors_that_are_not_aligned() {
    with_emulated_gpu(|gpu| {
        const LEN: usize = 1030;
        let rule = RULES[4];
        let formula = rule.formula(config(1)).unwrap();
        let stepped = |skipped: usize| {
            let parameter = gpu.upload(&draw(1, LEN)).unwrap();
            // The gradient begins somewhere within its memory.
            let gradient = gpu.upload(&[vec![f32::NAN; skipped], draw(2, LEN)].concat()).unwrap();
            let null = Pointer::NULL;
            let at = [parameter.pointer(), gradient.pointer().offset(skipped), null, null];
            step(gpu, formula, Scale::given(1.0), &[Item { at, len: LEN }]).unwrap();
            gpu.download(&parameter)
        };
        assert!(stepped(0) == stepped(1) && stepped(0) == stepped(3));
    });
}

#[test]
fn norm_kernels_sum_all_squares_in_f64() {
    /// Sums in another order than on the CPU, of 53 bits.
    const TOLERANCE: f64 = 1e-14;
    with_emulated_gpu(|gpu| {
        let on_gpu = |gradients: &[Vec<f32>]| {
            let memory = upload(gpu, gradients);
            let each = memory.iter().zip(gradients).map(|(memory, gradient)| {
                let null = Pointer::NULL;
                Item { at: [memory.pointer(), null, null, null], len: gradient.len() }
            });
            gpu.download(&norm(gpu, &each.collect::<Vec<_>>()).unwrap())[0]
        };
        let gradients = drawn(1);
        let tensors = gradients.iter().map(|values| Tensor::new(&values[..], &Device::Cpu));
        let tensors: Vec<Tensor> = tensors.collect::<Result<_>>().unwrap();
        let expected = gradient_norm(&tensors).unwrap().to_scalar::<f64>().unwrap();
        let got = on_gpu(&gradients);
        assert!((got / expected - 1.0).abs() < TOLERANCE, "{got}, expected {expected}");
        // Squares of f32 would overflow.
        let large = on_gpu(&[vec![3e30, 4e30]]);
        assert!((large / 5e30 - 1.0).abs() < f64::from(f32::EPSILON), "{large}");
        assert_eq!(on_gpu(&[]), 0.0);
        assert_eq!(on_gpu(&[vec![1.0, f32::NEG_INFINITY]]), f64::INFINITY);
        assert!(on_gpu(&[vec![1.0; 5000], vec![f32::NAN]]).is_nan());
    });
}

#[test]
fn average_kernel_is_the_operation_on_the_cpu() {
    with_emulated_gpu(|gpu| {
        let (averages, values) = (upload(gpu, &drawn(1)), upload(gpu, &drawn(2)));
        average(gpu, 0.25, &items([Some(&averages), Some(&values), None, None])).unwrap();
        for (i, got) in download(gpu, &averages).into_iter().enumerate() {
            let tensor = |seed: u64| Tensor::new(&drawn(seed)[i][..], &Device::Cpu).unwrap();
            let mut slot = Slot::copy_of(&tensor(1)).unwrap();
            average_step(&mut [(&mut slot, &tensor(2))], 0.75).unwrap();
            let expected = slot.to_tensor(got.len()).unwrap().to_vec1::<f32>().unwrap();
            assert!(got == expected, "tensor {i}");
        }
    });
}
