//! The seccomp filter of a guest: what runs locally passes, the rest is notified to its warden.
//!
//! Pure: classic BPF instructions as numbers, to be installed by others. Calls are found by a balanced tree over ranges
//! of numbers with one answer, as libseccomp and Firecracker found a linear list to cost up to a microsecond.
//! Conditions are compiled from the very data that [`crate::Row::route_of`] reads.

use crate::condition::Test;
use crate::route::{Route, Row};
use crate::table;

/// One instruction of classic BPF (`struct sock_filter`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Instruction {
    /// What it does.
    pub code: u16,
    /// Instructions to skip when its comparison holds.
    pub jt: u8,
    /// Instructions to skip when it does not.
    pub jf: u8,
    /// Its constant.
    pub k: u32,
}

/// Answer: run it.
pub const ALLOW: u32 = 0x7fff_0000;
/// Answer: ask the warden.
pub const NOTIFY: u32 = 0x7fc0_0000;
/// Answer: fail with `ENOSYS`.
pub const ENOSYS: u32 = 0x0005_0000 | 38;
/// Answer: end the process.
pub const KILL: u32 = 0x8000_0000;
/// `AUDIT_ARCH_X86_64`.
pub const ARCHITECTURE: u32 = 0xc000_003e;
/// Bit of the numbers of x32 calls.
pub const X32: u32 = 0x4000_0000;

/// What is known of a guest's code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Code {
    /// It may make code while it runs.
    Grows,
    /// It was let in because of the code that it has: more of it is made at home only.
    Fixed,
}

/// What a guest's calls do to memory that it shares with a file at its home.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Files {
    /// There is none.
    None,
    /// There is some: see [`is_about_files`].
    Some,
}

/// Whether a call of a process that shares memory with a file may say something about the file: that it is to be written,
/// that it is needed no longer, that a part of it is to go, or that more may be done to it.
pub fn is_about_files(nr: u32) -> bool {
    ABOUT_FILES.contains(&nr)
}

/// `mprotect`, `munmap`, `msync`, `madvise`, `pkey_mprotect`.
const ABOUT_FILES: [u32; 5] = [MPROTECT, 11, 26, 28, 329];

// The calls that make code out of memory, unless the row says that they go home anyway; and how they are told to.
const MMAP: u32 = 9;
const MPROTECT: u32 = 10;
const PROTECTION: u8 = 2;
const EXECUTABLE: u32 = 4;

/// The kernel's `BPF_MAXINSNS`.
pub const INSTRUCTIONS_MAX: usize = 4096;

// Opcodes: LD|W|ABS, JMP|JA, JMP|J..|K, ALU|AND|K, RET|K.
const LOAD: u16 = 0x20;
const JUMP: u16 = 0x05;
const EQUAL: u16 = 0x15;
const GREATER: u16 = 0x25;
const AT_LEAST: u16 = 0x35;
const AND: u16 = 0x54;
const RETURN: u16 = 0x06;

// Offsets in struct seccomp_data, little endian.
const NR: u32 = 0;
const ARCH: u32 = 4;
const fn low(arg: u8) -> u32 {
    16 + 8 * arg as u32
}
const fn high(arg: u8) -> u32 {
    low(arg) + 4
}

/// Whether a call makes code.
pub fn makes_code(nr: u32, args: &[u64; 6]) -> bool {
    matches!(nr, MMAP | MPROTECT) && args[usize::from(PROTECTION)] & u64::from(EXECUTABLE) != 0
}

/// The filter for a process with this pid.
///
/// 32-bit calls end the process: one that makes them is never moved, and their numbers mean other calls.
pub fn program(own_pid: i32, code: Code, files: Files) -> Vec<Instruction> {
    let mut program = vec![
        plain(LOAD, ARCH),
        Instruction { code: EQUAL, jt: 1, jf: 0, k: ARCHITECTURE },
        plain(RETURN, KILL),
        plain(LOAD, NR),
        Instruction { code: AT_LEAST, jt: 0, jf: 1, k: X32 },
        plain(RETURN, NOTIFY),
    ];
    if code == Code::Fixed {
        program.extend(notify_makers());
    }
    if files == Files::Some {
        for nr in ABOUT_FILES {
            program.extend([Instruction { code: EQUAL, jt: 0, jf: 1, k: nr }, plain(RETURN, NOTIFY)]);
        }
    }
    program.extend(tree(&ranges(own_pid)));
    assert!(program.len() <= INSTRUCTIONS_MAX, "the kernel takes no filter of this length");
    program
}

