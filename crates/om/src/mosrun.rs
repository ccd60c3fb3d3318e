//! `mosrun [NODE] COMMAND`: the program is our direct child; if a node is given, it is moved there as soon as it is exec'd.
//!
//! `posix_spawn` returns when the child's exec has succeeded, so the program is there when the migration is asked for. It stays in our process group: the terminal's signals reach it directly, those sent
//! to us alone are passed on.

use crate::arguments::Mosrun;
use crate::client::Client;
use crate::exit::Failure;
use crate::standing;
use control::{FailureKind, Request};
use nix::errno::Errno;
use nix::spawn::{PosixSpawnAttr, PosixSpawnFileActions, PosixSpawnFlags, posix_spawnp};
use nix::sys::resource::{Resource, setrlimit};
use nix::sys::signal::{SigSet, SigmaskHow, Signal, kill, raise};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;
use std::ffi::{CString, OsStr, OsString};
use std::os::unix::ffi::OsStrExt as _;
use std::process::ExitCode;

/// Signals that others send to a program to tell it something.
const PASSED_ON: [Signal; 5] =
    [Signal::SIGTERM, Signal::SIGHUP, Signal::SIGUSR1, Signal::SIGUSR2, Signal::SIGCONT];
/// Signals that a terminal sends to the whole group: the program gets them by itself.
const FROM_TERMINAL: [Signal; 2] = [Signal::SIGINT, Signal::SIGQUIT];

pub(crate) fn run(arguments: Mosrun) -> Result<ExitCode, Failure> {
    let mut client = Client::connect(&arguments.socket)?;
    let node = arguments.command.first().filter(|first| arguments.placing.takes_node(first));
    let words = if node.is_some() { &arguments.command[1..] } else { &arguments.command[..] };
    // As in "NODE -- COMMAND".
    let words = words.strip_prefix(&[OsString::from("--")]).unwrap_or(words);
    let Some((program, rest)) = words.split_first() else {
        return Err(Failure::new(FailureKind::BadRequest, "no command: after the node comes a program"));
    };
    let (start_at, standing) = arguments.placing.plan(node.map(OsString::as_os_str))?;
    // Of ourselves, before there is a child: it inherits, and so does everything that it starts, however soon.
    let own_pid = std::process::id() as i32;
    let destinations = standing::destinations(&mut client, &start_at, own_pid)?;
    client.ask(&Request::Stand { pid: own_pid, standing })?;
    // Blocked before the child is there: it may signal us at once. The child gets the mask that we had.
    let mut signals: SigSet = PASSED_ON.into_iter().chain(FROM_TERMINAL).collect();
    signals.add(Signal::SIGCHLD);
    let mask = signals.thread_swap_mask(SigmaskHow::SIG_BLOCK).map_err(anyhow::Error::from)?;
    let child = start(program, rest, &mask).map_err(|errno| {
        let kind = if errno == Errno::ENOENT { FailureKind::NotFound } else { FailureKind::Broken };
        Failure::new(kind, format!("cannot start '{}': {}", program.display(), errno.desc()))
    })?;
    let pid = child.as_raw();
    std::thread::spawn(move || {
        for to in destinations {
            match client.ask(&Request::Migrate { pid, to }) {
                Ok(_) => return,
                // The program may simply have ended already.
                Err(failure) if failure.kind == FailureKind::NotFound => {}
                Err(failure) => eprintln!("mosrun: it runs here: {failure}"),
            }
        }
    });

    let ended_by = loop {
        match waitpid(child, Some(WaitPidFlag::WNOHANG)).map_err(anyhow::Error::from)? {
            WaitStatus::Exited(_, code) => return Ok(ExitCode::from(code as u8)),
            WaitStatus::Signaled(_, signal, _) => break signal,
            _ => {}
        }
        let signal = signals.wait().map_err(anyhow::Error::from)?;
        if PASSED_ON.contains(&signal) {
            // It fails only where the program has just ended, and then SIGCHLD is next.
            let _ = kill(child, signal);
        }
    };
    // End in the same way, so that our parent sees what it would have seen; without a second core file.
    let _ = setrlimit(Resource::RLIMIT_CORE, 0, 0);
    let _ = SigSet::from_iter([ended_by]).thread_unblock();
    let _ = raise(ended_by);
    Ok(ExitCode::from(128u8.wrapping_add(ended_by as i32 as u8)))
}

/// Starts a program with a signal mask of its own, which std's `Command` cannot; returns when its exec has succeeded.
fn start(program: &OsStr, arguments: &[OsString], mask: &SigSet) -> nix::Result<Pid> {
    let word = |word: &OsStr| CString::new(word.as_bytes()).map_err(|_| Errno::EINVAL);
    let program = word(program)?;
    let mut line = vec![program.clone()];
    for argument in arguments {
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
    posix_spawnp(&program, &PosixSpawnFileActions::init()?, &attributes, &line, &environment)
}
