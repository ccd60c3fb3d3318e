//! Pid 1 of the machine: it makes what a distribution's init would make, then serves commands.

use super::line;
use anyhow::{Context as _, Result, ensure};
use rustix::mount::{MountFlags, mount, mount_bind, mount_move};
use rustix::process::{WaitOptions, chroot, wait};
use std::fs::{self, File};
use std::net::TcpListener;
use std::process::Command;

/// The file with the names of the modules' files, in the order in which they are loaded.
pub(super) const MODULES: &str = "/modules/order";
/// The words on the kernel's command line that tell the address, with its prefix, and the name.
pub(super) const ADDRESS_WORD: &str = "om.address=";
pub(super) const NAME_WORD: &str = "om.name=";
/// Said on the console when commands are served.
pub(super) const SERVES: &str = "machine: serves";
/// The port where commands are taken.
pub(super) const PORT: u16 = 4661;
/// Where programs are looked for.
const SEARCH_PATH: &str = "/opt/openmosix/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// What is mounted: type, place.
const MOUNTS: &[(&str, &str)] = &[
    ("proc", "/proc"),
    ("sysfs", "/sys"),
    ("devtmpfs", "/dev"),
    ("devpts", "/dev/pts"),
    ("tmpfs", "/dev/shm"),
    ("tmpfs", "/tmp"),
    ("tmpfs", "/run"),
    ("cgroup2", "/sys/fs/cgroup"),
];

/// Where the root is mounted once more on its way to its place.
const ROOT: &str = "/newroot";

/// The kernel's first file system can be no root of which a guest could be rid (pivot_root(2)); mounted over itself it can.
fn make_root() -> Result<()> {
    fs::create_dir_all(ROOT).context("failed to make a directory")?;
    mount_bind("/", ROOT).context("failed to mount the root once more")?;
    std::env::set_current_dir(ROOT).context("failed to enter the root")?;
    mount_move(".", "/").context("failed to move the root")?;
    chroot(".").context("failed to change the root")?;
    std::env::set_current_dir("/").context("failed to enter the root")
}

/// As pid 1: sets the machine up, has commands served by a child, and collects the dead.
pub fn run() -> Result<()> {
    make_root()?;
    for (kind, place) in MOUNTS {
        drop(fs::create_dir_all(place));
        mount(*kind, *place, *kind, MountFlags::empty(), None)
            .with_context(|| format!("failed to mount {place}"))?;
    }
    for name in fs::read_to_string(MODULES).context("failed to read the list of modules")?.lines() {
        let module = File::open(name).with_context(|| format!("failed to open {name}"))?;
        rustix::system::finit_module(module, c"", 0).with_context(|| format!("failed to load {name}"))?;
    }
    let (address, name) = (word(ADDRESS_WORD)?, word(NAME_WORD)?);
    rustix::system::sethostname(name.as_bytes()).context("failed to set the name")?;
    for line in [
        "link set lo up".to_owned(),
        format!("address add {address} dev eth0"),
        "link set eth0 up".to_owned(),
    ] {
        let status = Command::new("/bin/ip").args(line.split(' ')).status().context("failed to start ip")?;
        ensure!(status.success(), "'ip {line}' ended with {status}");
    }
    // A process of its own: pid 1 collects everybody's orphans, and would take the children's ends from who waits for them.
    Command::new("/proc/self/exe")
        .arg("serve")
        .env("PATH", SEARCH_PATH)
        .spawn()
        .context("failed to serve")?;
    while wait(WaitOptions::empty()).is_ok() {}
    Ok(())
}

/// Serves commands on all addresses.
pub fn serve() -> Result<()> {
    let listener = TcpListener::bind(("0.0.0.0", PORT)).context("failed to listen")?;
    println!("{SERVES}");
    line::serve(&listener)
}

/// A word of the kernel's command line, behind its name.
fn word(name: &str) -> Result<String> {
    let line = fs::read_to_string("/proc/cmdline").context("failed to read the kernel's command line")?;
    let found = line.split_whitespace().find_map(|word| word.strip_prefix(name));
    Ok(found.with_context(|| format!("the kernel's command line has no {name}"))?.to_owned())
}
