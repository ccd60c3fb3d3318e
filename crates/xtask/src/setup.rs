//! `cargo xtask setup`: what the tests need beside Rust, on Debian 12. Installs only what is missing.

use crate::command::{command, have, must};
use crate::kernel;
use anyhow::Result;
use std::process::ExitCode;

/// A program the tests use, or a file by its whole path, and the Debian package that brings it.
const NEEDED: &[(&str, &str)] = &[
    ("cc", "gcc"),
    ("c++", "g++"),
    ("as", "binutils"),
    ("musl-gcc", "musl-tools"),
    ("go", "golang-go"),
    ("gawk", "gawk"),
    ("xz", "xz-utils"),
    ("python3", "python3"),
    ("perl", "perl"),
    ("bash", "bash"),
    ("gdb", "gdb"),
    ("strace", "strace"),
    ("ps", "procps"),
    ("tmux", "tmux"),
    ("ip", "iproute2"),
    ("setpriv", "util-linux"),
    ("script", "bsdutils"),
    ("make", "make"),
    ("pgrep", "procps"),
    ("javac", "default-jdk-headless"),
    ("lame", "lame"),
    ("redis-server", "redis-server"),
    ("redis-benchmark", "redis-tools"),
    ("sqlite3", "sqlite3"),
    ("stress-ng", "stress-ng"),
    ("tclsh", "tcl"),
    ("qemu-system-x86_64", "qemu-system-x86"),
    ("/usr/lib/python3.11/test/test_os.py", "libpython3.11-testsuite"),
];

/// Provides everything that the tests use.
pub(crate) fn run() -> Result<ExitCode> {
    let provided = provide(|_| true);
    if let Err(error) = kernel::fetch() {
        println!("setup: no second kernel: {error:#}; tests that need it will say so");
    }
    provided
}

/// Installs the missing packages of the wanted programs, or says which they are and why it cannot.
///
/// Never fails the caller for a missing package: what needs it says so itself.
pub(crate) fn provide(wanted: impl Fn(&str) -> bool) -> Result<ExitCode> {
    let missing = NEEDED.iter().filter(|(program, _)| wanted(program) && !have(program));
    let missing: Vec<&str> = missing.map(|(_, package)| *package).collect();
    if missing.is_empty() {
        println!("setup: everything that is needed is here");
        return Ok(ExitCode::SUCCESS);
    }
    println!("setup: missing packages: {}", missing.join(" "));
    if !have("apt-get") {
        println!("setup: this is no Debian; install them by hand. Tests that need them will say so.");
        return Ok(ExitCode::SUCCESS);
    }
    if !is_root() {
        println!("setup: not root; run: sudo apt-get install --no-install-recommends {}", missing.join(" "));
        return Ok(ExitCode::SUCCESS);
    }
    let install = ["install", "-y", "-qq", "--no-install-recommends"];
    let outcome = must(&mut command("apt-get", &["update", "-qq"])).and_then(|()| {
        must(command("apt-get", &install).args(&missing).env("DEBIAN_FRONTEND", "noninteractive"))
    });
    match outcome {
        Ok(()) => println!("setup: installed {}", missing.join(" ")),
        Err(error) => println!("setup: {error:#}; tests that need these packages will say so"),
    }
    Ok(ExitCode::SUCCESS)
}

/// Whether we run as root, as seen by the owner of our own `/proc` entry.
pub(crate) fn is_root() -> bool {
    use std::os::unix::fs::MetadataExt as _;
    std::fs::metadata("/proc/self").is_ok_and(|entry| entry.uid() == 0)
}
