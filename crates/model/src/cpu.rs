//! What a CPU can do, as far as a program can tell.
//!
//! A running program has looked at its CPU once and never looks again: it may use every feature it saw, and saves its
//! registers in areas of the size it read then. So a host is fit only if it has them all and the same size; or, where it is
//! known what a program can use at all ([`CpuUse`]), if it has that.

use serde::{Deserialize, Serialize};

/// Feature words of `CPUID`, without the bits that say nothing to a program.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CpuProfile {
    /// The words, in the order of the table in this module.
    words: [u32; WORDS],
    /// The register states that the kernel has switched on (`XGETBV 0`).
    xcr0: u64,
    /// Bytes of a saved register state (`CPUID 0xd.0`, EBX); 0 where they do not matter.
    xsave_size: u32,
}

const WORDS: usize = 9;

/// What of a CPU a program may be using.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CpuUse {
    words: [u32; WORDS],
    /// It saves its registers itself, in areas of the size that it has read.
    area: bool,
}

/// Features that no program can miss, because no instruction fails or does anything else without them: how fast strings are
/// copied, what is no operation elsewhere, what the kernel switches on, what other words say already.
pub const HARMLESS: &[&str] = &[
    "erms",
    "fsrm",
    "fzrm",
    "fsrs",
    "fsrc",
    "ibt",
    "3dnowprefetch",
    "prefetchwt1",
    "cldemote",
    "fxsr_opt",
    "mmxext",
];

/// What every x86-64 CPU has.
pub const BASIC: &[&str] =
    &["fpu", "tsc", "cx8", "sep", "cmov", "clflush", "mmx", "fxsr", "sse", "sse2", "syscall", "lm"];

/// The register states that a feature's instructions change: the beginning of its name, and bits of XCR0. Of each state all
/// features must be here.
///
/// Source: Intel SDM volume 1, 13.1.
const STATES: &[(&str, u64)] = &[
    ("avx", 1 << 2),
    ("fma", 1 << 2),
    ("f16c", 1 << 2),
    ("vaes", 1 << 2),
    ("vpclmulqdq", 1 << 2),
    ("xop", 1 << 2),
    ("sha512", 1 << 2),
    ("sm3", 1 << 2),
    ("sm4", 1 << 2),
    ("mpx", 0b11 << 3),
    ("avx512", 0b111 << 5),
    ("pku", 1 << 9),
    ("uintr", 1 << 14),
    ("amx", 0b11 << 17),
    ("lwp", 1 << 62),
];

/// One feature word: its name, the bits that concern the kernel alone or differ between CPUs of one kind, and the
/// names of the others. An unnamed bit counts too: a feature that is not yet known here may be in use.
struct Word {
    name: &'static str,
    ignored: u32,
    features: &'static [(u32, &'static str)],
}

const fn bits(list: &[u32]) -> u32 {
    let mut mask = 0;
    let mut index = 0;
    while index < list.len() {
        mask |= 1 << list[index];
        index += 1;
    }
    mask
}

