//! Words that have no place in the project: paths of somebody's machine, names of registries.

use super::Finding;
use super::tree::{File, Tree};

/// Written in halves, so that this file does not break its own rule.
const FORBIDDEN: &[(&str, &str)] = &[
    (concat!("/wo", "rk/"), "a path of somebody's machine"),
    (concat!("/root/", ".cargo"), "a path of somebody's machine"),
    (concat!("/root/", ".rustup"), "a path of somebody's machine"),
    (concat!("/root/", ".pyenv"), "a path of somebody's machine"),
    (concat!("crates", ".io"), "the name of a package registry"),
    (concat!("static.", "crates"), "the name of a package registry"),
];

/// Looks at every text file except the lock files, which cargo writes.
pub(super) fn check(tree: &Tree) -> Vec<Finding> {
    tree.files.iter().filter(|file| !file.path.ends_with("Cargo.lock")).flat_map(in_file).collect()
}

fn in_file(file: &File) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (index, line) in file.text.lines().enumerate() {
        for (word, kind) in FORBIDDEN.iter().filter(|(word, _)| stands_alone(line, word)) {
            findings
                .push(Finding::error(format!("{}:{}", file.path, index + 1), format!("'{word}': {kind}")));
        }
    }
    findings
}

/// Whether the word begins a path in this line, instead of being the middle of a longer one.
fn stands_alone(line: &str, word: &str) -> bool {
    let begins = |at: usize| !line[..at].ends_with(|c: char| c.is_alphanumeric() || "._-".contains(c));
    line.match_indices(word).any(|(at, _)| begins(at))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_whole_paths_are_found() {
        let path = FORBIDDEN[0].0;
        assert!(stands_alone(&format!("see {path}x"), path));
        assert!(stands_alone(path, path));
        assert!(!stands_alone(&format!("frame{path}x"), path));
    }
}
