//! What one look at a process tells whoever looks at all of them, once a second.

use crate::{malformed, stat::PF_KTHREAD};
use std::io;

/// Bytes of a command name that are kept; programs have at most 15.
const NAME_BYTES: usize = 16;

/// The fields of `/proc/PID/stat` that measuring needs, in the kernel's units. Reading them allocates nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Glance {
    /// Command name, filled up with zeros.
    name: [u8; NAME_BYTES],
    /// State letter.
    pub state: u8,
    /// Parent's pid.
    pub parent: i32,
    /// Its session.
    pub session: i32,
    /// Its controlling terminal, 0 if it has none.
    pub terminal: i32,
    /// `PF_*` flags of the kernel.
    pub flags: u32,
    /// Page faults that needed no input.
    pub minor_faults: u64,
    /// Page faults that did.
    pub major_faults: u64,
    /// User and system time of all its threads, clock ticks.
    pub cpu_ticks: u64,
    /// Threads.
    pub threads: u32,
    /// Start time, clock ticks since boot.
    pub start_ticks: u64,
    /// Resident memory, pages.
    pub resident_pages: u64,
}

impl Glance {
    /// A thread of the kernel.
    pub fn is_kernel_thread(&self) -> bool {
        self.flags & PF_KTHREAD != 0
    }

    /// Its command name.
    pub fn name(&self) -> String {
        let end = self.name.iter().position(|byte| *byte == 0).unwrap_or(NAME_BYTES);
        String::from_utf8_lossy(&self.name[..end]).into_owned()
    }

    /// Whether both have the same command name.
    pub fn is_named_like(&self, other: &Glance) -> bool {
        self.name == other.name
    }
}

/// The fields in a text like `/proc/PID/stat`.
pub fn parse_glance(text: &[u8]) -> io::Result<Glance> {
    let bad = || malformed("stat");
    // The name may hold anything, also parentheses: the last one ends it.
    let open = text.iter().position(|&byte| byte == b'(').ok_or_else(bad)?;
    let close = text.iter().rposition(|&byte| byte == b')').filter(|close| open < *close).ok_or_else(bad)?;
    let mut name = [0; NAME_BYTES];
    name.iter_mut().zip(&text[open + 1..close]).for_each(|(to, from)| *to = *from);
    // Numbered as in proc(5): the word behind the name is number 3.
    let rest = std::str::from_utf8(&text[close + 1..]).map_err(|_| bad())?;
    let mut words = rest.split_ascii_whitespace();
    let state = *words.next().and_then(|word| word.as_bytes().first()).ok_or_else(bad)?;
    let mut word = || words.next().ok_or_else(bad);
    let parent = signed(word()?)?;
    let (_group, session, terminal) = (word()?, signed(word()?)?, signed(word()?)?);
    let (_terminal_group, flags) = (word()?, unsigned(word()?)? as u32);
    let (minor_faults, _, major_faults, _) = (unsigned(word()?)?, word()?, unsigned(word()?)?, word()?);
    let cpu_ticks = unsigned(word()?)?.saturating_add(unsigned(word()?)?);
    // cutime, cstime, priority, nice
    for _ in 16..20 {
        word()?;
    }
    let (threads, _, start_ticks) = (unsigned(word()?)?, word()?, unsigned(word()?)?);
    let (_virtual, resident_pages) = (word()?, unsigned(word()?)?);
    Ok(Glance {
        name,
        state,
        parent,
        session,
        terminal,
        flags,
        minor_faults,
        major_faults,
        cpu_ticks,
        threads: threads.min(u32::MAX.into()) as u32,
        start_ticks,
        resident_pages,
    })
}

fn unsigned(word: &str) -> io::Result<u64> {
    word.parse().map_err(|_| malformed("stat"))
}

fn signed(word: &str) -> io::Result<i32> {
    word.parse().map_err(|_| malformed("stat"))
}

/// CPU time and waiting for a CPU in a text like `/proc/PID/schedstat`, nanoseconds; nothing where the kernel does not
/// keep them (it shows zeros then).
pub fn parse_schedstat(text: &[u8]) -> Option<(u64, u64)> {
    let mut words = std::str::from_utf8(text).ok()?.split_ascii_whitespace();
    let mut number = || words.next()?.parse::<u64>().ok();
    let times = (number()?, number()?);
    (times.0 > 0).then_some(times)
}

/// Resident pages that are in no file, in a text like `/proc/PID/statm`: what would travel.
pub fn parse_anonymous_pages(text: &[u8]) -> Option<u64> {
    let mut words = std::str::from_utf8(text).ok()?.split_ascii_whitespace().skip(1);
    let mut number = || words.next()?.parse::<u64>().ok();
    let (resident, of_files) = (number()?, number()?);
    Some(resident.saturating_sub(of_files))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn both_readers_of_stat_agree() {
        let text = std::fs::read("/proc/self/stat").unwrap();
        let (glance, stat) = (parse_glance(&text).unwrap(), crate::parse_stat(&text).unwrap());
        assert_eq!((glance.state, glance.parent, glance.flags), (stat.state, stat.parent, stat.flags));
        assert_eq!((glance.cpu_ticks, glance.start_ticks), (stat.cpu_ticks, stat.start_ticks));
        assert_eq!(glance.resident_pages, stat.resident_pages);
        assert!(glance.threads >= 1 && !glance.is_kernel_thread());
        assert!(!glance.name().is_empty());
    }

    #[test]
    fn odd_names_and_large_numbers() {
        let text = "7 (a) (b) R 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20 21";
        let glance = parse_glance(text.as_bytes()).unwrap();
        assert_eq!((glance.name().as_str(), glance.state, glance.parent), ("a) (b", b'R', 1));
        assert_eq!((glance.session, glance.terminal, glance.flags), (3, 4, 6));
        assert_eq!((glance.minor_faults, glance.major_faults, glance.cpu_ticks), (7, 9, 23));
        assert_eq!((glance.threads, glance.start_ticks, glance.resident_pages), (17, 19, 21));
        let most = format!("1 (x) S -1 -1 -1 -1 -1 {}", "18446744073709551615 ".repeat(20));
        assert_eq!(parse_glance(most.as_bytes()).unwrap().cpu_ticks, u64::MAX);
        for bad in ["", "1", "1 )( R 1", "1 (a", "1 (a) ", "1 (a) R x", "1 (a) R 1 2 3"] {
            assert!(parse_glance(bad.as_bytes()).is_err(), "{bad}");
        }
    }

    #[test]
    fn small_files() {
        assert_eq!(parse_schedstat(b"123 45 6\n"), Some((123, 45)));
        for bad in ["0 0 0\n", "", "1", "-1 2 3", "x y"] {
            assert_eq!(parse_schedstat(bad.as_bytes()), None);
        }
        assert_eq!(parse_anonymous_pages(b"100 50 20 1 0 9 0\n"), Some(30));
        assert_eq!(parse_anonymous_pages(b"100 50 70 1 0 9 0\n"), Some(0));
        assert_eq!(parse_anonymous_pages(b"100"), None);
    }

    proptest! {
        #[test]
        fn nothing_makes_it_panic(text in proptest::collection::vec(any::<u8>(), 0..400)) {
            let _ = parse_glance(&text);
            let _ = parse_schedstat(&text);
            let _ = parse_anonymous_pages(&text);
        }

        #[test]
        fn every_number_fits_or_is_refused(numbers in proptest::collection::vec(any::<i128>(), 0..60)) {
            let words: Vec<String> = numbers.iter().map(ToString::to_string).collect();
            let _ = parse_glance(format!("1 (x) R {}", words.join(" ")).as_bytes());
        }
    }
}
