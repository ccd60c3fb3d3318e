//! What a process is, as far as the rules for automatic moves ask.

use crate::process::Process;
use model::ProcessId;
use procinfo::{parse_glance, parse_service_group};
use std::fs;
use std::path::Path;

/// Bytes of the arguments that are looked at.
const ARGUMENTS_BYTES: usize = 4096;
/// Arguments that are looked at.
const ARGUMENTS_MAX: usize = 64;

/// A process as a candidate for automatic moves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Subject {
    /// The process.
    pub id: ProcessId,
    /// Its parent.
    pub parent: i32,
    /// Its command name.
    pub name: String,
    /// The file that it runs, unless that is somebody's secret or gone.
    pub path: Option<String>,
    /// Its arguments, its own name first.
    pub arguments: Vec<String>,
    /// Its owner.
    pub uid: u32,
    /// The control group of the service or session that it belongs to, where a service manager makes such.
    pub group: Option<String>,
    /// Milliseconds since it began.
    pub lived_ms: u64,
    /// It is one of the cluster's own programs.
    pub own: bool,
}

impl Subject {
    /// Reads a process; `None` if there is none with this pid.
    pub fn read(pid: i32) -> Option<Subject> {
        let file = |name: &str| fs::read(format!("/proc/{pid}/{name}")).ok();
        let glance = parse_glance(&file("stat")?).ok()?;
        let process = Process::read(pid).filter(|process| process.id.start_ticks == glance.start_ticks)?;
        let path = fs::read_link(format!("/proc/{pid}/exe")).ok();
        let path = path.map(|path| path.to_string_lossy().trim_end_matches(" (deleted)").to_owned());
        let groups = file("cgroup").unwrap_or_default();
        Some(Subject {
            id: process.id,
            parent: glance.parent,
            name: process.name.clone(),
            arguments: arguments(&file("cmdline").unwrap_or_default()),
            uid: process.uids[0],
            group: parse_service_group(&String::from_utf8_lossy(&groups)).map(str::to_owned),
            lived_ms: lived_ms(glance.start_ticks),
            own: process.is_our_program() || path.as_deref().is_some_and(is_our_tool),
            path,
        })
    }

    /// The names that it goes by: of its command, of its file, and that it was called by.
    pub fn names(&self) -> Vec<&str> {
        fn base(path: &str) -> &str {
            path.rsplit('/').next().unwrap_or(path)
        }
        let called = self.arguments.first().map(|name| base(name.trim_start_matches('-')));
        let mut names = vec![self.name.as_str()];
        names.extend(self.path.as_deref().map(base));
        names.extend(called.filter(|name| !name.is_empty()));
        names.dedup();
        names
    }
}

/// `om`, under whatever name it was called: it stands beside the daemon.
fn is_our_tool(path: &str) -> bool {
    let own = std::env::current_exe().unwrap_or_default();
    Path::new(path).file_name().is_some_and(|name| name == "om") && Path::new(path).parent() == own.parent()
}

fn arguments(text: &[u8]) -> Vec<String> {
    let text = &text[..text.len().min(ARGUMENTS_BYTES)];
    let text = text.strip_suffix(b"\0").unwrap_or(text);
    if text.is_empty() {
        return Vec::new();
    }
    let words = text.split(|byte| *byte == 0).take(ARGUMENTS_MAX);
    words.map(|word| String::from_utf8_lossy(word).into_owned()).collect()
}

fn lived_ms(start_ticks: u64) -> u64 {
    let per_second = rustix::param::clock_ticks_per_second().max(1);
    let started_ms = start_ticks.saturating_mul(1000) / per_second;
    let uptime = fs::read_to_string("/proc/uptime").unwrap_or_default();
    let seconds: f64 = uptime.split(' ').next().and_then(|word| word.parse().ok()).unwrap_or(0.0);
    ((seconds * 1000.0) as u64).saturating_sub(started_ms)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_is_one_of_ours() {
        let own = Subject::read(std::process::id() as i32).unwrap();
        assert!(own.own && own.parent > 0 && own.path.is_some());
        assert_eq!(own.uid, rustix::process::getuid().as_raw());
        assert_eq!(own.arguments, std::env::args().collect::<Vec<_>>());
        assert!(own.lived_ms < 3_600_000, "{}", own.lived_ms);
        assert_eq!(Subject::read(i32::MAX), None);
    }

    #[test]
    fn arguments_are_bounded() {
        assert_eq!(arguments(b"a\0\0b c\0"), ["a", "", "b c"]);
        assert_eq!(arguments(b""), [""; 0]);
        assert_eq!(arguments(&b"x\0".repeat(10_000)).len(), ARGUMENTS_MAX);
    }
}