/// Sources: Intel SDM volume 2A, CPUID; AMD APM volume 3, appendix E; Linux `arch/x86/include/asm/cpufeatures.h`.
const TABLE: [Word; WORDS] = [
    Word {
        name: "1 ecx",
        // Monitors, virtualisation, power, debug, x2APIC, the TSC deadline timer, "runs in a virtual machine".
        ignored: bits(&[2, 3, 4, 5, 6, 7, 8, 10, 11, 14, 15, 16, 17, 18, 21, 24, 31]),
        features: &[
            (0, "sse3"),
            (1, "pclmulqdq"),
            (9, "ssse3"),
            (12, "fma"),
            (13, "cx16"),
            (19, "sse4.1"),
            (20, "sse4.2"),
            (22, "movbe"),
            (23, "popcnt"),
            (25, "aes"),
            (26, "xsave"),
            (27, "osxsave"),
            (28, "avx"),
            (29, "f16c"),
            (30, "rdrand"),
        ],
    },
    Word {
        name: "1 edx",
        // Paging, machine checks, APIC, memory types, thermal control, the number of threads.
        ignored: bits(&[1, 2, 3, 5, 6, 7, 9, 10, 12, 13, 14, 16, 17, 18, 20, 21, 22, 27, 28, 29, 30, 31]),
        features: &[
            (0, "fpu"),
            (4, "tsc"),
            (8, "cx8"),
            (11, "sep"),
            (15, "cmov"),
            (19, "clflush"),
            (23, "mmx"),
            (24, "fxsr"),
            (25, "sse"),
            (26, "sse2"),
        ],
    },
    Word {
        name: "7.0 ebx",
        // SGX, supervisor protections, cache monitoring, processor trace, how the FPU reports its last error.
        ignored: bits(&[1, 2, 6, 7, 10, 12, 13, 15, 20, 22, 25]),
        features: &[
            (0, "fsgsbase"),
            (3, "bmi1"),
            (4, "hle"),
            (5, "avx2"),
            (8, "bmi2"),
            (9, "erms"),
            (11, "rtm"),
            (14, "mpx"),
            (16, "avx512f"),
            (17, "avx512dq"),
            (18, "rdseed"),
            (19, "adx"),
            (21, "avx512ifma"),
            (23, "clflushopt"),
            (24, "clwb"),
            (26, "avx512pf"),
            (27, "avx512er"),
            (28, "avx512cd"),
            (29, "sha"),
            (30, "avx512bw"),
            (31, "avx512vl"),
        ],
    },
    Word {
        name: "7.0 ecx",
        // Supervisor protections, address widths, key locker, bus locks, SGX.
        ignored: bits(&[2, 13, 15, 16, 17, 18, 19, 20, 21, 23, 24, 26, 29, 30, 31]),
        features: &[
            (0, "prefetchwt1"),
            (1, "avx512_vbmi"),
            (3, "pku"),
            (4, "ospke"),
            (5, "waitpkg"),
            (6, "avx512_vbmi2"),
            (7, "shstk"),
            (8, "gfni"),
            (9, "vaes"),
            (10, "vpclmulqdq"),
            (11, "avx512_vnni"),
            (12, "avx512_bitalg"),
            (14, "avx512_vpopcntdq"),
            (22, "rdpid"),
            (25, "cldemote"),
            (27, "movdiri"),
            (28, "movdir64b"),
        ],
    },
    Word {
        name: "7.0 edx",
        // Defences against speculation, hybrid CPUs, last branch records: they come and go with microcode.
        ignored: bits(&[0, 1, 6, 7, 9, 10, 11, 12, 13, 15, 17, 18, 19, 21, 26, 27, 28, 29, 30, 31]),
        features: &[
            (2, "avx512_4vnniw"),
            (3, "avx512_4fmaps"),
            (4, "fsrm"),
            (5, "uintr"),
            (8, "avx512_vp2intersect"),
            (14, "serialize"),
            (16, "tsxldtrk"),
            (20, "ibt"),
            (22, "amx_bf16"),
            (23, "avx512_fp16"),
            (24, "amx_tile"),
            (25, "amx_int8"),
        ],
    },
    Word {
        name: "7.1 eax",
        ignored: bits(&[6, 8, 9, 13, 14, 15, 16, 17, 18, 19, 20, 22, 24, 25, 26, 27, 28, 29, 30]),
        features: &[
            (0, "sha512"),
            (1, "sm3"),
            (2, "sm4"),
            (4, "avx_vnni"),
            (5, "avx512_bf16"),
            (7, "cmpccxadd"),
            (10, "fzrm"),
            (11, "fsrs"),
            (12, "fsrc"),
            (21, "amx_fp16"),
            (23, "avx_ifma"),
        ],
    },
    Word {
        name: "0xd.1 eax",
        // xsaves is the kernel's.
        ignored: bits(&[3]),
        features: &[(0, "xsaveopt"), (1, "xsavec"), (2, "xgetbv1"), (4, "xfd")],
    },
    Word {
        name: "0x80000001 ecx",
        // Virtualisation, APIC space, instruction-based sampling, counters, topology.
        ignored: bits(&[1, 2, 3, 4, 9, 10, 12, 13, 14, 17, 19, 20, 22, 23, 24, 25, 26, 27, 28, 30, 31]),
        features: &[
            (0, "lahf_lm"),
            (5, "abm"),
            (6, "sse4a"),
            (7, "misalignsse"),
            (8, "3dnowprefetch"),
            (11, "xop"),
            (15, "lwp"),
            (16, "fma4"),
            (21, "tbm"),
            (29, "mwaitx"),
        ],
    },
    Word {
        name: "0x80000001 edx",
        // What leaf 1 says already, paging.
        ignored: 0x0183_f7ff | bits(&[18, 20, 26, 28]),
        features: &[
            (11, "syscall"),
            (22, "mmxext"),
            (25, "fxsr_opt"),
            (27, "rdtscp"),
            (29, "lm"),
            (30, "3dnowext"),
            (31, "3dnow"),
        ],
    },
];

