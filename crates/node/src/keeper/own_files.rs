//! The files that a process maps shared and may change, while it is away.
//!
//! There, shared memory stands for each of them. What differs comes back as pages: when the process asks for that
//! (`msync`, `munmap`), before it leaves its host, becomes another program or ends, and once more when it has. Until then
//! nobody else gets at the file: who opens it is held up ([`super::guard`]), and the process comes home. So it does for
//! its own calls that would see or change what is in the file.

use super::calls::{Calls, lock};
use super::guard::Guard;
use super::slot::Tenant;
use crate::journey::{Error, Result};
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::sync::atomic::{AtomicI32, Ordering::SeqCst};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Duration;
use syscalls::Arg;
use tracee::own_files::{OwnFile, inode_under};
use wire::session::{self, SyncOrder, Which, WriteBack};

/// How long the pages of a process that has ended may take to come. Whoever opens the file waits for them.
const PATIENCE: Duration = Duration::from_secs(20);

/// Calls that neither see nor change what is in a file.
const HARMLESS: [i64; 17] = {
    use nix::libc::*;
    [
        SYS_close,
        SYS_fstat,
        SYS_newfstatat,
        SYS_statx,
        SYS_fstatfs,
        SYS_fcntl,
        SYS_flock,
        SYS_dup,
        SYS_dup2,
        SYS_dup3,
        SYS_fchmod,
        SYS_fchown,
        SYS_fgetxattr,
        SYS_flistxattr,
        SYS_fsetxattr,
        SYS_fadvise64,
        SYS_close_range,
    ]
};

/// The files of one process.
#[derive(Debug)]
pub(super) struct OwnFiles {
    pub(super) pid: i32,
    /// By their numbers.
    pub(super) files: Vec<OwnFile>,
    /// The same, open.
    pub(super) open: Vec<File>,
    guard: Guard,
    /// Why something could not be written, for the next who asks whether all is on the disk: an `errno`.
    failed: AtomicI32,
    /// Its host has nothing more of them.
    finished: Mutex<bool>,
    changed: Condvar,
}

impl OwnFiles {
    /// The files are guarded from now on.
    pub(super) fn new(pid: i32, files: Vec<OwnFile>) -> Result<OwnFiles> {
        let open: std::io::Result<Vec<File>> = files.iter().map(OwnFile::open).collect();
        let open = open.map_err(Error::io("opening its files"))?;
        let guard = Guard::set(pid, &open)?;
        Ok(OwnFiles {
            pid,
            files,
            open,
            guard,
            failed: AtomicI32::new(0),
            finished: Mutex::default(),
            changed: Condvar::new(),
        })
    }

    /// Writes what a host has sent, to a file that the process itself may write to.
    fn write(&self, order: &WriteBack, bytes: &[u8]) -> Result<()> {
        match self.writable().nth(order.file as usize).flatten() {
            Some(file) => write_pages(file, &order.ranges, bytes),
            None => Err(session::Malformed("pages of a file").into()),
        }
    }

    /// Whether what was written back is on the disk: 0, or the kernel's error, which is told once.
    fn sync(&self) -> i64 {
        let synced = self.writable().flatten().try_for_each(File::sync_data);
        let now = synced.err().map_or(0, |error| errno_of(&error));
        let before = self.failed.swap(0, SeqCst);
        -i64::from(if before != 0 { before } else { now })
    }

    /// Each file, if it may be written to.
    fn writable(&self) -> impl Iterator<Item = Option<&File>> {
        self.open.iter().zip(&self.files).map(|(file, own)| own.is_writable.then_some(file))
    }

    fn finish(&self) {
        *lock(&self.finished) = true;
        self.changed.notify_all();
    }

    /// Waits until the host has nothing more of them; `false` if that takes too long.
    fn wait(&self) -> bool {
        let finished = lock(&self.finished);
        let waited = self.changed.wait_timeout_while(finished, PATIENCE, |finished| !*finished);
        *waited.unwrap_or_else(PoisonError::into_inner).0
    }

    /// Whether a call of its process uses one of the files.
    fn are_used(&self, nr: u32, args: &[u64; 6]) -> bool {
        let Some(row) = syscalls::row(nr) else { return true };
        let positions = i64::from(nr) == nix::libc::SYS_lseek && args[2] < nix::libc::SEEK_DATA as u64;
        if positions || HARMLESS.contains(&i64::from(nr)) {
            return false;
        }
        let descriptors = row.args.iter().zip(args).filter(|(arg, _)| matches!(arg, Arg::Fd));
        descriptors.map(|(_, number)| *number as i32).any(|number| self.is_under(number))
    }

    /// Whether one of them is under this descriptor of the process.
    pub(super) fn is_under(&self, descriptor: i32) -> bool {
        let inode = inode_under(self.pid, &descriptor.to_string());
        self.files.iter().any(|own| Some(own.inode) == inode)
    }
}

fn errno_of(error: &std::io::Error) -> i32 {
    error.raw_os_error().unwrap_or(nix::libc::EIO)
}

/// Writes stretches of a file; what they have beyond its end is nobody's.
fn write_pages(file: &File, ranges: &[(u64, u64)], mut bytes: &[u8]) -> Result<()> {
    let bad = || Error::from(session::Malformed("pages of a file"));
    let length = file.metadata().map_err(Error::io("writing back to a file"))?.len();
    for &(start, count) in ranges {
        let run = usize::try_from(count).ok().and_then(|count| bytes.split_at_checked(count));
        let (run, behind) = run.ok_or_else(bad)?;
        bytes = behind;
        let there = length.saturating_sub(start).min(count) as usize;
        file.write_all_at(&run[..there], start).map_err(Error::io("writing back to a file"))?;
    }
    if bytes.is_empty() { Ok(()) } else { Err(bad()) }
}

