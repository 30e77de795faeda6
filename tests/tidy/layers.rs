//! Layers are those of our kernels; candle's are there to be compared with.

use super::{assert_none, files, read, root, shown};

/// What is taken from candle's crate of layers: initial values of weights, and what is computed
/// from logits without a gradient.
const TAKEN: [&str; 5] = ["VarBuilder", "Init", "init", "var_builder", "ops"];
/// In two parts, or this file would be the first offender.
const PACKAGE: &str = concat!("candle", "_nn");
/// Methods of candle's tensors that a network would be made of.
const METHODS: [&str; 8] = [
    concat!(".conv", "1d"),
    concat!(".conv", "2d"),
    concat!(".conv_", "transpose1d"),
    concat!(".conv_", "transpose2d"),
    concat!(".avg_", "pool2d"),
    concat!(".max_", "pool2d"),
    concat!(".upsample_", "nearest"),
    concat!(".upsample_", "bilinear"),
];
/// What the layers of a network of ours are added to.
const NETWORKS: [&str; 2] = ["layers", "network"];

/// The code of a file, comments aside.
fn code(text: &str) -> String {
    let lines = text.lines().map(|line| line.split("//").next().unwrap_or_default());
    lines.collect::<Vec<_>>().join("\n")
}

/// The first parts of the paths that code names behind a package's name.
fn taken(code: &str, package: &str) -> Vec<String> {
    let first = |path: &str| -> String {
        path.trim().chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect()
    };
    let mut taken = Vec::new();
    for behind in code.split(package).skip(1) {
        let Some(path) = behind.strip_prefix("::") else {
            taken.push(format!("{package} itself"));
            continue;
        };
        let Some(group) = path.strip_prefix('{') else {
            taken.push(first(path));
            continue;
        };
        let (mut depth, mut names) = (1, vec![String::new()]);
        for c in group.chars() {
            match c {
                '{' => depth += 1,
                '}' => depth -= 1,
                ',' if depth == 1 => names.push(String::new()),
                _ if depth == 1 => names.last_mut().unwrap().push(c),
                _ => {}
            }
            if depth == 0 {
                break;
            }
        }
        taken.extend(names.iter().map(|name| first(name)).filter(|name| !name.is_empty()));
    }
    taken
}

/// Calls of candle's methods, as they stand in the code.
fn calls(code: &str) -> Vec<String> {
    let mut calls = Vec::new();
    for line in code.lines() {
        for method in METHODS {
            for (at, _) in line.match_indices(method) {
                let is_ours = NETWORKS.iter().any(|network| line[..at].ends_with(network));
                if !is_ours {
                    calls.push(line.trim().to_owned());
                }
            }
        }
    }
    calls
}

#[test]
fn layers_of_candle_are_in_the_benchmark_alone() {
    let benchmark = root().join("xtask/src/commands/benchmark");
    let folders = ["crates", "xtask", "tests"].map(|folder| root().join(folder));
    let (mut offenders, mut n_taken) = (Vec::new(), 0);
    for path in folders.iter().flat_map(|folder| files(folder, "rs")) {
        let code = code(&read(&path));
        let (taken, calls) = (taken(&code, PACKAGE), calls(&code));
        n_taken += taken.len();
        if !path.starts_with(&benchmark) {
            let unknown = taken.into_iter().filter(|name| !TAKEN.contains(&name.as_str()));
            offenders.extend(unknown.chain(calls).map(|what| format!("{}: {what}", shown(&path))));
        }
    }
    assert!(n_taken > 0, "nothing was read");
    assert_none("layers are those of s5cl-kernels", &offenders);
}

#[test]
fn layers_of_candle_are_seen() {
    let text = "use nn::{\n  Init, // Conv2d,\n init::{A, B}, batch_norm};\nnn::ops::x(); use nn;";
    let seen = taken(&code(text), "nn");
    assert_eq!(seen, ["Init", "init", "batch_norm", "ops", "nn itself"]);
    let [conv, pool] = [METHODS[1], METHODS[5]];
    let text =
        format!("maps{conv}(x)\nself.layers{conv}(x)\nmaps{pool}_with_stride(x)\n// a{conv}");
    let seen = calls(&code(&text));
    assert_eq!(seen, [format!("maps{conv}(x)"), format!("maps{pool}_with_stride(x)")]);
}
