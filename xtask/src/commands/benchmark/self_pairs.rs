//! A loss with a classic mistake, and whether the gate sees it.

use std::path::Path;

use anyhow::Result;
use candle_core::{D, DType, Tensor};
use s5cl_losses::SupervisedLoss;
use serde_json::Value;

use super::baseline::Baseline;
use super::kernels::{SUPCON, agreement};
use crate::failure::exit_code;

const ROWS: usize = 64;
const DIM: usize = 16;

/// SupCon with every row among those that it is compared with; and among its positives too, or not.
struct SelfPairs {
    are_positives: bool,
}

impl SupervisedLoss for SelfPairs {
    fn name(&self) -> &'static str {
        "self-pairs"
    }

    fn forward(&self, embeddings: &Tensor, labels: &Tensor) -> candle_core::Result<Tensor> {
        let n = labels.dim(0)?;
        let units = embeddings.broadcast_div(&embeddings.sqr()?.sum_keepdim(1)?.sqrt()?)?;
        let logits = (units.matmul(&units.t()?)? / SUPCON.temperature)?;
        let same = labels.reshape((n, 1))?.broadcast_eq(&labels.reshape((1, n))?)?;
        let mut positives = same.to_dtype(DType::F32)?;
        if !self.are_positives {
            positives = (positives - Tensor::eye(n, DType::F32, embeddings.device())?)?;
        }
        let of_positives = ((&logits * &positives)?.sum(1)? / positives.sum(1)?)?;
        (logits.log_sum_exp(D::Minus1)? - of_positives)?.mean_all()
    }

    fn floor(&self, _labels: &[u32]) -> f64 {
        0.0
    }
}

#[test]
fn gate_sees_self_pairs_left_in_the_loss() -> Result<()> {
    let figures =
        |loss: &dyn SupervisedLoss| Ok::<_, anyhow::Error>([agreement("it", loss, ROWS, DIM)?]);
    let baseline = Baseline::new("test", String::new(), Value::Null, &figures(&SUPCON)?);
    let path = Path::new("baseline.json");
    baseline.judge(path, &figures(&SUPCON)?)?;
    for are_positives in [false, true] {
        let error = baseline.judge(path, &figures(&SelfPairs { are_positives })?).unwrap_err();
        assert_eq!(exit_code(&error), 1);
        assert!(error.to_string().contains("it: loss over plain candle's"), "{error}");
    }
    Ok(())
}