impl CpuUse {
    /// What any program may be using: what every CPU has, and whatever has no name here, for nobody knows how it is used.
    pub fn least() -> CpuUse {
        let mut words = [0; WORDS];
        for (mask, word) in words.iter_mut().zip(&TABLE) {
            let told = |name: &str| !BASIC.contains(&name);
            let named = word.features.iter().filter(|(_, name)| told(name)).map(|(bit, _)| 1 << bit);
            *mask = !(word.ignored | named.fold(0, |all: u32, bit: u32| all | bit));
        }
        CpuUse { words, area: false }
    }

    /// It may be using this feature too. A name that is not known is an error of the caller's, and everything is taken to
    /// be used.
    pub fn add(&mut self, name: &str) {
        let mut known = false;
        for (mask, word) in self.words.iter_mut().zip(&TABLE) {
            for (bit, _) in word.features.iter().filter(|(_, other)| *other == name) {
                *mask |= 1 << bit;
                known = true;
            }
        }
        if !known {
            *self = CpuUse { words: [u32::MAX; WORDS], area: true };
        }
    }

    /// It may be saving its registers in areas of a size that it has read.
    pub fn add_register_area(&mut self) {
        self.area = true;
    }

    fn has(&self, name: &str) -> bool {
        let bit =
            |word: &Word| word.features.iter().find(|(_, other)| *other == name).map(|(bit, _)| 1 << bit);
        self.words.iter().zip(&TABLE).any(|(mask, word)| bit(word).is_some_and(|bit: u32| mask & bit != 0))
    }

    /// The bits of XCR0 that nothing of this changes.
    fn untouched(&self) -> u64 {
        let names = || TABLE.iter().flat_map(|word| word.features).map(|(_, name)| *name);
        let of = |name: &str| {
            let states = STATES.iter().filter(|(beginning, _)| name.starts_with(beginning));
            states.fold(0, |all, (_, states)| all | states)
        };
        let all = names().fold(0, |all, name| all | of(name));
        let touched = names().filter(|name| self.has(name)).fold(0, |all, name| all | of(name));
        all & !touched
    }
}

/// The names of all features that are told apart.
pub fn feature_names() -> impl Iterator<Item = &'static str> {
    TABLE.iter().flat_map(|word| word.features).map(|(_, name)| *name)
}

impl CpuProfile {
    /// As much of this CPU as a program may be using: what a host of that program must have.
    #[must_use]
    pub fn as_used(&self, used: &CpuUse) -> CpuProfile {
        let mut words = self.words;
        for (value, mask) in words.iter_mut().zip(used.words) {
            *value &= mask;
        }
        let xsave_size = if used.area { self.xsave_size } else { 0 };
        CpuProfile { words, xcr0: self.xcr0 & !used.untouched(), xsave_size }
    }

    /// A profile from the raw words `[1 ecx, 1 edx, 7.0 ebx, 7.0 ecx, 7.0 edx, 7.1 eax, 0xd.1 eax, 0x80000001 ecx,
    /// 0x80000001 edx]`, `XCR0` and the size of a saved register state.
    pub fn new(raw: [u32; WORDS], xcr0: u64, xsave_size: u32) -> CpuProfile {
        let mut words = raw;
        for (value, word) in words.iter_mut().zip(&TABLE) {
            *value &= !word.ignored;
        }
        CpuProfile { words, xcr0, xsave_size }
    }

