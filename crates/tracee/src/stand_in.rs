//! Another kernel's vDSO in the stead of this one's.
//!
//! A program has looked up the addresses of the functions there, or will, and another kernel has them elsewhere. Where the
//! host's vDSO is another, the code of the home's stands at its place, and each function in it that reads the kernel's data
//! makes the system call of the same meaning instead. The data themselves are zeros; what else reads them (random bytes)
//! finds that they are not ready, and makes its call by itself. At home it is the true one again, so nobody may be met
//! within what was changed: who is, is put before it or behind it ([`StandIn::settle`]).

use crate::error::{Error, Result};
use image::Process;
use kernel::{memory, ptrace};
use model::{Reason, ReasonCode, Reasons};
use object::elf::FileHeader64;
use object::read::elf::ElfFile;
use object::{Endianness, Object as _, ObjectSymbol as _};
use std::ops::{Range, RangeInclusive};
use std::sync::OnceLock;

const SYSCALL: [u8; 2] = [0x0f, 0x05];

/// The functions that read the kernel's data, or use an instruction that not every CPU has, and the calls of the same
/// meaning, arguments and results.
const FUNCTIONS: &[(&str, i64)] = &[
    ("__vdso_clock_gettime", libc::SYS_clock_gettime),
    ("__vdso_gettimeofday", libc::SYS_gettimeofday),
    ("__vdso_time", libc::SYS_time),
    ("__vdso_clock_getres", libc::SYS_clock_getres),
    ("__vdso_getcpu", libc::SYS_getcpu),
];
/// A call in a function's stead: `mov eax, NUMBER; syscall; ret`. Where its second and third instruction begin.
const CALL_BYTES: usize = 8;
const CALL_SYSCALL: u64 = 5;
const CALL_RETURN: u64 = 7;
/// What the kernel leaves in `rax` of a call that a signal has interrupted: `ERESTARTSYS` to `ERESTART_RESTARTBLOCK`.
const RESTARTS: RangeInclusive<i64> = -516..=-512;

/// Another kernel's vDSO in the stead of this one's.
#[derive(Clone, Debug)]
pub struct StandIn {
    data: Range<u64>,
    code: Range<u64>,
    /// Where a call stands instead of a function, and its number.
    calls: Vec<(u64, i64)>,
}

impl StandIn {
    /// What stands for the vDSO of a process here; `None` where this kernel's own does.
    ///
    /// Fails where the other one is not understood: the process cannot be here.
    pub fn of(image: &Process) -> Result<Option<StandIn>> {
        let (start, length) = image.vdso;
        if start == 0 || own().is_some_and(|own| (own.0, own.1.as_slice()) == (length, &image.vdso_code)) {
            return Ok(None);
        }
        let end = start.checked_add(length).ok_or_else(another)?;
        let first = end.checked_sub(image.vdso_code.len() as u64).filter(|first| *first >= start);
        let first = first.ok_or_else(another)?;
        let calls = calls_in(&image.vdso_code).ok_or_else(another)?;
        let calls = calls.into_iter().map(|(offset, nr)| (first + offset as u64, nr)).collect();
        Ok(Some(StandIn { data: start..first, code: first..end, calls }))
    }

    /// What is to be mapped, privately and without a file, and its protection.
    pub(crate) fn parts(&self) -> impl Iterator<Item = (Range<u64>, u64)> {
        let (read, run) = (libc::PROT_READ as u64, (libc::PROT_READ | libc::PROT_EXEC) as u64);
        let parts = [(self.data.clone(), read), (self.code.clone(), run)];
        parts.into_iter().filter(|(range, _)| !range.is_empty())
    }

    /// Fills what was mapped, from the code of the true one.
    pub(crate) fn fill(&self, pid: i32, code: &[u8]) -> Result<()> {
        let mut bytes = code.to_vec();
        for (address, nr) in &self.calls {
            let at = (address - self.code.start) as usize;
            bytes[at..at + CALL_BYTES].copy_from_slice(&call(*nr));
        }
        let forced = memory::Forced::open(pid).and_then(|memory| memory.write_all(self.code.start, &bytes));
        forced.map_err(Error::io("writing the vDSO of its home", pid))
    }

    /// Puts a thread that is met within a call in a function's stead before it, if it has not been made, or behind the
    /// function. The registers are those with which it is to go on: whose call is to be made again stands before it.
    pub fn settle(&self, pid: i32, rip: &mut u64, rsp: &mut u64) -> Result<()> {
        for (address, _) in &self.calls {
            if *rip == address + CALL_SYSCALL {
                *rip = *address;
            } else if *rip == address + CALL_RETURN {
                let mut back = [0; 8];
                memory::read_exact(pid, *rsp, &mut back)
                    .map_err(Error::kernel("reading a return address", pid))?;
                *rip = u64::from_le_bytes(back);
                *rsp += 8;
            }
        }
        Ok(())
    }

