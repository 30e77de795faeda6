//! Rules for Rust files.

use std::path::PathBuf;

use super::{assert_none, files, read, root, shown};

/// A file that is longer is two files.
const MOST_LINES: usize = 400;

fn rust_files() -> Vec<PathBuf> {
    let folders = ["crates", "xtask", "tests", "benches"].map(|folder| root().join(folder));
    folders.iter().filter(|folder| folder.is_dir()).flat_map(|folder| files(folder, "rs")).collect()
}

/// Whether a word stands in the code of a line, comments aside.
fn has_word(line: &str, word: &str) -> bool {
    let code = line.split("//").next().unwrap_or_default();
    code.split(|c: char| !c.is_alphanumeric() && c != '_').any(|part| part == word)
}

#[test]
fn rust_files_open_with_module_docs() {
    let offends = |path: &PathBuf| !read(path).starts_with("//!");
    let offenders: Vec<String> =
        rust_files().iter().filter(|path| offends(path)).map(|path| shown(path)).collect();
    assert_none("every file opens with //!", &offenders);
}

#[test]
fn rust_files_are_short() {
    let mut offenders = Vec::new();
    for path in rust_files() {
        let lines = read(&path).lines().count();
        if lines > MOST_LINES {
            offenders.push(format!("{} has {lines} lines", shown(&path)));
        }
    }
    assert_none(&format!("no file is over {MOST_LINES} lines"), &offenders);
}

#[test]
fn unsafe_code_is_in_kernels_alone() {
    // In two parts, or this file would be the first offender.
    let word = concat!("un", "safe");
    let kernels = root().join("crates/s5cl-kernels");
    let mut offenders = Vec::new();
    for path in rust_files().into_iter().filter(|path| !path.starts_with(&kernels)) {
        for (index, line) in read(&path).lines().enumerate() {
            if has_word(line, word) {
                offenders.push(format!("{}:{}", shown(&path), index + 1));
            }
        }
    }
    assert_none("such code is in s5cl-kernels alone", &offenders);
}

#[test]
fn files_name_no_path_of_a_machine() {
    let mut offenders = Vec::new();
    for path in rust_files() {
        let homes = [concat!("/ho", "me/"), concat!("/ro", "ot/"), concat!("/Us", "ers/")];
        if homes.iter().any(|home| read(&path).contains(home)) {
            offenders.push(shown(&path));
        }
    }
    assert_none("no path of one machine", &offenders);
}

#[test]
fn has_word_sees_words_in_code_alone() {
    let word = "goto";
    assert!(has_word("goto {", word) && has_word("(goto fn)", word));
    assert!(!has_word("goto_code = 1", word) && !has_word("x // goto", word));
    assert!(!files(&crate::package_folder(), "rs").is_empty());
}
