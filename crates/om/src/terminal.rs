//! The terminal of a full-screen view, and the signals that it must not be left to: whoever is ended or stopped gives it back
//! first as it was.
//!
//! All these signals are blocked and looked for between two pictures, so none of them comes while half a picture is drawn.

use crossterm::execute;
use crossterm::terminal::{EnterAlternateScreen, disable_raw_mode, enable_raw_mode};
use nix::errno::Errno;
use nix::sys::signal::{SigSet, Signal, kill, raise};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::unistd::Pid;
use ratatui::DefaultTerminal;
use ratatui::layout::{Rect, Size};
use std::io;

/// These end the view.
const ENDING: [Signal; 4] = [Signal::SIGTERM, Signal::SIGHUP, Signal::SIGINT, Signal::SIGQUIT];

/// The terminal while a view is shown on it.
pub(crate) struct Terminal {
    pub(crate) screen: DefaultTerminal,
    signals: SignalFd,
}

impl Terminal {
    /// Blocks the signals, for threads that are started from now on too, and takes over the terminal.
    pub(crate) fn take() -> io::Result<Terminal> {
        let mut watched: SigSet = ENDING.into_iter().collect();
        watched.add(Signal::SIGTSTP);
        watched.add(Signal::SIGCONT);
        watched.thread_block()?;
        let signals = SignalFd::with_flags(&watched, SfdFlags::SFD_NONBLOCK | SfdFlags::SFD_CLOEXEC)?;
        Ok(Terminal { screen: ratatui::try_init()?, signals })
    }

    /// Gives the terminal back as it was.
    pub(crate) fn give_back(self) {
        ratatui::restore();
    }

    /// Does what signals have asked for since the last time; the signal that ends the view, if one does.
    pub(crate) fn heed(&mut self) -> io::Result<Option<Signal>> {
        while let Some(heard) = self.signals.read_signal()? {
            match i32::try_from(heard.ssi_signo).map_err(|_| Errno::EINVAL).and_then(Signal::try_from)? {
                Signal::SIGTSTP => self.stop()?,
                // Somebody has stopped it by a signal that nobody can block.
                Signal::SIGCONT => self.take_again()?,
                ending => return Ok(Some(ending)),
            }
        }
        Ok(None)
    }

    /// Gives the terminal back and stops, as `^Z` does with other programs; goes on when somebody says so.
    pub(crate) fn stop(&mut self) -> io::Result<()> {
        ratatui::try_restore()?;
        kill(Pid::this(), Signal::SIGSTOP)?;
        self.take_again()
    }

    /// The terminal is ours again, and nobody knows what is on it.
    fn take_again(&mut self) -> io::Result<()> {
        // A shell may have changed its modes meanwhile, of which the library knows nothing.
        disable_raw_mode()?;
        enable_raw_mode()?;
        execute!(io::stdout(), EnterAlternateScreen)?;
        // To clear it in the usual way is to ask the terminal where its cursor is, and to wait for its answer.
        let Size { width, height } = self.screen.size()?;
        self.screen.resize(Rect { x: 0, y: 0, width, height })
    }
}

/// Ends by a signal, as if it had never been blocked; returns only where that fails.
pub(crate) fn end_by(signal: Signal) {
    let _ = SigSet::from_iter([signal]).thread_unblock();
    let _ = raise(signal);
}
