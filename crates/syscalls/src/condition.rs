//! Conditions over raw arguments: data, so that the seccomp filter and the warden judge alike.

/// One look at one argument. "Low" means its lower 32 bits: what the kernel sees of an `int`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Test {
    /// The masked low word has this value.
    Low {
        /// Which argument.
        arg: u8,
        /// The bits that matter.
        mask: u32,
        /// What they must be.
        value: u32,
    },
    /// The low word is in this range, both ends included.
    LowIn {
        /// Which argument.
        arg: u8,
        /// The smallest.
        from: u32,
        /// The largest.
        to: u32,
    },
    /// All 64 bits are 0.
    Zero(u8),
    /// Some of the 64 bits is set.
    NonZero(u8),
    /// The low word is 0 or the caller's own pid.
    Own(u8),
}

/// A named conjunction of tests.
#[derive(Debug, PartialEq, Eq)]
pub struct Condition {
    /// In words, completing "if".
    pub words: &'static str,
    /// All of these hold.
    pub tests: &'static [Test],
}

impl Condition {
    /// Whether it holds for these arguments of a process with this pid.
    pub fn holds(&self, args: &[u64; 6], own_pid: i32) -> bool {
        self.tests.iter().all(|test| test.holds(args, own_pid))
    }
}

impl Test {
    fn holds(&self, args: &[u64; 6], own_pid: i32) -> bool {
        let word = |arg: u8| args[usize::from(arg)];
        let low = |arg: u8| word(arg) as u32;
        match *self {
            Test::Low { arg, mask, value } => low(arg) & mask == value,
            Test::LowIn { arg, from, to } => (from..=to).contains(&low(arg)),
            Test::Zero(arg) => word(arg) == 0,
            Test::NonZero(arg) => word(arg) != 0,
            Test::Own(arg) => low(arg) == 0 || low(arg) == own_pid as u32,
        }
    }
}

macro_rules! conditions {
    ($($name:ident: $words:literal [$($test:expr),+];)*) => {
        $(pub(crate) const $name: Condition = Condition { words: $words, tests: &[$($test),+] };)*
    };
}

const ANY: u32 = u32::MAX;
const NEGATIVE: u32 = 1 << 31;
// MAP_TYPE, MAP_ANONYMOUS and MAP_HUGETLB.
const MAP_BITS: u32 = 0x0f | 0x20 | 0x4_0000;
const MAP_PRIVATE_ANONYMOUS: u32 = 0x02 | 0x20;
// FUTEX_CMD_MASK: without FUTEX_PRIVATE_FLAG and FUTEX_CLOCK_REALTIME.
const FUTEX_COMMAND: u32 = !(128 | 256);

conditions! {
    PRIVATE_ANONYMOUS: "private, anonymous and of ordinary pages"
        [Test::Low { arg: 3, mask: MAP_BITS, value: MAP_PRIVATE_ANONYMOUS }];
    ONLY_ASKS: "it only asks (`act` is NULL)" [Test::Zero(1)];
    OWN_CPU_CLOCK: "the clock counts the caller's CPU time" [Test::LowIn { arg: 0, from: 2, to: 3 }];
    CPU_CLOCK: "the clock is a CPU clock or a device" [Test::Low { arg: 0, mask: NEGATIVE, value: NEGATIVE }];
    ABSOLUTE_TIME: "the time is absolute" [Test::Low { arg: 1, mask: 1, value: 1 }];
    TIMED_WAIT: "FUTEX_WAIT with a timeout"
        [Test::Low { arg: 1, mask: FUTEX_COMMAND, value: 0 }, Test::NonZero(3)];
    OF_ONESELF: "of oneself" [Test::Own(0)];
    SEGMENT_BASES: "it sets or gets FS or GS" [Test::LowIn { arg: 0, from: 0x1001, to: 0x1004 }];
    REAL_TIMER: "ITIMER_REAL" [Test::Low { arg: 0, mask: ANY, value: 0 }];
    PERSONALITY_QUERY: "it only asks" [Test::Low { arg: 0, mask: ANY, value: ANY }];
    GET_NAME: "PR_GET_NAME" [Test::Low { arg: 0, mask: ANY, value: 16 }];
    SET_VMA: "PR_SET_VMA" [Test::Low { arg: 0, mask: ANY, value: 0x5356_4d41 }];
}
