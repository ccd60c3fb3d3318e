//! For all calls, arguments and memories: gathering never panics, what travels is valid, no pointer of the guest
//! reaches the deputy, and landing writes only what the guest named.

use crate::fake::Ranges;
use forward::{Gathered, Landing, gather_from};
use proptest::prelude::*;
use syscalls::{Arg, Row};
use wire::{Call, OutLen};

const BASE: u64 = 0x10_0000;
const BYTES: usize = 4096;

/// Numbers as programs use them: small, pointers, wrong.
fn number() -> impl Strategy<Value = u64> {
    prop_oneof![
        4 => 0..40u64,
        4 => (0..BYTES as u64).prop_map(|offset| BASE + offset),
        2 => (0..BYTES as u64 / 8).prop_map(|offset| BASE + offset * 8),
        1 => Just(0),
        1 => any::<u64>(),
        1 => any::<u32>().prop_map(u64::from),
        1 => 0..1u64 << 22,
    ]
}

/// Memory full of such numbers, so that what it points to is often found.
fn memory() -> impl Strategy<Value = Vec<u8>> {
    let words = prop::collection::vec(number(), BYTES / 8);
    (words, 0..BYTES).prop_map(|(words, len)| {
        let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
        bytes[..BYTES - len / 4].to_vec()
    })
}

fn any_row() -> impl Strategy<Value = &'static Row> {
    let rows: Vec<&'static Row> = syscalls::rows().filter(|row| !row.args.is_empty()).collect();
    prop::sample::select(rows)
}

/// Arguments; commands and socket options are mostly known ones.
fn arguments() -> impl Strategy<Value = (&'static Row, [u64; 6])> {
    (any_row(), prop::array::uniform6(number()), any::<prop::sample::Index>(), any::<bool>()).prop_map(
        |(row, mut args, pick, known)| {
            for (index, &arg) in row.args.iter().enumerate() {
                if let (Arg::Operand(family), true) = (arg, known) {
                    args[index - 1] = u64::from(pick.get(syscalls::command::commands(family)).number);
                }
                if let (Arg::Mask, true) = (arg, known) {
                    args[index + 1] = 8;
                }
            }
            (row, args)
        },
    )
}

/// An answer with the right number of bytes, as an honest deputy makes it from an area that holds anything.
fn answer(call: &Call, ret: i64, filler: u8) -> Vec<u8> {
    let mut area = call.input.clone();
    area.resize(call.area_len as usize, filler);
    for out in &call.outs {
        if let OutLen::Fixed(len) = out.len {
            area[out.offset as usize..(out.offset + len) as usize].fill(filler);
        }
    }
    call.collect(ret, &area)
}

/// Whether a word can do no harm as a pointer in the deputy.
fn is_harmless(word: u64) -> bool {
    word == 0 || word >= 0x7fff_ffff_f000
}

/// Pointers in a call: marked arguments and relocated words. Nothing else may be an address of the guest.
fn check_pointers(row: &Row, call: &Call) {
    for (index, arg) in row.args.iter().enumerate() {
        let plain = matches!(
            arg,
            Arg::Value | Arg::Fd | Arg::Offset | Arg::Gives | Arg::Operand(_) | Arg::Timeout(..)
        );
        let marked = call.pointers & (1 << index) != 0;
        assert!(plain || marked || is_harmless(call.args[index]), "{} {index}: {:x?}", row.name, call.args);
        if !marked {
            continue;
        }
        // Where structures with pointers begin, how many there are, how long each is, and where its pointers are.
        let begin = call.args[index] as usize;
        let (count, each, fields): (u64, usize, &[usize]) = match *arg {
            Arg::Vector(count, _) => (call.args[usize::from(count)], 16, &[0]),
            Arg::Message(_) => (1, 56, &[0, 16, 32]),
            Arg::Messages(count, _) => (call.args[usize::from(count)], 64, &[0, 16, 32]),
            _ => continue,
        };
        for at in (0..count as usize).flat_map(|n| fields.iter().map(move |field| begin + n * each + field)) {
            let word = u64::from_le_bytes(call.input[at..at + 8].try_into().expect("8 bytes"));
            let relocated = call.relocations.contains(&(at as u32));
            assert!(relocated || is_harmless(word), "{} at {at}: {word:x}", row.name);
        }
    }
}

fn check_landing(landing: &Landing, call: &Call, bytes: &[u8], ret: i64, data: &[u8]) {
    let memory = Ranges::new(&[(BASE, bytes.to_vec())]);
    landing.land(ret, data, &memory);
    let most: u64 = call.outs.iter().map(|out| u64::from(out.len.max())).sum();
    let written: u64 = memory.written().iter().map(|&(_, len)| len).sum();
    assert!(written <= most, "{written} bytes of at most {most}");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 4000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn what_travels_is_valid_and_lands_where_it_should(
        (row, args) in arguments(),
        bytes in memory(),
        done in prop_oneof![9 => Just(0), 1 => 0..1u64 << 22],
        ret in prop_oneof![-40..40i64, any::<i64>()],
        filler in any::<u8>(),
        junk in prop::collection::vec(any::<u8>(), 0..200),
    ) {
        let memory = Ranges::new(&[(BASE, bytes.clone())]);
        let gathered = gather_from(row, args, &memory, done);
        prop_assert_eq!(memory.get(BASE, bytes.len()), bytes.clone(), "gathering changes nothing");
        forward::timeout(row, &args, &memory);
        forward::temporary_mask(row, &args, &memory);
        if let Gathered::Call { mut call, landing } = gathered {
            prop_assert_eq!(call.validate(), Ok(()));
            check_pointers(row, &call);
            check_landing(&landing, &call, &bytes, ret, &answer(&call, ret, filler));
            check_landing(&landing, &call, &bytes, ret, &junk);
            forward::with_remaining(&mut call, row, std::time::Duration::from_millis(ret.unsigned_abs()));
            prop_assert_eq!(call.validate(), Ok(()));
        }
    }
}
