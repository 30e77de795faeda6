//! Adamax, SGD and AdamW against PyTorch's, clipping, and the optimizers' state.

use std::collections::BTreeMap;

use candle_core::{DType, Device, Tensor, Var};
use s5cl_kernels::gradient_norm;
use s5cl_trainer::{GradientScale, Optimizer, OptimizerConfig, StepRule, clip_scale};
use serde::Deserialize;

use crate::golden_files::{TestResult, assert_close, assert_values_close, json};

/// Both sides compute in f32; formulas that differ in the order of their operations drift apart
/// by a few roundings over 20 steps.
const PARAMETER: f64 = 1e-6;
/// One f32 sum of squares and one product.
const CLIPPED: f64 = 1e-6;

#[derive(Deserialize)]
struct Golden {
    weight_shape: [usize; 2],
    initial_weight: Vec<f32>,
    initial_bias: Vec<f32>,
    optimizers: BTreeMap<String, Case>,
    clip_by_norm: Vec<Clip>,
}

#[derive(Deserialize)]
struct Case {
    options: Options,
    steps: Vec<Step>,
}

#[derive(Deserialize)]
struct Options {
    lr: f64,
    weight_decay: f64,
    betas: Option<[f64; 2]>,
    eps: Option<f64>,
    momentum: Option<f64>,
    nesterov: Option<bool>,
}

#[derive(Deserialize)]
struct Step {
    grad_weight: Vec<f32>,
    grad_bias: Vec<f32>,
    weight: Vec<f32>,
    bias: Vec<f32>,
}

#[derive(Deserialize)]
struct Clip {
    max_norm: f64,
    norm: f64,
    grad_weight: Vec<f32>,
    grad_bias: Vec<f32>,
    clipped_weight: Vec<f32>,
    clipped_bias: Vec<f32>,
}

impl Golden {
    fn read() -> TestResult<Self> {
        json("optimizers.json")
    }

    fn named(&self, weight: &[f32], bias: &[f32]) -> TestResult<BTreeMap<String, Tensor>> {
        let weight = Tensor::from_slice(weight, &self.weight_shape[..], &Device::Cpu)?;
        let bias = Tensor::new(bias, &Device::Cpu)?;
        Ok(BTreeMap::from([("weight".to_owned(), weight), ("bias".to_owned(), bias)]))
    }

    fn initial(&self) -> TestResult<BTreeMap<String, Var>> {
        variables(&self.named(&self.initial_weight, &self.initial_bias)?)
    }
}

impl Case {
    fn config(&self, name: &str) -> TestResult<OptimizerConfig> {
        let Options { weight_decay, betas, eps, momentum, nesterov, .. } = self.options;
        let rule = match (name, betas, eps, momentum, nesterov) {
            ("adamax" | "adamax_no_decay", Some(betas), Some(epsilon), None, None) => {
                StepRule::Adamax { betas, epsilon }
            }
            ("adamw", Some(betas), Some(epsilon), None, None) => StepRule::AdamW { betas, epsilon },
            ("sgd" | "sgd_nesterov" | "sgd_plain", None, None, Some(momentum), Some(nesterov)) => {
                StepRule::Sgd { momentum, nesterov }
            }
            _ => return Err(format!("no rule for the golden optimizer {name:?}").into()),
        };
        Ok(OptimizerConfig { rule, weight_decay })
    }
}

fn variables(tensors: &BTreeMap<String, Tensor>) -> TestResult<BTreeMap<String, Var>> {
    let variable =
        |(name, value): (&String, &Tensor)| Ok((name.clone(), Var::from_tensor(&value.copy()?)?));
    tensors.iter().map(variable).collect()
}

fn bits(variables: &BTreeMap<String, Var>) -> TestResult<Vec<u32>> {
    let mut bits = Vec::new();
    for variable in variables.values() {
        bits.extend(variable.flatten_all()?.to_vec1::<f32>()?.into_iter().map(f32::to_bits));
    }
    Ok(bits)
}

