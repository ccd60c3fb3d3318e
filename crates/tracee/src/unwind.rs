//! Where a function of the vDSO keeps its return address, told by the tables for unwinding that come with its code.
//!
//! Only what compilers make of plain functions is understood: a frame that is found by one register and a distance.
//! Whatever else is met, nothing is told.

use gimli::{
    BaseAddresses, CfaRule, EhFrame, LittleEndian, Register, RegisterRule, UnwindContext, UnwindSection as _,
    X86_64,
};
use kernel::ptrace::Registers;
use object::read::elf::ElfFile64;
use object::{Endianness, Object as _, ObjectSection as _};

/// Address of the word on the stack to which a thread with these registers will return. `image` is the ELF file at `start`,
/// in which it is.
pub(crate) fn return_slot(image: &[u8], start: u64, registers: &Registers) -> Option<u64> {
    slot(image, registers.rip.checked_sub(start)?, |register| value(registers, register))
}

/// The same for a thread at an offset in the file.
fn slot(image: &[u8], at: u64, value: impl Fn(Register) -> Option<u64>) -> Option<u64> {
    let file = ElfFile64::<Endianness>::parse(image).ok()?;
    let tables = file.section_by_name(".eh_frame")?;
    let frames = EhFrame::new(tables.data().ok()?, LittleEndian);
    let bases = BaseAddresses::default().set_eh_frame(tables.address());
    let mut context = UnwindContext::new();
    let row = frames.unwind_info_for_address(&bases, &mut context, at, EhFrame::cie_from_offset).ok()?;
    let CfaRule::RegisterAndOffset { register, offset } = *row.cfa() else { return None };
    let Some(RegisterRule::Offset(distance)) = row.register(X86_64::RA) else { return None };
    Some(value(register)?.wrapping_add_signed(offset).wrapping_add_signed(distance))
}

/// Of those that frames are found by.
fn value(registers: &Registers, register: Register) -> Option<u64> {
    match register {
        X86_64::RBX => Some(registers.rbx),
        X86_64::RBP => Some(registers.rbp),
        X86_64::RSP => Some(registers.rsp),
        X86_64::R10 => Some(registers.r10),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failure is the test's")]

    use super::*;
    use object::ObjectSymbol as _;

    const TOP: u64 = 0x1000;

    fn own_vdso() -> Vec<u8> {
        let own = std::process::id().cast_signed();
        let code = crate::vdso::code(&procinfo::maps(own).unwrap());
        let mut image = vec![0; (code.end - code.start) as usize];
        kernel::memory::read_exact(own, code.start, &mut image).unwrap();
        image
    }

    fn slot_at(image: &[u8], at: u64) -> Option<u64> {
        slot(image, at, |register| (register == X86_64::RSP).then_some(TOP))
    }

    #[test]
    fn every_function_begins_with_its_return_address_on_top_of_its_stack() {
        let image = own_vdso();
        let file = ElfFile64::<Endianness>::parse(&*image).unwrap();
        let functions: Vec<_> = file.dynamic_symbols().filter(|symbol| symbol.size() > 0).collect();
        assert!(!functions.is_empty());
        for function in functions {
            let slot = slot_at(&image, function.address());
            assert_eq!(slot, Some(TOP), "{:?}", function.name());
        }
    }

    #[test]
    fn what_is_cut_or_spoilt_harms_nobody() {
        let image = own_vdso();
        for length in (0..image.len()).step_by(7) {
            slot_at(&image[..length], 0x800);
        }
        for at in (0..image.len()).step_by(11) {
            let mut spoilt = image.clone();
            spoilt[at] ^= 0xff;
            slot_at(&spoilt, 0x800);
        }
    }
}
