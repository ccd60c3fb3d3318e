//! Which features of a CPU an instruction needs.

use iced_x86::{Code, CpuidFeature, Instruction};
use model::CpuUse;

/// The decoder's names of features, and those of the profile: all of them may be needed. Features of the decoder's that are
/// not here are had by every x86-64 CPU, do nothing where they are absent, are the kernel's alone, or are not in the profile.
const FEATURES: &[(CpuidFeature, &[&str])] = &[
    (CpuidFeature::ADX, &["adx"]),
    (CpuidFeature::AES, &["aes"]),
    (CpuidFeature::AMX_BF16, &["amx_bf16"]),
    (CpuidFeature::AMX_FP16, &["amx_fp16"]),
    (CpuidFeature::AMX_INT8, &["amx_int8"]),
    (CpuidFeature::AMX_TILE, &["amx_tile"]),
    (CpuidFeature::AVX, &["avx"]),
    (CpuidFeature::AVX2, &["avx2"]),
    (CpuidFeature::AVX512BW, &["avx512bw"]),
    (CpuidFeature::AVX512CD, &["avx512cd"]),
    (CpuidFeature::AVX512DQ, &["avx512dq"]),
    (CpuidFeature::AVX512ER, &["avx512er"]),
    (CpuidFeature::AVX512F, &["avx512f"]),
    (CpuidFeature::AVX512PF, &["avx512pf"]),
    (CpuidFeature::AVX512VL, &["avx512vl"]),
    (CpuidFeature::AVX512_4FMAPS, &["avx512_4fmaps"]),
    (CpuidFeature::AVX512_4VNNIW, &["avx512_4vnniw"]),
    (CpuidFeature::AVX512_BF16, &["avx512_bf16"]),
    (CpuidFeature::AVX512_BITALG, &["avx512_bitalg"]),
    (CpuidFeature::AVX512_FP16, &["avx512_fp16"]),
    (CpuidFeature::AVX512_IFMA, &["avx512ifma"]),
    (CpuidFeature::AVX512_VBMI, &["avx512_vbmi"]),
    (CpuidFeature::AVX512_VBMI2, &["avx512_vbmi2"]),
    (CpuidFeature::AVX512_VNNI, &["avx512_vnni"]),
    (CpuidFeature::AVX512_VP2INTERSECT, &["avx512_vp2intersect"]),
    (CpuidFeature::AVX512_VPOPCNTDQ, &["avx512_vpopcntdq"]),
    (CpuidFeature::AVX_IFMA, &["avx_ifma"]),
    (CpuidFeature::AVX_VNNI, &["avx_vnni"]),
    (CpuidFeature::BMI1, &["bmi1"]),
    (CpuidFeature::BMI2, &["bmi2"]),
    (CpuidFeature::CET_SS, &["shstk"]),
    (CpuidFeature::CLFLUSHOPT, &["clflushopt"]),
    (CpuidFeature::CLWB, &["clwb"]),
    (CpuidFeature::CMPCCXADD, &["cmpccxadd"]),
    (CpuidFeature::CMPXCHG16B, &["cx16"]),
    (CpuidFeature::D3NOW, &["3dnow"]),
    (CpuidFeature::D3NOWEXT, &["3dnowext"]),
    (CpuidFeature::F16C, &["f16c"]),
    (CpuidFeature::FMA, &["fma"]),
    (CpuidFeature::FMA4, &["fma4"]),
    (CpuidFeature::FSGSBASE, &["fsgsbase"]),
    (CpuidFeature::GFNI, &["gfni"]),
    (CpuidFeature::HLE, &["hle"]),
    (CpuidFeature::HLE_or_RTM, &["hle", "rtm"]),
    (CpuidFeature::LWP, &["lwp"]),
    (CpuidFeature::LZCNT, &["abm"]),
    (CpuidFeature::MONITORX, &["mwaitx"]),
    (CpuidFeature::MOVBE, &["movbe"]),
    (CpuidFeature::MOVDIR64B, &["movdir64b"]),
    (CpuidFeature::MOVDIRI, &["movdiri"]),
    (CpuidFeature::MPX, &["mpx"]),
    (CpuidFeature::PCLMULQDQ, &["pclmulqdq"]),
    (CpuidFeature::PKU, &["pku", "ospke"]),
    (CpuidFeature::POPCNT, &["popcnt"]),
    (CpuidFeature::RDPID, &["rdpid"]),
    (CpuidFeature::RDRAND, &["rdrand"]),
    (CpuidFeature::RDSEED, &["rdseed"]),
    (CpuidFeature::RDTSCP, &["rdtscp"]),
    (CpuidFeature::RTM, &["rtm"]),
    (CpuidFeature::SERIALIZE, &["serialize"]),
    (CpuidFeature::SHA, &["sha"]),
    (CpuidFeature::SHA512, &["sha512"]),
    (CpuidFeature::SM3, &["sm3"]),
    (CpuidFeature::SM4, &["sm4"]),
    (CpuidFeature::SSE3, &["sse3"]),
    (CpuidFeature::SSE4A, &["sse4a"]),
    (CpuidFeature::SSE4_1, &["sse4.1"]),
    (CpuidFeature::SSE4_2, &["sse4.2"]),
    (CpuidFeature::SSSE3, &["ssse3"]),
    (CpuidFeature::TBM, &["tbm"]),
    (CpuidFeature::TSXLDTRK, &["tsxldtrk"]),
    (CpuidFeature::UINTR, &["uintr"]),
    (CpuidFeature::VAES, &["vaes"]),
    (CpuidFeature::VPCLMULQDQ, &["vpclmulqdq"]),
    (CpuidFeature::WAITPKG, &["waitpkg"]),
    (CpuidFeature::XOP, &["xop"]),
    // What a state of a feature of its own looks like is changed by instructions that need no more than this: `xfd` is
    // among what they handle.
    (CpuidFeature::XSAVE, &["xsave", "osxsave", "xfd"]),
    (CpuidFeature::XSAVEC, &["xsavec"]),
    (CpuidFeature::XSAVEOPT, &["xsaveopt"]),
];

