//! Files that a process maps shared and that may change.
//!
//! They are carried like shared memory, if nobody else has them mapped or open: what the process writes there nobody
//! sees, and nobody writes what it would have to see. Whether that stays so while the process is away is for whoever
//! keeps them to watch.

use crate::error::Error;
use crate::layout::link;
use kernel::Errno;
use kernel::process::{Lease, set_lease};
use model::limits::OWN_FILES_BYTES_MAX;
use model::{Reason, ReasonCode, Reasons};
use nix::sys::fanotify::{EventFFlags, Fanotify, InitFlags};
use procinfo::{Identity, Mapping};
use rustix::fs::{AtFlags, CWD, StatxFlags, makedev, statx};
use std::fs::{File, Metadata, OpenOptions};
use std::io::ErrorKind;
use std::os::fd::AsFd;
use std::os::unix::fs::{FileTypeExt, MetadataExt};

/// What memory of no file is called that others can find all the same.
const OF_NO_DISK: [&str; 4] = ["/dev/zero", "/SYSV", "/memfd:", "/dev/shm/"];

/// File systems of which nothing can change but by an open file of this machine's: magic numbers of `statfs(2)`.
/// (Of an overlay, the kernel shows one file in `/proc` and watches another.)
const LOCAL: [u64; 8] = [
    0xef53,      // ext2, ext3, ext4
    0x5846_5342, // xfs
    0x9123_683e, // btrfs
    0x0102_1994, // tmpfs
    0x8584_58f6, // ramfs
    0xf2f5_2010, // f2fs
    0x2fc1_2fc1, // zfs
    0xca45_1a4e, // bcachefs
];

/// A file that a process maps shared and that may change.
#[derive(Clone, Debug)]
pub struct OwnFile {
    /// What is under its mappings.
    pub identity: Identity,
    /// Device and inode, by which an open descriptor is known.
    pub inode: (u64, u64),
    /// Whether the process may write to it.
    pub is_writable: bool,
    /// Its name, as the kernel shows it.
    pub path: String,
    /// What leads to it, as long as it is mapped.
    link: String,
}

impl OwnFile {
    /// Opens it, for writing if the process may write to it; not found if something else is mapped in its place by now.
    pub fn open(&self) -> std::io::Result<File> {
        let file = OpenOptions::new().read(true).write(self.is_writable).open(&self.link)?;
        let data = file.metadata()?;
        if (data.dev(), data.ino()) == self.inode { Ok(file) } else { Err(ErrorKind::NotFound.into()) }
    }
}

/// Device and inode of what a process has open under a descriptor, if it has. A file far away is not asked for that.
pub fn inode_under(pid: i32, descriptor: &str) -> Option<(u64, u64)> {
    let path = format!("/proc/{pid}/fd/{descriptor}");
    let data = statx(CWD, path, AtFlags::STATX_DONT_SYNC, StatxFlags::INO).ok()?;
    Some((makedev(data.stx_dev_major, data.stx_dev_minor), data.stx_ino))
}

/// What a shared mapping is of.
enum Shared {
    /// Of nothing that is dealt with here.
    Other,
    /// Of a file that nobody changes.
    Lasting,
    /// Of a file that may change.
    Changing(Metadata),
}

/// The files that a process maps shared and that may change; or every reason why they cannot be carried. Those that it may
/// write to are not opened for that.
pub fn find(pid: i32, mappings: &[Mapping]) -> Result<Vec<OwnFile>, Vec<Reason>> {
    let (mut found, mut reasons): (Vec<OwnFile>, _) = (Vec::new(), Vec::new());
    let mut total = 0;
    for mapping in mappings {
        let known = |own: &&mut OwnFile| own.identity == mapping.identity();
        let data = match look(pid, mapping) {
            Ok(Shared::Changing(data)) => data,
            Ok(Shared::Other | Shared::Lasting) => continue,
            Err(reason) => {
                reasons.push(reason);
                continue;
            }
        };
        // It may be mapped twice, and once for reading only.
        let better = own_file(pid, mapping, &data);
        match found.iter_mut().find(known) {
            Some(own) if may_write(mapping) => *own = better,
            Some(_) => {}
            None => {
                total += data.len();
                match bounds(mapping, &data, total) {
                    Ok(()) => found.push(better),
                    Err(reason) => reasons.push(reason),
                }
            }
        }
    }
    if let Some(own) = found.first().filter(|_| !can_be_guarded()) {
        let why = format!("{}, and this kernel does not tell who opens it", own.path);
        reasons.push(Reason::new(ReasonCode::SharedMapping, why));
    }
    if reasons.is_empty() { Ok(found) } else { Err(reasons) }
}

