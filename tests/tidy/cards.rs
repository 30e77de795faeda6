//! Rules for the dataset cards.

use toml::{Table, Value};

use super::{assert_none, files, read, root, shown};

/// Every card has these.
const REQUIRED: [&str; 9] = [
    "name",
    "title",
    "url",
    "license",
    "citation",
    "classes",
    "split_rule",
    "group_rule",
    "unverified",
];

/// A card has these, or lists them in `unverified`.
const VERIFIED_OR_ABSENT: [&str; 7] =
    ["doi", "n_images", "image_size", "microns_per_pixel", "mean", "std", "files"];

/// What is wrong with a card.
fn complaints(card: &Table, file_stem: &str) -> Vec<String> {
    let mut found = Vec::new();
    let missing = REQUIRED.iter().filter(|key| !card.contains_key(**key));
    found.extend(missing.map(|key| format!("has no {key}")));
    let unverified: Vec<&str> = list(card, "unverified").iter().filter_map(Value::as_str).collect();
    for key in VERIFIED_OR_ABSENT {
        if card.contains_key(key) == unverified.contains(&key) {
            found.push(format!("{key} must be given, or listed in unverified, and not both"));
        }
    }
    if card.get("name").and_then(Value::as_str) != Some(file_stem) {
        found.push("is not named as its file".to_owned());
    }
    for class in list(card, "classes") {
        if class.get("name").is_none() || class.get("short").is_none() {
            found.push(format!("class {class} has no name or short name"));
        }
    }
    if list(card, "classes").len() < 2 {
        found.push("has fewer than two classes".to_owned());
    }
    for file in list(card, "files") {
        let has_hash = file.get("sha256").and_then(Value::as_str).is_some_and(is_sha256);
        if file.get("name").is_none() || !(has_hash || unverified.contains(&"files.sha256")) {
            found.push(format!("file {file} has no name, or no sha256 of 64 digits"));
        }
    }
    found
}

fn list<'a>(card: &'a Table, key: &str) -> &'a [Value] {
    card.get(key).and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

fn is_sha256(text: &str) -> bool {
    text.len() == 64 && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

#[test]
fn cards_are_complete() {
    let paths = files(&root().join("datasets"), "toml");
    assert!(paths.len() >= 4);
    let mut offenders = Vec::new();
    for path in &paths {
        let stem = path.file_stem().unwrap().to_string_lossy();
        match read(path).parse::<Table>() {
            Ok(card) => {
                let complaints = complaints(&card, &stem).into_iter();
                offenders
                    .extend(complaints.map(|complaint| format!("{} {complaint}", shown(path))));
            }
            Err(error) => offenders.push(format!("{}: {error}", shown(path))),
        }
    }
    assert_none("dataset cards are complete, and claim nothing that was not verified", &offenders);
}

#[test]
fn cards_are_in_their_readme() {
    let readme = read(&root().join("datasets/README.md"));
    let mut offenders = Vec::new();
    for path in files(&root().join("datasets"), "toml") {
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        if !readme.contains(&name) {
            offenders.push(name);
        }
    }
    assert_none("datasets/README.md tells how to get every set", &offenders);
}

#[test]
fn card_with_a_gap_is_refused() {
    let card: Table = "name = \"a\"\nmean = [0.5, 0.5, 0.5]\nunverified = [\"mean\"]\n\
                       files = [{ name = \"a.zip\", sha256 = \"12\" }]"
        .parse()
        .unwrap();
    let complaints = complaints(&card, "b").join("\n");
    for expected in ["has no title", "mean must be", "std must be", "not named", "no sha256"] {
        assert!(complaints.contains(expected), "{expected}: {complaints}");
    }
}
