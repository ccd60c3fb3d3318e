//! Seccomp user notification: the warden's side of a guest's system calls.

use crate::Errno;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd, RawFd};

/// A system call that waits for an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Notification {
    /// Its cookie.
    pub id: u64,
    /// The calling thread, in the pid namespace of the receiver.
    pub tid: i32,
    /// System call number.
    pub nr: i32,
    /// `AUDIT_ARCH_*`.
    pub arch: u32,
    /// Address behind the instruction.
    pub rip: u64,
    /// Arguments.
    pub args: [u64; 6],
}

/// What becomes of a notified call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It returns this; values from -4095 to -1 are errors, and the kernel's own restart codes (-512 ...) restart it.
    Return(i64),
    /// It runs where it is.
    Continue,
}

/// The listener of a guest's filter.
#[derive(Debug)]
pub struct Listener(OwnedFd);

mod ioctl {
    use libc::{seccomp_notif, seccomp_notif_addfd, seccomp_notif_resp};
    nix::ioctl_readwrite!(receive, b'!', 0, seccomp_notif);
    nix::ioctl_readwrite!(send, b'!', 1, seccomp_notif_resp);
    nix::ioctl_write_ptr!(id_valid, b'!', 2, u64);
    nix::ioctl_write_ptr!(add_fd, b'!', 3, seccomp_notif_addfd);
    nix::ioctl_write_int_bad!(set_flags, nix::request_code_write!(b'!', 4, size_of::<u64>()));
}

const SYNC_WAKE_UP: i32 = 1;

impl Listener {
    /// Takes over a listener's descriptor.
    pub fn new(fd: OwnedFd) -> Listener {
        Listener(fd)
    }

    /// Wakes the guest on the warden's own CPU (Linux 6.6); older kernels answer `EINVAL`.
    pub fn wake_synchronously(&self) -> Result<(), Errno> {
        // SAFETY: the argument is a number.
        unsafe { ioctl::set_flags(self.0.as_raw_fd(), SYNC_WAKE_UP) }.map(drop)
    }

    /// The next notification; `None` if the one that was announced has vanished meanwhile.
    pub fn receive(&self) -> Result<Option<Notification>, Errno> {
        // SAFETY: all-zero is a valid value and what the kernel demands.
        let mut raw: libc::seccomp_notif = unsafe { std::mem::zeroed() };
        // SAFETY: raw is valid for the call.
        match unsafe { ioctl::receive(self.0.as_raw_fd(), &raw mut raw) } {
            Ok(_) => {}
            Err(Errno::ENOENT | Errno::EINTR | Errno::EAGAIN) => return Ok(None),
            Err(error) => return Err(error),
        }
        Ok(Some(Notification {
            id: raw.id,
            tid: raw.pid as i32,
            nr: raw.data.nr,
            arch: raw.data.arch,
            rip: raw.data.instruction_pointer,
            args: raw.data.args,
        }))
    }

    /// Answers a notification; `false` if its thread is gone.
    pub fn send(&self, id: u64, verdict: Verdict) -> Result<bool, Errno> {
        let mut raw = libc::seccomp_notif_resp { id, val: 0, error: 0, flags: 0 };
        match verdict {
            // Beyond -4095 too: the kernel takes any error, and -512 to -516 restart the call natively.
            Verdict::Return(value @ -4095..=-1) => raw.error = value as i32,
            Verdict::Return(value) => raw.val = value,
            Verdict::Continue => raw.flags = libc::SECCOMP_USER_NOTIF_FLAG_CONTINUE as u32,
        }
        // SAFETY: raw is valid for the call.
        match unsafe { ioctl::send(self.0.as_raw_fd(), &raw mut raw) } {
            Ok(_) => Ok(true),
            Err(Errno::ENOENT | Errno::EINPROGRESS) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Whether a notification still waits.
    pub fn is_valid(&self, id: u64) -> bool {
        // SAFETY: id is valid for the call.
        unsafe { ioctl::id_valid(self.0.as_raw_fd(), &raw const id) }.is_ok()
    }

    /// Puts a copy of `fd` at `number` in the guest's table.
    pub fn place_fd(&self, id: u64, fd: BorrowedFd<'_>, number: RawFd) -> Result<(), Errno> {
        let raw = libc::seccomp_notif_addfd {
            id,
            flags: libc::SECCOMP_ADDFD_FLAG_SETFD as u32,
            srcfd: fd.as_raw_fd() as u32,
            newfd: number as u32,
            newfd_flags: libc::O_CLOEXEC as u32,
        };
        // SAFETY: raw is valid for the call.
        unsafe { ioctl::add_fd(self.0.as_raw_fd(), &raw const raw) }.map(drop)
    }
}

impl std::os::fd::AsFd for Listener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}
