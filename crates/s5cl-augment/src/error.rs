//! What can be wrong with a list of transforms.

use thiserror::Error;

/// A transform that cannot be built, with the value that is to blame.
#[derive(Error, Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum AugmentError {
    /// An amount is negative, infinite or not a number.
    #[error("{transform} = {value}: an amount is a finite number of at least 0")]
    Amount {
        /// The transform's name in a config.
        transform: &'static str,
        /// The value that was given.
        value: f32,
    },
    /// An amount is above what the transform can do.
    #[error("{transform} = {value}: at most {limit} ({reason})")]
    TooLarge {
        /// The transform's name in a config.
        transform: &'static str,
        /// The value that was given.
        value: f32,
        /// The largest valid value.
        limit: f32,
        /// Why there is a limit.
        reason: &'static str,
    },
    /// The range of areas of a random crop is not one.
    #[error("{transform} = [{low}, {high}]: an area range is 0 < low <= high <= 1")]
    AreaRange {
        /// The transform's name in a config.
        transform: &'static str,
        /// The smaller share of the image's area.
        low: f32,
        /// The larger share of the image's area.
        high: f32,
    },
}
