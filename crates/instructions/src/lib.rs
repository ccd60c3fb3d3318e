//! What of a CPU a program may use, from the instructions in its code.
//!
//! Nobody can tell for certain where the instructions of a program begin: there may be data between them, and jumps into
//! the middle of what looks like one. So one is decoded at *every* byte. Whatever the program will ever execute of these
//! bytes is among what is found, and some that it will never execute; those are rare, because what a CPU need not have is
//! encoded with rare bytes ([0015](../../../docs/decisions/0015-what-a-program-may-use-is-in-its-code.md)).
#![forbid(unsafe_code)]

mod features;

use features::Found;
use iced_x86::{Decoder, DecoderOptions, Instruction};
use model::CpuUse;

/// Bytes of an instruction, at most.
const INSTRUCTION_BYTES_MAX: usize = 15;

/// What somebody may use who executes code that lies in memory like this, in one piece each.
pub fn used_by<'a>(pieces: impl IntoIterator<Item = &'a [u8]>) -> CpuUse {
    let mut found = Found::default();
    for code in pieces {
        look(code, &mut found, may_need);
    }
    found.to_use()
}

/// Decodes an instruction at every byte that a first look does not pass over.
fn look(code: &[u8], found: &mut Found, first_look: impl Fn(&[u8]) -> bool) {
    let mut decoder = Decoder::new(64, code, DecoderOptions::NONE);
    let mut instruction = Instruction::default();
    for at in 0..code.len() {
        if first_look(&code[at..]) && decoder.set_position(at).is_ok() {
            decoder.decode_out(&mut instruction);
            if !instruction.is_invalid() {
                found.note(&instruction);
            }
        }
    }
}

/// Whether an instruction that begins here can be of a kind that not every CPU has: what follows its prefixes must begin one
/// of the further tables of operations, or be one of the few such operations in the first.
fn may_need(code: &[u8]) -> bool {
    for byte in code.iter().take(INSTRUCTION_BYTES_MAX) {
        match byte {
            // Segments, operand and address size, lock and repetition; REX.
            0x26 | 0x2e | 0x36 | 0x3e | 0x40..=0x4f | 0x64..=0x67 | 0xf0 | 0xf2 | 0xf3 => {}
            // The second table; VEX, EVEX and XOP; SAHF and LAHF; XABORT and XBEGIN; the x87, for FISTTP.
            0x0f | 0x62 | 0x8f | 0x9e | 0x9f | 0xc4..=0xc7 | 0xd8..=0xdf => return true,
            _ => return false,
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;
    use model::CpuProfile;

    /// A CPU that has everything.
    fn full() -> CpuProfile {
        CpuProfile::new([u32::MAX; 9], u64::MAX, 2432)
    }

    /// What a CPU with nothing but the unnamed lacks for this code.
    fn needs(code: &[u8]) -> Vec<String> {
        let nothing = full().as_used(&CpuUse::least());
        nothing.missing_for(&full().as_used(&used_by([code])))
    }

    #[test]
    fn features_are_found_wherever_they_begin() {
        // vaddps zmm0, zmm1, zmm2; sha1rnds4 xmm0, xmm1, 0; popcnt eax, eax; lahf; xbegin; vpaddd ymm0, ymm0, ymm0.
        for (code, wanted) in [
            (&[0x62, 0xf1, 0x74, 0x48, 0x58, 0xc2][..], "avx512f"),
            (&[0x0f, 0x3a, 0xcc, 0xc1, 0x00], "sha"),
            (&[0xf3, 0x0f, 0xb8, 0xc0], "popcnt"),
            (&[0x9f], "lahf_lm"),
            (&[0xc7, 0xf8, 0, 0, 0, 0], "rtm"),
            (&[0xc5, 0xfd, 0xfe, 0xc0], "avx2"),
        ] {
            for data in 0..4 {
                // Behind data that would be the beginning of a longer instruction.
                let mut bytes = vec![0x48, 0xb8, 0x81, 0x05][..data].to_vec();
                bytes.extend(code);
                assert!(
                    needs(&bytes).iter().any(|name| name == wanted),
                    "{wanted} behind {data}: {:?}",
                    needs(&bytes)
                );
            }
        }
    }

    #[test]
    fn what_every_cpu_has_needs_nothing() {
        // push rbp; mov rbp, rsp; endbr64; movaps xmm0, xmm1; cvtsi2sd xmm0, eax; rep movsb; prefetchw [rax]; syscall; ret.
        let code = [
            0x55, 0x48, 0x89, 0xe5, 0xf3, 0x0f, 0x1e, 0xfa, 0x0f, 0x28, 0xc1, 0xf2, 0x0f, 0x2a, 0xc0, 0xf3,
            0xa4, 0x0f, 0x0d, 0x08, 0x0f, 0x05, 0xc3,
        ];
        assert_eq!(needs(&code), [""; 0]);
    }

    #[test]
    fn who_saves_registers_needs_areas_of_the_same_size() {
        // xsavec [rsp+0x40], as a lazily bound program's linker does; xgetbv.
        let saves = needs(&[0x0f, 0xc7, 0x64, 0x24, 0x40]);
        assert!(saves.iter().any(|name| name.starts_with("register area")), "{saves:?}");
        let looks = needs(&[0x0f, 0x01, 0xd0]);
        assert!(looks.contains(&"xsave".to_owned()) && looks.contains(&"xgetbv1".to_owned()), "{looks:?}");
        assert!(!looks.iter().any(|name| name.starts_with("register area")), "{looks:?}");
    }

    /// The first look must not pass over anything: on a real program (this one), and on every beginning of three bytes.
    #[test]
    fn the_first_look_passes_over_nothing() {
        let program = std::fs::read(std::env::current_exe().unwrap()).unwrap();
        let part = &program[program.len() / 4..][..(1 << 20).min(program.len() / 2)];
        let mut starts = Vec::new();
        for first in 0..=u8::MAX {
            for second in 0..=u8::MAX {
                starts.extend([first, second, 0xc8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
            }
        }
        for code in [part, &starts] {
            let (mut quick, mut slow) = (Found::default(), Found::default());
            look(code, &mut quick, may_need);
            look(code, &mut slow, |_| true);
            assert_eq!(quick.to_use(), slow.to_use());
        }
    }
}
