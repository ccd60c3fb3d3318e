//! What some calls look like on their way, byte by byte.

use crate::fake::{Ranges, row};
use forward::{Gathered, GoOn, Landing, TimeoutPlace, Total, gather, gather_from, timeout, with_remaining};
use std::time::Duration;
use syscalls::Span;
use wire::{Call, Out, OutLen, When};

const BASE: u64 = 0x10_0000;
const UNREADABLE: u64 = 1 << 63;
const TOO_MUCH: Gathered = Gathered::GoHome("a length of it is negative or very large");
const MEMORY_ENDS: Gathered = Gathered::GoHome("its memory ends within an argument");
const WRONG_MASK: Gathered = Gathered::GoHome("its signal mask is wrong");

fn words(words: &[u64]) -> Vec<u8> {
    words.iter().flat_map(|word| word.to_le_bytes()).collect()
}

fn travel(name: &str, args: [u64; 6], memory: &Ranges) -> (Call, Landing) {
    match gather(row(name), args, memory) {
        Gathered::Call { call, landing } => {
            assert_eq!(call.validate(), Ok(()), "{name}");
            (call, landing)
        }
        other => panic!("{name}: {other:?}"),
    }
}

fn out(offset: u32, len: OutLen) -> Out {
    Out { offset, len, when: When::Success }
}

#[test]
fn write_carries_its_bytes() {
    let memory = Ranges::new(&[(BASE, b"hello world".to_vec())]);
    let (call, landing) = travel("write", [1, BASE, 5, 77, 88, 99], &memory);
    assert_eq!((call.nr, call.args, call.pointers), (1, [1, 0, 5, 0, 0, 0], 0b10));
    assert_eq!((call.input.as_slice(), call.area_len, call.outs.len()), (&b"hello"[..], 5, 0));
    assert_eq!(landing.land(5, &[], &memory), 5);
    for (address, len) in [(BASE, 500), (0x999, 5)] {
        assert_eq!(gather(row("write"), [1, address, len, 0, 0, 0], &memory), MEMORY_ENDS, "home decides");
    }
    for bad in [0, UNREADABLE] {
        let (call, _) = travel("write", [1, bad, 5, 0, 0, 0], &memory);
        assert_eq!(call.pointers, 0, "the kernel shall say EFAULT or EBADF");
        assert_eq!(call.args[1], bad);
    }
}

#[test]
fn read_brings_what_was_read() {
    let memory = Ranges::new(&[(BASE, vec![b'.'; 100])]);
    let (call, landing) = travel("read", [0, BASE, 100, 0, 0, 0], &memory);
    assert_eq!(
        (call.args, call.pointers, call.input.len(), call.area_len),
        ([0, 0, 100, 0, 0, 0], 0b10, 0, 100)
    );
    assert_eq!(call.outs, [out(0, OutLen::Result { unit: 1, max: 100 })]);
    assert_eq!(landing.land(3, b"abc", &memory), 3);
    assert_eq!(memory.get(BASE, 5), b"abc..");
    assert_eq!(landing.land(0, b"", &memory), 0);
    assert_eq!(landing.land(-4, b"", &memory), -4);
    assert_eq!(landing.land(3, b"ab", &memory), -5, "a deputy that sends too little");
    assert_eq!(landing.land(3, b"abcd", &memory), -5, "or too much");
    let (_, landing) = travel("read", [0, BASE + 98, 4, 0, 0, 0], &memory);
    assert_eq!(landing.land(4, b"wxyz", &memory), 2, "what arrived");
    let (_, landing) = travel("read", [0, 0x999, 4, 0, 0, 0], &memory);
    assert_eq!(landing.land(4, b"wxyz", &memory), -14);
}

#[test]
fn readv_scatters_one_piece() {
    let vector = words(&[BASE + 64, 3, BASE + 80, 0, BASE + 96, 5]);
    let memory = Ranges::new(&[(BASE, [vector, vec![b'.'; 80]].concat())]);
    let (call, landing) = travel("readv", [0, BASE, 3, 0, 0, 0], &memory);
    assert_eq!((call.args, call.pointers), ([0, 0, 3, 0, 0, 0], 0b10));
    assert_eq!(call.input, words(&[48, 3, 51, 0, 51, 5]));
    assert_eq!((call.relocations.as_slice(), call.area_len), (&[0, 16, 32][..], 56));
    assert_eq!(call.outs, [out(48, OutLen::Result { unit: 1, max: 8 })]);
    assert_eq!(landing.land(6, b"abcdef", &memory), 6);
    assert_eq!(memory.get(BASE + 64, 36), b"abc.............................def.");
}

