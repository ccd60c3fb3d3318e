//! The guest's memory, as the forwarder sees it.

/// Memory of another process, by address.
pub trait Memory {
    /// Fills the buffer from `address` on.
    fn read(&self, address: u64, into: &mut [u8]) -> Result<(), Fault>;
    /// The bytes before the first NUL; looks at `max` bytes at most.
    fn read_string(&self, address: u64, max: usize) -> Result<Vec<u8>, StringFault>;
    /// Writes all the bytes from `address` on.
    fn write(&self, address: u64, bytes: &[u8]) -> Result<(), Fault>;
}

/// Some of a range cannot be reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("memory cannot be reached after {done} bytes")]
pub struct Fault {
    /// Bytes from its beginning that were read or written.
    pub done: usize,
}

/// A string cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StringFault {
    /// Its memory ends before its NUL.
    #[error("memory ends before the string does")]
    Fault,
    /// There is no NUL among the first `max` bytes.
    #[error("the string is too long")]
    TooLong,
}

/// Reads as much as can be read, up to `len` bytes.
pub(crate) fn read_some(memory: &impl Memory, address: u64, len: usize) -> Vec<u8> {
    let mut bytes = vec![0; len];
    if let Err(Fault { done }) = memory.read(address, &mut bytes) {
        bytes.truncate(done.min(len));
    }
    bytes
}

/// Reads exactly `len` bytes.
pub(crate) fn read_all(memory: &impl Memory, address: u64, len: usize) -> Option<Vec<u8>> {
    let mut bytes = vec![0; len];
    memory.read(address, &mut bytes).ok().map(|()| bytes)
}

/// The u32 at an offset of a structure; 0 beyond its end.
pub(crate) fn u32_at(bytes: &[u8], at: usize) -> u32 {
    bytes.get(at..at + 4).and_then(|word| word.try_into().ok()).map_or(0, u32::from_le_bytes)
}

/// The u64 at an offset of a structure; 0 beyond its end.
pub(crate) fn u64_at(bytes: &[u8], at: usize) -> u64 {
    bytes.get(at..at + 8).and_then(|word| word.try_into().ok()).map_or(0, u64::from_le_bytes)
}
