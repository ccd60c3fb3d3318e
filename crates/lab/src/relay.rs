//! The relay: what stays outside of a command that was sent into a node.
//!
//! It passes signals on, moves the terminal's bytes, and ends as the command ends.
//! Runs between fork and exec, so nothing here allocates.

use crate::entry::Terminal;
use crate::fork::{close_all_but, exit_now, name_process, silence};
use crate::session::{ENDED, FAILED, STARTED};
use crate::terminal::{Screen, Traffic};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigHandler, SigSet, Signal, raise, signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::sys::socket::{MsgFlags, recv};
use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg};
use std::io::{self, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};

/// Signals that are passed on to the command.
const PASSED_ON: &[Signal] = &[
    Signal::SIGINT,
    Signal::SIGTERM,
    Signal::SIGHUP,
    Signal::SIGQUIT,
    Signal::SIGUSR1,
    Signal::SIGUSR2,
    Signal::SIGCONT,
    Signal::SIGTSTP,
];

/// Signals held back from their usual effect, to be read one by one.
pub(crate) struct Signals(SignalFd);

impl Signals {
    /// Holds back, from here on, everything that is to be passed on.
    pub(crate) fn hold_back(terminal: Terminal) -> nix::Result<Signals> {
        let mut set: SigSet = PASSED_ON.iter().copied().collect();
        if terminal == Terminal::Own {
            set.add(Signal::SIGWINCH);
        }
        set.thread_block()?;
        Ok(Signals(SignalFd::with_flags(&set, SfdFlags::SFD_CLOEXEC)?))
    }
}

/// Relays until the command ends, and ends like it. Returns only if the session could not start it.
pub(crate) fn run(session: &OwnedFd, signals: &Signals, screen: Option<&Screen>) -> io::Error {
    let master = match await_start(session) {
        Ok(master) => master,
        Err(error) => return error,
    };
    name_process(c"om-lab-relay");
    let descriptors = [Some(session), master.as_ref()].map(|fd| fd.map(AsRawFd::as_raw_fd).unwrap_or(-1));
    close_all_but(&[descriptors[0], descriptors[1], signals.0.as_raw_fd()]);
    // SAFETY: ignoring a signal runs no code.
    let _ = unsafe { signal(Signal::SIGPIPE, SigHandler::SigIgn) };
    let number = match (&master, screen) {
        (Some(master), Some(screen)) => {
            screen.make_raw();
            let mut traffic = Traffic::new(master, screen);
            let number = attend(session, signals, Some(&mut traffic));
            traffic.drain();
            screen.restore();
            number
        }
        _ => {
            // The command has the standard descriptors now. Whoever waits for their end waits for the command alone.
            silence();
            attend(session, signals, None)
        }
    };
    end_like(number)
}

/// Waits until the command is about to run; the result is its terminal's master.
fn await_start(session: &OwnedFd) -> io::Result<Option<OwnedFd>> {
    let mut bytes = [0; 5];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let mut slices = [IoSliceMut::new(&mut bytes)];
    recvmsg(session, &mut slices, &mut control, RecvFlags::CMSG_CLOEXEC)?;
    let mut master = None;
    for message in control.drain() {
        if let RecvAncillaryMessage::ScmRights(mut fds) = message {
            master = fds.next();
        }
    }
    match bytes {
        [STARTED, ..] => Ok(master),
        [FAILED, a, b, c, d] => Err(io::Error::from_raw_os_error(i32::from_ne_bytes([a, b, c, d]))),
        _ => Err(Errno::ESRCH.into()),
    }
}

/// Passes on until the command ends; the result is as [`ENDED`] carries it.
fn attend(session: &OwnedFd, signals: &Signals, mut traffic: Option<&mut Traffic<'_>>) -> i32 {
    loop {
        let own = [
            PollFd::new(session.as_fd(), PollFlags::POLLIN),
            PollFd::new(signals.0.as_fd(), PollFlags::POLLIN),
        ];
        let [first, second] = own;
        let (packet, signalled) = match &mut traffic {
            Some(traffic) => {
                let [input, output, master] = traffic.waits();
                let mut waited = [first, second, input, output, master];
                if poll(&mut waited, PollTimeout::NONE).is_err() {
                    continue;
                }
                let events = waited.map(|fd| fd.any() == Some(true));
                traffic.move_bytes([events[2], events[3], events[4]]);
                (events[0], events[1])
            }
            None => {
                let mut waited = [first, second];
                if poll(&mut waited, PollTimeout::NONE).is_err() {
                    continue;
                }
                (waited[0].any() == Some(true), waited[1].any() == Some(true))
            }
        };
        if signalled && let Ok(Some(info)) = signals.0.read_signal() {
            pass_on(session, info.ssi_signo as i32, traffic.as_deref_mut());
        }
        if packet {
            let mut bytes = [0; 5];
            return match (recv(session.as_raw_fd(), &mut bytes, MsgFlags::empty()), bytes) {
                (Ok(5), [ENDED, a, b, c, d]) => i32::from_ne_bytes([a, b, c, d]),
                // The session was killed, and that is how a node ends: its command was too.
                _ => -libc::SIGKILL,
            };
        }
    }
}

fn pass_on(session: &OwnedFd, number: i32, traffic: Option<&mut Traffic<'_>>) {
    match (Signal::try_from(number), traffic) {
        (Ok(Signal::SIGWINCH), Some(traffic)) => traffic.resize(),
        (Ok(signal), traffic) => {
            let bytes = [number as u8];
            let _ = nix::sys::socket::send(session.as_raw_fd(), &bytes, MsgFlags::MSG_NOSIGNAL);
            if signal == Signal::SIGTSTP {
                if let Some(traffic) = &traffic {
                    traffic.screen().restore();
                }
                // Held back, the polite signal would not stop us.
                let _ = raise(Signal::SIGSTOP);
            } else if signal == Signal::SIGCONT
                && let Some(traffic) = traffic
            {
                traffic.screen().make_raw();
                traffic.resize();
            }
        }
        (Err(_), _) => {}
    }
}

/// Ends with the command's status, or by the signal that killed it but without its core dump.
fn end_like(number: i32) -> ! {
    if number < 0
        && let Ok(cause) = Signal::try_from(-number)
    {
        // SAFETY: sets one attribute of this process.
        unsafe { libc::prctl(libc::PR_SET_DUMPABLE, 0) };
        // SAFETY: restoring a default runs no code.
        let _ = unsafe { signal(cause, SigHandler::SigDfl) };
        let _ = SigSet::from(cause).thread_unblock();
        let _ = raise(cause);
        exit_now(128 - number);
    }
    exit_now(number)
}
