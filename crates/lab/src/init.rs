//! A node's init: pid 1 of the node, the parent of its daemon and of its orphans.

use crate::cgroup;
use crate::deal;
use crate::error::{Doing, Result};
use crate::fork::{close_all_but, silence};
use crate::house;
use crate::plan::{DAEMON, NodePlan, Plan};
use crate::report::{Report, outside_pid};
use crate::spec::{Daemons, Rate};
use crate::wiring;
use nix::errno::Errno;
use nix::sched::{CloneFlags, sched_setaffinity, unshare};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::{Pid, read, sethostname, setsid};
use std::fs::{self, File};
use std::io::Write;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::process::Command;

/// Where the daemon's output goes, inside the node.
pub(crate) const DAEMON_LOG: &str = "/var/log/openmosix/omd.log";

/// What the init's own lines in that log begin with.
pub(crate) const LOG_MARK: &str = "om-lab-init: ";

/// What a node's network connection is made of.
#[derive(Clone, Copy)]
pub(crate) struct Cable<'a> {
    /// The network namespace of the lab's bridge.
    pub(crate) switch: &'a File,
    pub(crate) rate: Option<Rate>,
}

/// Runs a node's init in its own pid and time namespaces; returns only if it could not be set up.
///
/// Reports, then waits for a byte through `go` before it starts anything.
pub(crate) fn run(plan: &Plan, node: &NodePlan, cable: Cable<'_>, report: OwnedFd, go: OwnedFd) -> i32 {
    // The supervisor reads the report to its end, so no copy of the pipe may stay open here.
    close_all_but(&[report.as_raw_fd(), go.as_raw_fd(), cable.switch.as_raw_fd()]);
    let outcome = set_up(plan, node, cable).unwrap_or_else(|error| Report::Failed(error.to_string()));
    let failed = matches!(outcome, Report::Failed(_));
    if outcome.send(report).is_err() || failed || read(&go, &mut [0]) != Ok(1) {
        return 1;
    }
    drop(go);
    let daemon = match plan.daemons {
        Daemons::Started => start_daemon(),
        Daemons::Bare => None,
    };
    reap(daemon)
}

fn set_up(plan: &Plan, node: &NodePlan, cable: Cable<'_>) -> Result<Report> {
    let pid = outside_pid().doing(|| "find its pid".to_owned())?;
    let _ = setsid();
    for group in &node.groups {
        // 0 is the writer; its number here would mean another process outside.
        fs::write(cgroup::door(group), "0").doing(|| format!("join {}", group.display()))?;
    }
    sched_setaffinity(Pid::from_raw(0), &deal::cpu_set(&node.cpus))
        .doing(|| "pin it to its CPUs".to_owned())?;
    let flags = CloneFlags::CLONE_NEWNS
        | CloneFlags::CLONE_NEWNET
        | CloneFlags::CLONE_NEWUTS
        | CloneFlags::CLONE_NEWIPC
        | CloneFlags::CLONE_NEWCGROUP;
    unshare(flags).doing(|| "make its namespaces".to_owned())?;
    sethostname(&node.name).doing(|| "set its hostname".to_owned())?;
    wiring::make_cable(&wiring::open()?, node.id, cable.switch.as_fd(), cable.rate)?;
    house::move_in(plan, node)?;
    silence();
    Ok(Report::Ready { pid, nodes: Vec::new() })
}

/// Starts the daemon; a failure is noted in its log, where the creator of the lab looks for it.
fn start_daemon() -> Option<Pid> {
    let log = File::options().create(true).append(true).open(DAEMON_LOG).ok()?;
    let mut command = Command::new(format!("{}/{DAEMON}", house::PROGRAMS));
    command.env_clear().env("PATH", house::SEARCH_PATH).env("HOME", "/root").current_dir("/");
    // What a developer sets for our daemon is meant for those in the nodes too.
    command.envs(
        ["OMD_LOG", "RUST_BACKTRACE"].into_iter().filter_map(|name| Some((name, std::env::var_os(name)?))),
    );
    command.stdout(log.try_clone().ok()?).stderr(log.try_clone().ok()?);
    // SAFETY: setsid is a bare system call.
    unsafe { command.pre_exec(|| setsid().map(drop).map_err(Into::into)) };
    match command.spawn() {
        Ok(child) => i32::try_from(child.id()).ok().map(Pid::from_raw),
        Err(error) => {
            note(&format!("failed to start {DAEMON}: {error}"));
            None
        }
    }
}

fn note(text: &str) {
    if let Ok(mut log) = File::options().create(true).append(true).open(DAEMON_LOG) {
        let _ = writeln!(log, "{LOG_MARK}{text}");
    }
}

/// Collects the node's dead for ever. A dead daemon is noted, not restarted: a test may have meant it.
fn reap(daemon: Option<Pid>) -> i32 {
    let children = SigSet::from(Signal::SIGCHLD);
    // Blocked, the signal of a child that ends between the two calls below stays for the second.
    let _ = children.thread_block();
    loop {
        match waitpid(Pid::from_raw(-1), None) {
            Ok(WaitStatus::Exited(pid, status)) if Some(pid) == daemon => {
                note(&format!("{DAEMON} ended with status {status}"));
            }
            Ok(WaitStatus::Signaled(pid, signal, _)) if Some(pid) == daemon => {
                note(&format!("{DAEMON} was killed by {signal}"));
            }
            Err(Errno::ECHILD) => {
                let _ = children.wait();
            }
            _ => {}
        }
    }
}
