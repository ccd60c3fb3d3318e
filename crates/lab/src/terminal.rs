//! Terminals: a node's own for a command, and the one in front of the user.
//!
//! Runs between fork and exec, so nothing here allocates.

use nix::errno::Errno;
use nix::fcntl::{OFlag, open};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::stat::Mode;
use nix::sys::termios::{SetArg, Termios, cfmakeraw, tcgetattr, tcsetattr};
use nix::unistd::{read, write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

/// Bytes under way in each direction, at most; small enough for a pipe to take at once.
const BUFFER_BYTES: usize = 4096;
/// Milliseconds of silence after which a terminal that others still hold counts as read out.
const DRAIN_MS: u16 = 50;
/// What ends the input of a terminal in its usual mode.
const END_OF_INPUT: u8 = 4;

nix::ioctl_read_bad!(window_size, libc::TIOCGWINSZ, libc::winsize);
nix::ioctl_write_ptr_bad!(set_window_size, libc::TIOCSWINSZ, libc::winsize);
nix::ioctl_write_ptr_bad!(lock_slave, libc::TIOCSPTLCK, libc::c_int);
nix::ioctl_write_int_bad!(open_slave, libc::TIOCGPTPEER);
nix::ioctl_write_int_bad!(make_controlling, libc::TIOCSCTTY);

fn standard_input() -> BorrowedFd<'static> {
    // SAFETY: a process without standard input gets EBADF for it, nothing worse.
    unsafe { BorrowedFd::borrow_raw(0) }
}

fn standard_output() -> BorrowedFd<'static> {
    // SAFETY: as for standard input.
    unsafe { BorrowedFd::borrow_raw(1) }
}

fn size_of(fd: BorrowedFd<'_>) -> Option<libc::winsize> {
    let mut size = libc::winsize { ws_row: 0, ws_col: 0, ws_xpixel: 0, ws_ypixel: 0 };
    // SAFETY: the kernel writes one winsize into one winsize.
    unsafe { window_size(fd.as_raw_fd(), &mut size) }.ok().map(|_| size)
}

/// The user's side: what standard input and output are.
pub(crate) struct Screen {
    /// The mode of standard input, if that is a terminal.
    usual: Option<Termios>,
    size: Option<libc::winsize>,
}

impl Screen {
    /// Looks at the standard descriptors.
    pub(crate) fn look() -> Screen {
        let size = size_of(standard_input()).or_else(|| size_of(standard_output()));
        Screen { usual: tcgetattr(standard_input()).ok(), size }
    }

    /// Lets every key through: the command's terminal is the one to interpret them.
    pub(crate) fn make_raw(&self) {
        if let Some(usual) = &self.usual {
            let mut raw = usual.clone();
            cfmakeraw(&mut raw);
            let _ = tcsetattr(standard_input(), SetArg::TCSADRAIN, &raw);
        }
    }

    /// Puts the terminal back as it was.
    pub(crate) fn restore(&self) {
        if let Some(usual) = &self.usual {
            let _ = tcsetattr(standard_input(), SetArg::TCSADRAIN, usual);
        }
    }
}

/// Both ends of a new terminal.
pub(crate) struct Pair {
    pub(crate) master: OwnedFd,
    pub(crate) slave: OwnedFd,
}

/// Opens a terminal of the node this process is in, as large as the user's.
pub(crate) fn open_pair(screen: &Screen) -> nix::Result<Pair> {
    let flags = OFlag::O_RDWR | OFlag::O_NOCTTY | OFlag::O_CLOEXEC;
    let master = open(c"/dev/pts/ptmx", flags | OFlag::O_NONBLOCK, Mode::empty())?;
    // SAFETY: the kernel reads one int.
    unsafe { lock_slave(master.as_raw_fd(), &0) }?;
    // SAFETY: the argument is a set of open flags, the result a new descriptor or an error.
    let slave = unsafe { open_slave(master.as_raw_fd(), flags.bits()) }?;
    // SAFETY: the kernel has just made this descriptor for us.
    let slave = unsafe { OwnedFd::from_raw_fd(slave) };
    if let Some(size) = &screen.size {
        // SAFETY: the kernel reads one winsize.
        unsafe { set_window_size(master.as_raw_fd(), size) }?;
    }
    Ok(Pair { master, slave })
}

/// Makes a terminal this session's, and its standard descriptors.
pub(crate) fn adopt(slave: &OwnedFd) -> nix::Result<()> {
    // SAFETY: the argument 0 asks not to steal the terminal from another session.
    unsafe { make_controlling(slave.as_raw_fd(), 0) }?;
    nix::unistd::dup2_stdin(slave)?;
    nix::unistd::dup2_stdout(slave)?;
    nix::unistd::dup2_stderr(slave)
}

