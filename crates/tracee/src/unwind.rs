//! Where a function of the vDSO keeps its return address, told by the tables for unwinding that come with its code.
//!
//! Only what compilers make of plain functions is understood: a frame that is found by one register and a distance.
//! Whatever else is met, nothing is told. The formats are those of DWARF 5, section 6.4, and of the Linux Standard Base
//! (Core, Exception Frames): `.eh_frame_hdr` with a sorted table, and `.eh_frame`.

use kernel::ptrace::Registers;

const PT_GNU_EH_FRAME: u32 = 0x6474_e550;
/// Four bytes, relative to where they are.
const PC_RELATIVE: u8 = 0x1b;
const FOUR_BYTES: u8 = 0x03;
/// Four bytes, relative to the header.
const HEADER_RELATIVE: u8 = 0x3b;
/// The return address, as a column of the tables.
const RETURN_ADDRESS: u64 = 16;
/// How deep states may be remembered.
const DEPTH_MAX: usize = 8;

/// Address of the word on the stack to which a thread with these registers will return. `image` is the ELF file at `start`,
/// in which it is.
pub(crate) fn return_slot(image: &[u8], start: u64, registers: &Registers) -> Option<u64> {
    let frame = Frame::at(image, registers.rip.checked_sub(start)?)?;
    let base = match frame.register {
        3 => registers.rbx,
        6 => registers.rbp,
        7 => registers.rsp,
        10 => registers.r10,
        _ => return None,
    };
    Some(base.wrapping_add_signed(frame.distance).wrapping_add_signed(frame.return_address?))
}

/// How a frame is found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Frame {
    /// The register that it is relative to, by its number in the tables.
    register: u64,
    /// Bytes from there to the frame's end.
    distance: i64,
    /// Bytes from the frame's end to its return address.
    return_address: Option<i64>,
}

impl Frame {
    /// That of the function at an offset.
    fn at(image: &[u8], pc: u64) -> Option<Frame> {
        let entry = entry_of(image, pc)?;
        let mut fde = Reader { bytes: image, at: entry };
        let length = fde.length()?;
        let end = fde.at.checked_add(length)?;
        let common = fde.at.checked_sub(fde.u32()? as usize)?;
        let begin = fde.relative()?;
        let bytes = u64::from(fde.u32()?);
        if !(begin..begin.checked_add(bytes)?).contains(&pc) {
            return None;
        }
        let skipped = fde.unsigned()? as usize;
        fde.at = fde.at.checked_add(skipped)?;

        let mut cie = Reader { bytes: image, at: common };
        let length = cie.length()?;
        let common_end = cie.at.checked_add(length)?;
        let (id, version) = (cie.u32()?, cie.u8()?);
        let augmentation = [cie.u8()?, cie.u8()?, cie.u8()?];
        if id != 0 || version != 1 || &augmentation != b"zR\0" {
            return None;
        }
        let scale = Scale { code: cie.unsigned()?, data: cie.signed()? };
        let (column, _, encoding) = (cie.u8()?, cie.unsigned()?, cie.u8()?);
        if u64::from(column) != RETURN_ADDRESS || encoding != PC_RELATIVE {
            return None;
        }
        let unknown = Frame { register: u64::MAX, distance: 0, return_address: None };
        let initial = unknown.follow(cie.until(common_end)?, scale, u64::MAX, unknown)?;
        initial.follow(fde.until(end)?, scale, pc - begin, initial)
    }

