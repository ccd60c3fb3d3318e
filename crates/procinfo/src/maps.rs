//! `/proc/PID/maps` and the flags of `/proc/PID/smaps`.

use crate::malformed;
use std::borrow::Cow;
use std::fs::File;
use std::io::{self, BufRead, BufReader};

/// Device, as printed, and inode of what is under a mapping.
pub type Identity = (String, u64);

/// One mapping.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mapping {
    /// First address.
    pub start: u64,
    /// Address behind the last.
    pub end: u64,
    /// `PROT_READ | PROT_WRITE | PROT_EXEC` as 1, 2, 4.
    pub protection: u8,
    /// Mapped shared.
    pub shared: bool,
    /// Offset in the file, bytes.
    pub offset: u64,
    /// Device of the file, as printed.
    pub device: String,
    /// Inode of the file; 0 if there is none.
    pub inode: u64,
    /// Path or pseudo path; empty if there is none.
    pub path: String,
    /// `VmFlags`, two letters each; empty unless asked for.
    pub flags: Vec<[u8; 2]>,
}

impl Mapping {
    /// Its name in `/proc/PID/map_files`.
    pub fn file_name(&self) -> String {
        format!("{:x}-{:x}", self.start, self.end)
    }

    /// Whether the kernel set this flag.
    pub fn has(&self, flag: &str) -> bool {
        self.flags.iter().any(|found| found == flag.as_bytes())
    }

    /// Length, bytes.
    pub fn length(&self) -> u64 {
        self.end - self.start
    }

    /// Shared memory of no file: what `mmap` with `MAP_SHARED | MAP_ANONYMOUS`, or of `/dev/zero`, makes. Its device and
    /// inode tell it from any other.
    pub fn is_shared_anonymous(&self) -> bool {
        self.shared
            && self.inode != 0
            && (self.path == SHARED_ANONYMOUS || self.path.starts_with(SHARED_ANONYMOUS_NAMED))
    }

    /// What is under it: device, as printed, and inode.
    pub fn identity(&self) -> Identity {
        (self.device.clone(), self.inode)
    }

    /// Whether the same file is under both, by device, inode and path. (Subvolumes may share the first two.)
    pub fn is_of_same_file(&self, other: &Mapping) -> bool {
        self.inode != 0 && (self.inode, &self.device, &self.path) == (other.inode, &other.device, &other.path)
    }

    /// One of the areas that the kernel itself provides.
    pub fn is_special(&self) -> bool {
        self.path == "[vdso]" || self.path.starts_with("[vvar") || self.path == "[vsyscall]"
    }
}

/// How the kernel names shared memory of no file.
const SHARED_ANONYMOUS: &str = "/dev/zero (deleted)";
/// The same if the process has given it a name (`prctl(2)`, `PR_SET_VMA_ANON_NAME`), which nothing else of a file can have.
const SHARED_ANONYMOUS_NAMED: &str = "[anon_shmem:";

/// The mappings of shared memory of no file that a process has, ascending. For most there are none, which takes a look at
/// the text and no more.
pub fn shared_anonymous(pid: i32) -> io::Result<Vec<Mapping>> {
    let mut text = open(pid, "maps")?;
    let (mut line, mut found) = (Vec::new(), Vec::new());
    while let Some(line) = next_line(&mut text, &mut line)? {
        if [SHARED_ANONYMOUS, SHARED_ANONYMOUS_NAMED].iter().any(|name| line.contains(name)) {
            found.push(parse(&line)?);
        }
    }
    found.retain(Mapping::is_shared_anonymous);
    Ok(found)
}

/// The mappings of a process, ascending.
pub fn maps(pid: i32) -> io::Result<Vec<Mapping>> {
    Mappings::of(open(pid, "maps")?).collect()
}

/// The mappings of a process with their flags; the kernel walks the page tables for it, so this takes longer.
pub fn maps_with_flags(pid: i32) -> io::Result<Vec<Mapping>> {
    mappings_with_flags(pid)?.collect()
}

