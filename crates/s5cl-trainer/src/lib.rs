//! The S5CL training loop: methods, optimizers, schedules, checkpoints.