impl Calls {
    /// A process is away that has such files.
    pub(super) fn own(self: &Arc<Self>, own: OwnFiles) -> Result<()> {
        own.guard.report_to(self, &own.open)?;
        *lock(&self.own_files) = Some(Arc::new(own));
        self.has_own_files.store(true, SeqCst);
        Ok(())
    }

    /// The files of a process that is away, if it has some.
    pub(super) fn own_files(&self) -> Option<Arc<OwnFiles>> {
        if self.has_own_files.load(SeqCst) { lock(&self.own_files).clone() } else { None }
    }

    /// A process has no such files any more: it is at home. Whoever waits for one of them goes on.
    pub(super) fn disown(&self, pid: i32) {
        let own = lock(&self.own_files).take_if(|own| own.pid == pid);
        if own.is_some() {
            self.has_own_files.store(false, SeqCst);
        }
    }

    /// As [`Calls::disown`], of a process that has ended or become another program; its host is waited for.
    pub(super) fn part_with_files(&self, pid: i32) {
        let own = self.own_files().filter(|own| own.pid == pid);
        if own.is_some_and(|own| !own.wait()) {
            tracing::error!(pid, "what it last wrote to its mapped files has not come back from its host");
        }
        self.disown(pid);
    }

    /// Nothing more comes from the host.
    pub(super) fn files_are_lost(&self) {
        if let Some(own) = self.own_files() {
            own.finish();
        }
    }

    /// Takes pages of a file.
    pub(super) fn write_back(&self, payload: &[u8]) -> Result<()> {
        let (order, bytes) = session::decode::<WriteBack>(payload)?;
        let own = self.own_files().filter(|own| own.pid == order.pid);
        let own = own.ok_or(session::Malformed("pages of a file of nobody's"))?;
        match own.write(&order, bytes) {
            Err(Error::Io { what, source }) => {
                own.failed.store(errno_of(&source), SeqCst);
                let path = own.files.get(order.file as usize).map_or("", |own| own.path.as_str());
                tracing::error!(pid = own.pid, path, what, error = %source, "what it wrote to a mapped file is lost");
                Ok(())
            }
            written => written,
        }
    }

    /// A host has nothing more of the files of a process.
    pub(super) fn is_written_back(&self, payload: &[u8]) -> Result<()> {
        let (Which { pid }, _) = session::decode(payload)?;
        if let Some(own) = self.own_files().filter(|own| own.pid == pid) {
            own.finish();
        }
        Ok(())
    }

    /// What was written back is to be on the disk before there is an answer. Others' calls do not wait for that.
    pub(super) fn sync(self: &Arc<Self>, payload: &[u8]) -> Result<()> {
        let (SyncOrder { slot, seq }, _) = session::decode(payload)?;
        let calls = Arc::clone(self);
        let sync = move || {
            let synced = calls.own_files().map_or(0, |own| own.sync());
            // A lost connection is noticed, and dealt with, where frames are read.
            let _ = calls.reply(slot, seq, synced, &[]);
        };
        let spawned = std::thread::Builder::new().name("sync".into()).spawn(sync);
        spawned.map(drop).map_err(Error::io("starting a thread"))
    }

    /// Whether a call of a process uses one of its files: it is kept until the process is at home.
    pub(super) fn uses_own_files(&self, tenant: Tenant, call: &wire::Call) -> bool {
        let own = self.own_files().filter(|own| own.pid == tenant.pid);
        own.is_some_and(|own| own.are_used(call.nr, &call.args))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_writes_within_the_file_and_nowhere_else() {
        let file = tempfile::tempfile().unwrap();
        file.set_len(10_000).unwrap();
        let content = || {
            let mut bytes = vec![0; 10_000];
            assert_eq!(file.metadata().unwrap().len(), 10_000, "it is as long as before");
            file.read_exact_at(&mut bytes, 0).unwrap();
            bytes
        };
        // Its last page ends behind it; others are beyond it altogether.
        let ranges = [(0, 4096), (8192, 4096), (1 << 40, 4096), (u64::MAX - 4095, 4096)];
        write_pages(&file, &ranges, &[7; 4 * 4096]).unwrap();
        let written = content();
        let seven = |byte: &u8| *byte == 7;
        assert!(written[..4096].iter().all(seven) && written[8192..].iter().all(seven));
        assert!(written[4096..8192].iter().all(|byte| *byte == 0));
        for (ranges, bytes) in
            [(&[(0, 4096)][..], 4095), (&[(0, 4096)], 4097), (&[(0, u64::MAX)], 4096), (&[], 1)]
        {
            assert!(write_pages(&file, ranges, &vec![8; bytes]).is_err(), "{ranges:?} {bytes}");
        }
    }

    #[test]
    fn what_neither_sees_nor_changes_a_file_is_harmless() {
        for nr in HARMLESS {
            let row = syscalls::row(nr as u32).unwrap();
            let carries = row
                .args
                .iter()
                .any(|arg| matches!(arg, Arg::Receive(_) | Arg::Send(_) | Arg::Vector(..) | Arg::Message(_)));
            assert!(!carries, "{} carries bytes", row.name);
        }
    }
}
