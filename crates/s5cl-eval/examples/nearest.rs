//! Times the ten nearest of 10,000 queries among 100,000 items of 128 dimensions.
//!
//! `cargo build -p xtask -p s5cl-eval --example nearest && target/debug/examples/nearest`

use std::time::Instant;

use s5cl_eval::{EvalError, Features, LeftOut, nearest};
use s5cl_random::named_stream;

const WIDTH: usize = 128;

fn main() -> Result<(), EvalError> {
    let mut stream = named_stream(0, "rows");
    let mut rows = |n: usize| {
        Features::new((0..n * WIDTH).map(|_| stream.uniform_in(-1.0, 1.0)).collect(), WIDTH)
    };
    let (queries, gallery) = (rows(10_000)?, rows(100_000)?);
    let start = Instant::now();
    let found = nearest(&queries, &gallery, 10, LeftOut::Nothing)?;
    let seconds = start.elapsed().as_secs_f64();
    println!("{} queries, {} items: {seconds:.2} s", found.len(), gallery.n());
    // Linux alone says how much memory was used at most.
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    if let Some(peak) = status.lines().find_map(|line| line.strip_prefix("VmHWM:")) {
        println!("at most {} of memory", peak.trim());
    }
    Ok(())
}
