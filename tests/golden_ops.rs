//! Convolution, pooling, batch normalization, linear layers and cross entropy against PyTorch.
//!
//! PyTorch's maps have channels second, ours last: inputs and expectations are transposed here.

use std::collections::BTreeMap;

use candle_core::{DType, Device, Tensor, Var, backprop::GradStore};
use s5cl_backbone::{Layers, Mode, Parameters, Precision};
use s5cl_kernels::{
    Conv2dConfig, CrossEntropyConfig, batch_norm_eval, batch_norm_train, conv2d, cross_entropy,
    global_average_pool, linear, max_pool2d,
};
use s5cl_losses::{Hierarchy, HierarchyConfig, LabeledViews};
use serde::Deserialize;

use crate::golden_files::{TestResult, array, arrays, assert_close, channels_last, gradient, json};

/// f32 sums of up to 147 products (a 7x7 kernel on 3 channels); the golden values are f64.
const SUMMED: f64 = 2e-6;
/// The same for gradients, which sum over up to 126 pixels and, in batch normalization, cancel.
const GRADIENT: f64 = 5e-6;
/// Pooling only selects: nothing may differ.
const SELECTED: f64 = 0.0;

#[derive(Deserialize)]
struct Golden {
    cases: Vec<Case>,
}

#[derive(Deserialize)]
struct Case {
    name: String,
    op: String,
    kernel: Option<usize>,
    stride: Option<usize>,
    padding: Option<usize>,
    dilation: Option<usize>,
    groups: Option<usize>,
    training: Option<bool>,
    relu: Option<bool>,
    eps: Option<f64>,
    label_smoothing: Option<f64>,
}

impl Case {
    fn array<'a>(
        &self,
        arrays: &'a BTreeMap<String, Tensor>,
        name: &str,
    ) -> TestResult<&'a Tensor> {
        array(arrays, &format!("{}.{name}", self.name))
    }

    fn maps(&self, arrays: &BTreeMap<String, Tensor>, name: &str) -> TestResult<Tensor> {
        Ok(channels_last(self.array(arrays, name)?)?)
    }

    fn window(&self) -> TestResult<(usize, usize, usize)> {
        match (self.kernel, self.stride, self.padding) {
            (Some(kernel), Some(stride), Some(padding)) => Ok((kernel, stride, padding)),
            _ => Err(format!("{} has no window", self.name).into()),
        }
    }

    /// How a convolution moves over the map.
    fn config(&self) -> TestResult<Conv2dConfig> {
        let (_, stride, padding) = self.window()?;
        let (dilation, groups) = (self.dilation.unwrap_or(1), self.groups.unwrap_or(1));
        Ok(Conv2dConfig { stride, padding, dilation, groups })
    }

    /// Sends the golden gradient back through an output.
    fn backward(
        &self,
        arrays: &BTreeMap<String, Tensor>,
        output: &Tensor,
    ) -> TestResult<GradStore> {
        Ok((output * self.maps(arrays, "grad_output")?)?.sum_all()?.backward()?)
    }
}

fn each_case(
    op: &str,
    n_expected: usize,
    check: impl Fn(&Case, &BTreeMap<String, Tensor>) -> TestResult,
) -> TestResult {
    let golden: Golden = json("ops.json")?;
    let arrays = arrays("ops.safetensors")?;
    let cases: Vec<&Case> = golden.cases.iter().filter(|case| case.op == op).collect();
    assert_eq!(cases.len(), n_expected, "cases of {op}");
    cases.into_iter().try_for_each(|case| check(case, &arrays))
}

#[test]
fn conv2d_is_the_golden_one() -> TestResult {
    each_case("conv2d", 15, |case, arrays| {
        let input = Var::from_tensor(&case.maps(arrays, "input")?)?;
        let weight = Var::from_tensor(case.array(arrays, "weight")?)?;
        let output = conv2d(&input, &weight, case.config()?)?;
        assert_close(&case.name, &output, &case.maps(arrays, "output")?, SUMMED)?;
        let gradients = case.backward(arrays, &output)?;
        let (for_input, for_weight) =
            (gradient(&gradients, &input)?, gradient(&gradients, &weight)?);
        assert_close(&case.name, for_input, &case.maps(arrays, "grad_input")?, GRADIENT)?;
        assert_close(&case.name, for_weight, case.array(arrays, "grad_weight")?, GRADIENT)
    })
}

