//! Whether a process may move to a node, with all reasons against it. Nothing here disturbs anybody.

use crate::Setup;
use crate::cpu_use;
use crate::machine;
use crate::process::Process;
use control::WardenStatus;
use model::{Reason, ReasonCode};
use std::time::{Duration, Instant};
use wire::peer::NodeInfo;

/// How long a process may be held up by what it has made with `vfork`, before that counts as a reason.
const VFORK_PATIENCE: Duration = Duration::from_secs(1);
const VFORK_LOOKS: Duration = Duration::from_millis(5);

/// Why a process at home cannot leave. Between `vfork` and the other program it shares its memory with its child: that
/// is waited for, as it mostly takes a moment and nothing tells of its end.
pub(crate) fn lasting_constraints(pid: i32) -> Vec<Reason> {
    let deadline = Instant::now() + VFORK_PATIENCE;
    loop {
        let reasons = tracee::constraints(pid);
        let passing = |reason: &Reason| reason.code == ReasonCode::SharesMemoryMap;
        if reasons.is_empty() || !reasons.iter().all(passing) || Instant::now() > deadline {
            return reasons;
        }
        std::thread::sleep(VFORK_LOOKS);
    }
}

/// Where the user part of a process is at the moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Whereabouts {
    /// At home, untouched.
    Home,
    /// Away: what is seen here is its deputy.
    Away,
}

/// Reasons that lie in the process.
pub fn of_process(
    setup: &Setup,
    process: &Process,
    whereabouts: Whereabouts,
    guests: &[WardenStatus],
) -> Vec<Reason> {
    let mut reasons = Vec::new();
    if process.is_our_program() {
        reasons.push(Reason::new(ReasonCode::OwnDaemon, &process.name));
    }
    if let Some(guest) = guests.iter().find(|guest| guest.local_pid == process.id.pid) {
        reasons.push(Reason::new(ReasonCode::Guest, format!("pid {} of node {}", guest.pid, guest.home)));
    } else if setup.config.guests.is_guest(process.uids[0]) {
        reasons.push(ReasonCode::Guest.into());
    }
    match whereabouts {
        // The cluster's own programs and guests are traced, filtered and more, all by our doing.
        Whereabouts::Home if reasons.is_empty() => reasons.extend(lasting_constraints(process.id.pid)),
        Whereabouts::Home => {}
        // The deputy tells nothing of the program, but its end is the end of both.
        Whereabouts::Away if "ZX".contains(process.state) => reasons.push(ReasonCode::Zombie.into()),
        Whereabouts::Away => {}
    }
    reasons
}

/// Reasons that lie in the node it is to go to, as far as that node says by itself; an offer may bring more.
///
/// What a process may be using of this node's CPU is looked up only where the node's CPU is not fit for all of it, and the
/// process is at home: of one that is away its keeper knows, and offers accordingly.
pub fn of_node(
    info: &NodeInfo,
    own: &model::CpuProfile,
    process: &Process,
    whereabouts: Whereabouts,
) -> Vec<Reason> {
    let mut reasons = Vec::new();
    if !info.accepts {
        reasons.push(ReasonCode::Refused.into());
    }
    let mut missing = info.cpu.missing_for(own);
    if !missing.is_empty() {
        missing = match whereabouts {
            Whereabouts::Away => Vec::new(),
            Whereabouts::Home => match cpu_use::needed_by(process.id.pid, own) {
                Some(needed) => info.cpu.missing_for(&needed),
                None => missing,
            },
        };
    }
    if !missing.is_empty() {
        reasons.push(Reason::new(ReasonCode::CpuFeatures, missing.join(", ")));
    }
    if !machine::kernel_is_fit(&info.kernel) {
        let (major, minor) = machine::KERNEL_MIN;
        reasons.push(Reason::new(ReasonCode::Kernel, format!("{}; {major}.{minor} is needed", info.kernel)));
    }
    if info.memory_free_bytes < process.memory_bytes {
        let need =
            format!("{} MiB are free, {} needed", info.memory_free_bytes >> 20, process.memory_bytes >> 20);
        reasons.push(Reason::new(ReasonCode::Memory, need));
    }
    reasons
}
