//! What to say where a step needs more memory than its device has.

use s5cl_trainer::StepMemory;

use crate::config::DataConfig;

/// Smallest labeled batch that settings may name.
const SMALLEST_LABELED: usize = 4;

/// One line: what there is, what the batch takes, and which batch to try.
pub(crate) fn out_of_memory(
    device: &str,
    step: u64,
    memory: &StepMemory,
    data: &DataConfig,
) -> String {
    let StepMemory { total, available, needed, halvings } = *memory;
    let DataConfig { batch_labeled: labeled, batch_unlabeled: unlabeled, .. } = *data;
    let needs = match needed {
        Some(needed) => format!("need about {}", gib(needed)),
        None => "need more".to_owned(),
    };
    let smaller = halvings.map(|halvings| (labeled >> halvings, unlabeled >> halvings));
    let advice = match smaller
        .filter(|&(labeled, unlabeled)| labeled >= SMALLEST_LABELED && unlabeled >= 1)
    {
        Some((labeled, unlabeled)) => format!("try {labeled} and {unlabeled}"),
        None => "try a smaller data.image_size or encoder.name".to_owned(),
    };
    format!(
        "step {step}: {device} has {}, of which {} are free for training; data.batch_labeled = \
         {labeled} and data.batch_unlabeled = {unlabeled} {needs}; {advice}",
        gib(total),
        gib(available),
    )
}

fn gib(bytes: u64) -> String {
    format!("{:.1} GiB", bytes as f64 / f64::from(1 << 30))
}

#[cfg(test)]
mod tests {
    use s5cl_trainer::StepMemory;

    use super::out_of_memory;
    use crate::config::{DataConfig, Overrides, resolve};

    const GIB: u64 = 1 << 30;

    #[test]
    fn out_of_memory_names_a_batch_to_try() -> anyhow::Result<()> {
        let data = resolve(&Overrides::default())?.data;
        let data = DataConfig { batch_labeled: 32, batch_unlabeled: 128, ..data };
        let memory = |needed, halvings| StepMemory {
            total: 24 * GIB - GIB / 2,
            available: 20 * GIB,
            needed,
            halvings,
        };
        let told = |memory: StepMemory| out_of_memory("cuda:0 (A10)", 3, &memory, &data);
        assert_eq!(
            told(memory(Some(31 * GIB), Some(1))),
            "step 3: cuda:0 (A10) has 23.5 GiB, of which 20.0 GiB are free for training; \
             data.batch_labeled = 32 and data.batch_unlabeled = 128 need about 31.0 GiB; try 16 \
             and 64"
        );
        assert!(told(memory(Some(99 * GIB), Some(3))).ends_with("try 4 and 16"));
        // Four labeled images are the least that settings may ask for.
        for hopeless in [memory(Some(99 * GIB), Some(4)), memory(None, None)] {
            assert!(told(hopeless).ends_with("try a smaller data.image_size or encoder.name"));
        }
        Ok(())
    }
}
