//! The blob as bytes for a chosen address.

mod built {
    include!(concat!(env!("OUT_DIR"), "/blob.rs"));
}

static IMAGE: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/blob.bin"));

/// The blob, ready to be written at one address of another process.
#[derive(Clone, Debug)]
pub struct Blob {
    /// Its bytes, whole pages.
    pub bytes: Vec<u8>,
    /// Its entry points.
    pub entries: Entries,
}

/// Addresses of the blob's entry points.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entries {
    /// Runs `rsi` calls at `rdi`, then traps.
    pub batch: u64,
    /// The deputy's loop on the slot at `rdi`.
    pub deputy: u64,
    /// A bare `syscall` instruction, followed by a trap.
    pub syscall: u64,
    /// `sa_restorer` of the handler.
    pub restorer: u64,
    /// Handler for every signal that is caught at home.
    pub handler: u64,
}

impl Blob {
    /// Length of the blob, bytes, whole pages.
    pub fn len() -> u64 {
        IMAGE.len() as u64
    }

    /// The blob relocated for `base`.
    pub fn at(base: u64) -> Blob {
        let mut bytes = IMAGE.to_vec();
        for &(offset, addend) in built::RELOCATIONS {
            let at = offset as usize;
            bytes[at..at + 8].copy_from_slice(&base.wrapping_add_signed(addend).to_le_bytes());
        }
        let entries = Entries {
            batch: base + built::STUB_BATCH,
            deputy: base + built::STUB_DEPUTY,
            syscall: base + built::STUB_SYSCALL,
            restorer: base + built::STUB_RESTORER,
            handler: base + built::STUB_HANDLER,
        };
        Blob { bytes, entries }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bare_syscall_is_a_syscall_and_a_trap() {
        let blob = Blob::at(0x10_0000);
        let at = (blob.entries.syscall - 0x10_0000) as usize;
        assert_eq!(blob.bytes[at..at + 3], [0x0f, 0x05, 0xcc]);
        assert_eq!(blob.bytes.len() as u64, Blob::len());
    }
}
