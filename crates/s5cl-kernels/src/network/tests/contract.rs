//! What networks promise beside their values: memory that is used again, gradients once, the same
//! bits anywhere, a NaN that is seen, and refusals.

use candle_core::{DType, Device, Result, Tensor, Var};

use super::cases::{Case, conv, residual, wide};
use super::reference::{Plain, Step};
use crate::checks::{drawn, gradient, refusal, same_on_any_threads, values};
use crate::simd::with_one_instruction_set;
use crate::{Network, NetworkOutput, Precision};

/// Drawn images and parameters, all of them variables.
fn inputs(plain: &Plain) -> Result<(Var, Vec<Var>)> {
    let parameter =
        |(index, shape): (usize, Vec<usize>)| Var::from_tensor(&drawn(10 + index as u64, &shape)?);
    let parameters = plain.parameters().into_iter().enumerate().map(parameter);
    Ok((Var::from_tensor(&drawn(1, &plain.images)?)?, parameters.collect::<Result<_>>()?))
}

fn tensors(parameters: &[Var]) -> Vec<&Tensor> {
    parameters.iter().map(Var::as_tensor).collect()
}

/// Result, statistics and every gradient of a step.
fn everything(output: &NetworkOutput, images: &Var, parameters: &[Var]) -> Result<Vec<f32>> {
    let mut told = values(&output.maps)?;
    for of in &output.statistics {
        told.extend(values(&of.mean)?);
        told.extend(values(&of.variance)?);
    }
    let gradients = output.maps.sqr()?.sum_all()?.backward()?;
    told.extend(gradient(&gradients, images)?);
    for parameter in parameters {
        // A parameter that is not read has none.
        if gradients.get(parameter).is_some() {
            told.extend(gradient(&gradients, parameter)?);
        }
    }
    Ok(told)
}

/// Mean 0 and variance 1 for each normalization.
fn standard(plain: &Plain) -> Result<Vec<(Tensor, Tensor)>> {
    let shapes = plain.shapes();
    let norms = plain.steps.iter().filter_map(|step| match step {
        Step::Norm { input, .. } => Some(shapes[*input][3]),
        _ => None,
    });
    let (f32, cpu) = (DType::F32, &Device::Cpu);
    norms.map(|n| Ok((Tensor::zeros(n, f32, cpu)?, Tensor::ones(n, f32, cpu)?))).collect()
}

fn evaluate(network: &Network, plain: &Plain, images: &Tensor, of: &[Var]) -> Result<Tensor> {
    let known = standard(plain)?;
    let known: Vec<(&Tensor, &Tensor)> = known.iter().map(|(m, v)| (m, v)).collect();
    network.evaluate(images, &tensors(of), &known)
}

#[test]
fn network_has_the_same_bits_on_any_threads() {
    for Case { plain, .. } in [residual([3, 67, 50, 3]), wide()] {
        same_on_any_threads(|| {
            let (images, parameters) = inputs(&plain)?;
            let network = plain.network();
            let output = network.train(&images, &tensors(&parameters))?;
            let mut told = everything(&output, &images, &parameters)?;
            told.extend(values(&evaluate(&network, &plain, &images, &parameters)?)?);
            Ok(told)
        });
    }
}

#[test]
fn network_forgets_the_pass_before() -> Result<()> {
    with_one_instruction_set(forgets_the_pass_before)
}

fn forgets_the_pass_before() -> Result<()> {
    for Case { plain, .. } in [residual([2, 33, 26, 3]), wide()] {
        let (images, parameters) = inputs(&plain)?;
        let tensors = tensors(&parameters);
        let expected =
            everything(&plain.network().train(&images, &tensors)?, &images, &parameters)?;
        let evaluated = values(&evaluate(&plain.network(), &plain, &images, &parameters)?)?;

        // Memory that held NaN is used again: what is read before it is written would show.
        let network = plain.network();
        let broken = Var::from_tensor(&(images.as_tensor() * f64::NAN)?)?;
        everything(&network.train(&broken, &tensors)?, &broken, &parameters)?;
        let again = everything(&network.train(&images, &tensors)?, &images, &parameters)?;
        assert!(again == expected, "another pass was seen");
        evaluate(&network, &plain, &broken, &parameters)?;
        let again = values(&evaluate(&network, &plain, &images, &parameters)?)?;
        assert!(again == evaluated, "another pass was seen");

        // Images of another shape in between.
        let other = Var::from_tensor(&images.narrow(0, 0, 1)?.narrow(1, 2, 24)?)?;
        everything(&network.train(&other, &tensors)?, &other, &parameters)?;
        let again = everything(&network.train(&images, &tensors)?, &images, &parameters)?;
        assert!(again == expected, "another pass was seen");
    }
    Ok(())
}

