//! Calls that give away more than fits, and were interrupted in the middle.
//!
//! Such a call answers how much it has given. Where only the freeze interrupted it, it would have gone on with the rest;
//! registers and descriptor still tell whether that is so. A datagram is never given in part.

use image::Registers;
use kernel::memory;
use std::fs;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};

const SEGMENT_BYTES: usize = 16;
const SEGMENTS_MAX: u64 = 1024;

/// Whether call `nr`, which is about to answer that it gave `done` bytes, would have waited until it had given them all.
pub(crate) fn is_half_done(pid: i32, registers: &Registers, nr: i64, done: u64) -> bool {
    let Registers { rdi, rsi, rdx, r10, .. } = *registers;
    let (asked, flags) = match nr {
        libc::SYS_write => (Some(rdx), 0),
        libc::SYS_writev => (length(pid, rsi, rdx), 0),
        libc::SYS_sendto => (Some(rdx), r10),
        libc::SYS_sendmsg => (words(pid, rsi + 16).and_then(|[at, count]| length(pid, at, count)), rdx),
        libc::SYS_sendfile => (Some(r10), 0),
        _ => return false,
    };
    let may_wait = flags & libc::MSG_DONTWAIT as u64 == 0;
    may_wait && asked.is_some_and(|asked| done < asked) && is_waited_for(pid, rdi as i32)
}

/// Whether a descriptor is one that takes a part and lets its caller wait: a blocking pipe, socket or terminal.
fn is_waited_for(pid: i32, descriptor: i32) -> bool {
    let Ok(file) = fs::metadata(format!("/proc/{pid}/fd/{descriptor}")) else { return false };
    let kind = file.file_type();
    // Terminals have the majors 4, 5 and 136 to 143: Documentation/admin-guide/devices.txt.
    let is_terminal = kind.is_char_device() && matches!(libc::major(file.rdev()), 4 | 5 | 136..=143);
    let info = fs::read_to_string(format!("/proc/{pid}/fdinfo/{descriptor}")).unwrap_or_default();
    let flags =
        info.lines().find_map(|line| i32::from_str_radix(line.strip_prefix("flags:")?.trim(), 8).ok());
    (kind.is_fifo() || kind.is_socket() || is_terminal)
        && flags.is_some_and(|flags| flags & libc::O_NONBLOCK == 0)
}

/// Bytes of all elements of a vector.
fn length(pid: i32, address: u64, count: u64) -> Option<u64> {
    let mut bytes = vec![0; SEGMENT_BYTES * usize::try_from(count.min(SEGMENTS_MAX)).ok()?];
    memory::read_exact(pid, address, &mut bytes).ok()?;
    let lengths = bytes.chunks_exact(SEGMENT_BYTES).filter_map(|element| element.last_chunk::<8>());
    lengths.map(|length| u64::from_le_bytes(*length)).try_fold(0u64, u64::checked_add)
}

fn words(pid: i32, address: u64) -> Option<[u64; 2]> {
    let mut bytes = [0; 16];
    memory::read_exact(pid, address, &mut bytes).ok()?;
    let (first, second) = (bytes.first_chunk::<8>()?, bytes.last_chunk::<8>()?);
    Some([u64::from_le_bytes(*first), u64::from_le_bytes(*second)])
}
