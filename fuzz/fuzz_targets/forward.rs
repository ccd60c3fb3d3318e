//! A hostile guest's calls: any registers, any memory. What travels is valid, nothing panics, and the answer, whatever
//! it is, lands only where the guest said.
#![no_main]
#![forbid(unsafe_code)]

use forward::{Fault, Gathered, Memory, StringFault};
use libfuzzer_sys::arbitrary::{Arbitrary, Result, Unstructured};
use std::cell::Cell;
use std::time::Duration;

/// Memory at one address; around it there is none.
struct Room<'a> {
    base: u64,
    bytes: &'a [u8],
    /// Bytes that were written, and whether any of them was another one before.
    written: Cell<u64>,
    changed: Cell<bool>,
}

impl Room<'_> {
    fn reach(&self, address: u64, length: usize) -> std::result::Result<&[u8], Fault> {
        let from = address.checked_sub(self.base).and_then(|at| usize::try_from(at).ok());
        let rest = from.and_then(|at| self.bytes.get(at..)).ok_or(Fault { done: 0 })?;
        rest.get(..length).ok_or(Fault { done: rest.len() })
    }
}

impl Memory for Room<'_> {
    fn read(&self, address: u64, into: &mut [u8]) -> std::result::Result<(), Fault> {
        into.copy_from_slice(self.reach(address, into.len())?);
        Ok(())
    }

    fn read_string(&self, address: u64, max: usize) -> std::result::Result<Vec<u8>, StringFault> {
        let left = self.reach(address, usize::MAX).err().map_or(0, |fault| fault.done);
        let bytes = self.reach(address, left.min(max)).unwrap_or_default();
        match bytes.iter().position(|&byte| byte == 0) {
            Some(end) => Ok(bytes[..end].to_vec()),
            None if left < max => Err(StringFault::Fault),
            None => Err(StringFault::TooLong),
        }
    }

    fn write(&self, address: u64, bytes: &[u8]) -> std::result::Result<(), Fault> {
        self.changed.set(self.changed.get() || self.reach(address, bytes.len()) != Ok(bytes));
        self.written.set(self.written.get() + bytes.len() as u64);
        Ok(())
    }
}

#[derive(Debug)]
struct Input<'a> {
    nr: u32,
    args: [u64; 6],
    done: u64,
    ret: i64,
    memory: &'a [u8],
    answer: &'a [u8],
}

const BASE: u64 = 0x10_0000;

impl<'a> Arbitrary<'a> for Input<'a> {
    fn arbitrary(source: &mut Unstructured<'a>) -> Result<Input<'a>> {
        let nr = source.int_in_range(0..=480)?;
        let mut args = [0; 6];
        for arg in &mut args {
            *arg = match source.int_in_range(0..=3)? {
                0 => u64::from(u8::arbitrary(source)?),
                1 => BASE + u64::from(u16::arbitrary(source)?),
                2 => u64::from(u32::arbitrary(source)?),
                _ => u64::arbitrary(source)?,
            };
        }
        let done = if bool::arbitrary(source)? { 0 } else { u64::arbitrary(source)? };
        let ret = i64::arbitrary(source)?;
        let answer = <&[u8]>::arbitrary(source)?;
        Ok(Input { nr, args, done, ret, answer, memory: source.bytes(source.len())? })
    }
}

libfuzzer_sys::fuzz_target!(|input: Input<'_>| {
    let Some(row) = syscalls::row(input.nr) else { return };
    let memory = Room { base: BASE, bytes: input.memory, written: Cell::new(0), changed: Cell::new(false) };
    forward::timeout(row, &input.args, &memory);
    forward::temporary_mask(row, &input.args, &memory);
    if let Gathered::Call { mut call, landing } = forward::gather_from(row, input.args, &memory, input.done) {
        assert!(!memory.changed.get(), "gathering changes nothing");
        memory.written.set(0);
        assert_eq!(call.validate(), Ok(()), "{}", row.name);
        let most: u64 = call.outs.iter().map(|out| u64::from(out.len.max())).sum();
        landing.land(input.ret, input.answer, &memory);
        assert!(memory.written.get() <= most, "{} bytes of at most {most}", memory.written.get());
        forward::with_remaining(&mut call, row, Duration::from_nanos(input.ret.unsigned_abs()));
        assert_eq!(call.validate(), Ok(()));
    }
    if let Ok(path) = std::str::from_utf8(input.answer) {
        forward::describes_oneself(path.as_bytes(), 4711);
    }
});