#[test]
fn network_passes_may_overlap() -> Result<()> {
    with_one_instruction_set(passes_may_overlap)
}

fn passes_may_overlap() -> Result<()> {
    let Case { plain, .. } = residual([2, 33, 26, 3]);
    let (images, parameters) = inputs(&plain)?;
    let other = Var::from_tensor(&drawn(2, &plain.images)?)?;
    let tensors = tensors(&parameters);
    let alone = |images: &Var| -> Result<Vec<f32>> {
        everything(&plain.network().train(images, &tensors)?, images, &parameters)
    };
    let network = plain.network();
    let first = network.train(&images, &tensors)?;
    // A pass whose gradients nobody asks for, and an evaluation.
    drop(network.train(&other, &tensors)?);
    let second = network.clone().train(&other, &tensors)?;
    evaluate(&network, &plain, &images, &parameters)?;
    assert!(everything(&first, &images, &parameters)? == alone(&images)?, "the first pass");
    assert!(everything(&second, &other, &parameters)? == alone(&other)?, "the second pass");
    Ok(())
}

#[test]
fn network_runs_backward_once() -> Result<()> {
    let Case { plain, .. } = residual([2, 33, 26, 3]);
    let (images, parameters) = inputs(&plain)?;
    let output = plain.network().train(&images, &tensors(&parameters))?;
    let loss = output.maps.sqr()?.sum_all()?;
    loss.backward()?;
    let message = refusal(loss.backward());
    assert!(message.contains("network: the backward pass has used up"), "{message:?}");
    Ok(())
}

#[test]
fn network_adds_the_gradients_of_a_result_that_is_used_twice() -> Result<()> {
    let Case { plain, .. } = residual([2, 33, 26, 3]);
    let (images, parameters) = inputs(&plain)?;
    let of = |factors: &[f64]| -> Result<Vec<f32>> {
        let maps = plain.network().train(&images, &tensors(&parameters))?.maps;
        let mut loss = Tensor::zeros_like(&maps)?;
        for factor in factors {
            loss = (loss + (&maps * *factor)?)?;
        }
        gradient(&loss.sum_all()?.backward()?, &parameters[0])
    };
    // Powers of two: neither the sum nor the products are rounded.
    with_one_instruction_set(|| {
        assert!(of(&[1.0, 0.5, 0.5])? == of(&[2.0])?, "the sum of the parts");
        assert!(of(&[1.0])? != of(&[2.0])?, "gradients of nothing");
        Ok(())
    })
}

#[test]
fn network_shows_a_nan_of_the_images() -> Result<()> {
    for Case { plain, .. } in [residual([2, 33, 26, 3]), wide()] {
        let (images, parameters) = inputs(&plain)?;
        let mut pixels = values(&images)?;
        let middle = pixels.len() / 4;
        pixels[middle] = f32::NAN;
        let broken = Tensor::from_vec(pixels, &plain.images[..], &Device::Cpu)?;
        let network = plain.network();
        let output = network.train(&broken, &tensors(&parameters))?;
        assert!(values(&output.maps)?.iter().all(|value| value.is_nan()), "training");
        let of_first = &output.statistics[0];
        for statistic in [&of_first.mean, &of_first.variance] {
            assert!(values(statistic)?.iter().all(|value| value.is_nan()), "statistics");
        }
        // Without the batch's statistics, the NaN stays in its image.
        let evaluated = values(&evaluate(&network, &plain, &broken, &parameters)?)?;
        let (first, others) = evaluated.split_at(evaluated.len() / plain.images[0]);
        assert!(first.iter().all(|value| value.is_nan()), "evaluation");
        assert!(others.iter().all(|value| value.is_finite()), "evaluation of other images");
    }
    Ok(())
}

#[test]
fn network_without_layers_gives_its_images() -> Result<()> {
    let (network, images) = (Network::new(), Var::from_tensor(&drawn(1, &[1, 2, 3, 1])?)?);
    let maps = network.train(&images, &[])?.maps;
    assert_eq!(values(&maps)?, values(&images)?);
    assert_eq!(gradient(&(maps * 2.0)?.backward()?, &images)?, [2.0; 6]);
    assert_eq!(values(&network.evaluate(&images, &[], &[])?)?, values(&images)?);
    Ok(())
}

/// A convolution and a normalization that adds the images.
fn block(stride: usize) -> Plain {
    let norm = Step::Norm { input: 1, residual: Some(0), relu: true };
    Plain { images: [2, 9, 8, 3], steps: vec![conv(0, [3, 3, 3, 3], stride), norm] }
}