#[test]
fn conv2d_of_constant_maps_has_the_golden_weight_gradient() -> TestResult {
    // Images need no gradient; the kernel skips that pass, and must not skip the other.
    each_case("conv2d", 15, |case, arrays| {
        let weight = Var::from_tensor(case.array(arrays, "weight")?)?;
        let output = conv2d(&case.maps(arrays, "input")?, &weight, case.config()?)?;
        let gradients = case.backward(arrays, &output)?;
        let for_weight = gradient(&gradients, &weight)?;
        assert_close(&case.name, for_weight, case.array(arrays, "grad_weight")?, GRADIENT)
    })
}

#[test]
fn max_pool2d_is_the_golden_one() -> TestResult {
    each_case("max_pool2d", 4, |case, arrays| {
        let input = Var::from_tensor(&case.maps(arrays, "input")?)?;
        let (kernel, stride, padding) = case.window()?;
        let output = max_pool2d(&input, kernel, stride, padding)?;
        assert_close(&case.name, &output, &case.maps(arrays, "output")?, SELECTED)?;
        let gradients = case.backward(arrays, &output)?;
        let expected = case.maps(arrays, "grad_input")?;
        assert_close(&case.name, gradient(&gradients, &input)?, &expected, GRADIENT)
    })
}

#[test]
fn batch_norm_is_the_golden_one() -> TestResult {
    each_case("batch_norm", 2, |case, arrays| {
        let parameters = Parameters::new(0);
        let input = Var::from_tensor(&case.maps(arrays, "input")?)?;
        let channels = input.dim(3)?;
        let (mut net, builder) = (Layers::new(Precision::F32), parameters.builder(&Device::Cpu));
        net.batch_norm(net.images(), channels, (None, false), 1e-5, &builder)?;
        for (name, variable) in parameters.all() {
            variable.set(case.array(arrays, &name)?)?;
        }
        let evaluated = net.forward(&input, Mode::Evaluate)?;
        assert_close(&case.name, &evaluated, &case.maps(arrays, "output_eval")?, SUMMED)?;

        let output = net.forward(&input, Mode::Train)?;
        assert_close(&case.name, &output, &case.maps(arrays, "output")?, SUMMED)?;
        let variables = parameters.all();
        for name in ["running_mean", "running_var"] {
            let expected = case.array(arrays, &format!("{name}_after"))?;
            assert_close(name, &variables[name], expected, SUMMED)?;
        }
        let gradients = case.backward(arrays, &output)?;
        let expected = case.maps(arrays, "grad_input")?;
        assert_close(&case.name, gradient(&gradients, &input)?, &expected, GRADIENT)?;
        for name in ["weight", "bias"] {
            let expected = case.array(arrays, &format!("grad_{name}"))?;
            assert_close(name, gradient(&gradients, &variables[name])?, expected, GRADIENT)?;
        }
        Ok(())
    })
}

#[test]
fn batch_norm_with_what_follows_it_is_the_golden_one() -> TestResult {
    each_case("batch_norm_then", 6, |case, arrays| {
        let (Some(training), Some(relu), Some(eps)) = (case.training, case.relu, case.eps) else {
            return Err(format!("{} does not say what it is", case.name).into());
        };
        let vector = |name| -> TestResult<Var> { Ok(Var::from_tensor(case.array(arrays, name)?)?) };
        let maps = |name| -> TestResult<Var> { Ok(Var::from_tensor(&case.maps(arrays, name)?)?) };
        let (input, weight, bias) = (maps("input")?, vector("weight")?, vector("bias")?);
        let has_residual = arrays.contains_key(&format!("{}.residual", case.name));
        let residual = has_residual.then(|| maps("residual")).transpose()?;
        let after = residual.as_deref();
        let output = if training {
            batch_norm_train(&input, &weight, &bias, after, relu, eps)?.maps
        } else {
            let (mean, variance) = (vector("mean")?, vector("variance")?);
            batch_norm_eval(&input, &weight, &bias, &mean, &variance, after, relu, eps)?
        };
        assert_close(&case.name, &output, &case.maps(arrays, "output")?, SUMMED)?;
        let gradients = case.backward(arrays, &output)?;
        for (name, variable) in [("weight", &weight), ("bias", &bias)] {
            let expected = case.array(arrays, &format!("grad_{name}"))?;
            assert_close(&case.name, gradient(&gradients, variable)?, expected, GRADIENT)?;
        }
        for (name, variable) in [("input", Some(&input)), ("residual", residual.as_ref())] {
            let Some(variable) = variable else { continue };
            let expected = case.maps(arrays, &format!("grad_{name}"))?;
            assert_close(&case.name, gradient(&gradients, variable)?, &expected, GRADIENT)?;
        }
        Ok(())
    })
}