/// Asks for whatever [`makes_code`]; the number is loaded before it and behind it.
fn notify_makers() -> [Instruction; 7] {
    [
        Instruction { code: EQUAL, jt: 1, jf: 0, k: MPROTECT },
        Instruction { code: EQUAL, jt: 0, jf: 5, k: MMAP },
        plain(LOAD, low(PROTECTION)),
        plain(AND, EXECUTABLE),
        Instruction { code: EQUAL, jt: 0, jf: 1, k: EXECUTABLE },
        plain(RETURN, NOTIFY),
        plain(LOAD, NR),
    ]
}

/// Numbers from `first` on share one answer.
struct Range {
    first: u32,
    answer: Vec<Instruction>,
}

fn ranges(own_pid: i32) -> Vec<Range> {
    let mut ranges: Vec<Range> = Vec::new();
    let mut push = |first, answer| {
        if ranges.last().is_none_or(|last| last.answer != answer) {
            ranges.push(Range { first, answer });
        }
    };
    let mut next = 0;
    for row in table::rows() {
        if row.nr > next {
            push(next, vec![plain(RETURN, NOTIFY)]);
        }
        push(row.nr, answer(row, own_pid));
        next = row.nr + 1;
    }
    push(next, vec![plain(RETURN, NOTIFY)]);
    ranges
}

fn tree(ranges: &[Range]) -> Vec<Instruction> {
    if let [range] = ranges {
        return range.answer.clone();
    }
    let (less, more) = ranges.split_at(ranges.len() / 2);
    let (pivot, less, more) = (more[0].first, tree(less), tree(more));
    let mut code = match u8::try_from(less.len()) {
        Ok(jt) => vec![Instruction { code: AT_LEAST, jt, jf: 0, k: pivot }],
        // A conditional jump reaches 255 instructions, a plain one any number.
        Err(_) => {
            vec![Instruction { code: AT_LEAST, jt: 0, jf: 1, k: pivot }, plain(JUMP, less.len() as u32)]
        }
    };
    code.extend(less);
    code.extend(more);
    code
}

/// What the filter says to a route.
pub fn verdict(route: Route) -> u32 {
    match route {
        Route::Local => ALLOW,
        Route::Obsolete => ENOSYS,
        Route::Home | Route::HomeBlocking | Route::Special(_) | Route::GoHome => NOTIFY,
    }
}

fn answer(row: &Row, own_pid: i32) -> Vec<Instruction> {
    let mut code = Vec::new();
    if row.cases.iter().any(|case| verdict(case.route) != verdict(row.route)) {
        for case in row.cases {
            let mut block = vec![plain(RETURN, verdict(case.route))];
            for test in case.when.tests.iter().rev() {
                block = [check(test, own_pid, block.len() as u8), block].concat();
            }
            code.extend(block);
        }
    }
    code.push(plain(RETURN, verdict(row.route)));
    code
}

/// Goes on where the test holds, else skips what follows in the block: `rest` instructions.
fn check(test: &Test, own_pid: i32, rest: u8) -> Vec<Instruction> {
    let must = |code, k| Instruction { code, jt: 0, jf: rest, k };
    let must_not = |code, k| Instruction { code, jt: rest, jf: 0, k };
    match *test {
        Test::Low { arg, mask: u32::MAX, value } => vec![plain(LOAD, low(arg)), must(EQUAL, value)],
        Test::Low { arg, mask, value } => vec![plain(LOAD, low(arg)), plain(AND, mask), must(EQUAL, value)],
        Test::LowIn { arg, from, to } => vec![
            plain(LOAD, low(arg)),
            Instruction { code: AT_LEAST, jt: 0, jf: rest + 1, k: from },
            must_not(GREATER, to),
        ],
        Test::Zero(arg) => vec![
            plain(LOAD, low(arg)),
            Instruction { code: EQUAL, jt: 0, jf: rest + 2, k: 0 },
            plain(LOAD, high(arg)),
            must(EQUAL, 0),
        ],
        Test::NonZero(arg) => vec![
            plain(LOAD, low(arg)),
            Instruction { code: EQUAL, jt: 0, jf: 2, k: 0 },
            plain(LOAD, high(arg)),
            must_not(EQUAL, 0),
        ],
        Test::Own(arg) => vec![
            plain(LOAD, low(arg)),
            Instruction { code: EQUAL, jt: 1, jf: 0, k: 0 },
            must(EQUAL, own_pid as u32),
        ],
    }
}

fn plain(code: u16, k: u32) -> Instruction {
    Instruction { code, jt: 0, jf: 0, k }
}