    /// What it is after these instructions, up to an offset in the function.
    fn follow(mut self, mut code: Reader<'_>, scale: Scale, pc: u64, initial: Frame) -> Option<Frame> {
        let mut at = 0u64;
        let mut remembered = Vec::new();
        while !code.is_done() {
            let instruction = code.u8()?;
            let low = u64::from(instruction & 0x3f);
            let advanced = match (instruction >> 6, instruction) {
                (1, _) => low,
                (2, _) => {
                    self.set(low, code.unsigned()?, scale)?;
                    0
                }
                (3, _) => {
                    self.restore(low, initial);
                    0
                }
                (_, 0x02) => u64::from(code.u8()?),
                (_, 0x03) => u64::from(code.u16()?),
                (_, 0x04) => u64::from(code.u32()?),
                (_, plain) => {
                    match plain {
                        // Nothing, and what a call has pushed.
                        0x00 => {}
                        0x2e => drop(code.unsigned()?),
                        0x05 => self.set(code.unsigned()?, code.unsigned()?, scale)?,
                        0x06 => self.restore(code.unsigned()?, initial),
                        // Undefined, and the same as before.
                        0x07 | 0x08 if code.unsigned()? != RETURN_ADDRESS => {}
                        0x0a if remembered.len() < DEPTH_MAX => remembered.push(self),
                        0x0b => self = remembered.pop()?,
                        0x0c => {
                            self.register = code.unsigned()?;
                            self.distance = i64::try_from(code.unsigned()?).ok()?;
                        }
                        0x0d => self.register = code.unsigned()?,
                        0x0e => self.distance = i64::try_from(code.unsigned()?).ok()?,
                        _ => return None,
                    }
                    0
                }
            };
            at = at.checked_add(advanced.checked_mul(scale.code)?)?;
            if at > pc {
                break;
            }
        }
        Some(self)
    }

    /// A register was saved at a distance from the frame's end.
    fn set(&mut self, register: u64, distance: u64, scale: Scale) -> Option<()> {
        if register == RETURN_ADDRESS {
            self.return_address = Some(i64::try_from(distance).ok()?.checked_mul(scale.data)?);
        }
        Some(())
    }

    fn restore(&mut self, register: u64, initial: Frame) {
        if register == RETURN_ADDRESS {
            self.return_address = initial.return_address;
        }
    }
}

/// The units of distances.
#[derive(Clone, Copy)]
struct Scale {
    code: u64,
    data: i64,
}

/// Offset of the table's entry for the function at an offset.
fn entry_of(image: &[u8], pc: u64) -> Option<usize> {
    let header = header_of(image)?;
    let mut reader = Reader { bytes: image, at: header };
    let kinds = [reader.u8()?, reader.u8()?, reader.u8()?, reader.u8()?];
    if kinds != [1, PC_RELATIVE, FOUR_BYTES, HEADER_RELATIVE] {
        return None;
    }
    let (_, count) = (reader.u32()?, reader.u32()?);
    let mut found = None;
    for _ in 0..count {
        let from_header =
            |distance: u32| (header as u64).checked_add_signed(i64::from(distance.cast_signed()));
        let (function, entry) = (from_header(reader.u32()?)?, from_header(reader.u32()?)?);
        if function > pc {
            break;
        }
        found = Some(entry);
    }
    usize::try_from(found?).ok()
}

fn header_of(image: &[u8]) -> Option<usize> {
    let at = |at: usize| Reader { bytes: image, at };
    if image.get(..4)? != b"\x7fELF" {
        return None;
    }
    let (table, size, count) = (at(32).u64()?, at(54).u16()?, at(56).u16()?);
    (0..usize::from(count)).find_map(|number| {
        let entry = usize::try_from(table).ok()?.checked_add(number * usize::from(size))?;
        let offset = at(entry.checked_add(8)?).u64()?;
        (at(entry).u32()? == PT_GNU_EH_FRAME).then(|| usize::try_from(offset).ok())?
    })
}

