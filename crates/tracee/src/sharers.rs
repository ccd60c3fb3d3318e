//! Who else has the shared memory of a process.
//!
//! The kernel does not say how many processes map an object; so everybody is looked at. Who comes to have one gets it from
//! somebody who has it, by `fork`: therefore one look at everybody is enough, provided that it also finds those who began
//! during the look.

use crate::error::{Error, Result};
use model::{Reason, ReasonCode, Reasons};
use procinfo::{Mapping, Walk};
use std::collections::{BTreeMap, BTreeSet};

/// Rounds of a look, each at those who began during the last one, at most. Where they never end, nobody can tell.
const ROUNDS_MAX: usize = 16;

/// A look at everybody, which can be completed later: who had none of the objects then can only have got one by being
/// born. It must not grow old, as pids are given again.
#[derive(Debug, Default)]
pub struct Look {
    objects: BTreeSet<Identity>,
    known: BTreeSet<i32>,
}

impl Look {
    /// Refuses a process that shares memory with another one. Who has been looked at already is not looked at again, unless
    /// there are new objects. Whoever is stopped begins to share nothing.
    pub fn refuse(&mut self, pid: i32, mappings: &[Mapping]) -> Result<()> {
        let reasons = self.reasons(pid, mappings);
        if reasons.is_empty() { Ok(()) } else { Err(Error::Refused(Reasons(reasons))) }
    }

    /// A reason for each object that another process maps too; none without a look where there are no objects.
    pub(crate) fn reasons(&mut self, pid: i32, mappings: &[Mapping]) -> Vec<Reason> {
        let mut objects: BTreeMap<_, &Mapping> = BTreeMap::new();
        for mapping in mappings.iter().filter(|mapping| mapping.is_shared_anonymous()) {
            objects.entry(identity(mapping)).or_insert(mapping);
        }
        if !objects.keys().all(|object| self.objects.contains(object)) {
            self.known.clear();
            self.objects = objects.keys().cloned().collect();
        }
        if objects.is_empty() {
            return Vec::new();
        }
        let reason = |mapping: &Mapping, why: &str| {
            let place = format!("{} {}", mapping.file_name(), mapping.path);
            Reason::new(ReasonCode::SharedMemory, format!("{place}, {why}"))
        };
        match self.others(pid) {
            Ok(found) => {
                let shared =
                    found.iter().filter_map(|(id, other)| objects.get(id).map(|mapping| (mapping, other)));
                shared.map(|(mapping, other)| reason(mapping, &format!("with process {other}"))).collect()
            }
            Err(why) => objects.values().map(|mapping| reason(mapping, &why)).collect(),
        }
    }

    /// The objects that others map, each with one of those; or why that cannot be known.
    fn others(&mut self, pid: i32) -> std::result::Result<BTreeMap<Identity, i32>, String> {
        let walk = Walk::open().map_err(|error| error.to_string())?;
        let mut found = BTreeMap::new();
        self.known.insert(pid);
        for _ in 0..ROUNDS_MAX {
            let pids = walk.pids(usize::MAX).map_err(|error| error.to_string())?;
            let fresh: Vec<i32> = pids.into_iter().filter(|&other| self.known.insert(other)).collect();
            if fresh.is_empty() {
                return Ok(found);
            }
            for other in fresh {
                let shared = shared_with(pid, other, |mapping| self.objects.contains(&identity(mapping)));
                let shared =
                    shared.map_err(|error| format!("process {other} cannot be looked at: {error}"))?;
                found.extend(shared.into_iter().map(|object| (object, other)));
            }
        }
        Err("processes begin faster than they can be looked at".to_owned())
    }
}

/// Device and inode of an object.
pub(crate) type Identity = (String, u64);

pub(crate) fn identity(mapping: &Mapping) -> Identity {
    (mapping.device.clone(), mapping.inode)
}

/// The objects, of those that are wanted, that another process maps. One that has ended maps none, and a child of `vfork`
/// is no other user: it runs on the memory of its parent.
fn shared_with(pid: i32, other: i32, wanted: impl Fn(&Mapping) -> bool) -> std::io::Result<Vec<Identity>> {
    let mappings = match procinfo::shared_anonymous(other) {
        Ok(mappings) => mappings,
        Err(error) if has_ended(&error) => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    let shared: Vec<Identity> = mappings.iter().filter(|mapping| wanted(mapping)).map(identity).collect();
    let is_same = !shared.is_empty() && kernel::process::share_memory(pid, other).unwrap_or(false);
    Ok(if is_same { Vec::new() } else { shared })
}

/// Its memory, or all of it, is gone.
fn has_ended(error: &std::io::Error) -> bool {
    error.kind() == std::io::ErrorKind::NotFound || error.raw_os_error() == Some(libc::ESRCH)
}

#[cfg(test)]
mod tests {
    use super::*;
    use kernel::process::{Side, clone_with_tid};
    use rustix::mm::{MapFlags, ProtFlags, mmap_anonymous};
    use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process, waitid};

    #[test]
    fn memory_is_shared_with_a_child_while_that_lives() {
        let (read, write) = (ProtFlags::READ | ProtFlags::WRITE, MapFlags::SHARED);
        // SAFETY: a new mapping, which stays until the process ends.
        let start = unsafe { mmap_anonymous(std::ptr::null_mut(), 8192, read, write) }.unwrap() as u64;
        let own = std::process::id() as i32;
        let here = |mapping: &Mapping| (mapping.start..mapping.end).contains(&start);
        let object =
            procinfo::shared_anonymous(own).unwrap().iter().find(|mapping| here(mapping)).map(identity);
        let object = object.unwrap();
        let look = |other| shared_with(own, other, |mapping| identity(mapping) == object).unwrap();
        assert_eq!(look(own), [], "itself is nobody else");
        // SAFETY: the child makes calls of the kernel only.
        let child = match unsafe { clone_with_tid(0, libc::SIGCHLD, None) }.unwrap() {
            Side::Child => loop {
                nix::unistd::pause();
            },
            Side::Parent(child) => child,
        };
        assert_eq!(look(child), std::slice::from_ref(&object));
        let child = Pid::from_raw(child).unwrap();
        kill_process(child, Signal::KILL).unwrap();
        let dead = WaitIdOptions::EXITED | WaitIdOptions::NOWAIT;
        waitid(WaitId::Pid(child), dead).unwrap();
        assert_eq!(look(child.as_raw_nonzero().get()), [], "it is dead, and not buried");
        waitid(WaitId::Pid(child), WaitIdOptions::EXITED).unwrap();
        assert_eq!(look(child.as_raw_nonzero().get()), [], "it is buried");
    }
}
