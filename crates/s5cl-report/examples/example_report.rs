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
    let run = Run::read(run_dir)?;
    let comparison = run_dir.join("comparison.html");
    let pairs = example_run::paired(3);
    s5cl_report::write_comparison(&[run.clone(), run.clone(), run], &pairs, &comparison)?;
    println!("{}", comparison.display());
    let benchmark = run_dir.join("benchmark.html");
    s5cl_report::write_benchmark(&example_run::benchmark(), &benchmark)?;
    println!("{}", benchmark.display());
    Ok(())
}