    /// What this CPU lacks of what a program from the other may use; empty where it is fit.
    pub fn missing_for(&self, needed: &CpuProfile) -> Vec<String> {
        let mut missing = Vec::new();
        for ((have, need), word) in self.words.iter().zip(needed.words).zip(&TABLE) {
            let lacking = need & !have & !word.ignored;
            for bit in (0..u32::BITS).filter(|bit| lacking & (1 << bit) != 0) {
                missing.push(match word.features.iter().find(|(known, _)| *known == bit) {
                    Some((_, name)) => (*name).to_owned(),
                    None => format!("bit {bit} of cpuid {}", word.name),
                });
            }
        }
        let states = needed.xcr0 & !self.xcr0;
        if states != 0 {
            missing.push(format!("register states {states:#x}"));
        }
        if needed.xsave_size != 0 && self.xsave_size != needed.xsave_size {
            missing
                .push(format!("register area of {} bytes (it has {})", needed.xsave_size, self.xsave_size));
        }
        missing
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn profile(ecx: u32, ebx7: u32, size: u32) -> CpuProfile {
        CpuProfile::new([ecx, 0, ebx7, 0, 0, 0, 0, 0, 0], 7, size)
    }

    #[test]
    fn a_cpu_is_fit_for_itself_and_for_less() {
        let big = profile(u32::MAX, u32::MAX, 832);
        let small = profile(1 << 28, 0, 832);
        assert!(big.missing_for(&big).is_empty());
        assert!(big.missing_for(&small).is_empty());
        assert!(small.missing_for(&big).contains(&"avx2".to_owned()));
    }

    #[test]
    fn bits_of_the_kernel_do_not_count() {
        let guest = profile(1 << 31 | 1 << 21 | 1 << 5, 1 << 7 | 1 << 20, 832);
        assert!(profile(0, 0, 832).missing_for(&guest).is_empty());
    }

    #[test]
    fn the_register_area_must_be_equal() {
        assert_eq!(profile(0, 0, 2696).missing_for(&profile(0, 0, 832)).len(), 1);
    }

    #[test]
    fn only_what_is_used_must_be_there() {
        // AVX, AVX2 and AVX-512; SHA, which the small one lacks.
        let big = CpuProfile::new([1 << 28, 0, 1 << 5 | 1 << 16 | 1 << 29, 0, 0, 0, 0, 0, 0], 0xe7, 2432);
        let small = CpuProfile::new([1 << 28, 0, 1 << 5, 0, 0, 0, 0, 0, 0], 7, 832);
        let mut used = CpuUse::least();
        assert_eq!(small.missing_for(&big.as_used(&used)), [""; 0]);
        used.add("avx2");
        assert_eq!(small.missing_for(&big.as_used(&used)), [""; 0]);
        used.add("sha");
        assert_eq!(small.missing_for(&big.as_used(&used)), ["sha"]);
        used.add("avx512f");
        used.add_register_area();
        assert_eq!(small.missing_for(&big.as_used(&used)).len(), 4);
        // It is the size that must be the same: also on a CPU that has more.
        let mut copies = CpuUse::least();
        copies.add_register_area();
        assert_eq!(big.missing_for(&small.as_used(&copies)).len(), 1);
    }

    #[test]
    fn what_has_no_name_may_always_be_used() {
        let unnamed = CpuProfile::new([0, 0, 0, 0, 1 << 24 | 1 << 22, 1 << 31, 0, 0, 0], 1 << 40, 0);
        let missing = CpuProfile::default().missing_for(&unnamed.as_used(&CpuUse::least()));
        assert_eq!(missing, ["bit 31 of cpuid 7.1 eax", "register states 0x10000000000"]);
        let mut wrong = CpuUse::least();
        wrong.add("no such feature");
        assert_eq!(unnamed.as_used(&wrong), unnamed);
    }

    #[test]
    fn lists_name_features_that_exist() {
        for name in HARMLESS.iter().chain(BASIC) {
            assert!(feature_names().any(|known| known == *name), "{name}");
        }
        for (beginning, _) in STATES {
            assert!(feature_names().any(|known| known.starts_with(beginning)), "{beginning}");
        }
    }

    #[test]
    fn no_named_feature_is_ignored_and_no_bit_has_two_names() {
        for word in &TABLE {
            let mut seen = word.ignored;
            for (bit, name) in word.features {
                assert_eq!(seen & (1 << bit), 0, "{name}");
                seen |= 1 << bit;
            }
        }
    }
}
