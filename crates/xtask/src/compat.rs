//! `cargo xtask compat`: the tests of other projects under torture, and the tables of docs/compatibility.md.

use crate::command::{cargo, command, have, must};
use crate::{root, setup};
use anyhow::{Context as _, Result, ensure};
use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::{Command, ExitCode, Stdio};

/// What is below this line of the page is counted; what is above it is written by hand.
const MARK: &str = "<!-- counted -->\n";
/// Packages of Debian whose sources have tests that no package brings, and which part of the sources is wanted.
const SOURCES: &[(&str, &[&str])] =
    &[("perl", &["t"]), ("tcl8.6", &["tests"]), ("redis", &["tests", "redis.conf", "sentinel.conf"])];
/// What apt is asked for: the line of a list of sources for each place from which this machine has its packages.
const SOURCES_LINES: &str = "deb-src $(REPO_URI) $(RELEASE) $(COMPONENT)";

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
///
/// Nothing of the machine's apt is changed: the list of sources and what apt learns by it are in directories of ours.
fn fetch(package: &str, wanted: &[&str]) -> Result<()> {
    let place = root::target().join("debian-sources").join(package);
    if place.is_dir() {
        return Ok(());
    }
    ensure!(have("apt-get"), "this is no Debian");
    let work = root::target().join("debian-fetched").join(package);
    fs::create_dir_all(work.join("lists/partial")).context("failed to make a directory for apt")?;
    let list = work.join("sources.list");
    fs::write(&list, sources_lines()?).context("failed to write the list of sources")?;
    let apt = |arguments: &[&str]| {
        let mut apt = Command::new("apt-get");
        apt.current_dir(&work).arg("-qq");
        apt.args([
            "-o",
            &format!("Dir::Etc::sourcelist={}", list.display()),
            "-o",
            "Dir::Etc::sourceparts=-",
        ]);
        apt.args(["-o", &format!("Dir::State::lists={}", work.join("lists").display())]).args(arguments);
        must(&mut apt)
    };
    apt(&["update"])?;
    apt(&["source", "--download-only", package])?;
    let archive = archive_in(&work)?;
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

/// The places of this machine's packages, as places of their sources: those of the release itself, not of its updates, whose
/// sources not every mirror has.
fn sources_lines() -> Result<String> {
    let asked = ["indextargets", "--format", SOURCES_LINES, "Created-By: Packages"];
    let told = Command::new("apt-get").args(asked).output().context("failed to start apt-get")?;
    let told = String::from_utf8_lossy(&told.stdout).into_owned();
    let is_release = |line: &&str| line.split(' ').nth(2).is_some_and(|release| !release.contains('-'));
    let lines: BTreeSet<&str> = told.lines().filter(is_release).collect();
    ensure!(!lines.is_empty(), "apt knows no place of packages");
    Ok(lines.into_iter().map(|line| format!("{line}\n")).collect())
}

/// The archive of what the package's own authors wrote.
fn archive_in(directory: &Path) -> Result<std::path::PathBuf> {
    let entries = fs::read_dir(directory).context("failed to see what apt fetched")?.flatten();
    let mut archives = entries.map(|entry| entry.path()).filter(|path| {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        name.contains(".orig.tar.") && !name.ends_with(".asc")
    });
    archives.next().context("apt fetched no archive")
}
