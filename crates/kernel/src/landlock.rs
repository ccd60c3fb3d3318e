//! Landlock: a process gives up its own access to files, to TCP, and to what is outside of its domain.
//!
//! A ruleset without rules denies every right that it handles. What may be handled grew with the versions of the
//! interface (`landlock(7)`); a kernel refuses what it does not know, so its version is asked first.

use crate::{Errno, check};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

/// `struct landlock_ruleset_attr`. Older kernels take a longer one as long as the rest of it is zero.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Attributes {
    files: u64,
    network: u64,
    scopes: u64,
}

const _: () = assert!(size_of::<Attributes>() == 24);

const CREATE_RULESET_VERSION: u32 = 1;

/// From each version on: how many rights on files, rights on the network, and scopes there are. Their bits are numbered
/// from 0 without gaps.
const RIGHTS: [(u32, [u32; 3]); 7] = [
    (1, [13, 0, 0]),
    // REFER
    (2, [14, 0, 0]),
    // TRUNCATE
    (3, [15, 0, 0]),
    // BIND_TCP, CONNECT_TCP
    (4, [15, 2, 0]),
    // IOCTL_DEV
    (5, [16, 2, 0]),
    // Abstract unix sockets, signals
    (6, [16, 2, 2]),
    // Versions 7 and 8 brought how denials are logged and how threads are restricted, but no rights.
    (8, [16, 2, 2]),
];

/// The version of the interface that this kernel has; an error where it has none, or where Landlock is switched off.
pub fn version() -> Result<u32, Errno> {
    // SAFETY: with this flag the kernel reads no memory.
    let ret = unsafe {
        libc::syscall(libc::SYS_landlock_create_ruleset, std::ptr::null::<u8>(), 0, CREATE_RULESET_VERSION)
    };
    check(ret).map(|version| version as u32)
}

/// Everything that can be denied by this version of the interface.
fn everything(version: u32) -> Attributes {
    let known = RIGHTS.iter().rev().find(|(first, _)| *first <= version);
    let [files, network, scopes] = known.map_or([0; 3], |(_, counts)| *counts);
    let mask = |bits: u32| (1 << bits) - 1;
    Attributes { files: mask(files), network: mask(network), scopes: mask(scopes) }
}

/// Denies everything that this version can deny to the calling thread and to all that it makes from now on, for ever.
///
/// The caller needs `no_new_privs`, or `CAP_SYS_ADMIN` in its user namespace. On failure nothing is denied.
pub fn deny_everything(version: u32) -> Result<(), Errno> {
    let attributes = everything(version);
    // SAFETY: the structure is valid for the call.
    let created = check(unsafe {
        libc::syscall(libc::SYS_landlock_create_ruleset, &raw const attributes, size_of::<Attributes>(), 0)
    })?;
    // SAFETY: the kernel has just made this descriptor for us.
    let ruleset = unsafe { OwnedFd::from_raw_fd(created as i32) };
    // SAFETY: numbers only.
    check(unsafe { libc::syscall(libc::SYS_landlock_restrict_self, ruleset.as_raw_fd(), 0) }).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_version_has_the_rights_of_the_one_before() {
        assert_eq!(everything(0), Attributes::default());
        assert_eq!(everything(1), Attributes { files: 0x1fff, network: 0, scopes: 0 });
        assert_eq!(everything(5), Attributes { files: 0xffff, network: 3, scopes: 0 });
        assert_eq!(everything(7), Attributes { files: 0xffff, network: 3, scopes: 3 });
        assert_eq!(everything(u32::MAX), everything(8));
        for version in 1..10 {
            let (less, more) = (everything(version - 1), everything(version));
            assert_eq!(
                (less.files & !more.files, less.network & !more.network, less.scopes & !more.scopes),
                (0, 0, 0)
            );
        }
    }

    #[test]
    fn a_thread_can_give_up_everything() {
        let Ok(version) = version() else {
            println!("skipped: this kernel has no Landlock");
            return;
        };
        // Only the thread that asks for it, and it ends here.
        let outcome = std::thread::spawn(move || {
            let before = std::fs::read_dir("/").is_ok();
            rustix::thread::set_no_new_privs(true).unwrap();
            deny_everything(version).unwrap();
            (before, std::fs::read_dir("/").map(drop).map_err(|error| error.kind()))
        });
        let denied = Err(std::io::ErrorKind::PermissionDenied);
        assert_eq!(outcome.join().unwrap(), (true, denied));
        assert!(std::fs::read_dir("/").is_ok());
    }
}
