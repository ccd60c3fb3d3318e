//! The filter says exactly what the table says: a small interpreter of BPF runs it over all numbers.

use syscalls::filter::{self, ALLOW, ARCHITECTURE, Code, Files, Instruction, KILL, NOTIFY, X32};
use syscalls::{Case, Row, Test};

const OWN_PID: i32 = 4711;

/// What the kernel would answer, and after how many instructions.
fn run(program: &[Instruction], arch: u32, nr: u32, args: &[u64; 6]) -> (u32, usize) {
    let mut data = Vec::new();
    data.extend_from_slice(&nr.to_le_bytes());
    data.extend_from_slice(&arch.to_le_bytes());
    data.extend_from_slice(&0u64.to_le_bytes());
    args.iter().for_each(|arg| data.extend_from_slice(&arg.to_le_bytes()));
    let (mut accumulator, mut at, mut steps) = (0u32, 0, 0);
    loop {
        let Instruction { code, jt, jf, k } = program[at];
        (at, steps) = (at + 1, steps + 1);
        let choose = |holds| usize::from(if holds { jt } else { jf });
        match code {
            0x20 => {
                assert_eq!(k % 4, 0, "seccomp loads aligned words only");
                accumulator =
                    u32::from_le_bytes(data[k as usize..k as usize + 4].try_into().expect("4 bytes"));
            }
            0x54 => accumulator &= k,
            0x05 => at += k as usize,
            0x15 => at += choose(accumulator == k),
            0x25 => at += choose(accumulator > k),
            0x35 => at += choose(accumulator >= k),
            0x06 => return (k, steps),
            _ => panic!("no such instruction: {code:#x}"),
        }
    }
}

/// Arguments at and around the edges of what a case tests.
fn samples(row: &Row) -> Vec<[u64; 6]> {
    let edges = |test: &Test| -> (u8, Vec<u64>) {
        match *test {
            Test::Low { arg, mask, value } => {
                let (mask, value) = (u64::from(mask), u64::from(value));
                let mut around = vec![value, !mask | value, value ^ mask, value | 1 << 40];
                around.extend((0..32).map(|bit| value ^ (1 << bit)));
                (arg, around)
            }
            Test::LowIn { arg, from, to } => {
                let (from, to) = (u64::from(from), u64::from(to));
                (arg, vec![from, to, from - 1, to + 1, from | 1 << 32, 0, u64::MAX])
            }
            Test::Zero(arg) | Test::NonZero(arg) => (arg, vec![0, 1, 1 << 31, 1 << 32, 1 << 63, u64::MAX]),
            Test::Own(arg) => (arg, vec![0, OWN_PID as u64, 1, 1 << 32, OWN_PID as u64 | 1 << 33]),
        }
    };
    let mut samples = vec![[0; 6], [u64::MAX; 6]];
    for test in row.cases.iter().flat_map(|case: &Case| case.when.tests) {
        let (arg, values) = edges(test);
        let vary = |base: &[u64; 6], value| {
            let mut args = *base;
            args[usize::from(arg)] = value;
            args
        };
        samples = samples.iter().flat_map(|base| values.iter().map(|&value| vary(base, value))).collect();
    }
    samples
}

#[test]
fn the_filter_says_what_the_table_says() {
    let program = filter::program(OWN_PID, Code::Grows, Files::None);
    for nr in 0..1000 {
        let Some(row) = syscalls::row(nr) else {
            assert_eq!(run(&program, ARCHITECTURE, nr, &[0; 6]).0, NOTIFY, "{nr} has no row");
            continue;
        };
        let mut seen = std::collections::HashSet::new();
        for args in samples(row) {
            let expected = filter::verdict(row.route_of(&args, OWN_PID));
            assert_eq!(run(&program, ARCHITECTURE, nr, &args).0, expected, "{} {args:x?}", row.name);
            seen.insert(format!("{:?}", row.route_of(&args, OWN_PID)));
        }
        assert!(row.cases.is_empty() || seen.len() > 1, "{}: the samples reach all routes", row.name);
    }
}

#[test]
fn who_has_fixed_code_asks_before_it_makes_some() {
    let (fixed, grows) = (
        filter::program(OWN_PID, Code::Fixed, Files::None),
        filter::program(OWN_PID, Code::Grows, Files::None),
    );
    let mut makers = 0;
    for nr in 0..500 {
        for protection in 0..8 {
            let args = [0, 4096, protection, 0x22, u64::MAX, 0];
            let expected = match filter::makes_code(nr, &args) {
                true => NOTIFY,
                false => run(&grows, ARCHITECTURE, nr, &args).0,
            };
            makers += usize::from(filter::makes_code(nr, &args));
            assert_eq!(run(&fixed, ARCHITECTURE, nr, &args).0, expected, "{nr} {protection}");
        }
    }
    assert_eq!(makers, 2 * 4);
    assert_eq!(syscalls::row(9).map(|row| row.name), Some("mmap"));
    assert_eq!(syscalls::row(10).map(|row| row.name), Some("mprotect"));
}

#[test]
fn who_has_files_asks_for_what_may_be_about_them() {
    let (some, none) = (
        filter::program(OWN_PID, Code::Grows, Files::Some),
        filter::program(OWN_PID, Code::Grows, Files::None),
    );
    let mut asked = Vec::new();
    for nr in 0..500 {
        let verdict = run(&some, ARCHITECTURE, nr, &[0; 6]).0;
        if filter::is_about_files(nr) {
            assert_eq!(verdict, NOTIFY);
            asked.extend(syscalls::row(nr).map(|row| row.name));
        } else {
            assert_eq!(verdict, run(&none, ARCHITECTURE, nr, &[0; 6]).0, "{nr}");
        }
    }
    assert_eq!(asked, ["mprotect", "munmap", "msync", "madvise", "pkey_mprotect"]);
}

#[test]
fn foreign_calls_never_pass() {
    let program = filter::program(OWN_PID, Code::Grows, Files::None);
    for nr in [0, 9, 12, 39, 202] {
        assert_eq!(run(&program, 0x4000_0003, nr, &[0; 6]).0, KILL, "32-bit {nr}");
        assert_eq!(run(&program, ARCHITECTURE, X32 | nr, &[0; 6]).0, NOTIFY, "x32 {nr}");
    }
    assert_eq!(run(&program, ARCHITECTURE, u32::MAX, &[0; 6]).0, NOTIFY);
}

#[test]
fn calls_are_found_in_few_steps() {
    let program = filter::program(OWN_PID, Code::Grows, Files::None);
    assert!(program.len() <= 512, "{} instructions", program.len());
    let local = |nr: &u32| run(&program, ARCHITECTURE, *nr, &[0; 6]).0 == ALLOW;
    let steps = (0..=471).filter(local).map(|nr| run(&program, ARCHITECTURE, nr, &[0; 6]).1).max();
    assert!(steps.is_some_and(|steps| steps <= 20), "{steps:?}");
}
