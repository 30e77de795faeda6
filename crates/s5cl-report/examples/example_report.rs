//! Writes a made-up run folder and its report, to look at the page: `cargo run -p s5cl-report
//! --example example_report -- DIR [STEPS]`.

#[path = "../tests/example_run/mod.rs"]
mod example_run;

use std::error::Error;
use std::path::Path;

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let run_dir = arguments.next().ok_or("usage: example_report DIR [STEPS]")?;
    let n_steps = arguments.next().map_or(Ok(3906), |steps| steps.parse())?;
    example_run::write_example_run(Path::new(&run_dir), n_steps)?;
    println!("{}", s5cl_report::write_report(Path::new(&run_dir))?.display());
    Ok(())
}
