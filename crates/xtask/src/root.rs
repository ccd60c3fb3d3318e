//! Where the workspace is, and where its programs are built.

use std::env;
use std::path::PathBuf;

/// The workspace's own directory.
pub(crate) fn workspace() -> PathBuf {
    let here = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    here.ancestors().nth(2).map(PathBuf::from).unwrap_or(here)
}

/// Cargo's target directory.
pub(crate) fn target() -> PathBuf {
    env::var_os("CARGO_TARGET_DIR").map(PathBuf::from).unwrap_or_else(|| workspace().join("target"))
}

/// Where `cargo build --release` leaves `om` and `omd`.
pub(crate) fn programs() -> PathBuf {
    target().join("release")
}
