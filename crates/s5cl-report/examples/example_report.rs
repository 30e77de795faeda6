//! Writes a made-up run folder, its report, a comparison and a benchmark's page, to look at them:
//! `cargo run -p s5cl-report --example example_report -- DIR [STEPS]`.

#[path = "../tests/example_run/mod.rs"]
mod example_run;

use std::error::Error;
use std::path::Path;

use s5cl_report::Run;

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let run_dir = arguments.next().ok_or("usage: example_report DIR [STEPS]")?;
    let run_dir = Path::new(&run_dir);
    let n_steps = arguments.next().map_or(Ok(3906), |steps| steps.parse())?;
    example_run::write_example_run(run_dir, n_steps)?;
    println!("{}", s5cl_report::write_report(run_dir)?.display());
    let mut runs = vec![Run::read(run_dir)?];
    for seed in 1..3 {
        let variant = run_dir.join(format!("seed-{seed}"));
        example_run::write_variant(&variant, n_steps, seed)?;
        runs.push(Run::read(&variant)?);
    }
    let comparison = run_dir.join("comparison.html");
    s5cl_report::write_comparison(&runs, &example_run::paired(runs.len()), &comparison)?;
    println!("{}", comparison.display());
    let benchmark = run_dir.join("benchmark.html");
    s5cl_report::write_benchmark(&example_run::benchmark(), &benchmark)?;
    println!("{}", benchmark.display());
    Ok(())
}
