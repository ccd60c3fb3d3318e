//! How the scheduler treats the calling thread and those that it will make.

use crate::{Errno, check};
use std::mem::size_of;

/// `struct sched_attr` of `sched_setattr(2)`, its first version.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
struct Attributes {
    size: u32,
    policy: u32,
    flags: u64,
    nice: i32,
    priority: u32,
    runtime_ns: u64,
    deadline_ns: u64,
    period_ns: u64,
}

/// Asks for shorter turns on the CPU: one who is woken need not wait for the end of another's longer turn, and gives way
/// earlier in exchange. Its share of the CPU is the same. Threads made from now on inherit it.
///
/// Since Linux 6.12; an older kernel takes no notice of it. Between 0.1 ms and 100 ms, others become the nearest of these.
pub fn set_turns(nanoseconds: u64) -> Result<(), Errno> {
    let attributes = Attributes { runtime_ns: nanoseconds, ..own()? };
    // SAFETY: the kernel reads as many bytes as the attributes say they have.
    check(unsafe { libc::syscall(libc::SYS_sched_setattr, 0, &raw const attributes, 0) }).map(drop)
}

/// The attributes of the calling thread.
fn own() -> Result<Attributes, Errno> {
    let mut attributes = Attributes::default();
    let size = size_of::<Attributes>() as u32;
    // SAFETY: the kernel writes at most `size` bytes to the attributes, which have as many.
    check(unsafe { libc::syscall(libc::SYS_sched_getattr, 0, &raw mut attributes, size, 0) })?;
    Ok(Attributes { size, ..attributes })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn turns_are_set_and_nothing_else() {
        let before = own().unwrap();
        std::thread::spawn(move || {
            set_turns(100_000).unwrap();
            let now = own().unwrap();
            assert_eq!((now.policy, now.nice, now.flags), (before.policy, before.nice, before.flags));
            // Older kernels take no notice.
            assert!(now.runtime_ns == 100_000 || now.runtime_ns == before.runtime_ns, "{now:?}");
            let inherited = std::thread::spawn(own).join().unwrap().unwrap();
            assert_eq!(inherited.runtime_ns, now.runtime_ns);
        })
        .join()
        .unwrap();
        assert_eq!(own().unwrap().runtime_ns, before.runtime_ns);
    }
}