#[test]
fn vectors_are_checked_by_the_kernel() {
    let memory = Ranges::new(&[(BASE, words(&[BASE, 8, 0x999, 4, BASE, u64::MAX]))]);
    assert_eq!(gather(row("writev"), [1, BASE, 1025, 0, 0, 0], &memory), TOO_MUCH);
    assert_eq!(gather(row("writev"), [1, BASE, 3, 0, 0, 0], &memory), TOO_MUCH);
    let (call, _) = travel("writev", [1, BASE, 2, 0, 0, 0], &memory);
    assert_eq!(call.args[2], 1, "the second cannot be read");
    let (call, _) = travel("writev", [1, BASE + 16, 1, 0, 0, 0], &memory);
    assert_eq!((call.args[2], call.relocations.len()), (1, 0), "the first cannot be read");
    let (call, _) = travel("writev", [1, 0x999, 1, 0, 0, 0], &memory);
    assert_eq!((call.args[1], call.pointers), (UNREADABLE, 0));
}

#[test]
fn openat_carries_its_path() {
    let memory = Ranges::new(&[(BASE, b"/etc/passwd\0junk".to_vec()), (BASE * 2, vec![b'x'; 5000])]);
    let args = [u64::MAX - 99, BASE, 0o2000000, 0, 0, 0];
    let (call, _) = travel("openat", args, &memory);
    assert_eq!((call.args[0], call.pointers, call.input.as_slice()), (args[0], 0b10, &b"/etc/passwd\0"[..]));
    let (call, _) = travel("openat", [0, BASE * 2, 0, 0, 0, 0], &memory);
    assert_eq!((call.pointers, call.input.len()), (0b10, 4097), "too long for the kernel at home as well");
    let (call, _) = travel("openat", [0, BASE + 12, 0, 0, 0, 0], &memory);
    assert_eq!(call.args[1], UNREADABLE, "no NUL before the memory ends");
    let (call, _) = travel("openat", [0, 0, 0, 0, 0, 0], &memory);
    assert_eq!((call.args[1], call.pointers), (0, 0));
}

#[test]
fn ioctl_and_fcntl_follow_their_commands() {
    let memory = Ranges::new(&[(BASE, (0..96).collect())]);
    let (call, landing) = travel("ioctl", [0, 0x5401, BASE, 0, 0, 0], &memory);
    assert_eq!((call.pointers, call.input.len(), call.area_len), (0b100, 0, 36));
    assert_eq!(landing.land(0, &[7; 36], &memory), 0);
    assert_eq!(memory.written(), [(BASE, 36)]);
    let (call, _) = travel("ioctl", [0, 0x540b, 2, 0, 0, 0], &memory);
    assert_eq!((call.args[2], call.pointers), (2, 0), "TCFLSH takes a number");
    assert!(matches!(gather(row("ioctl"), [0, 0xc020_6465, BASE, 0, 0, 0], &memory), Gathered::GoHome(_)));
    let (call, _) = travel("fcntl", [3, 6, BASE + 64, 0, 0, 0], &memory);
    assert_eq!((call.input, call.outs.len()), ((64..96).collect(), 0), "F_SETLK");
    let (call, _) = travel("fcntl", [3, 5, BASE + 64, 0, 0, 0], &memory);
    assert_eq!(call.outs, [out(0, OutLen::Fixed(32))], "F_GETLK");
    assert!(matches!(gather(row("fcntl"), [3, 999, 0, 0, 0, 0], &memory), Gathered::GoHome(_)));
}

#[test]
fn accept_brings_an_address_and_its_length() {
    let memory = Ranges::new(&[(BASE, vec![0xee; 64]), (BASE + 256, vec![16, 0, 0, 0])]);
    let (call, landing) = travel("accept", [3, BASE, BASE + 256, 0, 0, 0], &memory);
    assert_eq!((call.args, call.pointers), ([3, 8, 0, 0, 0, 0], 0b110));
    assert_eq!(call.outs, [out(0, OutLen::Fixed(4)), out(8, OutLen::Word { at: 0, max: 16 })]);
    assert_eq!(landing.land(4, &[6, 0, 0, 0, 1, 2, 3, 4, 5, 6], &memory), 4);
    assert_eq!(memory.get(BASE, 8), [1, 2, 3, 4, 5, 6, 0xee, 0xee]);
    assert_eq!(memory.get(BASE + 256, 1), [6]);
    // A length without an address: the kernel may write it, so it travels.
    let (call, _) = travel("getsockname", [3, 0, BASE + 256, 0, 0, 0], &memory);
    assert_eq!((call.args, call.pointers), ([3, 0, 0, 0, 0, 0], 0b100));
}