/// Fails unless both passes refuse the shapes with a message that has all parts.
fn assert_refused(network: &Network, images: &[usize], parameters: &[&[usize]], parts: &[&str]) {
    let images = drawn(1, images).unwrap();
    let parameters: Vec<Tensor> = parameters.iter().map(|shape| drawn(2, shape).unwrap()).collect();
    let parameters: Vec<&Tensor> = parameters.iter().collect();
    let statistics = drawn(3, &[3]).unwrap();
    let trained = refusal(network.train(&images, &parameters));
    let evaluated = refusal(network.evaluate(&images, &parameters, &[(&statistics, &statistics)]));
    for message in [trained, evaluated] {
        assert!(parts.iter().all(|part| message.contains(part)), "{message:?} lacks {parts:?}");
    }
}

#[test]
fn network_refuses_shapes_that_do_not_fit() {
    let (network, images): (Network, &[usize]) = (block(1).network(), &[2, 9, 8, 3]);
    let weight: &[usize] = &[3, 3, 3, 3];
    let refused = |images: &[usize], parameters: &[&[usize]], parts: &[&str]| {
        assert_refused(&network, images, parameters, parts);
    };
    refused(images, &[weight, &[3]], &["network", "expected 3 parameters", "got 2"]);
    refused(images, &[weight, &[3], &[3], &[3]], &["network", "expected 3 parameters", "got 4"]);
    refused(&[9, 8, 3], &[weight, &[3], &[3]], &["network", "[9, 8, 3]"]);
    for empty in [[0, 9, 8, 3], [2, 0, 8, 3], [2, 9, 0, 3], [2, 9, 8, 0]] {
        refused(&empty, &[weight, &[3], &[3]], &["network", &format!("{empty:?}")]);
    }
    refused(&[2, 9, 8, 4], &[weight, &[3], &[3]], &["conv2d", "[2, 9, 8, 4]", "[3, 3, 3, 3]"]);
    refused(images, &[&[3, 3, 3], &[3], &[3]], &["conv2d", "rank 4", "[3, 3, 3]"]);
    refused(images, &[weight, &[4], &[3]], &["network: layer 2: batch_norm", "channels: 3", "[4]"]);
    refused(
        images,
        &[weight, &[3], &[3, 1]],
        &["network: layer 2: batch_norm", "channels: 3", "[3, 1]"],
    );
    let residual = block(2).network();
    let parts = ["residual", "height: 9, width: 8", "height: 5, width: 4"];
    assert_refused(&residual, images, &[weight, &[3], &[3]], &parts);
}

#[test]
fn network_refuses_precisions_that_a_cpu_does_not_have() -> Result<()> {
    let images = drawn(1, &[1, 2, 3, 1])?;
    for precision in [Precision::Tf32, Precision::Bf16, Precision::F16] {
        let network = Network::new().with_precision(precision);
        for message in
            [refusal(network.train(&images, &[])), refusal(network.evaluate(&images, &[], &[]))]
        {
            let expected = format!("precision {precision:?} is for CUDA devices; on Cpu");
            assert!(message.contains(&expected), "{message}");
        }
    }
    Network::new().with_precision(Precision::F32).train(&images, &[])?;
    Ok(())
}

#[test]
fn network_refuses_statistics_that_do_not_fit() -> Result<()> {
    let (network, images) = (block(1).network(), drawn(1, &[2, 9, 8, 3])?);
    let (weight, three, four) = (drawn(2, &[3, 3, 3, 3])?, drawn(3, &[3])?, drawn(4, &[4])?);
    let parameters = [&weight, &three, &three];
    let told = |statistics: &[(&Tensor, &Tensor)], parts: [&str; 2]| {
        let message = refusal(network.evaluate(&images, &parameters, statistics));
        assert!(parts.iter().all(|part| message.contains(part)), "{message:?} lacks {parts:?}");
    };
    told(&[], ["network", "1 statistics, got 3 and 0"]);
    told(&[(&three, &four)], ["network: statistics", "[4]"]);
    told(&[(&four, &three)], ["network: statistics", "[4]"]);
    Ok(())
}

#[test]
fn network_refuses_windows_that_max_pool2d_refuses() -> Result<()> {
    let images = drawn(1, &[1, 20, 20, 2])?;
    for ([kernel, stride, padding], expected) in [
        ([3, 2, 2], "padding 2 exceeds half of the kernel 3"),
        ([17, 1, 0], "kernel 17"),
        ([0, 1, 0], "kernel 0"),
        ([3, 0, 1], "stride"),
        ([21, 1, 0], "kernel"),
    ] {
        let mut network = Network::new();
        network.max_pool2d(network.images(), kernel, stride, padding);
        for message in
            [refusal(network.train(&images, &[])), refusal(network.evaluate(&images, &[], &[]))]
        {
            let is_named = message.contains("max_pool2d") && message.contains(expected);
            assert!(is_named, "kernel {kernel}, stride {stride}, padding {padding}: {message:?}");
        }
    }
    Ok(())
}
