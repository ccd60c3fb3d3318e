//! Between the kernel's registers and the image's.

use crate::error::{Error, Result};
use image::Registers;
use kernel::ptrace::{self, Registers as Raw};
use kernel::xstate::{self, Unknown};
use model::{Reason, ReasonCode, Reasons};

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

/// The image's extended state from the kernel's.
pub(crate) fn extended_to_portable(tid: i32, state: &[u8]) -> Result<Vec<u8>> {
    xstate::to_portable(state).map_err(|unknown| unfit(tid, unknown))
}

/// Gives a stopped thread an extended state of the image's. On failure it has the one that it had.
pub(crate) fn set_portable_extended(tid: i32, portable: &[u8]) -> Result<()> {
    let mut state = ptrace::extended_state(tid).map_err(Error::kernel("reading extended state", tid))?;
    xstate::from_portable(portable, &mut state).map_err(|unknown| unfit(tid, unknown))?;
    ptrace::set_extended_state(tid, &state).map_err(Error::kernel("setting extended state", tid))
}

fn unfit(tid: i32, Unknown(number): Unknown) -> Error {
    let detail = format!("register state {number}, which thread {tid} uses");
    Error::Refused(Reasons(vec![Reason::new(ReasonCode::CpuFeatures, detail)]))
}