#[test]
fn optimizers_follow_the_golden_path() -> TestResult {
    let golden = Golden::read()?;
    assert_eq!(golden.optimizers.len(), 6);
    for (name, case) in &golden.optimizers {
        let parameters = golden.initial()?;
        let mut optimizer = Optimizer::new(case.config(name)?, parameters.clone())?;
        assert_eq!(case.steps.len(), 20, "{name}");
        for (i, step) in case.steps.iter().enumerate() {
            let gradients = golden.named(&step.grad_weight, &step.grad_bias)?;
            optimizer.step(&gradients, case.options.lr, GradientScale::Given(1.0))?;
            for (key, expected) in golden.named(&step.weight, &step.bias)? {
                let what = format!("{name}, step {i}, {key}");
                assert_close(&what, &parameters[&key], &expected, PARAMETER)?;
            }
        }
    }
    Ok(())
}

#[test]
fn optimizers_restored_halfway_end_at_the_same_bits() -> TestResult {
    let golden = Golden::read()?;
    for (name, case) in &golden.optimizers {
        let config = case.config(name)?;
        let run = |optimizer: &mut Optimizer, steps: &[Step]| -> TestResult {
            for step in steps {
                let gradients = golden.named(&step.grad_weight, &step.grad_bias)?;
                optimizer.step(&gradients, case.options.lr, GradientScale::Given(1.0))?;
            }
            Ok(())
        };
        let parameters = golden.initial()?;
        let mut optimizer = Optimizer::new(config, parameters.clone())?;
        run(&mut optimizer, &case.steps[..10])?;
        let saved = parameters.iter().map(|(name, value)| Ok((name.clone(), value.copy()?)));
        let saved: BTreeMap<String, Tensor> = saved.collect::<TestResult<_>>()?;
        let (state, steps) = (optimizer.state()?, optimizer.steps());
        run(&mut optimizer, &case.steps[10..])?;

        let resumed = variables(&saved)?;
        let mut optimizer = Optimizer::new(config, resumed.clone())?;
        optimizer.restore(&state, steps)?;
        run(&mut optimizer, &case.steps[10..])?;
        assert_eq!(bits(&resumed)?, bits(&parameters)?, "{name}");
        assert_eq!(optimizer.steps(), 20, "{name}");
    }
    Ok(())
}

#[test]
fn optimizer_refuses_the_state_of_another_rule() -> TestResult {
    let golden = Golden::read()?;
    let state = |name: &str| -> TestResult<Optimizer> {
        Ok(Optimizer::new(golden.optimizers[name].config(name)?, golden.initial()?)?)
    };
    let (adamax, mut adamw) = (state("adamax")?, state("adamw")?);
    let error = adamw.restore(&adamax.state()?, 10).unwrap_err().to_string();
    assert!(error.contains("square/bias"), "{error}");
    assert_eq!(adamw.steps(), 0, "nothing may change on refusal");
    let mut state = adamw.state()?;
    let key = "square/bias".to_owned();
    for (dtype, shape, expected) in [
        (DType::F64, [3], "square/bias is F64 [3], expected F32 [3]"),
        (DType::F32, [7], "square/bias is F32 [7], expected F32 [3]"),
    ] {
        state.insert(key.clone(), Tensor::zeros(&shape, dtype, &Device::Cpu)?);
        let error = adamw.restore(&state, 10).unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
    }
    Ok(())
}

#[test]
fn clip_scale_does_not_hide_a_norm_that_is_no_number() {
    assert!(clip_scale(f64::NAN, 1.0).is_nan());
    assert_eq!([clip_scale(f64::INFINITY, 1.0), clip_scale(0.0, 1.0)], [0.0, 1.0]);
}

#[test]
fn clip_scale_gives_the_golden_gradients() -> TestResult {
    let golden = Golden::read()?;
    assert_eq!(golden.clip_by_norm.len(), 2);
    for case in &golden.clip_by_norm {
        let gradients = golden.named(&case.grad_weight, &case.grad_bias)?;
        let norm = gradient_norm(gradients.values())?.to_scalar::<f64>()?;
        let scale = clip_scale(norm, case.max_norm);
        let what = format!("clipped to {}", case.max_norm);
        assert_values_close(&what, &[norm], &[case.norm], CLIPPED);
        for (key, expected) in golden.named(&case.clipped_weight, &case.clipped_bias)? {
            let clipped = (&gradients[&key] * scale)?;
            assert_close(&format!("{what}, {key}"), &clipped, &expected, CLIPPED)?;
        }
        assert_eq!(clip_scale(norm, 0.0), 1.0, "no limit");
    }
    Ok(())
}
