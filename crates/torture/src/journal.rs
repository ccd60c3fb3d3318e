//! What the daemons and their agents wrote into their logs during a torture.

use crate::error::{Doing, Result};
use lab::NodeState;
use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::{Read as _, Seek as _, SeekFrom};
use std::path::PathBuf;

const LOG: &str = "/var/log/openmosix/omd.log";
/// Bytes of one node's log that are read for one torture, at most.
const LOG_BYTES_MAX: u64 = 256 << 20;
/// Lines that are told, at most; more would hide the first.
const LINES_MAX: usize = 40;
/// Lines of the logs that are told beside a fault.
const LAST_LINES: usize = 15;

/// Where the logs end at the beginning.
pub(crate) struct Journal {
    logs: Vec<(String, PathBuf, u64)>,
}

/// What was written since.
#[derive(Default)]
pub(crate) struct Entries {
    /// Lines that tell of an error, each behind the name of its node.
    pub(crate) errors: Vec<String>,
    /// How often each call (or other cause) brought a process home.
    pub(crate) home_comings: BTreeMap<String, u64>,
    /// The sessions of guests, by which their groups are named.
    pub(crate) sessions: BTreeSet<String>,
    /// The last lines of every log, for the reader of a failure.
    pub(crate) last: Vec<String>,
}

impl Journal {
    /// Begins to listen.
    pub(crate) fn begin(nodes: &[NodeState]) -> Journal {
        let logs = nodes.iter().map(|node| (node.name.clone(), node.seen_from_outside(LOG)));
        let length = |path: &PathBuf| fs::metadata(path).map_or(0, |data| data.len());
        Journal { logs: logs.map(|(node, path)| (node, path.clone(), length(&path))).collect() }
    }

    /// What was written since it began.
    pub(crate) fn entries(&self) -> Result<Entries> {
        let mut entries = Entries::default();
        for (node, path, from) in &self.logs {
            let mut text = Vec::new();
            let read = File::open(path).and_then(|mut file| {
                file.seek(SeekFrom::Start(*from))?;
                file.take(LOG_BYTES_MAX).read_to_end(&mut text)
            });
            read.doing(|| format!("read the log of {node}, {}", path.display()))?;
            entries.take(node, &String::from_utf8_lossy(&text));
        }
        Ok(entries)
    }
}

impl Entries {
    fn take(&mut self, node: &str, text: &str) {
        for line in text.lines() {
            // A program that ends by itself with an error says so without the marks of a log line.
            let is_error = line.contains(" ERROR ") || line.contains("panicked") || line.starts_with("omd: ");
            if is_error && self.errors.len() < LINES_MAX {
                self.errors.push(format!("{node}: {line}"));
            }
            if let Some(cause) = home_coming(line) {
                *self.home_comings.entry(cause).or_default() += 1;
            }
        }
        let sockets = text.split("/warden/").skip(1).filter_map(|rest| rest.split_once(".sock"));
        self.sessions.extend(sockets.map(|(session, _)| session.to_owned()));
        let lines: Vec<&str> = text.lines().collect();
        let last = &lines[lines.len().saturating_sub(LAST_LINES)..];
        self.last.extend(last.iter().map(|line| format!("{node}: {line}")));
    }
}

/// Why a process came home by itself, if this line tells of that.
fn home_coming(line: &str) -> Option<String> {
    let rest = line.split_once("came home ")?.1;
    let wish = rest.split_once("wish=")?.1.split(" freeze=").next()?;
    let number = wish.split_once("nr: ").and_then(|(_, rest)| rest.split(' ').next()?.parse::<u32>().ok());
    // What is no call is told in the log's own words.
    Some(number.and_then(syscalls::row).map_or_else(|| wish.to_lowercase(), |row| row.name.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn home_comings_and_errors_are_found() {
        let mut entries = Entries::default();
        entries.take(
            "n1",
            "2026-01-01T00:00:00Z  INFO node::keeper: came home pid=35 wish=Call { nr: 59 } freeze=1.4ms\n\
             2026-01-01T00:00:00Z  INFO node::keeper: came home pid=35 wish=Call { nr: 59 } freeze=1.4ms\n\
             2026-01-01T00:00:00Z  INFO node::keeper: came home pid=35 wish=Expelled freeze=1.4ms\n\
             2026-01-01T00:00:00Z  INFO node::keeper: moved pid=35 node=2\n\
             2026-01-01T00:00:00Z ERROR node::keeper: the host is lost pid=35\n\
             2026-01-01T00:00:00Z  INFO node::agents: agent started pid=9 socket=/run/openmosix/warden/a1b2.sock\n\
             thread 'main' panicked at x.rs:1:1:\n",
        );
        assert_eq!(entries.home_comings, BTreeMap::from([("execve".into(), 2), ("expelled".into(), 1)]));
        assert_eq!(entries.errors.len(), 2);
        assert_eq!(entries.last.len(), 7);
        assert_eq!(entries.sessions, BTreeSet::from(["a1b2".to_owned()]));
    }
}
