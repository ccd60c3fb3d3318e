//! The second kernel that the suite boots: Debian 12's, unpacked into `target/debian-kernel` and never installed.

use crate::apt::Apt;
use crate::command::must;
use crate::root;
use anyhow::{Context as _, Result, ensure};
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

/// The package that names the newest kernel in one of its dependencies. This flavour is for virtual machines: it is the smallest.
const NEWEST: &str = "linux-image-cloud-amd64";
/// How the wanted kernel's package begins.
const WANTED: &str = "linux-image-6.1.";
/// What is wanted of it: the kernel, and the modules of a network card that an emulator has.
const PARTS: &[&str] = &["./boot/vmlinuz-*", "*/virtio*.ko", "*/failover.ko", "*/net_failover.ko"];

/// Fetches and unpacks it, unless that is done.
pub(crate) fn fetch() -> Result<()> {
    let place = root::target().join("debian-kernel");
    if place.is_dir() {
        return Ok(());
    }
    let apt = Apt::open(&root::target().join("debian-fetched/kernel"), "deb", true)?;
    let told =
        apt.command("apt-cache").args(["depends", NEWEST]).output().context("failed to start apt-cache")?;
    let told = String::from_utf8_lossy(&told.stdout).into_owned();
    let package = told.split_whitespace().find(|word| word.starts_with(WANTED));
    let package =
        package.with_context(|| format!("the kernel of this Debian is not 6.1: {}", told.trim()))?;
    must(apt.command("apt-get").args(["download", package]))?;
    let archive = apt.fetched(|name| name.starts_with(WANTED) && name.ends_with(".deb"))?;
    // Under another name until it is whole.
    let half = place.with_extension("half");
    drop(fs::remove_dir_all(&half));
    fs::create_dir_all(&half).context("failed to make a directory for the kernel")?;
    unpack(&archive, &half)?;
    fs::rename(&half, &place).with_context(|| format!("failed to make {}", place.display()))?;
    fs::remove_file(&archive).context("failed to remove what apt fetched")
}

fn unpack(archive: &Path, into: &Path) -> Result<()> {
    let mut reading = Command::new("dpkg-deb")
        .arg("--fsys-tarfile")
        .arg(archive)
        .stdout(Stdio::piped())
        .spawn()
        .context("failed to start dpkg-deb")?;
    let files = reading.stdout.take().context("no pipe")?;
    let unpacked =
        must(Command::new("tar").arg("-C").arg(into).args(["-x", "--wildcards"]).args(PARTS).stdin(files));
    ensure!(reading.wait().context("failed to wait")?.success(), "failed to read {}", archive.display());
    unpacked
}
