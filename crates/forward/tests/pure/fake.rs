//! A guest's memory made of a few ranges; everything else cannot be reached.

use forward::{Fault, Memory, StringFault};
use std::cell::RefCell;

/// Ranges of memory, and a record of what was written.
#[derive(Debug, Default)]
pub(crate) struct Ranges {
    ranges: RefCell<Vec<(u64, Vec<u8>)>>,
    written: RefCell<Vec<(u64, u64)>>,
    read_only: bool,
}

impl Ranges {
    /// Memory of these ranges.
    pub(crate) fn new(ranges: &[(u64, Vec<u8>)]) -> Ranges {
        Ranges { ranges: RefCell::new(ranges.to_vec()), ..Ranges::default() }
    }

    /// The same, and nobody may write there.
    pub(crate) fn read_only(ranges: &[(u64, Vec<u8>)]) -> Ranges {
        Ranges { read_only: true, ..Ranges::new(ranges) }
    }

    /// What a range holds now.
    pub(crate) fn get(&self, address: u64, len: usize) -> Vec<u8> {
        let mut bytes = vec![0; len];
        self.read(address, &mut bytes).expect("mapped");
        bytes
    }

    /// Addresses and lengths of all writes.
    pub(crate) fn written(&self) -> Vec<(u64, u64)> {
        self.written.borrow().clone()
    }

    fn byte<T>(&self, address: u64, look: impl FnOnce(&mut u8) -> T) -> Option<T> {
        let mut ranges = self.ranges.borrow_mut();
        let byte = ranges
            .iter_mut()
            .find_map(|(begin, bytes)| bytes.get_mut(usize::try_from(address.checked_sub(*begin)?).ok()?))?;
        Some(look(byte))
    }
}

impl Memory for Ranges {
    fn read(&self, address: u64, into: &mut [u8]) -> Result<(), Fault> {
        for (done, byte) in into.iter_mut().enumerate() {
            let from = address.checked_add(done as u64).ok_or(Fault { done })?;
            *byte = self.byte(from, |byte| *byte).ok_or(Fault { done })?;
        }
        Ok(())
    }

    fn read_string(&self, address: u64, max: usize) -> Result<Vec<u8>, StringFault> {
        let mut text = Vec::new();
        while text.len() < max {
            let from = address.checked_add(text.len() as u64).ok_or(StringFault::Fault)?;
            match self.byte(from, |byte| *byte).ok_or(StringFault::Fault)? {
                0 => return Ok(text),
                byte => text.push(byte),
            }
        }
        Err(StringFault::TooLong)
    }

    fn write(&self, address: u64, bytes: &[u8]) -> Result<(), Fault> {
        if self.read_only {
            return Err(Fault { done: 0 });
        }
        self.written.borrow_mut().push((address, bytes.len() as u64));
        for (done, value) in bytes.iter().enumerate() {
            let to = address.checked_add(done as u64).ok_or(Fault { done })?;
            self.byte(to, |byte| *byte = *value).ok_or(Fault { done })?;
        }
        Ok(())
    }
}

/// The row of a call by its name.
pub(crate) fn row(name: &str) -> &'static syscalls::Row {
    syscalls::rows().find(|row| row.name == name).expect(name)
}
