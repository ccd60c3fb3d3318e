//! Files that the remote maps while it is away.

use super::{Keeper, Place};
use crate::journey::{Error, Result, transfer};
use std::fs::File;
use tracee::layout::MappedFile;
use wire::session::{self, FileAnswer, FileEntry, FileRequest, Kind};

impl Keeper {
    /// Answers a host that asks what is under a descriptor of the process.
    pub(super) fn give_file(&mut self, payload: &[u8]) -> Result<()> {
        let (request, _) = session::decode::<FileRequest>(payload)?;
        let tenant = match &self.place {
            Place::Away(away) => away.calls.tenant(request.slot),
            Place::Home => None,
        };
        let known = tenant.and_then(|tenant| self.file_under(tenant.pid, request.descriptor));
        let Place::Away(away) = &self.place else { return Ok(()) };
        let known = match known {
            Some(file) if request.send => {
                match transfer::send_file(&mut &*away.calls, &file, &mut |_| Ok(())) {
                    Ok(()) => Some(file),
                    // Somebody writes to it, and what is mapped of it is to be what is in it.
                    Err(Error::Refused(_)) => None,
                    Err(error) => return Err(error),
                }
            }
            other => other,
        };
        let file = known.map(|file| FileEntry { id: file.id, length: file.length });
        away.calls.send(Kind::FileIs, &[&session::encode(&FileAnswer { slot: request.slot, file })])
    }

    /// Only regular files that the process may read can be mapped elsewhere.
    fn file_under(&mut self, pid: i32, descriptor: i32) -> Option<MappedFile> {
        if let Place::Away(away) = &self.place
            && away.calls.own_files().is_some_and(|own| own.pid == pid && own.is_under(descriptor))
        {
            return None;
        }
        let file = File::from(tracee::deputy::take_fd(pid, descriptor).ok()?);
        let regular = file.metadata().is_ok_and(|data| data.is_file());
        let mode = rustix::fs::fcntl_getfl(&file).ok()?;
        let readable = !mode.contains(rustix::fs::OFlags::WRONLY) && !mode.contains(rustix::fs::OFlags::PATH);
        if !regular || !readable {
            return None;
        }
        // An open file of its own: the process's shares its offset with the program, which must not be moved.
        let own = File::open(format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&file))).ok()?;
        self.files.learn(own).ok()
    }
}
