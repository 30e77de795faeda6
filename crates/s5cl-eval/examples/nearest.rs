//! Times the ten nearest of 10,000 queries among 100,000 items of 128 dimensions, with all items
//! and without those of the query's group, and the ranking of 5,000 items by each other.
//!
//! `cargo build -p xtask -p s5cl-eval --example nearest && target/debug/examples/nearest`

use std::time::Instant;

use s5cl_eval::{EvalError, Features, LeftOut, nearest, retrieval};
use s5cl_random::named_stream;

const WIDTH: usize = 128;
const N_GROUPS: u32 = 100;
const N_CLASSES: u32 = 9;

fn main() -> Result<(), EvalError> {
    let mut stream = named_stream(0, "rows");
    let mut rows = |n: usize| {
        Features::new((0..n * WIDTH).map(|_| stream.uniform_in(-1.0, 1.0)).collect(), WIDTH)
    };
    let numbers = |n: u32, most: u32| -> Vec<u32> { (0..n).map(|i| i % most).collect() };
    let (queries, gallery) = (rows(10_000)?, rows(100_000)?);
    let (of_queries, of_gallery) = (numbers(10_000, N_GROUPS), numbers(100_000, N_GROUPS));
    let other_groups = LeftOut::OwnGroup { query: &of_queries, gallery: &of_gallery };
    for (name, left_out) in [("all items", LeftOut::Nothing), ("other groups", other_groups)] {
        let start = Instant::now();
        let found = nearest(&queries, &gallery, 10, left_out)?;
        let seconds = start.elapsed().as_secs_f64();
        println!("{} queries, {} items, {name}: {seconds:.2} s", found.len(), gallery.n());
    }
    let (items, labels) = (rows(5_000)?, numbers(5_000, N_CLASSES));
    let groups = numbers(5_000, N_GROUPS);
    let other_groups = LeftOut::OwnGroup { query: &groups, gallery: &groups };
    for (name, left_out) in [("all items", LeftOut::Own), ("other groups", other_groups)] {
        let start = Instant::now();
        let found = retrieval(&items, &labels, &items, &labels, 10, left_out)?;
        let seconds = start.elapsed().as_secs_f64();
        println!("{} items ranked, {name}: {seconds:.2} s, MAP {:.4}", items.n(), found.map);
    }
    // Linux alone says how much memory was used at most.
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    if let Some(peak) = status.lines().find_map(|line| line.strip_prefix("VmHWM:")) {
        println!("at most {} of memory", peak.trim());
    }
    Ok(())
}