/// Like [`maps_with_flags`], one after the other: nothing is kept of a process that has very many.
pub fn mappings_with_flags(pid: i32) -> io::Result<Mappings<BufReader<File>>> {
    Ok(Mappings::of(open(pid, "smaps")?))
}

/// The mappings in a text like `/proc/PID/maps` or `/proc/PID/smaps`.
pub fn parse_maps(text: &[u8]) -> io::Result<Vec<Mapping>> {
    Mappings::of(text).collect()
}

fn open(pid: i32, what: &str) -> io::Result<BufReader<File>> {
    Ok(BufReader::new(File::open(format!("/proc/{pid}/{what}"))?))
}

/// The next line of a text, without its end; none behind the last.
fn next_line<'a>(text: &mut impl BufRead, line: &'a mut Vec<u8>) -> io::Result<Option<Cow<'a, str>>> {
    line.clear();
    if text.read_until(b'\n', line)? == 0 {
        return Ok(None);
    }
    Ok(Some(String::from_utf8_lossy(line.strip_suffix(b"\n").unwrap_or(line))))
}

/// The mappings in a text like `/proc/PID/maps` or `/proc/PID/smaps`, ascending.
#[derive(Debug)]
pub struct Mappings<R> {
    text: R,
    line: Vec<u8>,
    /// The one whose further lines may follow.
    begun: Option<Mapping>,
}

impl<R: BufRead> Mappings<R> {
    fn of(text: R) -> Mappings<R> {
        Mappings { text, line: Vec::new(), begun: None }
    }

    fn advance(&mut self) -> io::Result<Option<Mapping>> {
        while let Some(line) = next_line(&mut self.text, &mut self.line)? {
            if let Some(flags) = line.strip_prefix("VmFlags:") {
                let begun = self.begun.as_mut().ok_or_else(|| malformed("smaps"))?;
                begun.flags =
                    flags.split_whitespace().filter_map(|flag| flag.as_bytes().try_into().ok()).collect();
            } else if !line.starts_with(|first: char| first.is_ascii_uppercase()) {
                // Addresses are written in small letters, and the names of all that is said of a mapping begin with large ones.
                let next = parse(&line)?;
                if let Some(done) = self.begun.replace(next) {
                    return Ok(Some(done));
                }
            }
        }
        Ok(self.begun.take())
    }
}

impl<R: BufRead> Iterator for Mappings<R> {
    type Item = io::Result<Mapping>;

    fn next(&mut self) -> Option<io::Result<Mapping>> {
        self.advance().transpose()
    }
}

