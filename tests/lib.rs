//! Tests across the crates of S5CL.