    /// The same for a thread that stands before the delivery of a signal, whose handler's frame will keep where it was.
    pub fn settle_before_handler(&self, pid: i32, tid: i32) -> Result<()> {
        let mut registers = match ptrace::registers(tid) {
            // It was killed meanwhile: nobody will go on.
            Err(kernel::Errno::ESRCH) => return Ok(()),
            read => read.map_err(Error::kernel("reading registers", tid))?,
        };
        let (mut rip, mut rsp) = (registers.rip, registers.rsp);
        let behind = |(address, _): &&(u64, i64)| rip == address + CALL_RETURN;
        let interrupted = registers.orig_rax as i64 >= 0 && RESTARTS.contains(&(registers.rax as i64));
        match self.calls.iter().find(behind) {
            // The kernel would make it again after the handler, from within.
            Some((address, _)) if interrupted => {
                rip = *address;
                registers.orig_rax = u64::MAX;
            }
            _ => self.settle(pid, &mut rip, &mut rsp)?,
        }
        if (rip, rsp) == (registers.rip, registers.rsp) {
            return Ok(());
        }
        (registers.rip, registers.rsp) = (rip, rsp);
        match ptrace::set_registers(tid, &registers) {
            Err(kernel::Errno::ESRCH) => Ok(()),
            set => set.map_err(Error::kernel("setting registers", tid)),
        }
    }
}

/// Looks at this kernel's vDSO ahead of need, which takes a third of a millisecond: nobody shall have to stand still for it.
pub fn know_own() {
    let _ = own();
}

/// Where the code of a process's vDSO is: at the end of what the kernel provides.
pub(crate) fn code_of(image: &Process) -> Range<u64> {
    let end = image.vdso.0.saturating_add(image.vdso.1);
    end.saturating_sub(image.vdso_code.len() as u64)..end
}

/// A refusal: the process cannot be where the kernel has another vDSO.
pub(crate) fn another() -> Error {
    Error::Refused(Reasons(vec![Reason::new(ReasonCode::Kernel, "its vDSO is another one")]))
}

fn call(nr: i64) -> [u8; CALL_BYTES] {
    let [a, b, c, d] = (nr as u32).to_le_bytes();
    [0xb8, a, b, c, d, SYSCALL[0], SYSCALL[1], 0xc3]
}

/// Where the functions are in a vDSO's code, and the numbers of their calls; `None` if that is not to be seen.
fn calls_in(code: &[u8]) -> Option<Vec<(usize, i64)>> {
    let file = ElfFile::<FileHeader64<Endianness>>::parse(code).ok()?;
    let mut calls = Vec::new();
    for symbol in file.dynamic_symbols() {
        let known = FUNCTIONS.iter().find(|(name, _)| symbol.name() == Ok(name));
        if let Some((_, nr)) = known {
            let at = usize::try_from(symbol.address()).ok()?;
            code.get(at..at.checked_add(CALL_BYTES)?)?;
            calls.push((at, *nr));
        }
    }
    // One that nothing is known of may have anything in it.
    (!calls.is_empty()).then_some(calls)
}

/// Length of what this kernel provides around its vDSO, and its code.
fn own() -> Option<&'static (u64, Vec<u8>)> {
    static OWN: OnceLock<Option<(u64, Vec<u8>)>> = OnceLock::new();
    OWN.get_or_init(|| {
        let pid = i32::try_from(std::process::id()).ok()?;
        let ((_, length), code) = crate::layout::vdso(pid, &procinfo::maps(pid).ok()?).ok()?;
        Some((length, code))
    })
    .as_ref()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_kernels_functions_are_found() {
        let (length, code) = own().unwrap();
        assert!(*length as usize >= code.len());
        let found = calls_in(code).unwrap();
        for (name, nr) in FUNCTIONS {
            assert!(found.iter().any(|(_, known)| known == nr), "{name}");
        }
    }

    #[test]
    fn what_is_no_vdso_is_refused() {
        for code in [&b""[..], b"\x7fELF", &[0; 4096]] {
            assert_eq!(calls_in(code), None);
        }
        let (_, code) = own().unwrap();
        for length in [64, 1000, code.len() / 2] {
            // It may still be readable in part, and then only what is within it counts.
            for (at, _) in calls_in(&code[..length]).unwrap_or_default() {
                assert!(at + CALL_BYTES <= length);
            }
        }
    }

    #[test]
    fn who_is_met_in_a_call_is_put_before_it_or_behind_the_function() {
        let pid = i32::try_from(std::process::id()).unwrap();
        let stack = [0x1234_u64, 0];
        let top = stack.as_ptr() as u64;
        let stand_in = StandIn { data: 0..0, code: 0x1000..0x2000, calls: vec![(0x1100, 228)] };
        for (rip, wanted) in [
            (0x1100, (0x1100, top)),
            (0x1105, (0x1100, top)),
            (0x1107, (0x1234, top + 8)),
            (0x1108, (0x1108, top)),
        ] {
            let (mut rip, mut rsp) = (rip, top);
            stand_in.settle(pid, &mut rip, &mut rsp).unwrap();
            assert_eq!((rip, rsp), wanted);
        }
    }
}