/// Reads one thing after another.
#[derive(Clone, Copy)]
struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    fn take<const N: usize>(&mut self) -> Option<[u8; N]> {
        let end = self.at.checked_add(N)?;
        let taken = self.bytes.get(self.at..end)?.try_into().ok()?;
        self.at = end;
        Some(taken)
    }

    fn u8(&mut self) -> Option<u8> {
        self.take().map(u8::from_le_bytes)
    }

    fn u16(&mut self) -> Option<u16> {
        self.take().map(u16::from_le_bytes)
    }

    fn u32(&mut self) -> Option<u32> {
        self.take().map(u32::from_le_bytes)
    }

    fn u64(&mut self) -> Option<u64> {
        self.take().map(u64::from_le_bytes)
    }

    /// Four bytes relative to where they are.
    fn relative(&mut self) -> Option<u64> {
        let here = self.at as u64;
        here.checked_add_signed(i64::from(self.u32()?.cast_signed()))
    }

    /// The length of an entry, which follows; the table's end has none.
    fn length(&mut self) -> Option<usize> {
        self.u32().filter(|&length| length != 0 && length != u32::MAX).map(|length| length as usize)
    }

    /// A number in groups of seven bits, without and with a sign.
    fn unsigned(&mut self) -> Option<u64> {
        self.groups().map(|(value, _, _)| value)
    }

    fn signed(&mut self) -> Option<i64> {
        let (value, bits, negative) = self.groups()?;
        let sign = if negative && bits < 64 { u64::MAX << bits } else { 0 };
        Some((value | sign).cast_signed())
    }

    fn groups(&mut self) -> Option<(u64, u32, bool)> {
        let mut value = 0;
        for bits in (0..63).step_by(7) {
            let byte = self.u8()?;
            value |= u64::from(byte & 0x7f) << bits;
            if byte & 0x80 == 0 {
                return Some((value, bits + 7, byte & 0x40 != 0));
            }
        }
        None
    }

    /// What lies before an offset.
    fn until(self, end: usize) -> Option<Reader<'a>> {
        (self.at <= end).then_some(())?;
        Some(Reader { bytes: self.bytes.get(..end)?, at: self.at })
    }

    fn is_done(&self) -> bool {
        self.at >= self.bytes.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn own_vdso() -> Vec<u8> {
        let own = std::process::id() as i32;
        let code = crate::vdso::code(&procinfo::maps(own).unwrap());
        let mut image = vec![0; (code.end - code.start) as usize];
        kernel::memory::read_exact(own, code.start, &mut image).unwrap();
        image
    }

    #[test]
    fn every_function_begins_with_nothing_but_its_return_address() {
        let image = own_vdso();
        let mut functions = Reader { bytes: &image, at: header_of(&image).unwrap() + 8 };
        let header = functions.at - 8;
        let count = functions.u32().unwrap();
        let mut understood = 0;
        for _ in 0..count {
            let begin =
                (header as u64).wrapping_add_signed(i64::from(functions.u32().unwrap().cast_signed()));
            functions.u32().unwrap();
            // Where the handler of a signal returns to is no function.
            if let Some(frame) = Frame::at(&image, begin) {
                assert_eq!(frame, Frame { register: 7, distance: 8, return_address: Some(-8) });
                understood += 1;
            }
        }
        assert!(understood > 0, "of {count}");
    }

    #[test]
    fn a_frame_grows_and_shrinks_as_the_table_says() {
        let scale = Scale { code: 1, data: -8 };
        let initial = Frame { register: 7, distance: 8, return_address: Some(-8) };
        // push rbp (1 byte); mov rbp, rsp (3 bytes); ...; leave (at 16): back to what it was remembered as.
        let code = [0x41, 0x0e, 16, 0x86, 2, 0x43, 0x0d, 6, 0x4a, 0x0a, 0x0c, 7, 8, 0x41, 0x0b];
        let frame = |pc| initial.follow(Reader { bytes: &code, at: 0 }, scale, pc, initial).unwrap();
        let at = |register, distance| Frame { register, distance, ..initial };
        assert_eq!([0, 1, 3, 4, 13].map(frame), [at(7, 8), at(7, 16), at(7, 16), at(6, 16), at(6, 16)]);
        assert_eq!([14, 15, 100].map(frame), [at(7, 8), at(6, 16), at(6, 16)]);
        // An expression is not understood.
        assert_eq!(initial.follow(Reader { bytes: &[0x0f, 1, 0], at: 0 }, scale, 5, initial), None);
    }

    #[test]
    fn what_is_cut_or_spoilt_tells_nothing_and_harms_nobody() {
        let image = own_vdso();
        for length in 0..image.len() {
            let _ = Frame::at(&image[..length], 0x1000);
        }
        let header = header_of(&image).unwrap();
        for at in header..(header + 512).min(image.len()) {
            for flip in [1, 0x80, 0xff] {
                let mut spoilt = image.clone();
                spoilt[at] ^= flip;
                for pc in (0..image.len() as u64).step_by(97) {
                    let _ = Frame::at(&spoilt, pc);
                }
            }
        }
    }
}
