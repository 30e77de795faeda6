//! Learning rates over the steps of a run.

use std::f64::consts::PI;

use crate::TrainError;

/// The shape of the rate after the warm-up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ScheduleKind {
    /// Stays.
    Constant,
    /// Falls to zero along half a cosine.
    Cosine,
}

/// The names of [`ScheduleKind`].
pub const SCHEDULES: [&str; 2] = ["constant", "cosine"];

impl std::str::FromStr for ScheduleKind {
    type Err = TrainError;

    fn from_str(name: &str) -> Result<Self, TrainError> {
        match name {
            "constant" => Ok(Self::Constant),
            "cosine" => Ok(Self::Cosine),
            _ => Err(TrainError::Config(format!(
                "unknown schedule.name {name:?}: use one of {}",
                SCHEDULES.join(", ")
            ))),
        }
    }
}

/// The learning rate as a function of the step.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Schedule {
    /// The shape.
    pub kind: ScheduleKind,
    /// The highest rate.
    pub learning_rate: f64,
    /// Steps over which the rate rises linearly, the last of them at the full rate.
    pub warmup_steps: u64,
    /// Steps of the run.
    pub steps: u64,
}

impl Schedule {
    /// The rate of a step, 0-based.
    #[must_use]
    pub fn at(&self, step: u64) -> f64 {
        if step < self.warmup_steps {
            return self.learning_rate * (step + 1) as f64 / self.warmup_steps as f64;
        }
        match self.kind {
            ScheduleKind::Constant => self.learning_rate,
            ScheduleKind::Cosine => {
                let length = self.steps.saturating_sub(self.warmup_steps).max(1) as f64;
                let done = ((step - self.warmup_steps) as f64 / length).min(1.0);
                self.learning_rate * 0.5 * (1.0 + (PI * done).cos())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Schedule, ScheduleKind};

    #[test]
    fn schedule_warms_up_then_falls_to_zero() {
        let schedule = Schedule {
            kind: ScheduleKind::Cosine,
            learning_rate: 2.0,
            warmup_steps: 4,
            steps: 104,
        };
        assert_eq!(schedule.at(0), 0.5);
        assert_eq!(schedule.at(3), 2.0);
        assert_eq!(schedule.at(4), 2.0);
        assert!((schedule.at(54) - 1.0).abs() < 1e-12);
        assert!(schedule.at(104).abs() < 1e-12);
    }

    #[test]
    fn schedule_constant_stays() {
        let schedule = Schedule {
            kind: ScheduleKind::Constant,
            learning_rate: 0.1,
            warmup_steps: 0,
            steps: 10,
        };
        assert_eq!([schedule.at(0), schedule.at(9)], [0.1, 0.1]);
    }
}
