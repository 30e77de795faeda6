//! One build: both commands of the README ask for the same features.

use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;

use super::{assert_none, root};

/// The features of every package, as cargo resolves them; a package that is built twice, for
/// this machine's build scripts and for the program, may have two sets.
fn features(selection: &[&str]) -> BTreeMap<String, BTreeSet<String>> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let output = Command::new(cargo)
        .current_dir(root())
        .args(["tree", "--locked", "--offline", "--no-dedupe", "--prefix", "none"])
        .args(["--format", "{p}|{f}"])
        .args(selection)
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let mut found: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for line in String::from_utf8_lossy(&output.stdout).lines() {
        if let Some((package, features)) = line.split_once('|') {
            found.entry(package.to_owned()).or_default().insert(features.to_owned());
        }
    }
    found
}

#[test]
fn train_and_test_share_one_build() {
    // `cargo xtask` builds xtask without its tests, `cargo test --workspace` everything with.
    let train = features(&["-p", "xtask", "--edges", "normal,build"]);
    let test = features(&["--workspace", "--edges", "normal,build,dev"]);
    assert!(train.keys().any(|package| package.starts_with("candle-core ")));
    let mut offenders = Vec::new();
    for (package, wanted) in &train {
        let given = &test[package];
        if wanted != given {
            offenders.push(format!("{package}: {wanted:?} to train, {given:?} to test"));
        }
    }
    let rule = "name these features in xtask/Cargo.toml, or candle is compiled twice";
    assert_none(rule, &offenders);
}