fn parse(line: &str) -> io::Result<Mapping> {
    let mut rest = line;
    let mut field = || {
        let trimmed = rest.trim_start_matches(' ');
        let (word, behind) = trimmed.split_once(' ').unwrap_or((trimmed, ""));
        rest = behind;
        word
    };
    let (range, rights, offset, device, inode) = (field(), field(), field(), field(), field());
    let hex = |text: &str| u64::from_str_radix(text, 16).map_err(|_| malformed("maps line"));
    let (start, end) = range.split_once('-').ok_or_else(|| malformed("maps line"))?;
    let (start, end) = (hex(start)?, hex(end)?);
    if end < start {
        return Err(malformed("maps line"));
    }
    let rights = rights.as_bytes();
    let right = |index: usize, letter: u8| rights.get(index) == Some(&letter);
    Ok(Mapping {
        start,
        end,
        protection: u8::from(right(0, b'r')) | u8::from(right(1, b'w')) << 1 | u8::from(right(2, b'x')) << 2,
        shared: right(3, b's'),
        offset: hex(offset)?,
        device: device.to_owned(),
        inode: inode.parse().map_err(|_| malformed("maps line"))?,
        path: rest.trim_start_matches(' ').to_owned(),
        flags: Vec::new(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_with_spaces_in_its_path() {
        let mapping = parse("7f00-8f00 r-xp 00001000 fe:00 77   /a b/c (deleted)").unwrap();
        assert_eq!((mapping.start, mapping.end, mapping.offset, mapping.inode), (0x7f00, 0x8f00, 0x1000, 77));
        assert_eq!((mapping.protection, mapping.shared), (5, false));
        assert_eq!(mapping.path, "/a b/c (deleted)");
        assert!(parse("nonsense").is_err());
        assert!(parse("8f00-7f00 r-xp 00001000 fe:00 77 /a").is_err());
    }

    #[test]
    fn shared_memory_of_no_file_is_told_from_files_and_from_what_is_private() {
        for (line, is_shared) in [
            ("7f00-8f00 rw-s 00000000 00:01 1036 /dev/zero (deleted)", true),
            ("7f00-8f00 ---s 00004000 00:01 1036 /dev/zero (deleted)", true),
            ("7f00-8f00 rw-s 00000000 00:01 1036 [anon_shmem:some name]", true),
            ("7f00-8f00 rw-p 00000000 00:00 0 [anon:some name]", false),
            ("7f00-8f00 rw-p 00000000 00:01 1036 /dev/zero (deleted)", false),
            ("7f00-8f00 rw-p 00000000 00:05 4 /dev/zero", false),
            ("7f00-8f00 rw-s 00000000 00:01 7 /SYSV00000000 (deleted)", false),
            ("7f00-8f00 rw-s 00000000 00:01 8 /memfd:/dev/zero (deleted)", false),
            ("7f00-8f00 rw-s 00000000 00:1a 9 /dev/shm/x", false),
            ("7f00-8f00 rw-p 00000000 00:00 0", false),
        ] {
            assert_eq!(parse(line).unwrap().is_shared_anonymous(), is_shared, "{line}");
        }
    }

    #[test]
    fn what_makes_two_mappings_those_of_one_file() {
        let of = |file: &str| parse(&format!("7f00-8f00 r-xp 00001000 {file}")).unwrap();
        let one = of("fe:00 77 /a");
        for (other, same) in [
            ("fe:00 77 /a", true),
            ("fe:01 77 /a", false),
            ("fe:00 78 /a", false),
            ("fe:00 77 /b", false),
            ("fe:00 77 /a (deleted)", false),
        ] {
            assert_eq!(one.is_of_same_file(&of(other)), same, "{other}");
        }
        let none = of("00:00 0 ");
        assert!(!none.is_of_same_file(&none));
    }

    #[test]
    fn flags_belong_to_the_mapping_above_them() {
        let smaps = "7f00-8f00 r-xp 00001000 fe:00 77 /a\nRss: 4 kB\nVmFlags: rd ex \n\
                     9f00-af00 rw-p 00000000 00:00 0 \nProtectionKey: 0\nVmFlags: rd wr gd\n\
                     b000-c000 ---p 00000000 00:00 0";
        let mappings = parse_maps(smaps.as_bytes()).unwrap();
        let flags = |index: usize| mappings[index].flags.iter().map(|flag| flag.as_slice());
        assert_eq!(
            mappings.iter().map(|mapping| mapping.start).collect::<Vec<_>>(),
            [0x7f00, 0x9f00, 0xb000]
        );
        assert!(flags(0).eq([b"rd", b"ex"]) && flags(1).eq([b"rd", b"wr", b"gd"]) && flags(2).len() == 0);
        assert!(parse_maps(b"VmFlags: rd").is_err());
        assert!(parse_maps(b"nonsense").is_err());
        assert_eq!(parse_maps(b"").unwrap(), []);
    }

    #[test]
    fn my_own_stack_grows_down() {
        let own = maps_with_flags(std::process::id() as i32).unwrap();
        let stack = own.iter().find(|mapping| mapping.path == "[stack]").unwrap();
        assert!(stack.has("gd") && stack.has("wr"));
        assert!(own.iter().any(Mapping::is_special));
    }
}
