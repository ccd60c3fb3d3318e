//! `mosrun [NODE] COMMAND`: the program is our direct child; if a node is given, it is moved there as soon as it is exec'd.
//!
//! `posix_spawn` returns when the child's exec has succeeded, so the program is there when the migration is asked for. With
//! `--rerun` it is started again if it was lost together with its host or its keeper; why it ended, only its home's daemon
//! can tell, and it is asked.

use crate::arguments::Mosrun;
use crate::client::{Client, unexpected};
use crate::exit::Failure;
use crate::job::{End, Job, Signals};
use crate::placing::{Otherwise, Plan};
use control::{Answer, FailureKind, Fate, Record, Request, What};
use model::{Destination, ProcessId};
use nix::sys::resource::{Resource, setrlimit};
use nix::sys::signal::{SigSet, Signal, raise};
use std::path::Path;
use std::process::ExitCode;
use std::time::{Duration, Instant};

/// How long a daemon that is just being replaced, or a keeper that is just dying, may keep us from knowing why a program
/// ended.
const VERDICT: Duration = Duration::from_secs(10);
const ASK_AGAIN: Duration = Duration::from_millis(50);

pub(crate) fn run(arguments: Mosrun) -> Result<ExitCode, Failure> {
    let plan = arguments.plan()?;
    if let Some(line) = arguments.without_meaning() {
        eprintln!("mosrun: {line}");
    }
    carry_out(&plan, arguments.rerun.unwrap_or(0), &arguments.socket)
}

/// Runs a program as it is planned, again as often as it is lost, and ends as it has ended.
pub(crate) fn carry_out(plan: &Plan, reruns: u32, socket: &Path) -> Result<ExitCode, Failure> {
    let (mut client, destinations) = place(plan, socket)?;
    // Of ourselves, before there is a child: it inherits, and so does everything that it starts, however soon.
    let pid = std::process::id() as i32;
    client.ask(&Request::Stand { pid, standing: plan.standing.clone() })?;
    let mut place_now = Some((client, destinations));
    let signals = Signals::block().map_err(anyhow::Error::from)?;
    for round in 1.. {
        let mut job = Job::start(&plan.program, &signals)?;
        if let Some((client, destinations)) = place_now.take() {
            job.go(client, destinations);
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
        let place_again = place(plan, socket);
        place_now = place_again.inspect_err(|failure| eprintln!("mosrun: it runs here: {failure}")).ok();
    }
    Err(Failure::new(FailureKind::Broken, "it was started too often"))
}

/// Where it is to go, and whom to ask to move it there.
fn place(plan: &Plan, socket: &Path) -> Result<(Client, Vec<Destination>), Failure> {
    let mut client = Client::connect(socket)?;
    let destinations = match plan.start.destinations(&mut client) {
        Err(failure)
            if plan.otherwise == Otherwise::RunsHere
                && matches!(failure.kind, FailureKind::NotFound | FailureKind::Refused) =>
        {
            eprintln!("mosrun: it runs here: {failure}");
            Vec::new()
        }
        destinations => destinations?,
    };
    Ok((client, destinations))
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
            Ok(Fate::Known { record }) => return (record.what == What::Lost).then_some(*record),
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