#[test]
fn recvmsg_fills_the_header_it_was_given() {
    let header = words(&[BASE + 128, 16, BASE + 64, 2, BASE + 160, 24, 0xffff_ffff_ffff_ffff]);
    let vector = words(&[BASE + 192, 4, BASE + 200, 8]);
    let memory = Ranges::new(&[(BASE, [header, vec![0; 8], vector, vec![b'.'; 160]].concat())]);
    let (call, landing) = travel("recvmsg", [3, BASE, 0x40, 0, 0, 0], &memory);
    assert_eq!((call.args[1], call.pointers), (0, 0b10));
    assert_eq!(call.relocations, [0, 16, 32, 56, 72]);
    let data = [
        words(&[8, 0, 0, 0, 16]), // name's length up to the control data's
        vec![0x20, 0, 0, 0],      // flags
        b"nameXXXX".to_vec(),     // 8 bytes of name
        b"sixteen  control".to_vec(),
        b"payload".to_vec(),
    ]
    .concat();
    assert_eq!(landing.land(7, &data, &memory), 7);
    let expected = words(&[BASE + 128, 8, BASE + 64, 2, BASE + 160, 16, 0xffff_ffff_0000_0020]);
    assert_eq!(memory.get(BASE, 56), expected, "only lengths and flags");
    assert_eq!(memory.get(BASE + 128, 9), b"nameXXXX.");
    assert_eq!(memory.get(BASE + 160, 17), b"sixteen  control.");
    assert_eq!(memory.get(BASE + 192, 16), b"payl....oad.....");
}

#[test]
fn messages_that_did_not_come_are_left_alone() {
    let entry = |payload| words(&[0, 0, payload, 1, 0, 0, 0, 0xdead]);
    let vectors = words(&[BASE + 512, 8, BASE + 520, 8]);
    let content =
        [entry(BASE + 256), entry(BASE + 272), vec![0; 128], vectors, vec![0; 224], vec![b'.'; 16]].concat();
    let memory = Ranges::new(&[(BASE, content.clone())]);
    let (call, landing) = travel("recvmmsg", [3, BASE, 2, 0, 0, 0], &memory);
    assert_eq!(call.outs.len(), 4);
    let header = |len: u8| [vec![0; 48], vec![len, 0, 0, 0]].concat();
    let data = [header(3), b"one".to_vec(), header(0)].concat();
    assert_eq!(landing.land(1, &data, &memory), 1);
    assert_eq!(memory.get(BASE + 512, 16), b"one.............");
    assert_eq!(memory.get(BASE + 56, 1), [3]);
    assert_eq!(memory.get(BASE + 64, 64), content[64..128], "the second entry is as it was");
}

#[test]
fn select_brings_sets_and_the_time_that_is_left() {
    let memory = Ranges::new(&[(BASE, words(&[0b1010, 0xffff, 2, 500_000]))]);
    let args = [10, BASE, 0, BASE + 8, BASE + 16, 0];
    let (call, landing) = travel("select", args, &memory);
    assert_eq!((call.args, call.pointers), ([10, 0, 0, 8, 16, 0], 0b11010));
    assert_eq!(call.outs[2], Out { offset: 16, len: OutLen::Fixed(16), when: When::Always });
    assert_eq!(landing.land(-4, &words(&[1, 250_000]), &memory), -4);
    assert_eq!(memory.get(BASE, 32), words(&[0b1010, 0xffff, 1, 250_000]));
    assert_eq!(landing.land(1, &words(&[0b10, 0, 0, 9]), &memory), 1);
    assert_eq!(memory.get(BASE, 32), words(&[0b10, 0, 0, 9]));
    // More bits than memory: what is not there is empty.
    let (call, _) = travel("select", [1024, BASE, 0, 0, 0, 0], &memory);
    assert_eq!((call.input.len(), call.outs[0].len), (128, OutLen::Fixed(32)));
}