/// Instructions that need more than the decoder says.
const MORE: &[(&[Code], &[&str])] = &[
    (&[Code::Lahf, Code::Sahf], &["lahf_lm"]),
    // Which of the registers that it reads is asked for is not seen.
    (&[Code::Xgetbv], &["xgetbv1"]),
    // They can switch on that misaligned operands are allowed.
    (
        &[
            Code::Ldmxcsr_m32,
            Code::VEX_Vldmxcsr_m32,
            Code::Fxrstor_m512byte,
            Code::Fxrstor64_m512byte,
            Code::Xrstor_mem,
            Code::Xrstor64_mem,
        ],
        &["misalignsse"],
    ),
];

/// Instructions that do nothing where their feature is absent.
const HARMLESS: &[Code] = &[Code::Rdsspd_r32, Code::Rdsspq_r64];

/// Instructions that save registers in an area whose size the program must have read.
const SAVING: &[Code] = &[
    Code::Xsave_mem,
    Code::Xsave64_mem,
    Code::Xsavec_mem,
    Code::Xsavec64_mem,
    Code::Xsaveopt_mem,
    Code::Xsaveopt64_mem,
    Code::Xrstor_mem,
    Code::Xrstor64_mem,
];

/// Features that the decoder tells apart are fewer.
const FEATURES_MAX: usize = 256;

/// What was found in code so far.
pub(crate) struct Found {
    features: [bool; FEATURES_MAX],
    more: [bool; MORE.len()],
    saves: bool,
}

impl Default for Found {
    fn default() -> Found {
        Found { features: [false; FEATURES_MAX], more: [false; MORE.len()], saves: false }
    }
}

impl Found {
    /// Takes an instruction in.
    pub(crate) fn note(&mut self, instruction: &Instruction) {
        let code = instruction.code();
        if HARMLESS.contains(&code) {
            return;
        }
        for feature in code.cpuid_features() {
            if let Some(found) = self.features.get_mut(*feature as usize) {
                *found = true;
            }
        }
        for (found, (codes, _)) in self.more.iter_mut().zip(MORE) {
            *found |= codes.contains(&code);
        }
        self.saves |= SAVING.contains(&code);
    }

    /// What somebody may use who executes all this.
    pub(crate) fn to_use(&self) -> CpuUse {
        let mut used = CpuUse::least();
        let has = |feature: CpuidFeature| self.features.get(feature as usize).copied().unwrap_or(true);
        let by_feature = FEATURES.iter().filter(|(feature, _)| has(*feature)).map(|(_, names)| *names);
        let by_code = self.more.iter().zip(MORE).filter(|(found, _)| **found).map(|(_, (_, names))| *names);
        by_feature.chain(by_code).flatten().for_each(|name| used.add(name));
        if self.saves {
            used.add_register_area();
        }
        used
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use model::{BASIC, HARMLESS, feature_names};

    /// A feature that no instruction stands for would never be found to be used.
    #[test]
    fn every_feature_of_the_profile_has_its_instructions() {
        let told = || {
            let more = MORE.iter().map(|(_, names)| *names);
            FEATURES.iter().map(|(_, names)| *names).chain(more).flatten()
        };
        for name in feature_names().filter(|name| !BASIC.contains(name) && !HARMLESS.contains(name)) {
            assert!(told().any(|told| *told == name), "{name}");
        }
        for name in told() {
            assert!(feature_names().any(|known| known == *name), "{name}");
        }
    }

    #[test]
    fn there_is_room_for_all_features() {
        assert!(CpuidFeature::values().count() <= FEATURES_MAX);
    }
}
