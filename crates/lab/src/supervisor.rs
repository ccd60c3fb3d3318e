//! The supervisor: pid 1 of the lab, owner of its bridge, ancestor of everything in it.

use crate::error::{Doing, Error, Result};
use crate::fork::{die_with_parent, fork, name_process};
use crate::init::{self, Cable};
use crate::plan::{NodePlan, Plan};
use crate::report::{Report, outside_pid};
use crate::state;
use crate::wiring;
use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use nix::sys::wait::waitpid;
use nix::unistd::{Pid, pipe2};
use std::fs::{self, File};
use std::os::fd::{AsRawFd, OwnedFd};

const NO_DATA: Option<&str> = None;

/// Seconds by which the clocks of neighbouring nodes differ, so that a clock read on the wrong
/// node is wrong by more than any test takes.
const MONOTONIC_STEP_SECONDS: u32 = 1_000;
const BOOTTIME_STEP_SECONDS: u32 = 3_000;

/// Runs the supervisor in its own pid namespace; returns only if the lab could not be set up.
pub(crate) fn run(plan: &Plan, report: OwnedFd) -> i32 {
    let outcome = set_up(plan).unwrap_or_else(|error| Report::Failed(error.to_string()));
    let failed = matches!(outcome, Report::Failed(_));
    if outcome.send(report).is_err() || failed {
        return 1;
    }
    reap()
}

/// The write ends of the pipes that hold the nodes back; dropping them is the starting shot.
type Barrier = Vec<OwnedFd>;

fn set_up(plan: &Plan) -> Result<Report> {
    let own_pid = outside_pid().doing(|| "find the supervisor's pid".to_owned())?;
    let flags = CloneFlags::CLONE_NEWNS
        | CloneFlags::CLONE_NEWNET
        | CloneFlags::CLONE_NEWIPC
        | CloneFlags::CLONE_NEWUTS;
    unshare(flags).doing(|| "make the supervisor's namespaces".to_owned())?;
    mount(NO_DATA, "/", NO_DATA, MsFlags::MS_REC | MsFlags::MS_PRIVATE, NO_DATA)
        .doing(|| "make mounts private".to_owned())?;
    // The nodes' own files live on this; the directory is only the place where it is mounted.
    let store = state::directory(&plan.name);
    mount(Some("openmosix-lab"), &store, Some("tmpfs"), MsFlags::empty(), Some("mode=0755"))
        .doing(|| format!("mount a tmpfs on {}", store.display()))?;
    let network = wiring::open()?;
    wiring::make_bridge(&network)?;
    let switch = File::open("/proc/self/ns/net").doing(|| "open the network namespace".to_owned())?;
    let mut barrier = Barrier::new();
    let mut nodes = Vec::new();
    for node in &plan.nodes {
        let directory = store.join(&node.name);
        fs::create_dir(&directory).doing(|| format!("make {}", directory.display()))?;
        let cable = Cable { switch: &switch, rate: plan.rate };
        nodes.push(start_node(plan, node, cable, &mut barrier)?);
        wiring::plug_in(&network, node.id, plan.rate)?;
    }
    for held in barrier {
        nix::unistd::write(&held, b"!").doing(|| "start the nodes".to_owned())?;
    }
    Ok(Report::Ready { pid: own_pid, nodes })
}

/// Starts a node's init and waits until its namespaces are set up; returns its pid outside.
fn start_node(plan: &Plan, node: &NodePlan, cable: Cable<'_>, barrier: &mut Barrier) -> Result<i32> {
    let pipe = || pipe2(OFlag::O_CLOEXEC).doing(|| "make a pipe".to_owned());
    let (ready, report) = pipe()?;
    let (go, starter) = pipe()?;
    let held: Vec<_> = barrier.iter().chain([&starter, &ready]).map(AsRawFd::as_raw_fd).collect();
    // A process can choose the pid and time namespaces of its children only once, hence one
    // short-lived process for each node; the init it leaves behind becomes the supervisor's child.
    let midwife = fork(|| {
        die_with_parent();
        for fd in &held {
            let _ = nix::unistd::close(*fd);
        }
        match deliver(plan, node, cable, &report, go) {
            Ok(()) => 0,
            Err(error) => {
                let _ = report.try_clone().and_then(|pipe| Report::Failed(error.to_string()).send(pipe));
                1
            }
        }
    });
    let midwife = midwife.doing(|| format!("fork the init of {}", node.name))?;
    drop(report);
    while waitpid(midwife, None) == Err(Errno::EINTR) {}
    barrier.push(starter);
    match Report::receive(ready) {
        Some(Report::Ready { pid, .. }) => Ok(pid),
        Some(Report::Failed(why)) => Err(Error::Setup(format!("node {}: {why}", node.name))),
        None => Err(Error::Setup(format!("the init of node {} died while it was being set up", node.name))),
    }
}

fn deliver(plan: &Plan, node: &NodePlan, cable: Cable<'_>, report: &OwnedFd, go: OwnedFd) -> Result<()> {
    unshare(CloneFlags::CLONE_NEWPID | NEW_TIME).doing(|| "make its pid and time namespaces".to_owned())?;
    let id = u32::from(node.id.get());
    let offsets =
        format!("monotonic {} 0\nboottime {} 0\n", id * MONOTONIC_STEP_SECONDS, id * BOOTTIME_STEP_SECONDS);
    fs::write("/proc/self/timens_offsets", offsets).doing(|| "set its clocks".to_owned())?;
    let report = report.try_clone().doing(|| "copy a pipe".to_owned())?;
    fork(|| {
        name_process(c"om-lab-init");
        init::run(plan, node, cable, report, go)
    })
    .doing(|| "fork it".to_owned())?;
    Ok(())
}

/// `CLONE_NEWTIME`, which nix does not name yet.
pub(crate) const NEW_TIME: CloneFlags = CloneFlags::from_bits_retain(libc::CLONE_NEWTIME);

/// Collects the dead for ever: the nodes' inits, and orphans that the kernel hands up.
fn reap() -> i32 {
    loop {
        if waitpid(Pid::from_raw(-1), None) == Err(Errno::ECHILD) {
            // Every node is dead, but the lab is not down before somebody says so.
            nix::unistd::pause();
        }
    }
}