#[test]
fn poll_and_epoll_count_their_entries() {
    let memory = Ranges::new(&[(BASE, vec![1; 32768])]);
    let (call, _) = travel("poll", [BASE, 3, 100, 0, 0, 0], &memory);
    assert_eq!((call.input.len(), call.outs.as_slice()), (24, &[out(0, OutLen::Fixed(24))][..]));
    let (call, _) = travel("epoll_wait", [4, BASE, 5, u64::MAX, 0, 0], &memory);
    assert_eq!(call.outs, [out(0, OutLen::Result { unit: 12, max: 60 })]);
    let (call, _) = travel("getdents64", [4, BASE, 32768, 0, 0, 0], &memory);
    assert_eq!((call.area_len, call.outs[0].len), (32768, OutLen::Result { unit: 1, max: 32768 }));
    let (call, _) = travel("wait4", [u64::MAX, BASE, 1, 0, 0, 0], &memory);
    assert_eq!(call.outs, [out(0, OutLen::Result { unit: 4, max: 4 })], "WNOHANG may leave the status alone");
}

#[test]
fn masks_stay_with_the_guest() {
    let memory = Ranges::new(&[(BASE, words(&[0xabcd, BASE, 8, BASE, 4]))]);
    let args = [BASE + 8, 0, 0, BASE, 8, 0];
    let (call, _) = travel("ppoll", args, &memory);
    assert_eq!(call.args[3], 0);
    assert_eq!(forward::temporary_mask(row("ppoll"), &args, &memory), Some(0xabcd));
    assert_eq!(gather(row("ppoll"), [BASE, 0, 0, BASE, 16, 0], &memory), WRONG_MASK);
    let args = [0, 0, 0, 0, 0, BASE + 8];
    let (call, _) = travel("pselect6", args, &memory);
    assert_eq!(call.args[5], 0);
    assert_eq!(forward::temporary_mask(row("pselect6"), &args, &memory), Some(0xabcd));
    assert_eq!(gather(row("pselect6"), [0, 0, 0, 0, 0, BASE + 24], &memory), WRONG_MASK);
    assert_eq!(forward::temporary_mask(row("pselect6"), &[0; 6], &memory), None);
}

#[test]
fn timeouts_are_found_and_rewritten() {
    let memory = Ranges::new(&[(BASE, words(&[2, 500, 3, u64::MAX, 1, 2_000_001]))]);
    let find = |name, args| timeout(row(name), &args, &memory).map(|timeout| timeout.total);
    let finite = |seconds, nanos| Some(Total::Finite(Duration::new(seconds, nanos)));
    assert_eq!(find("poll", [0, 0, 1500, 0, 0, 0]), finite(1, 500_000_000));
    assert_eq!(find("poll", [0, 0, u64::MAX, 0, 0, 0]), Some(Total::Infinite));
    assert_eq!(find("select", [0, 0, 0, 0, BASE, 0]), finite(2, 500_000));
    assert_eq!(find("select", [0, 0, 0, 0, BASE + 32, 0]), finite(3, 1000), "too many microseconds carry");
    assert_eq!(find("ppoll", [0, 0, BASE, 0, 0, 0]), finite(2, 500));
    assert_eq!(find("ppoll", [0, 0, BASE + 16, 0, 0, 0]), None, "the kernel will refuse it");
    assert_eq!(find("nanosleep", [BASE, 0, 0, 0, 0, 0]), finite(2, 500));
    assert_eq!(find("clock_nanosleep", [1, 0, BASE, 0, 0, 0]), finite(2, 500));
    assert_eq!(find("futex", [8, 0, 0, BASE, 0, 0]), finite(2, 500));
    assert_eq!(find("semtimedop", [1, 8, 1, 0, 0, 0]), Some(Total::Infinite));
    assert_eq!(find("read", [0; 6]), None);
    let place = timeout(row("ppoll"), &[0; 6], &memory).map(|timeout| timeout.place);
    assert_eq!(place, Some(TimeoutPlace { arg: 2, span: Span::Timespec }));

    let left = Duration::new(1, 1_000_001);
    let (mut call, _) = travel("poll", [0, 0, 1500, 0, 0, 0], &memory);
    with_remaining(&mut call, row("poll"), left);
    assert_eq!(call.args[2], 1002);
    let (mut call, _) = travel("select", [0, 0, 0, 0, BASE, 0], &memory);
    with_remaining(&mut call, row("select"), left);
    assert_eq!(call.input, words(&[1, 1001]));
    let (mut call, _) = travel("epoll_pwait2", [4, BASE, 1, BASE, 0, 0], &memory);
    with_remaining(&mut call, row("epoll_pwait2"), left);
    assert_eq!(call.input, words(&[1, 1_000_001]));
}

