//! One run of a program as our direct child, and the moving of it.
//!
//! It stays in our process group: the terminal's signals, and with them job control, reach it directly; those that are
//! sent to us alone are passed on.

use crate::client::Client;
use crate::exit::Failure;
use crate::placing::Program;
use control::{FailureKind, Request};
use model::{Destination, ProcessId, ReasonCode};
use nix::errno::Errno;
use nix::spawn::{PosixSpawnAttr, PosixSpawnFileActions, PosixSpawnFlags, posix_spawnp};
use nix::sys::signal::{SigSet, SigmaskHow, Signal, kill};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;
use std::ffi::{CString, OsStr};
use std::os::unix::ffi::OsStrExt as _;

/// Signals that others send to a program to tell it something.
const PASSED_ON: [Signal; 5] =
    [Signal::SIGTERM, Signal::SIGHUP, Signal::SIGUSR1, Signal::SIGUSR2, Signal::SIGCONT];
/// Signals that a terminal sends to the whole group: the program gets them by itself.
const FROM_TERMINAL: [Signal; 2] = [Signal::SIGINT, Signal::SIGQUIT];
/// After one of these nobody wants the program to be started again.
const ENDING: [Signal; 4] = [Signal::SIGTERM, Signal::SIGHUP, Signal::SIGINT, Signal::SIGQUIT];

/// How a program ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    Exited(u8),
    By(Signal),
}

/// The signals of this process while it waits for its programs.
pub(crate) struct Signals {
    waited_for: SigSet,
    /// What we had, for the programs.
    mask: SigSet,
}

impl Signals {
    /// Blocks them, before there is a program: it may signal us at once.
    pub(crate) fn block() -> nix::Result<Signals> {
        let mut waited_for: SigSet = PASSED_ON.into_iter().chain(FROM_TERMINAL).collect();
        waited_for.add(Signal::SIGCHLD);
        let mask = waited_for.thread_swap_mask(SigmaskHow::SIG_BLOCK)?;
        Ok(Signals { waited_for, mask })
    }
}

/// A program that runs.
pub(crate) struct Job {
    child: Pid,
    process: Option<ProcessId>,
    wanted_to_end: bool,
}

impl Job {
    /// Starts a program; returns when its exec has succeeded.
    pub(crate) fn start(program: &Program, signals: &Signals) -> Result<Job, Failure> {
        let child = spawn(program, &signals.mask).map_err(|errno| {
            let kind = if errno == Errno::ENOENT { FailureKind::NotFound } else { FailureKind::Broken };
            Failure::new(kind, format!("cannot start '{}': {}", program.file.display(), errno.desc()))
        })?;
        Ok(Job { child, process: identify(child), wanted_to_end: false })
    }

    /// The program, beyond doubt; nothing where `/proc` cannot be read.
    pub(crate) fn process(&self) -> Option<ProcessId> {
        self.process
    }

    /// Whether somebody has told it, through us, to end.
    pub(crate) fn was_told_to_end(&self) -> bool {
        self.wanted_to_end
    }

    /// Moves it to the first of these places that takes it, on a thread of its own; if none does, that is told in one line,
    /// and the program runs here.
    pub(crate) fn go(&self, mut client: Client, destinations: Vec<Destination>) {
        let pid = self.child.as_raw();
        std::thread::spawn(move || {
            let mut refused = None;
            for to in destinations {
                let Err(failure) = client.ask(&Request::Migrate { pid, to }) else { return };
                let says = |code| failure.reasons.iter().any(|reason| reason.code == code);
                // The program may be at the best place, or may simply have ended already.
                if says(ReasonCode::SameNode)
                    || (failure.kind == FailureKind::NotFound && !says(ReasonCode::UnknownNode))
                {
                    return;
                }
                refused = Some(failure);
            }
            if let Some(failure) = refused {
                eprintln!("mosrun: it runs here: {failure}");
            }
        });
    }

    /// Waits until it has ended, and passes signals on to it.
    pub(crate) fn wait(&mut self, signals: &Signals) -> nix::Result<End> {
        loop {
            match waitpid(self.child, Some(WaitPidFlag::WNOHANG))? {
                WaitStatus::Exited(_, code) => return Ok(End::Exited(code as u8)),
                WaitStatus::Signaled(_, signal, _) => return Ok(End::By(signal)),
                _ => {}
            }
            let signal = signals.waited_for.wait()?;
            self.wanted_to_end |= ENDING.contains(&signal);
            if PASSED_ON.contains(&signal) {
                // It fails only where the program has just ended, and then SIGCHLD is next.
                let _ = kill(self.child, signal);
            }
        }
    }
}

/// A child that nobody has waited for keeps its pid, so this names no other.
fn identify(child: Pid) -> Option<ProcessId> {
    let pid = child.as_raw();
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    Some(ProcessId { pid, start_ticks: start_ticks(&stat)? })
}

/// Field 22 of `/proc/PID/stat` (proc(5)); the name in field 2 may hold anything, so it is counted from its end.
fn start_ticks(stat: &str) -> Option<u64> {
    stat.rsplit_once(')')?.1.split_whitespace().nth(19)?.parse().ok()
}

/// Starts a program with a signal mask of its own, which std's `Command` cannot.
fn spawn(program: &Program, mask: &SigSet) -> nix::Result<Pid> {
    let word = |word: &OsStr| CString::new(word.as_bytes()).map_err(|_| Errno::EINVAL);
    let file = word(&program.file)?;
    let mut line = Vec::new();
    for argument in &program.arguments {
        line.push(word(argument)?);
    }
    let mut environment = Vec::new();
    for (mut name, value) in std::env::vars_os() {
        name.push("=");
        name.push(value);
        environment.push(word(&name)?);
    }
    let mut attributes = PosixSpawnAttr::init()?;
    attributes.set_flags(PosixSpawnFlags::POSIX_SPAWN_SETSIGMASK | PosixSpawnFlags::POSIX_SPAWN_SETSIGDEF)?;
    attributes.set_sigmask(mask)?;
    // Rust's start-up ignores it in us.
    attributes.set_sigdefault(&SigSet::from_iter([Signal::SIGPIPE]))?;
    posix_spawnp(&file, &PosixSpawnFileActions::init()?, &attributes, &line, &environment)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_does_not_hide_the_start() {
        let rest = "S 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 4711 20";
        assert_eq!(start_ticks(&format!("7 (a) b) {rest}")), Some(4711));
        assert_eq!(start_ticks("7 (a"), None);
        assert!(identify(nix::unistd::getpid()).is_some());
    }
}
