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

/// Kernels of the one package that has any.
fn kernel_files() -> Vec<PathBuf> {
    files(&root().join("crates/s5cl-kernels/src"), "cu")
}

/// What stands between each `before` and the next `after`.
fn between<'a>(text: &'a str, before: &'a str, after: &'a str) -> impl Iterator<Item = &'a str> {
    text.split(before).skip(1).filter_map(move |rest| Some(rest.split_once(after)?.0.trim()))
}

#[test]
fn kernel_files_open_with_grid_block_and_shared_memory() {
    let mut offenders = Vec::new();
    for path in kernel_files() {
        let text = read(&path);
        let opening: String = text.lines().take_while(|line| line.starts_with("//")).collect();
        if ["Grid", "Block", "hared"].iter().any(|word| !opening.contains(word)) {
            offenders.push(shown(&path));
        }
    }
    assert_none("a .cu file opens with its grid, block and shared memory", &offenders);
}

/// A kernel that the emulation does not know is one that no test on a CPU can start, and one that
/// no Rust names is one that nobody starts.
#[test]
fn kernels_are_exported_and_started_where_tests_run_them() {
    let mut offenders = Vec::new();
    let rust: Vec<(PathBuf, String)> =
        rust_files().into_iter().map(|path| (path.clone(), read(&path))).collect();
    for path in kernel_files() {
        // A macro makes several kernels, whose names are put together where they are started.
        let whole = read(&path);
        let mut is_macro = false;
        let is_outside = |line: &&str| {
            let was_macro = is_macro;
            is_macro = line.ends_with('\\');
            !was_macro && !is_macro
        };
        let text = whole.lines().filter(is_outside).collect::<Vec<&str>>().join("\n");
        let exported: Vec<&str> = between(&text, "EXPORT(", ")").collect();
        let has_others = |name: &&str| !name.contains(char::is_whitespace) && !name.contains('#');
        for kernel in between(&text, "KERNEL(", "(").filter_map(|rest| rest.split_once(')')) {
            let name = kernel.1.trim();
            if has_others(&name) && !exported.contains(&name) {
                offenders.push(format!("{}: {name} is not exported", shown(&path)));
            }
        }
        // Tests are in the module that starts a kernel, or below it.
        let folder = path.parent().map(PathBuf::from).unwrap_or_default();
        let near = rust.iter().filter(|(path, _)| path.starts_with(&folder));
        if !near.clone().any(|(_, text)| text.contains("with_emulated_gpu")) {
            offenders.push(format!("{} has no test beside it", shown(&path)));
        }
        for name in exported.into_iter().filter(has_others) {
            let starts = |(_, text): &(PathBuf, String)| text.contains(name);
            if !near.clone().any(starts) {
                offenders.push(format!("{}: nobody starts {name}", shown(&path)));
            }
        }
    }
    assert_none("every kernel is started by a test", &offenders);
    assert!(!kernel_files().is_empty());
}

#[test]
fn has_word_sees_words_in_code_alone() {
    let word = "goto";
    assert!(has_word("goto {", word) && has_word("(goto fn)", word));
    assert!(!has_word("goto_code = 1", word) && !has_word("x // goto", word));
    assert!(!files(&crate::package_folder(), "rs").is_empty());
}
