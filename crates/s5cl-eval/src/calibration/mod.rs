//! Whether probabilities can be believed, and what can be done with them.

mod reliability;

mod cross_fit;
mod temperature;

mod conformal;
mod coverage;

/// Seeded samples whose probabilities are right by construction.
#[cfg(test)]
mod draws;

pub use conformal::{CONFORMAL_SCORES, Conformal, ConformalResult, ConformalScore};
pub use coverage::{CoverageCurve, CoveragePoint};
pub use cross_fit::{CrossFitted, cross_fit_temperature};
pub use reliability::{N_BINS, ReliabilityBin, expected_calibration_error, reliability_bins};
pub use temperature::Temperature;
