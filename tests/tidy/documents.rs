//! Rules for what people read: the code map, READMEs, presets.

use std::collections::BTreeMap;
use std::path::PathBuf;

use super::manifests::packages;
use super::{assert_none, files, read, root, shown};

/// The rows of the code map: the package in the first column and those in the last.
fn code_map() -> BTreeMap<String, Vec<String>> {
    let text = read(&root().join("ARCHITECTURE.md"));
    let names = |cell: &str| -> Vec<String> {
        cell.split('`').skip(1).step_by(2).map(str::to_owned).collect()
    };
    let section = text.split("## Code map").nth(1).expect("ARCHITECTURE.md has a code map");
    let section = section.split("\n## ").next().unwrap_or_default();
    let mut rows = BTreeMap::new();
    for line in section.lines().filter(|line| line.starts_with("| `")) {
        let cells: Vec<&str> = line.trim_matches('|').split('|').collect();
        let (first, last) = (names(cells[0]), names(cells.last().unwrap()));
        rows.insert(first[0].clone(), last);
    }
    rows
}

#[test]
fn code_map_is_the_workspace() {
    let map = code_map();
    let packages = packages();
    let mut offenders = Vec::new();
    for (name, package) in &packages {
        let Some(row) = map.get(name) else {
            offenders.push(format!("{name} has no row"));
            continue;
        };
        // The two packages that see all others say so in words.
        if package.folder.parent() != Some(&root().join("crates")) {
            continue;
        }
        let mut row = row.clone();
        row.sort();
        if row != package.depends_on {
            let actual = package.depends_on.join(", ");
            offenders.push(format!("{name} depends on [{actual}], its row says {row:?}"));
        }
    }
    let gone = map.keys().filter(|name| !packages.contains_key(*name));
    offenders.extend(gone.map(|name| format!("{name} is no package")));
    assert_none("the code map in ARCHITECTURE.md is the workspace", &offenders);
}

#[test]
fn invariants_name_tests_that_exist() {
    let text = read(&root().join("ARCHITECTURE.md"));
    let section = text.split("## Invariants").nth(1).expect("ARCHITECTURE.md has invariants");
    let section = section.split("\n## ").next().unwrap_or_default();
    let rust: Vec<String> = ["crates", "tests", "xtask"]
        .iter()
        .flat_map(|f| files(&root().join(f), "rs"))
        .map(|path| read(&path))
        .collect();
    let mut offenders = Vec::new();
    let mut n_tests = 0;
    for row in section.lines().filter(|line| line.starts_with("| ") && line.contains('`')) {
        let tests = row.trim_matches('|').split('|').next_back().unwrap_or_default();
        for name in tests.split('`').skip(1).step_by(2) {
            n_tests += 1;
            let test = format!("#[test]\nfn {name}(");
            let is_test = |text: &String| text.replace("\n    ", "\n").contains(&test);
            if !rust.iter().any(is_test) {
                offenders.push(name.to_owned());
            }
        }
    }
    assert!(n_tests > 0);
    assert_none("the invariants name tests that exist", &offenders);
}

#[test]
fn crates_have_a_readme_with_an_example() {
    let mut offenders = Vec::new();
    for (name, package) in packages() {
        if package.folder.parent() != Some(&root().join("crates")) {
            continue;
        }
        let readme = package.folder.join("README.md");
        if !readme.is_file() || !read(&readme).contains("```rust\n") {
            offenders.push(format!("{name}: no README.md with a ```rust block"));
        }
        // The example is a test only where the crate says so.
        if !read(&package.folder.join("src/lib.rs")).contains("include_str!(\"../README.md\")") {
            offenders.push(format!("{name}: its README is no doc test"));
        }
    }
    assert_none("every crate has a README with a runnable example", &offenders);
}

#[test]
fn presets_name_their_source() {
    let presets: Vec<PathBuf> = files(&root().join("xtask/presets"), "toml");
    assert!(!presets.is_empty());
    let has_doi = |path: &PathBuf| {
        // A DOI may stand on the line after the word.
        let text = read(path).replace("\n# ", " ");
        text.contains("doi 10.") || text.contains("doi.org/10.")
    };
    let offenders: Vec<String> =
        presets.iter().filter(|path| !has_doi(path)).map(|path| shown(path)).collect();
    assert_none("every preset names a source by its DOI", &offenders);
}

#[test]
fn links_between_documents_lead_somewhere() {
    let documents =
        ["README.md", "ARCHITECTURE.md", "CHANGELOG.md", "benches/README.md", "datasets/README.md"];
    let mut offenders = Vec::new();
    for document in documents {
        let path = root().join(document);
        for link in read(&path).split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            let target = link.split('#').next().unwrap_or_default();
            let is_local = !target.is_empty() && !target.contains("://");
            if is_local && !path.parent().unwrap().join(target).exists() {
                offenders.push(format!("{document}: {link}"));
            }
        }
    }
    assert_none("links lead to files that exist", &offenders);
}
