//! Rules for manifests: the arrows between the crates, the lints.

use std::collections::BTreeMap;
use std::path::PathBuf;

use toml::Table;

use super::{assert_none, read, root, shown};

/// Which crates of the workspace a library may depend on.
///
/// A new arrow is the change that needs the most thought: it is made here and in the code map.
const ARROWS: [(&str, &[&str]); 10] = [
    ("s5cl-random", &[]),
    ("s5cl-augment", &["s5cl-random"]),
    ("s5cl-data", &["s5cl-random"]),
    ("s5cl-kernels", &[]),
    ("s5cl-losses", &["s5cl-kernels"]),
    ("s5cl-backbone", &["s5cl-kernels", "s5cl-random"]),
    ("s5cl-trainer", &["s5cl-backbone", "s5cl-kernels", "s5cl-losses", "s5cl-random"]),
    ("s5cl-eval", &["s5cl-kernels", "s5cl-random"]),
    ("s5cl-report", &[]),
    ("s5cl-hub", &[]),
];

/// What the libraries with a wall may not see of others: tensors, images, files of images.
const WALLS: [(&str, &[&str]); 5] = [
    ("s5cl-random", &["candle-core", "candle-nn", "image"]),
    ("s5cl-augment", &["candle-core", "candle-nn"]),
    ("s5cl-data", &["candle-core", "candle-nn"]),
    ("s5cl-losses", &["image"]),
    ("s5cl-trainer", &["image"]),
];

/// What opens a connection, or runs what does.
const NETWORK: [&str; 3] = ["hf-hub", "reqwest", "tokio"];

/// A package of the workspace.
pub(super) struct Package {
    pub(super) folder: PathBuf,
    /// Packages of the workspace that it needs to build, sorted.
    pub(super) depends_on: Vec<String>,
    manifest: Table,
}

/// All packages by name.
pub(super) fn packages() -> BTreeMap<String, Package> {
    let crates = std::fs::read_dir(root().join("crates")).unwrap();
    let mut folders: Vec<PathBuf> = crates.map(|entry| entry.unwrap().path()).collect();
    folders.extend([root().join("xtask"), root().join("tests")]);
    folders.retain(|folder| folder.is_dir());
    folders
        .into_iter()
        .map(|folder| {
            let manifest: Table = read(&folder.join("Cargo.toml")).parse().unwrap();
            let name = manifest["package"]["name"].as_str().unwrap().to_owned();
            let is_ours = |name: &&String| name.starts_with("s5cl-");
            let mut depends_on: Vec<String> =
                dependencies(&manifest).filter(is_ours).cloned().collect();
            depends_on.sort();
            (name, Package { folder, depends_on, manifest })
        })
        .collect()
}

/// What a package needs to build; what its tests need adds no arrow.
fn dependencies(manifest: &Table) -> impl Iterator<Item = &String> {
    let tables = ["dependencies", "build-dependencies"];
    let tables = tables.into_iter().filter_map(|key| manifest.get(key)?.as_table());
    tables.flat_map(Table::keys)
}

#[test]
fn arrows_between_crates_are_the_allowed_ones() {
    let mut offenders = Vec::new();
    for (name, package) in packages() {
        if matches!(name.as_str(), "xtask" | "s5cl-tests") {
            continue;
        }
        let Some((_, allowed)) = ARROWS.iter().find(|(from, _)| *from == name) else {
            offenders.push(format!("{name} has no row in ARROWS"));
            continue;
        };
        let extra = package.depends_on.iter().filter(|to| !allowed.contains(&to.as_str()));
        offenders.extend(extra.map(|to| format!("{name} -> {to}")));
    }
    assert_none("these arrows are not allowed", &offenders);
}

#[test]
fn walls_between_images_and_tensors_stand() {
    let packages = packages();
    let mut offenders = Vec::new();
    for (name, forbidden) in WALLS {
        let found = dependencies(&packages[name].manifest);
        let found = found.filter(|dependency| forbidden.contains(&dependency.as_str()));
        offenders.extend(found.map(|dependency| format!("{name} -> {dependency}")));
    }
    assert_none("these crates must not know each other", &offenders);
}

#[test]
fn connections_are_opened_in_hub_alone_and_by_no_default() {
    let mut offenders = Vec::new();
    for (name, package) in packages() {
        let found = dependencies(&package.manifest).filter(|d| NETWORK.contains(&d.as_str()));
        let is_hub = name == "s5cl-hub";
        let is_optional = |dependency: &str| {
            let how = &package.manifest["dependencies"][dependency];
            how.get("optional").and_then(toml::Value::as_bool).unwrap_or(false)
        };
        let found = found.filter(|dependency| !is_hub || !is_optional(dependency));
        offenders.extend(found.map(|dependency| format!("{name} -> {dependency}")));
    }
    assert_none("the network is behind a feature of s5cl-hub", &offenders);
    let hub = dependencies(&packages()["s5cl-hub"].manifest).cloned().collect::<Vec<_>>();
    assert!(NETWORK.iter().all(|dependency| hub.contains(&(*dependency).to_owned())));
}

#[test]
fn packages_are_named_as_their_folders() {
    let mut offenders = Vec::new();
    for (name, package) in packages() {
        let folder = package.folder.file_name().unwrap().to_string_lossy().into_owned();
        if folder != name && name != "s5cl-tests" {
            offenders.push(format!("{} holds {name}", shown(&package.folder)));
        }
    }
    assert_none("a folder is named as its package", &offenders);
}

#[test]
fn packages_inherit_lints_and_versions() {
    let mut offenders = Vec::new();
    for (name, package) in packages() {
        let inherits = |table: &toml::Value| {
            table.get("workspace").and_then(toml::Value::as_bool).unwrap_or(false)
        };
        if !package.manifest.get("lints").is_some_and(inherits) {
            offenders.push(format!("{name} does not inherit the lints"));
        }
        for key in ["version", "edition", "rust-version", "license"] {
            if !package.manifest["package"].get(key).is_some_and(inherits) {
                offenders.push(format!("{name} does not inherit {key}"));
            }
        }
    }
    assert_none("lints, versions and license come from the workspace", &offenders);
}
