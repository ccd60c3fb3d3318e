//! What a guest needs beside this project, and whether it is here.

use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::OnceLock;

/// Why a guest with these needs cannot run; none if it can.
///
/// A need is the name of a program, or `python3:` and the name of a module.
pub fn missing(needs: &[&str]) -> Option<String> {
    needs.iter().find_map(|need| match need.split_once(':') {
        Some((_, module)) => {
            let import = Command::new(python())
                .args(["-c", &format!("import {module}")])
                .stderr(Stdio::null())
                .status();
            (!import.is_ok_and(|status| status.success())).then(|| format!("python3 has no module {module}"))
        }
        None => find(need).is_none().then(|| format!("{need} is not installed")),
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

fn find(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).map(|directory| directory.join(program)).find(|file| file.is_file())
}
