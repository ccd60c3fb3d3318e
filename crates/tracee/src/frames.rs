//! Frames of signal handlers, which are larger where the CPU has more registers.

use crate::error::{Error, Result};
use image::{Process, Thread};
use model::{Reason, ReasonCode, Reasons};

/// The auxiliary vector's entry with the length of the largest frame, bytes (getauxval(3)).
const AT_MINSIGSTKSZ: u64 = 51;
/// What it is where the kernel does not tell.
const USUAL: u64 = 2048;
const SS_DISABLE: u64 = 2;

/// Refuses a process with an alternate signal stack that has room for its home's frames but not for this machine's.
pub(crate) fn check(image: &Process) -> Result<()> {
    let own = std::fs::read("/proc/self/auxv").map_err(Error::io("reading the own auxv", image.pid))?;
    match too_small(&image.threads, frame(&image.auxv), frame(&own)) {
        None => Ok(()),
        Some(size) => {
            let detail =
                format!("signal frames of {} bytes, for which its stack of {size} is too small", frame(&own));
            Err(Error::Refused(Reasons(vec![Reason::new(ReasonCode::CpuFeatures, detail)])))
        }
    }
}

/// The length of an alternate stack that is large enough for the first frame and not for the second.
fn too_small(threads: &[Thread], there: u64, here: u64) -> Option<u64> {
    let stacks = threads.iter().map(|thread| thread.alternate_stack);
    let mut sizes = stacks.filter(|[_, flags, _]| flags & SS_DISABLE == 0).map(|[_, _, size]| size);
    sizes.find(|size| (there..here).contains(size))
}

/// The length of the largest frame, by an auxiliary vector.
fn frame(auxv: &[u8]) -> u64 {
    let word = |bytes: &[u8]| bytes.first_chunk().map_or(0, |word| u64::from_le_bytes(*word));
    let mut entries = auxv.chunks_exact(16).map(|entry| (word(entry), word(&entry[8..])));
    entries.find(|(kind, _)| *kind == AT_MINSIGSTKSZ).map_or(USUAL, |(_, value)| value)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn thread(alternate_stack: [u64; 3]) -> Thread {
        Thread { alternate_stack, ..Thread::default() }
    }

    #[test]
    fn only_a_stack_that_was_large_enough_and_is_no_longer_counts() {
        let found = |stack| too_small(&[thread(stack)], 2048, 3632);
        assert_eq!(found([0x1000, 0, 2048]), Some(2048));
        assert_eq!(found([0x1000, 0, 3632]), None);
        assert_eq!(found([0x1000, 0, 1000]), None);
        assert_eq!(found([0, SS_DISABLE, 0]), None);
        assert_eq!(found([0x1000, SS_DISABLE, 2048]), None);
        assert_eq!(too_small(&[thread([0x1000, 0, 2048])], 3632, 2048), None);
    }

    #[test]
    fn the_frame_is_in_the_auxiliary_vector() {
        let entry = |kind: u64, value: u64| [kind.to_le_bytes(), value.to_le_bytes()].concat();
        assert_eq!(frame(&[entry(3, 1), entry(AT_MINSIGSTKSZ, 3632), entry(0, 0)].concat()), 3632);
        assert_eq!(frame(&entry(0, 0)), USUAL);
        assert!(frame(&std::fs::read("/proc/self/auxv").unwrap()) >= 1024);
    }
}
