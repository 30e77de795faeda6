//! Tests across the crates of S5CL.

/// The rules of the house: files, the code map, arrows, features, dataset cards.
#[cfg(test)]
mod tidy;

/// Names and shapes of the parameters of encoders of full size.
#[cfg(test)]
mod encoder_parameters;
/// Metrics of classification and calibration against scikit-learn's.
#[cfg(test)]
mod golden_classification;
/// Tiny encoders of each architecture against PyTorch's, and what of them is trained.
#[cfg(test)]
mod golden_encoders;
/// Reading and comparing what the scripts under `golden/` made.
#[cfg(test)]
mod golden_files;
/// The contrastive and triplet losses against PyTorch's values and gradients.
#[cfg(test)]
mod golden_losses;
/// Single operations of the kernels against PyTorch's, forward and backward.
#[cfg(test)]
mod golden_ops;
/// The optimizers against PyTorch's over 20 steps, and their state across a restart.
#[cfg(test)]
mod golden_optimizers;
/// A small ResNet with torchvision's keys against torchvision's features and gradients.
#[cfg(test)]
mod golden_resnet;
/// Three steps of training a narrow ResNet-18 against PyTorch's.
#[cfg(test)]
mod golden_training;
/// Files of weights of other libraries: names, formats, position embeddings; and refusals.
#[cfg(test)]
mod golden_weights;

/// Gradients of the kernels against differences of plain reference formulas.
#[cfg(test)]
mod numeric_gradients;
/// The same for the operations behind the last map: pooling to a vector, linear layers, cross
/// entropy.
#[cfg(test)]
mod numeric_heads;
/// What no change of order, name, scale or direction may do to a loss.
#[cfg(test)]
mod properties;
/// The formulas of `numeric_gradients`.
#[cfg(test)]
mod reference_formulas;

/// Checkpoints of the runs in `pipeline`: how many stay, and which are refused.
#[cfg(test)]
mod checkpoints;
/// A CUDA device against the processor, where there is one.
#[cfg(test)]
mod cuda_device;
/// The same bits on any number of threads.
#[cfg(test)]
mod determinism;
/// Whole runs with the library crates alone: learning, stopping, resuming, refusing.
#[cfg(test)]
mod pipeline;
/// The data and views of the runs in `pipeline`.
#[cfg(test)]
mod pipeline_batches;

/// The folder of this package in the checkout that is tested: asked at run time, because checkouts
/// that share a target folder share the compiled test too.
#[cfg(test)]
fn package_folder() -> std::path::PathBuf {
    std::env::var_os("CARGO_MANIFEST_DIR").unwrap().into()
}
