//! `cargo xtask compat`: the tests of other projects under torture, and the tables of docs/compatibility.md.

use crate::apt::Apt;
use crate::command::{cargo, command, must};
use crate::{root, setup};
use anyhow::{Context as _, Result, ensure};
use std::fs;
use std::process::{ExitCode, Stdio};

/// What is below this line of the page is counted; what is above it is written by hand.
const MARK: &str = "<!-- counted -->\n";
/// Packages of Debian whose sources have tests that no package brings, and which part of the sources is wanted.
const SOURCES: &[(&str, &[&str])] =
    &[("perl", &["t"]), ("tcl8.6", &["tests"]), ("redis", &["tests", "redis.conf", "sentinel.conf"])];

/// Builds everything as it is shipped, fetches what is missing, runs the entries that contain one of the words (all without
/// any), and writes the tables into the page.
pub(crate) fn run(words: &[String]) -> Result<ExitCode> {
    setup::run()?;
    for (package, wanted) in SOURCES {
        if let Err(error) = fetch(package, wanted) {
            println!("compat: {error:#}; what needs the sources of {package} will say so");
        }
    }
    must(&mut cargo(&["build", "--workspace", "--release"]))?;
    let mut compat = cargo(&["run", "--release", "--package", "suite", "--bin", "compat", "--"]);
    let page = root::workspace().join("docs/compatibility.md");
    compat.arg(&page).args(words).env("OM_BIN_DIR", root::programs()).stderr(Stdio::inherit());
    let counted = compat.output().context("failed to start the program of the suite")?;
    let tables = String::from_utf8_lossy(&counted.stdout);
    println!("{tables}");
    if !tables.is_empty() {
        let text = fs::read_to_string(&page).context("failed to read docs/compatibility.md")?;
        let (written, _) =
            text.split_once(MARK).context("docs/compatibility.md has no line for the tables")?;
        fs::write(&page, format!("{written}{MARK}\n{tables}"))
            .context("failed to write docs/compatibility.md")?;
    }
    ensure!(counted.status.success(), "the program of the suite ended with {}", counted.status);
    Ok(ExitCode::SUCCESS)
}

/// Fetches the sources of a package and unpacks what is wanted of them, unless that is done.
fn fetch(package: &str, wanted: &[&str]) -> Result<()> {
    let place = root::target().join("debian-sources").join(package);
    if place.is_dir() {
        return Ok(());
    }
    let apt = Apt::open(&root::target().join("debian-fetched").join(package), "deb-src", false)?;
    must(apt.command("apt-get").args(["source", "--download-only", package]))?;
    // What the package's own authors wrote.
    let archive = apt.fetched(|name| name.contains(".orig.tar.") && !name.ends_with(".asc"))?;
    // Under another name until it is whole.
    let half = place.with_extension("half");
    drop(fs::remove_dir_all(&half));
    fs::create_dir_all(&half).context("failed to make a directory for the sources")?;
    let (archive, half_name) = (archive.to_string_lossy(), half.to_string_lossy());
    let mut unpack = command("tar", &["-xf", &archive, "-C", &half_name, "--strip-components=1"]);
    // The archive's one directory, whatever its name, and nothing of that name further down.
    unpack.args(["--wildcards", "--no-wildcards-match-slash"]);
    must(unpack.args(wanted.iter().map(|part| format!("*/{part}"))))?;
    fs::rename(&half, &place).with_context(|| format!("failed to make {}", place.display()))
}
