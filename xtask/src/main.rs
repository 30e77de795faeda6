//! The commands of S5CL.

fn main() {}
