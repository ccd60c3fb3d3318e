//! What this machine's CPU can do.

use core::arch::x86_64::{__cpuid, __cpuid_count, _xgetbv};
use model::CpuProfile;

/// `CPUID 1`, ECX: the kernel lets programs use `XGETBV`.
const OSXSAVE: u32 = 1 << 27;

/// Reads the profile of the CPU that runs this thread; the CPUs of one machine are taken to be equal.
pub fn profile() -> CpuProfile {
    let highest = __cpuid(0).eax;
    let highest_extended = __cpuid(0x8000_0000).eax;
    let zero = core::arch::x86_64::CpuidResult { eax: 0, ebx: 0, ecx: 0, edx: 0 };
    let leaf = |number: u32, sub: u32| {
        let limit = if number < 0x8000_0000 { highest } else { highest_extended };
        if number <= limit { __cpuid_count(number, sub) } else { zero }
    };
    let basic = leaf(1, 0);
    let extended = leaf(7, 0);
    let more = if extended.eax >= 1 { leaf(7, 1) } else { zero };
    let amd = leaf(0x8000_0001, 0);
    let xcr0 = if basic.ecx & OSXSAVE != 0 {
        // SAFETY: OSXSAVE says that the CPU has XGETBV and that the kernel switched it on; it reads a register.
        unsafe { enabled_states() }
    } else {
        0
    };
    CpuProfile::new(
        [
            basic.ecx,
            basic.edx,
            extended.ebx,
            extended.ecx,
            extended.edx,
            more.eax,
            leaf(0xd, 1).eax,
            amd.ecx,
            amd.edx,
        ],
        xcr0,
        leaf(0xd, 0).ebx,
    )
}

/// XCR0.
///
/// # Safety
/// The CPU must have XSAVE, switched on by the kernel.
#[target_feature(enable = "xsave")]
unsafe fn enabled_states() -> u64 {
    // SAFETY: the caller's promise is this instruction's only condition.
    unsafe { _xgetbv(0) }
}

#[cfg(test)]
mod tests {
    #[test]
    fn this_cpu_is_fit_for_its_own_programs() {
        let profile = super::profile();
        assert_eq!(profile.missing_for(&profile), Vec::<String>::new());
        assert_ne!(profile, model::CpuProfile::default());
    }
}
