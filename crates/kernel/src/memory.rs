//! Reading and writing the memory of other processes.

use crate::Errno;
use std::fs::File;
use std::os::unix::fs::FileExt;

/// A stretch of another process's address space.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Range {
    /// First address.
    pub start: u64,
    /// Length, bytes.
    pub length: u64,
}

/// Ranges that one call of the kernel takes at most (`IOV_MAX`).
pub const RANGES_MAX: usize = 1024;

fn remote(ranges: &[Range]) -> Vec<libc::iovec> {
    let vector =
        |range: &Range| libc::iovec { iov_base: range.start as *mut _, iov_len: range.length as usize };
    ranges.iter().map(vector).collect()
}

/// Reads the ranges, one after another, into `into`; returns how many bytes could be read.
pub fn read(pid: i32, ranges: &[Range], into: &mut [u8]) -> Result<usize, Errno> {
    let local = libc::iovec { iov_base: into.as_mut_ptr().cast(), iov_len: into.len() };
    let remote = remote(ranges);
    // SAFETY: `local` is writable for its length; the remote addresses are the kernel's to check.
    let got =
        unsafe { libc::process_vm_readv(pid, &raw const local, 1, remote.as_ptr(), remote.len() as u64, 0) };
    usize::try_from(got).map_err(|_| Errno::last())
}

/// Writes `from` over the ranges, one after another; returns how many bytes could be written.
pub fn write(pid: i32, ranges: &[Range], from: &[u8]) -> Result<usize, Errno> {
    let local = libc::iovec { iov_base: from.as_ptr().cast_mut().cast(), iov_len: from.len() };
    let remote = remote(ranges);
    // SAFETY: `local` is readable for its length; the remote addresses are the kernel's to check.
    let put =
        unsafe { libc::process_vm_writev(pid, &raw const local, 1, remote.as_ptr(), remote.len() as u64, 0) };
    usize::try_from(put).map_err(|_| Errno::last())
}

/// Reads exactly `into.len()` bytes at `address`.
pub fn read_exact(pid: i32, address: u64, into: &mut [u8]) -> Result<(), Errno> {
    let length = into.len();
    match read(pid, &[Range { start: address, length: length as u64 }], into)? {
        got if got == length => Ok(()),
        _ => Err(Errno::EFAULT),
    }
}

/// Writes all of `from` at `address`.
pub fn write_all(pid: i32, address: u64, from: &[u8]) -> Result<(), Errno> {
    match write(pid, &[Range { start: address, length: from.len() as u64 }], from)? {
        put if put == from.len() => Ok(()),
        _ => Err(Errno::EFAULT),
    }
}

/// `/proc/PID/mem`, which ignores the protection of mappings.
#[derive(Debug)]
pub struct Forced(File);

impl Forced {
    /// Opens the memory of a process that this thread traces.
    pub fn open(pid: i32) -> std::io::Result<Forced> {
        File::options().read(true).write(true).open(format!("/proc/{pid}/mem")).map(Forced)
    }

    /// Reads exactly `into.len()` bytes at `address`.
    pub fn read_exact(&self, address: u64, into: &mut [u8]) -> std::io::Result<()> {
        self.0.read_exact_at(into, address)
    }

    /// Writes all of `from` at `address`.
    pub fn write_all(&self, address: u64, from: &[u8]) -> std::io::Result<()> {
        self.0.write_all_at(from, address)
    }
}
