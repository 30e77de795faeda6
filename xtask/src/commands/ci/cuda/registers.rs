//! What the compiler tells of kernels, and how much of it is allowed.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result, bail};

/// What one kernel takes on one target.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Kernel {
    /// Its name.
    pub(super) name: String,
    /// As in `sm_80`.
    pub(super) target: String,
    /// Of each thread.
    pub(super) registers: u32,
    /// Bytes of each thread in memory: spilled registers, and arrays that are indexed at run time.
    pub(super) local_bytes: u32,
}

/// What `-Xptxas -v` writes.
pub(super) fn parse(told: &str) -> Vec<Kernel> {
    let number_before = |line: &str, unit: &str| -> Option<u32> {
        line.split_once(unit)?
            .0
            .rsplit(|c: char| !c.is_ascii_digit())
            .find(|s| !s.is_empty())?
            .parse()
            .ok()
    };
    let mut kernels: Vec<Kernel> = Vec::new();
    for line in told.lines() {
        if let Some((_, rest)) = line.split_once("Compiling entry function '") {
            let mut quoted = rest.split('\'');
            let name = quoted.next().unwrap_or_default().to_owned();
            let target = quoted.nth(1).unwrap_or_default().to_owned();
            kernels.push(Kernel { name, target, registers: 0, local_bytes: 0 });
        }
        let Some(kernel) = kernels.last_mut() else { continue };
        if line.contains("bytes stack frame") {
            let bytes = ["bytes stack frame", "bytes spill stores", "bytes spill loads"];
            kernel.local_bytes = bytes.iter().filter_map(|unit| number_before(line, unit)).sum();
        }
        if let Some(registers) = number_before(line, " registers") {
            kernel.registers = registers;
        }
    }
    kernels
}

/// The registers of each kernel by target, in a file.
pub(super) struct Limits {
    path: PathBuf,
}

/// By kernel, then by target.
type Registers = BTreeMap<String, BTreeMap<String, u32>>;

impl Limits {
    pub(super) fn at(path: PathBuf) -> Self {
        Self { path }
    }

    /// Writes what the kernels take now.
    pub(super) fn write(&self, kernels: &[Kernel]) -> Result<()> {
        let mut registers = Registers::new();
        for kernel in kernels {
            let targets = registers.entry(kernel.name.clone()).or_default();
            targets.insert(kernel.target.clone(), kernel.registers);
        }
        let text = serde_json::to_string_pretty(&registers)? + "\n";
        fs::write(&self.path, text).with_context(|| format!("cannot write {}", self.path.display()))
    }

    /// Fails where a kernel has local memory, or more registers than the file says.
    pub(super) fn check(&self, kernels: &[Kernel]) -> Result<()> {
        let text = fs::read_to_string(&self.path)
            .with_context(|| format!("cannot read {}", self.path.display()))?;
        let limits: Registers = serde_json::from_str(&text)
            .with_context(|| format!("{} is not as written", self.path.display()))?;
        let faults = faults(&limits, kernels);
        if !faults.is_empty() {
            bail!(
                "{}\nwhere that is meant, `cargo xtask ci cuda --update` writes {}",
                faults.join("\n"),
                self.path.display()
            );
        }
        Ok(())
    }
}

fn faults(limits: &Registers, kernels: &[Kernel]) -> Vec<String> {
    let fault = |kernel: &Kernel| {
        let Kernel { name, target, registers, local_bytes } = kernel;
        if *local_bytes > 0 {
            return Some(format!("{name} has {local_bytes} bytes of local memory on {target}"));
        }
        match limits.get(name).and_then(|targets| targets.get(target)) {
            None => Some(format!("{name} is new on {target}, with {registers} registers")),
            Some(limit) if registers > limit => {
                Some(format!("{name} takes {registers} registers on {target}, {limit} before"))
            }
            Some(_) => None,
        }
    };
    kernels.iter().filter_map(fault).collect()
}

#[cfg(test)]
mod tests {
    use super::{Kernel, Registers, faults, parse};

    const TOLD: &str = "ptxas info    : 0 bytes gmem
ptxas info    : Compiling entry function 'one' for 'sm_80'
ptxas info    : Function properties for one
    0 bytes stack frame, 0 bytes spill stores, 0 bytes spill loads
ptxas info    : Used 48 registers, used 1 barriers, 1480 bytes cmem[0]
ptxas info    : Compiling entry function 'two' for 'sm_80'
    8 bytes stack frame, 16 bytes spill stores, 32 bytes spill loads
ptxas info    : Used 255 registers, used 1 barriers, 33 bytes smem";

    #[test]
    fn parse_reads_registers_and_local_memory_of_every_kernel() {
        let kernel = |name: &str, registers, local_bytes| Kernel {
            name: name.to_owned(),
            target: "sm_80".to_owned(),
            registers,
            local_bytes,
        };
        assert_eq!(parse(TOLD), [kernel("one", 48, 0), kernel("two", 255, 56)]);
    }

    #[test]
    fn faults_are_spills_new_kernels_and_more_registers() {
        let limits = |json: &str| -> Registers { serde_json::from_str(json).unwrap() };
        let kernels = parse(TOLD);
        let told = faults(&limits(r#"{"one": {"sm_80": 40}}"#), &kernels);
        assert!(told[0].contains("one takes 48 registers on sm_80, 40 before"), "{told:?}");
        assert!(told[1].contains("two has 56 bytes of local memory"), "{told:?}");
        assert_eq!(faults(&limits(r#"{"one": {"sm_80": 48}}"#), &kernels[..1]), [""; 0]);
        assert!(faults(&limits("{}"), &kernels[..1])[0].contains("one is new on sm_80"));
    }
}
