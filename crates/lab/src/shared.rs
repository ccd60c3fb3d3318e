//! Directories that several labs have in common: the first makes them, the last removes them.

use std::fs;
use std::io;
use std::path::Path;

/// Times that another lab may remove the common parent at just the wrong moment.
const TRIES_MAX: u32 = 100;

/// Makes a directory of one lab, and the common parents above it.
pub(crate) fn make(path: &Path) -> io::Result<()> {
    for _ in 1..TRIES_MAX {
        match fs::create_dir_all(path) {
            // The last lab has just removed a parent that was there a moment ago.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            outcome => return outcome,
        }
    }
    fs::create_dir_all(path)
}

/// Removes a common parent, unless other labs use it.
pub(crate) fn remove_if_empty(path: &Path) {
    // "Not empty" and "not there" are both as they should be.
    let _ = fs::remove_dir(path);
}
