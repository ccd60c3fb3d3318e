//! The sources of packages that we depend on, as cargo has them: real programs in C to be compiled.

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;
use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

/// The directory of a package, fetched if need be. The package is never built: it stands in our manifest under a condition
/// that nothing meets.
pub fn of(package: &str) -> Result<PathBuf> {
    static METADATA: OnceLock<std::result::Result<Value, String>> = OnceLock::new();
    let metadata = METADATA
        .get_or_init(|| metadata().map_err(|error| format!("{error:#}")))
        .as_ref()
        .map_err(|error| anyhow::anyhow!("{error}"))?;
    let mut packages = metadata["packages"].as_array().into_iter().flatten();
    let found = packages.find(|found| found["name"] == package);
    let manifest = found.and_then(|found| found["manifest_path"].as_str());
    let manifest = manifest.with_context(|| format!("cargo knows no package {package}"))?;
    Ok(Path::new(manifest).parent().context("a manifest without a directory")?.to_owned())
}

fn metadata() -> Result<Value> {
    let cargo = env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let manifest = concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml");
    let output = Command::new(cargo)
        .args(["metadata", "--format-version", "1", "--locked", "--manifest-path", manifest])
        .output()
        .context("failed to start cargo metadata")?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "cargo metadata failed: {said}");
    serde_json::from_slice(&output.stdout).context("cargo metadata says something that is no JSON")
}
