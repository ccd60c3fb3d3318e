//! Between the kernel's registers and the image's.

use image::Registers;
use kernel::ptrace::Registers as Raw;

macro_rules! each_register {
    ($from:expr, $into:ident) => {
        $into {
            r15: $from.r15,
            r14: $from.r14,
            r13: $from.r13,
            r12: $from.r12,
            rbp: $from.rbp,
            rbx: $from.rbx,
            r11: $from.r11,
            r10: $from.r10,
            r9: $from.r9,
            r8: $from.r8,
            rax: $from.rax,
            rcx: $from.rcx,
            rdx: $from.rdx,
            rsi: $from.rsi,
            rdi: $from.rdi,
            orig_rax: $from.orig_rax,
            rip: $from.rip,
            cs: $from.cs,
            eflags: $from.eflags,
            rsp: $from.rsp,
            ss: $from.ss,
            fs_base: $from.fs_base,
            gs_base: $from.gs_base,
            ds: $from.ds,
            es: $from.es,
            fs: $from.fs,
            gs: $from.gs,
        }
    };
}

/// The image's registers from the kernel's.
#[rustfmt::skip]
pub fn from_raw(raw: &Raw) -> Registers {
    each_register!(raw, Registers)
}

/// The kernel's registers from the image's.
#[rustfmt::skip]
pub fn to_raw(registers: &Registers) -> Raw {
    each_register!(registers, Raw)
}
