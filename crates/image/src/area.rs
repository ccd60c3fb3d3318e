//! Virtual memory areas.

use serde::{Deserialize, Serialize};
use std::fmt;

/// The content of a file, whatever its name: BLAKE3 of its bytes.
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct FileId(pub [u8; 32]);

impl fmt::Display for FileId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for FileId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "FileId({self})")
    }
}

/// What lies under an area.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Backing {
    /// Nothing: its pages are the process's own.
    Anonymous,
    /// A file; pages that the process did not write come from there.
    File {
        /// Its content.
        id: FileId,
        /// Offset of the area's start in it, bytes.
        offset: u64,
    },
    /// Shared memory, which this process alone has.
    Object {
        /// Which of [`crate::Process::objects`].
        index: u32,
        /// Offset of the area's start in it, bytes.
        offset: u64,
    },
}

/// Shared memory: the kernel keeps its pages apart from the areas that map it. They may map a part of it, or some of it
/// twice, and may reach beyond its end, where there is nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Object {
    /// Length, bytes; whole pages, also of a file.
    pub length: u64,
    /// It stands for a file that stays at home, which knows it by this number; `None` for memory of no file.
    pub file: Option<u32>,
}

/// How an area came to be, where that is more than its backing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Kind {
    /// An ordinary mapping.
    Plain,
    /// A stack that grows downwards.
    Stack,
}

/// `madvise` settings that change behaviour, as bits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Advice(pub u16);

impl Advice {
    /// Bit, `madvise` advice, and two-letter name in `VmFlags` of `/proc/PID/smaps`.
    pub const TABLE: [(u16, i32, &'static str); 8] = [
        (1, 10, "dc"),
        (2, 18, "wf"),
        (4, 16, "dd"),
        (8, 14, "hg"),
        (16, 15, "nh"),
        (32, 12, "mg"),
        (64, 2, "sr"),
        (128, 1, "rr"),
    ];
}

/// A virtual memory area.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Area {
    /// First address.
    pub start: u64,
    /// Address behind the last.
    pub end: u64,
    /// `PROT_*`.
    pub protection: u8,
    /// Mapped shared. Only objects are, and read-only mappings of unchanging files; they are rebuilt shared too.
    pub shared: bool,
    /// What lies under it.
    pub backing: Backing,
    /// How it came to be.
    pub kind: Kind,
    /// Mapped without a reservation of memory (`MAP_NORESERVE`).
    pub unreserved: bool,
    /// Was writable once and is charged for it still (`VM_ACCOUNT`), like relocations that the linker protected.
    pub charged: bool,
    /// Settings.
    pub advice: Advice,
}

impl Area {
    /// Length, bytes.
    pub fn length(&self) -> u64 {
        self.end - self.start
    }

    /// The file under it, if there is one.
    pub fn file(&self) -> Option<FileId> {
        match &self.backing {
            Backing::File { id, .. } => Some(*id),
            Backing::Anonymous | Backing::Object { .. } => None,
        }
    }
}