/// Refuses a process that stands still and has mapped, since it was looked at `before`, what would have to be one of its `own`
/// files and is not.
pub fn refuse_others(pid: i32, before: &[Mapping], now: &[Mapping], own: &[OwnFile]) -> crate::Result<()> {
    let is_new = |mapping: &&Mapping| mapping.shared && !before.contains(mapping);
    let fresh: Vec<Mapping> = now.iter().filter(is_new).cloned().collect();
    let found = find(pid, &fresh).map_err(|reasons| Error::Refused(Reasons(reasons)))?;
    let known = |found: &&OwnFile| {
        let same = own.iter().find(|own| own.identity == found.identity);
        same.is_some_and(|own| own.is_writable || !found.is_writable)
    };
    match found.iter().find(|found| !known(found)) {
        None => Ok(()),
        Some(other) => {
            let why = format!("it has just mapped {}", other.path);
            Err(Error::Refused(Reasons(vec![Reason::new(ReasonCode::Busy, why)])))
        }
    }
}

fn place(mapping: &Mapping) -> String {
    format!("{} {}", mapping.file_name(), mapping.path)
}

fn refused(mapping: &Mapping, why: &str) -> Reason {
    Reason::new(ReasonCode::SharedMapping, format!("{}, {why}", place(mapping)))
}

/// `mw`: the mapping may become writable, so the file was opened for writing.
fn may_write(mapping: &Mapping) -> bool {
    mapping.has("wr") || mapping.has("mw")
}

fn look(pid: i32, mapping: &Mapping) -> Result<Shared, Reason> {
    if !mapping.shared || mapping.inode == 0 || mapping.is_special() || mapping.is_shared_anonymous() {
        return Ok(Shared::Other);
    }
    if OF_NO_DISK.iter().any(|start| mapping.path.starts_with(start)) {
        return Err(Reason::new(ReasonCode::SharedMemory, place(mapping)));
    }
    let link = link(pid, mapping);
    let unreadable = |_| Reason::new(ReasonCode::Unreadable, place(mapping));
    let data = match std::fs::metadata(&link) {
        // It is mapped no more.
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Shared::Other),
        found => found.map_err(unreadable)?,
    };
    if data.file_type().is_char_device() || data.file_type().is_block_device() {
        return Err(Reason::new(ReasonCode::DeviceMapping, place(mapping)));
    }
    if !may_write(mapping) && !has_writers(&File::open(&link).map_err(unreadable)?) {
        return Ok(Shared::Lasting);
    }
    if !data.is_file() {
        return Err(refused(mapping, "which is no regular file"));
    }
    let kind = rustix::fs::statfs(&link).map_or(0, |system| system.f_type as u64);
    if !LOCAL.contains(&(kind & 0xffff_ffff)) {
        return Err(refused(mapping, "on a file system that others may change"));
    }
    Ok(Shared::Changing(data))
}

/// A file of no length has no page that could be carried.
fn bounds(mapping: &Mapping, data: &Metadata, total: u64) -> Result<(), Reason> {
    if data.len() == 0 {
        Err(refused(mapping, "which is empty"))
    } else if total > OWN_FILES_BYTES_MAX {
        Err(refused(mapping, &format!("more than {} MB of such files", OWN_FILES_BYTES_MAX >> 20)))
    } else {
        Ok(())
    }
}

fn own_file(pid: i32, mapping: &Mapping, data: &Metadata) -> OwnFile {
    OwnFile {
        identity: mapping.identity(),
        inode: (data.dev(), data.ino()),
        is_writable: may_write(mapping),
        path: mapping.path.clone(),
        link: link(pid, mapping),
    }
}

/// A read lease is granted only while nobody has the file open for writing; where leases do not exist, nobody can tell.
fn has_writers(file: &File) -> bool {
    match set_lease(file.as_fd(), Lease::Read) {
        Err(Errno::EAGAIN) => true,
        Ok(()) => {
            let _ = set_lease(file.as_fd(), Lease::None);
            false
        }
        Err(_) => false,
    }
}

/// Whether this kernel lets us hold up those who open a file.
fn can_be_guarded() -> bool {
    Fanotify::init(InitFlags::FAN_CLASS_CONTENT | InitFlags::FAN_CLOEXEC, EventFFlags::O_RDONLY).is_ok()
}
