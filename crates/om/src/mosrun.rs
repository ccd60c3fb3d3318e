//! `mosrun NODE COMMAND`: the program is our direct child and is moved as soon as it is exec'd.
//!
//! `posix_spawn` returns when the child's exec has succeeded, so the program is there when the migration is asked for. With
//! `--rerun` it is started again if it was lost together with its host or its keeper; why it ended, only its home's daemon
//! can tell, and it is asked.

use crate::arguments::Mosrun;
use crate::client::{Client, unexpected};
use crate::exit::Failure;
use crate::job::{End, Job, Signals};
use control::{Answer, FailureKind, Fate, Record, Request, What};
use model::{Destination, NodeId, ProcessId};
use nix::sys::resource::{Resource, setrlimit};
use nix::sys::signal::{SigSet, Signal, raise};
use std::ffi::OsString;
use std::path::Path;
use std::process::ExitCode;
use std::time::{Duration, Instant};

/// How long a daemon that is just being replaced, or a keeper that is just dying, may keep us from knowing why a program
/// ended.
const VERDICT: Duration = Duration::from_secs(10);
const ASK_AGAIN: Duration = Duration::from_millis(50);

/// Where a program is to run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Wanted {
    /// Here, at home: it is not moved.
    Home,
    /// A node by its number or name.
    Node(String),
    /// The best node there is, or the best of these.
    Best(Vec<NodeId>),
}

impl Wanted {
    /// A node as people write it.
    pub(crate) fn of(text: &str) -> Wanted {
        match text {
            "home" => Wanted::Home,
            "best" | "balance" => Wanted::Best(Vec::new()),
            name => Wanted::Node(name.to_owned()),
        }
    }

    fn find(&self, client: &mut Client) -> Result<Destination, Failure> {
        match self {
            Wanted::Home => Ok(Destination::Home),
            Wanted::Node(name) => client.destination(name),
            Wanted::Best(among) => client.best(among),
        }
    }
}

/// A number of nodes as openMosix writes it: `1-3,7`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct NodeSet(pub(crate) Vec<NodeId>);

/// Nodes that a set may hold; more would be no choice.
const NODES_MAX: usize = 1024;

impl std::str::FromStr for NodeSet {
    type Err = String;

    fn from_str(text: &str) -> Result<NodeSet, String> {
        let mut nodes = Vec::new();
        for part in text.split(',') {
            let (first, last) = part.split_once('-').unwrap_or((part, part));
            let wrong = || format!("'{part}' is neither a node's number nor FIRST-LAST");
            let (first, last): (NodeId, NodeId) =
                (first.parse().map_err(|_| wrong())?, last.parse().map_err(|_| wrong())?);
            nodes.extend((first.get()..=last.get()).take(NODES_MAX + 1).filter_map(NodeId::new));
            if first > last || nodes.len() > NODES_MAX {
                return Err(if first > last { wrong() } else { format!("more than {NODES_MAX} nodes") });
            }
        }
        nodes.sort_unstable();
        nodes.dedup();
        Ok(NodeSet(nodes))
    }
}

pub(crate) fn run(arguments: Mosrun) -> Result<ExitCode, Failure> {
    let (wanted, command) = arguments.split()?;
    run_wanted(&wanted, &command, arguments.rerun.unwrap_or(0), &arguments.socket)
}

/// Runs a program where it is wanted, again as often as it is lost, and ends as it has ended.
pub(crate) fn run_wanted(
    wanted: &Wanted,
    command: &[OsString],
    reruns: u32,
    socket: &Path,
) -> Result<ExitCode, Failure> {
    let mut place = match wanted {
        Wanted::Home => None,
        wanted => {
            let mut client = Client::connect(socket)?;
            let to = wanted.find(&mut client)?;
            Some((client, to))
        }
    };
    let signals = Signals::block().map_err(anyhow::Error::from)?;
    for round in 1.. {
        let mut job = Job::start(command, &signals)?;
        match place.take() {
            Some((client, to @ Destination::Node(_))) => job.go(client, to),
            Some((_, Destination::Home)) | None => {}
        }
        let end = job.wait(&signals).map_err(anyhow::Error::from)?;
        let lost = match (end, job.process()) {
            (End::By(Signal::SIGKILL), Some(process)) if round <= reruns && !job.was_told_to_end() => {
                why_lost(socket, process)
            }
            _ => None,
        };
        let Some(record) = lost else { return Ok(end_like(end)) };
        let pid = record.pid.unwrap_or_default();
        let on = record.node.map(|node| format!(" on node {node}")).unwrap_or_default();
        let line =
            format!("process {pid}{on} was lost ({}); started again, {round} of {reruns}", record.cause);
        eprintln!("mosrun: {}", crate::tables::harmless(&line.replace('\n', " ")));
        // The node may be the very one that is gone; then it runs here.
        place = again(wanted, socket);
    }
    Err(Failure::new(FailureKind::Broken, "it was started too often"))
}

fn again(wanted: &Wanted, socket: &Path) -> Option<(Client, Destination)> {
    if *wanted == Wanted::Home {
        return None;
    }
    let find = || -> Result<_, Failure> {
        let mut client = Client::connect(socket)?;
        let to = wanted.find(&mut client)?;
        Ok((client, to))
    };
    find().inspect_err(|failure| eprintln!("mosrun: it runs here: {failure}")).ok()
}

/// The record that says that a process was lost, if it was.
fn why_lost(socket: &Path, process: ProcessId) -> Option<Record> {
    let deadline = Instant::now() + VERDICT;
    loop {
        let fate =
            Client::connect(socket).and_then(|mut client| match client.ask(&Request::Fate { process })? {
                Answer::Fate(fate) => Ok(fate),
                _ => Err(unexpected()),
            });
        match fate {
            Ok(Fate::Known { record }) => return (record.what == What::Lost).then_some(record),
            Ok(Fate::Unknown) => return None,
            Ok(Fate::Pending) if Instant::now() < deadline => {}
            Err(_) if Instant::now() < deadline => {}
            Ok(Fate::Pending) => return None,
            Err(failure) => {
                eprintln!("mosrun: nobody knows why it ended: {failure}");
                return None;
            }
        }
        std::thread::sleep(ASK_AGAIN);
    }
}

/// Ends in the same way, so that our parent sees what it would have seen; without a second core file.
fn end_like(end: End) -> ExitCode {
    match end {
        End::Exited(code) => ExitCode::from(code),
        End::By(signal) => {
            let _ = setrlimit(Resource::RLIMIT_CORE, 0, 0);
            let _ = SigSet::from_iter([signal]).thread_unblock();
            let _ = raise(signal);
            ExitCode::from(128u8.wrapping_add(signal as i32 as u8))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sets_of_nodes_are_read_as_openmosix_writes_them() {
        let read = |text: &str| text.parse::<NodeSet>().map(|set| set.0.iter().map(|id| id.get()).collect());
        assert_eq!(read("1-3,7"), Ok(vec![1, 2, 3, 7]));
        assert_eq!(read("7,1,7"), Ok(vec![1, 7]));
        for wrong in ["", "0", "3-1", "a", "1-", "1,,2", "1-65535"] {
            assert!(read(wrong).is_err(), "{wrong}");
        }
    }
}