#[test]
fn large_payloads_travel_in_chunks() {
    const CHUNK: u64 = forward::CHUNK_BYTES;
    let memory = Ranges::new(&[(BASE, vec![3; CHUNK as usize + 5])]);
    let args = [1, BASE, CHUNK + 5, 70, 0, 0];
    let (call, landing) = travel("pwrite64", args, &memory);
    let chunk = landing.chunk().expect("it was cut");
    assert_eq!(
        (call.args[2], chunk.asked, chunk.wanted, chunk.go_on),
        (CHUNK, CHUNK, CHUNK + 5, GoOn::Always)
    );
    let Gathered::Call { call, landing } = gather_from(row("pwrite64"), args, &memory, CHUNK) else {
        panic!()
    };
    assert_eq!((call.args, call.input, landing.chunk()), ([1, 0, 5, 70 + CHUNK, 0, 0], vec![3; 5], None));

    let memory = Ranges::new(&[(BASE, words(&[BASE + 64, 8, 2 * BASE, 2 * CHUNK]))]);
    let args = [1, BASE, 2, 0, 0, 0];
    let (call, landing) = travel("readv", args, &memory);
    assert_eq!(landing.chunk().map(|chunk| (chunk.asked, chunk.wanted)), Some((CHUNK, 2 * CHUNK + 8)));
    assert_eq!(call.args[2], 2);
    let Gathered::Call { call, landing } = gather_from(row("readv"), args, &memory, 2 * CHUNK) else {
        panic!()
    };
    assert_eq!((call.args[2], call.area_len, landing.chunk()), (1, 24, None));
    let memory = Ranges::new(&[(BASE, vec![0; 2 * CHUNK as usize])]);
    let Gathered::Call { landing, .. } = gather(row("recvfrom"), [1, BASE, 2 * CHUNK, 0, 0, 0], &memory)
    else {
        panic!()
    };
    assert_eq!(landing.chunk(), None, "a socket answers what it has");
}

#[test]
fn what_cannot_be_carried_goes_home() {
    let thread_event = [words(&[0]), vec![10, 0, 0, 0, 4, 0, 0, 0], vec![0; 48]].concat();
    let memory = Ranges::new(&[(BASE, thread_event)]);
    let cases: &[(&str, [u64; 6])] = &[
        ("timer_create", [1, BASE, 8, 0, 0, 0]),
        ("timer_create", [0xffff_fffe, 0, 8, 0, 0, 0]),
        ("mq_notify", [3, BASE, 0, 0, 0, 0]),
        ("setsockopt", [3, 1, 26, BASE, 16, 0]),
        ("getsockopt", [3, 132, 1, BASE, BASE, 0]),
        ("prctl", [35, 1, 0, 0, 0, 0]),
        ("fork", [0; 6]),
        ("mmap", [0; 6]),
        ("nanosleep", [BASE, 0, 0, 0, 0, 0]),
        ("setitimer", [2, BASE, 0, 0, 0, 0]),
        ("poll", [BASE, 1 << 40, 0, 0, 0, 0]),
        ("getgroups", [0xffff_ffff, BASE, 0, 0, 0, 0]),
    ];
    for &(name, args) in cases {
        let gathered = gather(row(name), args, &memory);
        assert!(matches!(gathered, Gathered::GoHome(_)), "{name}: {gathered:?}");
    }
    travel("timer_create", [1, 0, BASE, 0, 0, 0], &memory);
    travel("prctl", [39, 0, 0, 0, 0, 0], &memory);
}

#[test]
fn descriptors_that_could_not_be_told_are_not_made() {
    let ranges = [(BASE, vec![7; 16])];
    let (open, sealed) = (Ranges::new(&ranges), Ranges::read_only(&ranges));
    for (name, args) in
        [("pipe", [BASE; 6]), ("pipe2", [BASE, 0, 0, 0, 0, 0]), ("socketpair", [1, 1, 0, BASE, 0, 0])]
    {
        assert!(matches!(gather(row(name), args, &open), Gathered::Call { .. }), "{name}");
        assert!(matches!(gather(row(name), args, &sealed), Gathered::GoHome(_)), "{name}");
    }
    assert_eq!(open.get(BASE, 16), vec![7; 16]);
}