/// Bytes on their way from one descriptor to another.
struct Pipe {
    bytes: [u8; BUFFER_BYTES],
    start: usize,
    end: usize,
    ended: bool,
}

impl Pipe {
    const EMPTY: Pipe = Pipe { bytes: [0; BUFFER_BYTES], start: 0, end: 0, ended: false };

    fn is_empty(&self) -> bool {
        self.start == self.end
    }

    fn fill(&mut self, from: BorrowedFd<'_>) {
        match read(from, &mut self.bytes) {
            Ok(count) if count > 0 => (self.start, self.end) = (0, count),
            Err(Errno::EAGAIN | Errno::EINTR) => {}
            // A terminal whose last user has gone answers EIO.
            _ => self.ended = true,
        }
    }

    fn empty(&mut self, to: BorrowedFd<'_>) {
        match write(to, &self.bytes[self.start..self.end]) {
            Ok(count) => self.start += count,
            Err(Errno::EAGAIN | Errno::EINTR) => {}
            // Nobody reads any more: what is under way is lost, as with any terminal that hangs up.
            Err(_) => self.start = self.end,
        }
    }
}

/// What flows between the user's descriptors and the command's terminal.
pub(crate) struct Traffic<'a> {
    master: &'a OwnedFd,
    screen: &'a Screen,
    input: Pipe,
    output: Pipe,
    end_told: bool,
}

impl<'a> Traffic<'a> {
    pub(crate) fn new(master: &'a OwnedFd, screen: &'a Screen) -> Traffic<'a> {
        Traffic { master, screen, input: Pipe::EMPTY, output: Pipe::EMPTY, end_told: false }
    }

    pub(crate) fn screen(&self) -> &'a Screen {
        self.screen
    }

    /// What to wait for on standard input, standard output and the master.
    pub(crate) fn waits(&self) -> [PollFd<'a>; 3] {
        // A descriptor that would report its end again and again is waited for on no event, and
        // since poll reports hang-ups even so, by a number that it skips.
        let skipped = |fd: BorrowedFd<'a>, events: PollFlags| {
            // SAFETY: poll skips negative numbers; the number is used for nothing else.
            let nowhere = unsafe { BorrowedFd::borrow_raw(i32::MIN) };
            PollFd::new(if events.is_empty() { nowhere } else { fd }, events)
        };
        let when = |condition: bool, flag: PollFlags| if condition { flag } else { PollFlags::empty() };
        let master = when(self.output.is_empty() && !self.output.ended, PollFlags::POLLIN)
            | when(!self.input.is_empty(), PollFlags::POLLOUT);
        [
            skipped(standard_input(), when(self.input.is_empty() && !self.input.ended, PollFlags::POLLIN)),
            skipped(standard_output(), when(!self.output.is_empty(), PollFlags::POLLOUT)),
            skipped(self.master.as_fd(), master),
        ]
    }

    /// Moves what can be moved, after a wait that reported on the three.
    pub(crate) fn move_bytes(&mut self, [input, output, master]: [bool; 3]) {
        if input {
            self.input.fill(standard_input());
            if self.input.ended && !self.end_told {
                self.end_told = true;
                self.input.bytes[0] = END_OF_INPUT;
                (self.input.start, self.input.end) = (0, 1);
            }
        }
        if output {
            self.output.empty(standard_output());
        }
        if master {
            if self.output.is_empty() && !self.output.ended {
                self.output.fill(self.master.as_fd());
            }
            if !self.input.is_empty() {
                self.input.empty(self.master.as_fd());
            }
        }
    }

    /// After the command's end: brings out what its terminal still holds.
    pub(crate) fn drain(&mut self) {
        while !self.output.ended || !self.output.is_empty() {
            if self.output.is_empty() {
                let mut waited = [PollFd::new(self.master.as_fd(), PollFlags::POLLIN)];
                if !poll(&mut waited, PollTimeout::from(DRAIN_MS)).is_ok_and(|ready| ready > 0) {
                    return;
                }
                self.output.fill(self.master.as_fd());
            } else {
                self.output.empty(standard_output());
            }
        }
    }

    /// Gives the command's terminal the size that the user's has now.
    pub(crate) fn resize(&self) {
        if let Some(size) = Screen::look().size {
            // SAFETY: the kernel reads one winsize.
            let _ = unsafe { set_window_size(self.master.as_raw_fd(), &size) };
        }
    }
}
