//! The guest's memory, as the forwarder sees it.

use forward::{Fault, Memory, StringFault};
use kernel::memory::{self, Range};

const PAGE: u64 = 4096;

/// Memory of the guest with this pid on this node.
#[derive(Clone, Copy, Debug)]
pub(super) struct GuestMemory(pub(super) i32);

impl Memory for GuestMemory {
    fn read(&self, address: u64, into: &mut [u8]) -> Result<(), Fault> {
        if into.is_empty() {
            return Ok(());
        }
        let wanted = into.len();
        match memory::read(self.0, &[Range { start: address, length: wanted as u64 }], into) {
            Ok(got) if got == wanted => Ok(()),
            Ok(done) => Err(Fault { done }),
            Err(_) => Err(Fault { done: 0 }),
        }
    }

    fn read_string(&self, address: u64, max: usize) -> Result<Vec<u8>, StringFault> {
        let mut found = Vec::new();
        while found.len() < max {
            let at = address + found.len() as u64;
            // Never across a page that need not be there.
            let length = (PAGE - at % PAGE).min((max - found.len()) as u64) as usize;
            let from = found.len();
            found.resize(from + length, 0);
            self.read(at, &mut found[from..]).map_err(|_| StringFault::Fault)?;
            if let Some(end) = found[from..].iter().position(|&byte| byte == 0) {
                found.truncate(from + end);
                return Ok(found);
            }
        }
        Err(StringFault::TooLong)
    }

    fn write(&self, address: u64, bytes: &[u8]) -> Result<(), Fault> {
        if bytes.is_empty() {
            return Ok(());
        }
        match memory::write(self.0, &[Range { start: address, length: bytes.len() as u64 }], bytes) {
            Ok(put) if put == bytes.len() => Ok(()),
            Ok(done) => Err(Fault { done }),
            Err(_) => Err(Fault { done: 0 }),
        }
    }
}
