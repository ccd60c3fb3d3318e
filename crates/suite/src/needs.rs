//! What a guest needs beside this project, and whether it is here.

use crate::{Workshop, machine};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::OnceLock;

/// Why a guest with these needs cannot run; none if it can.
///
/// A need is the name of a program, `python3:` and the name of a module, `source:` and the name of a package of Debian's, or
/// something of the kernel's: `ia32` (32-bit programs), `io_uring`, `cores` (core files where their programs are);
/// `second-kernel` is the one that trials boot.
pub fn missing(needs: &[&str]) -> Option<String> {
    needs.iter().find_map(|need| match (*need, need.split_once(':')) {
        ("ia32", _) => (!runs("thirtytwo")).then(|| "this kernel runs no 32-bit programs".to_owned()),
        ("io_uring", _) => {
            (!runs("iouring")).then(|| "this kernel has no io_uring, or forbids it".to_owned())
        }
        ("cores", _) => {
            let pattern = std::fs::read_to_string("/proc/sys/kernel/core_pattern").unwrap_or_default();
            (pattern.trim() != "core").then(|| format!("core files go elsewhere here: {}", pattern.trim()))
        }
        ("second-kernel", _) => machine::missing(),
        (_, Some(("source", package))) => {
            let is_here = Workshop::open().is_ok_and(|workshop| workshop.sources.join(package).is_dir());
            (!is_here)
                .then(|| format!("the sources of {package} are not here; 'cargo xtask compat' fetches them"))
        }
        (_, Some((_, module))) => {
            let import = Command::new(python())
                .args(["-c", &format!("import {module}")])
                .stderr(Stdio::null())
                .status();
            (!import.is_ok_and(|status| status.success())).then(|| format!("python3 has no module {module}"))
        }
        (_, None) => find(need).is_none().then(|| format!("{need} is not installed")),
    })
}

/// The Python to use: the system's own, because one in somebody's home is not seen by the nodes of a lab.
pub(crate) fn python() -> &'static str {
    static PYTHON: OnceLock<String> = OnceLock::new();
    PYTHON.get_or_init(|| {
        let usual = PathBuf::from("/usr/bin/python3");
        if usual.exists() { usual.to_string_lossy().into_owned() } else { "python3".to_owned() }
    })
}

/// Whether a guest comes to its end with empty input: the probe for what the kernel may lack.
fn runs(guest: &str) -> bool {
    let Ok(workshop) = Workshop::open() else { return false };
    let mut probe = Command::new(workshop.guests.join(guest));
    probe.stdin(Stdio::null()).stdout(Stdio::null()).status().is_ok_and(|status| status.success())
}

fn find(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).map(|directory| directory.join(program)).find(|file| file.is_file())
}
