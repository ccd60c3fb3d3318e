//! The session: the parent, inside a node, of one command that was sent in from outside.
//!
//! It speaks with the relay by single packets. To the relay: one [`STARTED`] (with the terminal's
//! master, if there is one) or [`FAILED`], then one [`ENDED`]. From the relay: signal numbers.
//! Runs between fork and exec, so nothing here allocates.

use crate::entry::Terminal;
use crate::fork::{close_all_at_exec, close_all_but, exit_now, name_process, reset_signals, silence};
use crate::supervisor::NEW_TIME;
use crate::terminal::{self, Screen};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sched::{CloneFlags, CpuSet, sched_setaffinity, setns};
use nix::sys::signal::{SigSet, Signal, kill, killpg};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::sys::socket::{MsgFlags, recv, send};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::{ForkResult, Gid, Pid, Uid, chdir, setgid, setgroups, setsid, setuid, write};
use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};
use std::ffi::CString;
use std::io::IoSlice;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};

/// The command is about to run.
pub(crate) const STARTED: u8 = b's';
/// There will be no command; four bytes of errno follow.
pub(crate) const FAILED: u8 = b'f';
/// The command has ended; four bytes follow: its status, or the negated signal that killed it.
pub(crate) const ENDED: u8 = b'e';

/// Where a command goes, prepared before the fork.
pub(crate) struct Place {
    /// The node's init.
    pub(crate) init: OwnedFd,
    /// The files by which the groups are joined.
    pub(crate) groups: Vec<OwnedFd>,
    pub(crate) cpus: CpuSet,
    pub(crate) account: Account,
    pub(crate) terminal: Terminal,
}

/// Who a command is.
pub(crate) struct Account {
    pub(crate) uid: Uid,
    pub(crate) gid: Gid,
    pub(crate) groups: Vec<Gid>,
    pub(crate) home: CString,
}

/// Enters the node and forks the command. Returns in the command, ready to exec; an error is
/// returned in the session, and then there is no command.
pub(crate) fn start(place: &Place, relay: &OwnedFd, screen: Option<&Screen>) -> nix::Result<()> {
    for group in &place.groups {
        write(group, b"0")?;
    }
    let all = CloneFlags::CLONE_NEWNS
        | CloneFlags::CLONE_NEWNET
        | CloneFlags::CLONE_NEWUTS
        | CloneFlags::CLONE_NEWIPC
        | CloneFlags::CLONE_NEWCGROUP
        | NEW_TIME;
    setns(&place.init, all)?;
    sched_setaffinity(Pid::from_raw(0), &place.cpus)?;
    let pair = screen.map(terminal::open_pair).transpose()?;
    let ended = SignalFd::with_flags(&SigSet::from(Signal::SIGCHLD), SfdFlags::SFD_CLOEXEC)?;
    SigSet::all().thread_set_mask()?;
    // SAFETY: both copies keep to system calls until they exec or exit.
    match unsafe { nix::unistd::fork() }? {
        ForkResult::Child => {
            // As after a login, whatever the one who sent it had ignored or held back.
            reset_signals();
            become_command(place, pair.as_ref().map(|pair| &pair.slave))
        }
        ForkResult::Parent { child } => {
            name_process(c"om-lab-session");
            let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
            let mut control = SendAncillaryBuffer::new(&mut space);
            let passed = pair.as_ref().map(|pair| [pair.master.as_fd()]);
            if let Some(passed) = &passed {
                control.push(SendAncillaryMessage::ScmRights(passed));
            }
            let told = sendmsg(relay, &[IoSlice::new(&[STARTED])], &mut control, SendFlags::NOSIGNAL);
            if told.is_err() {
                let _ = killpg(child, Signal::SIGKILL);
            }
            close_all_but(&[relay.as_raw_fd(), ended.as_raw_fd()]);
            silence();
            attend(child, relay, &ended)
        }
    }
}

/// Tells the relay that there will be no command.
pub(crate) fn tell_failure(relay: &OwnedFd, error: Errno) {
    send_number(relay, FAILED, error as i32);
}

fn send_number(relay: &OwnedFd, kind: u8, number: i32) {
    let [a, b, c, d] = number.to_ne_bytes();
    // A relay that is gone needs no telling.
    let _ = send(relay.as_raw_fd(), &[kind, a, b, c, d], MsgFlags::MSG_NOSIGNAL);
}

fn become_command(place: &Place, slave: Option<&OwnedFd>) -> nix::Result<()> {
    close_all_at_exec();
    setsid()?;
    if let Some(slave) = slave {
        terminal::adopt(slave)?;
    }
    let account = &place.account;
    setgroups(&account.groups)?;
    setgid(account.gid)?;
    setuid(account.uid)?;
    // A home that does not exist keeps nobody out.
    if chdir(account.home.as_c_str()).is_err() {
        chdir(c"/")?;
    }
    Ok(())
}

/// Passes signals on and waits for the command's end.
///
/// A relay that dies leaves the command running, as a lost connection does, but not stopped: nobody
/// would be left to continue it. Its new parent is the node's init.
fn attend(command: Pid, relay: &OwnedFd, ended: &SignalFd) -> ! {
    loop {
        let mut waited =
            [PollFd::new(ended.as_fd(), PollFlags::POLLIN), PollFd::new(relay.as_fd(), PollFlags::POLLIN)];
        if poll(&mut waited, PollTimeout::NONE).is_err() {
            continue;
        }
        let (child, packet) = (waited[0].any() == Some(true), waited[1].any() == Some(true));
        if child {
            let _ = ended.read_signal();
            let number = match waitpid(command, Some(WaitPidFlag::WNOHANG)) {
                Ok(WaitStatus::Exited(_, status)) => Some(status),
                Ok(WaitStatus::Signaled(_, signal, _)) => Some(-(signal as i32)),
                _ => None,
            };
            if let Some(number) = number {
                send_number(relay, ENDED, number);
                exit_now(0);
            }
        }
        if packet {
            let mut number = [0];
            if recv(relay.as_raw_fd(), &mut number, MsgFlags::empty()) != Ok(1) {
                let _ = killpg(command, Signal::SIGCONT);
                exit_now(0);
            }
            if let Ok(signal) = Signal::try_from(i32::from(number[0])) {
                pass_on(command, signal);
            }
        }
    }
}

/// What a terminal would send goes to the command's whole process group, anything else to the command.
fn pass_on(command: Pid, signal: Signal) {
    use Signal::{SIGCONT, SIGHUP, SIGINT, SIGQUIT, SIGSTOP, SIGTSTP};
    let _ = match signal {
        SIGINT | SIGQUIT | SIGHUP | SIGCONT => killpg(command, signal),
        // The group is orphaned, and such a group ignores the polite form: setpgid(2).
        SIGTSTP => killpg(command, SIGSTOP),
        _ => kill(command, signal),
    };
}
