//! `mosrun NODE COMMAND`: the program is our direct child and is moved as soon as it is exec'd.
//!
//! std's `spawn` returns when the child's exec has succeeded (a close-on-exec pipe tells it), so the program is there
//! when the migration is asked for. It stays in our process group: the terminal's signals reach it directly, those sent
//! to us alone are passed on.

use crate::arguments::Mosrun;
use crate::client::Client;
use crate::exit::Failure;
use control::{FailureKind, Request};
use nix::sys::resource::{Resource, setrlimit};
use nix::sys::signal::{SigSet, SigmaskHow, Signal, kill, raise};
use nix::unistd::Pid;
use std::os::unix::process::ExitStatusExt as _;
use std::process::{Command, ExitCode};

/// Signals that others send to a program to tell it something.
const PASSED_ON: [Signal; 5] =
    [Signal::SIGTERM, Signal::SIGHUP, Signal::SIGUSR1, Signal::SIGUSR2, Signal::SIGCONT];
/// Signals that a terminal sends to the whole group: the program gets them by itself.
const FROM_TERMINAL: [Signal; 2] = [Signal::SIGINT, Signal::SIGQUIT];

pub(crate) fn run(arguments: Mosrun) -> Result<ExitCode, Failure> {
    let mut client = Client::connect(&arguments.socket)?;
    let to = client.destination(&arguments.node)?;
    let Some((program, rest)) = arguments.command.split_first() else {
        return Err(Failure::new(FailureKind::BadRequest, "no command"));
    };
    let mut child = Command::new(program).args(rest).spawn().map_err(|error| {
        let kind = if error.kind() == std::io::ErrorKind::NotFound {
            FailureKind::NotFound
        } else {
            FailureKind::Broken
        };
        Failure::new(kind, format!("cannot start '{}': {error}", program.display()))
    })?;
    let pid = child.id() as i32;

    // Before any thread: all of them are to leave the signals to the one that waits for them.
    let mut signals: SigSet = PASSED_ON.into_iter().chain(FROM_TERMINAL).collect();
    signals.add(Signal::SIGCHLD);
    signals.thread_swap_mask(SigmaskHow::SIG_BLOCK).map_err(anyhow::Error::from)?;
    std::thread::spawn(move || {
        if let Err(failure) = client.ask(&Request::Migrate { pid, to }) {
            // The program may simply have ended already.
            if failure.kind != FailureKind::NotFound {
                eprintln!("mosrun: it runs here: {failure}");
            }
        }
    });

    let status = loop {
        if let Some(status) = child.try_wait().map_err(anyhow::Error::from)? {
            break status;
        }
        match signals.wait().map_err(anyhow::Error::from)? {
            signal if PASSED_ON.contains(&signal) => {
                // It fails only where the program has just ended, and then SIGCHLD is next.
                let _ = kill(Pid::from_raw(pid), signal);
            }
            _ => {}
        }
    };
    if let Some(signal) = status.signal().and_then(|number| Signal::try_from(number).ok()) {
        // End in the same way, so that our parent sees what it would have seen; without a second core file.
        let _ = setrlimit(Resource::RLIMIT_CORE, 0, 0);
        let mut only = SigSet::empty();
        only.add(signal);
        let _ = only.thread_unblock();
        let _ = raise(signal);
        return Ok(ExitCode::from(128u8.wrapping_add(signal as i32 as u8)));
    }
    Ok(ExitCode::from(status.code().unwrap_or(1) as u8))
}
