//! Headers of frames about files: those that go ahead, those that a guest maps, and those that stay at home.

use image::FileId;
use serde::{Deserialize, Serialize};

/// A file by content, with its length in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileEntry {
    /// Its content.
    pub id: FileId,
    /// Bytes.
    pub length: u64,
}

/// Files by content.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Files(pub Vec<FileEntry>);

/// Bytes of a file, in order; the receiver checks the whole against the id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FilePart {
    /// The file.
    pub id: FileId,
    /// The last part.
    pub last: bool,
}

/// What a process wrote to a file that it maps.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct WriteBack {
    /// Its pid at home.
    pub pid: i32,
    /// The number of the file, as in its image.
    pub file: u32,
    /// Start and length of each stretch, whole pages.
    pub ranges: Vec<(u64, u64)>,
}

/// What a process has written back is to be on the disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SyncOrder {
    /// The slot of the thread that waits for it.
    pub slot: u32,
    /// The request's number in the slot.
    pub seq: u32,
}

/// The guest maps a file that is open at home.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileRequest {
    /// The slot of the thread that maps it.
    pub slot: u32,
    /// Its descriptor at home.
    pub descriptor: i32,
    /// The host lacks it: send it too.
    pub send: bool,
}

/// What is under a descriptor.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileAnswer {
    /// The slot of the request.
    pub slot: u32,
    /// The file; `None` if it is none that can be mapped elsewhere.
    pub file: Option<FileEntry>,
}
