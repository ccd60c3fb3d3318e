//! The file system of the machine: this project's programs, the guests, and what they need of this machine's.

use super::archive::Archive;
use super::init::MODULES;
use crate::Workshop;
use anyhow::{Context as _, Result, ensure};
use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Programs of this machine, by the path that they get.
const PROGRAMS: &[&str] = &["/bin/sh", "/bin/ip", "/bin/cat", "/bin/mkdir", "/bin/tail", "/bin/sleep"];
/// Where our own programs are, as in the nodes of a lab.
const OURS: &str = "/opt/openmosix/bin";
/// Where the guests are.
pub(super) const GUESTS: &str = "/guests";
/// Directories that daemons and commands expect.
const DIRECTORIES: &[&str] =
    &["/etc", "/root", "/var/tmp", "/var/lib", "/var/cache", "/var/log/openmosix", "/dev", "/proc", "/sys"];

/// The modules that make the network card work, each behind what it needs.
const MODULE_NAMES: &[&str] = &[
    "virtio_ring",
    "virtio",
    "virtio_pci_legacy_dev",
    "virtio_pci_modern_dev",
    "virtio_pci",
    "failover",
    "net_failover",
    "virtio_net",
];

/// Packs everything, with the modules of the kernel that was unpacked in a directory.
pub(super) fn pack(kernel: &Path, guests: &[&str]) -> Result<Vec<u8>> {
    let workshop = Workshop::open()?;
    let mut archive = Archive::default();
    for directory in DIRECTORIES {
        archive.directory(directory);
    }
    archive.file("/etc/passwd", 0o644, b"root:x:0:0:root:/root:/bin/sh\n");
    archive.file("/etc/hosts", 0o644, b"127.0.0.1 localhost\n");
    let mut programs: Vec<(PathBuf, String)> =
        PROGRAMS.iter().map(|path| (PathBuf::from(path), (*path).to_owned())).collect();
    programs.push((workshop.programs.join("machine"), "/init".to_owned()));
    programs.extend(["om", "omd"].map(|name| (workshop.programs.join(name), format!("{OURS}/{name}"))));
    programs.extend(guests.iter().map(|name| (workshop.guests.join(name), format!("{GUESTS}/{name}"))));
    let mut libraries = BTreeSet::new();
    for (from, to) in &programs {
        archive.file(to, 0o755, &stripped(from)?);
        libraries.extend(libraries_of(from)?);
    }
    for library in libraries {
        let content = fs::read(&library).with_context(|| format!("failed to read {library}"))?;
        archive.file(&library, 0o755, &content);
    }
    modules(kernel, &mut archive)?;
    Ok(archive.finish())
}

fn modules(kernel: &Path, archive: &mut Archive) -> Result<()> {
    let mut order = String::new();
    for name in MODULE_NAMES {
        let file = find(kernel, &format!("{name}.ko")).with_context(|| format!("no module {name}"))?;
        let path = format!("/modules/{name}.ko");
        archive.file(&path, 0o644, &fs::read(file).context("failed to read a module")?);
        order += &format!("{path}\n");
    }
    archive.file(MODULES, 0o644, order.as_bytes());
    Ok(())
}

/// A file of this name somewhere below a directory.
pub(super) fn find(directory: &Path, name: &str) -> Option<PathBuf> {
    let entries: Vec<_> = fs::read_dir(directory).ok()?.flatten().collect();
    let here = entries.iter().find(|entry| entry.file_name() == name).map(fs::DirEntry::path);
    let is_directory = |entry: &&fs::DirEntry| entry.file_type().is_ok_and(|kind| kind.is_dir());
    here.or_else(|| entries.iter().filter(is_directory).find_map(|entry| find(&entry.path(), name)))
}

/// A program without what only debuggers want, which is most of ours.
fn stripped(program: &Path) -> Result<Vec<u8>> {
    let name = program.file_name().unwrap_or_default().to_string_lossy();
    let copy = Workshop::open()?.scratch.join(format!("stripped-{}-{name}", std::process::id()));
    let status = Command::new("strip").arg("--strip-debug").arg("-o").args([&copy, program]).status();
    ensure!(status.context("failed to start strip")?.success(), "failed to strip {}", program.display());
    let content = fs::read(&copy).context("failed to read a stripped program");
    drop(fs::remove_file(&copy));
    content
}

/// The libraries of a program, the dynamic linker among them; none of one that is linked statically.
fn libraries_of(program: &Path) -> Result<Vec<String>> {
    let output = Command::new("ldd").arg(program).output().context("failed to start ldd")?;
    let told = String::from_utf8_lossy(&output.stdout).into_owned();
    let path = |line: &str| line.split_whitespace().find(|word| word.starts_with('/')).map(str::to_owned);
    Ok(told.lines().filter_map(path).collect())
}