#[test]
fn global_average_pool_is_the_golden_one() -> TestResult {
    each_case("global_average_pool", 2, |case, arrays| {
        let input = Var::from_tensor(&case.maps(arrays, "input")?)?;
        let output = global_average_pool(&input)?;
        assert_close(&case.name, &output, case.array(arrays, "output")?, SUMMED)?;
        let from_above = case.array(arrays, "grad_output")?;
        let gradients = (output * from_above)?.sum_all()?.backward()?;
        let expected = case.maps(arrays, "grad_input")?;
        assert_close(&case.name, gradient(&gradients, &input)?, &expected, SUMMED)
    })
}

#[test]
fn linear_is_the_golden_one() -> TestResult {
    each_case("linear", 3, |case, arrays| {
        let variable =
            |name: &str| -> TestResult<Var> { Ok(Var::from_tensor(case.array(arrays, name)?)?) };
        let (input, weight) = (variable("input")?, variable("weight")?);
        let bias = (case.name != "linear_no_bias").then(|| variable("bias")).transpose()?;
        let output = linear(&input, &weight, bias.as_deref())?;
        assert_close(&case.name, &output, case.array(arrays, "output")?, SUMMED)?;
        let gradients = (output * case.array(arrays, "grad_output")?)?.sum_all()?.backward()?;
        let variables =
            [("input", Some(&input)), ("weight", Some(&weight)), ("bias", bias.as_ref())];
        for (name, variable) in variables {
            let Some(variable) = variable else { continue };
            let expected = case.array(arrays, &format!("grad_{name}"))?;
            assert_close(&case.name, gradient(&gradients, variable)?, expected, GRADIENT)?;
        }
        Ok(())
    })
}

#[test]
fn cross_entropy_is_the_golden_one() -> TestResult {
    each_case("cross_entropy", 4, |case, arrays| {
        let label_smoothing = case.label_smoothing.ok_or("no label smoothing")?;
        let logits = Var::from_tensor(case.array(arrays, "logits")?)?;
        let labels = case.array(arrays, "labels")?.to_dtype(DType::U32)?;
        let loss = cross_entropy(&logits, &labels, CrossEntropyConfig { label_smoothing })?;
        assert_close(&case.name, &loss, case.array(arrays, "loss")?, SUMMED)?;
        let gradients = loss.backward()?;
        let expected = case.array(arrays, "grad_logits")?;
        assert_close(&case.name, gradient(&gradients, &logits)?, expected, GRADIENT)
    })
}

#[test]
fn classification_term_is_the_golden_cross_entropy() -> TestResult {
    let hierarchy = Hierarchy::new(&HierarchyConfig {
        weight_supervised: 0.0,
        weight_unsupervised: 0.0,
        ..HierarchyConfig::published()
    })?;
    each_case("cross_entropy", 4, |case, arrays| {
        if case.label_smoothing != Some(0.0) {
            return Ok(()); // The hierarchy has no label smoothing.
        }
        let logits = Var::from_tensor(case.array(arrays, "logits")?)?;
        let labels = case.array(arrays, "labels")?.to_dtype(DType::U32)?;
        let embeddings = Tensor::zeros((2 * labels.dim(0)?, 2), DType::F32, &Device::Cpu)?;
        let views = LabeledViews { embeddings: &embeddings, logits: &logits, labels: &labels };
        let loss = hierarchy.forward(views, None)?.total;
        assert_close(&case.name, &loss, case.array(arrays, "loss")?, SUMMED)?;
        let gradients = loss.backward()?;
        let expected = case.array(arrays, "grad_logits")?;
        assert_close(&case.name, gradient(&gradients, &logits)?, expected, GRADIENT)
    })
}
