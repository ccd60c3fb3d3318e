//! A file that is too long to be read in one sitting is two files.

use super::Finding;
use super::tree::Tree;

const LINES_MAX: usize = 1000;
const LINES_WARNED: usize = 600;

/// Rust files only: tables and documents may be long.
pub(super) fn check(tree: &Tree) -> Vec<Finding> {
    let long = |file: &super::tree::File| {
        let lines = file.text.lines().count();
        if lines > LINES_MAX {
            return Some(Finding::error(&file.path, format!("{lines} lines, more than {LINES_MAX}")));
        }
        (lines > LINES_WARNED).then(|| Finding::warning(&file.path, format!("{lines} lines")))
    };
    tree.rust().filter_map(long).collect()
}
