//! The areas of a process and the files under them.
//!
//! A file is named by its content. Reading and hashing it takes time, so it is done before the freeze; under the freeze
//! only the list of areas is read again, and what has appeared meanwhile is looked up then.

use crate::error::{Error, Result};
use image::{Advice, Area, Backing, FileId, Kind, Object};
use kernel::memory;
use model::{Reason, ReasonCode, Reasons};
use procinfo::{Identity, Mapping};
use std::collections::HashMap;
use std::fs::File;
use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// A file under some mapping, open for reading.
#[derive(Clone, Debug)]
pub struct MappedFile {
    /// Its content.
    pub id: FileId,
    /// Its length, bytes.
    pub length: u64,
    /// Itself.
    pub file: Arc<File>,
}

/// What makes a file the same one as before, without reading it again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Fingerprint {
    device: u64,
    inode: u64,
    length: u64,
    changed: (i64, i64),
}

/// Where the clock of files goes on by ticks, a change within this time after another may leave no trace.
const SETTLES: Duration = Duration::from_millis(100);

impl Fingerprint {
    /// Whether a change from `now` on would show. One from the future tells nothing.
    fn is_settled(&self, now: Duration) -> bool {
        let (seconds, nanoseconds) = self.changed;
        let changed = Duration::new(seconds.max(0) as u64, nanoseconds as u32);
        now.checked_sub(changed).is_some_and(|age| age > SETTLES)
    }

    fn of(data: &std::fs::Metadata) -> Fingerprint {
        let changed = (data.ctime(), data.ctime_nsec());
        Fingerprint { device: data.dev(), inode: data.ino(), length: data.len(), changed }
    }
}

/// The files of a process by what they are.
#[derive(Debug, Default)]
pub struct Files {
    by_fingerprint: HashMap<Fingerprint, MappedFile>,
    by_id: HashMap<FileId, MappedFile>,
    own: HashMap<Identity, u32>,
}

impl Files {
    /// Takes in an open file; reads it unless it is known. One that has been changed a moment ago is read again each time.
    pub fn learn(&mut self, file: File) -> std::io::Result<MappedFile> {
        let fingerprint = Fingerprint::of(&file.metadata()?);
        if let Some(known) = self.by_fingerprint.get(&fingerprint) {
            return Ok(known.clone());
        }
        let began = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let mut hasher = blake3::Hasher::new();
        let mut length = 0;
        let mut buffer = vec![0; 1 << 20];
        loop {
            let got = (&file).read(&mut buffer)?;
            if got == 0 {
                break;
            }
            hasher.update(&buffer[..got]);
            length += got as u64;
        }
        let id = FileId(*hasher.finalize().as_bytes());
        let known = MappedFile { id, length, file: Arc::new(file) };
        if fingerprint.is_settled(began) {
            self.by_fingerprint.insert(fingerprint, known.clone());
        }
        self.by_id.insert(id, known.clone());
        Ok(known)
    }

    /// Takes in an open file whose content is known already.
    pub fn assume(&mut self, id: FileId, file: File) -> std::io::Result<()> {
        let data = file.metadata()?;
        let known = MappedFile { id, length: data.len(), file: Arc::new(file) };
        self.by_fingerprint.insert(Fingerprint::of(&data), known.clone());
        self.by_id.insert(id, known);
        Ok(())
    }

    /// The file of this content.
    pub fn get(&self, id: &FileId) -> Option<&MappedFile> {
        self.by_id.get(id)
    }

    /// What is under shared mappings of these, counts as an object that stands for a file of the process's own, which its
    /// home knows by this number.
    pub fn own(&mut self, own: HashMap<Identity, u32>) {
        self.own = own;
    }

    /// The number of the file that an object under this mapping stands for.
    fn own_under(&self, mapping: &Mapping) -> Option<u32> {
        self.own.get(&mapping.identity()).copied().filter(|_| mapping.shared)
    }

    /// Whether what is under a mapping is an object.
    fn is_object(&self, mapping: &Mapping) -> bool {
        mapping.is_shared_anonymous() || self.own_under(mapping).is_some()
    }

    /// All files.
    pub fn all(&self) -> impl Iterator<Item = &MappedFile> {
        self.by_id.values()
    }
}

/// The areas of a process, ready for its image.
#[derive(Clone, Debug)]
pub struct Layout {
    /// Areas in ascending order, without those the kernel provides.
    pub areas: Vec<Area>,
    /// The shared memory under them.
    pub objects: Vec<Object>,
    /// Start and length of what the kernel provides around its vDSO.
    pub vdso: (u64, u64),
    /// The vDSO's code, at the end of that.
    pub vdso_code: Vec<u8>,
    /// The executable.
    pub executable: FileId,
}

/// The mappings of a stopped process with their flags. Where `before`, read while it ran, still holds, the kernel need
/// not walk the page tables again.
pub fn refresh(pid: i32, before: &[Mapping]) -> Result<Vec<Mapping>> {
    let mut now = procinfo::maps(pid).map_err(Error::io("reading maps", pid))?;
    let mut known = before.iter().peekable();
    let mut complete = true;
    for mapping in &mut now {
        while known.next_if(|old| old.start < mapping.start).is_some() {}
        let same = |old: &&&Mapping| {
            let plain = Mapping { flags: Vec::new(), ..(**old).clone() };
            plain == *mapping || (mapping.path == "[stack]" && old.path == "[stack]")
        };
        match known.peek().filter(same) {
            Some(old) => mapping.flags.clone_from(&old.flags),
            None => complete = false,
        }
    }
    if complete { Ok(now) } else { procinfo::maps_with_flags(pid).map_err(Error::io("reading smaps", pid)) }
}

/// The layout of a process that runs, without its objects: a program may make shared memory and let it go all the time, and
/// what has gone since the mappings were read is no reason against a move.
pub fn read_early(pid: i32, mappings: &[Mapping], files: &mut Files) -> Result<Layout> {
    let lasting: Vec<Mapping> =
        mappings.iter().filter(|mapping| !files.is_object(mapping)).cloned().collect();
    read(pid, &lasting, files)
}

/// The layout of a process with these mappings.
pub fn read(pid: i32, mappings: &[Mapping], files: &mut Files) -> Result<Layout> {
    let mut areas = Vec::with_capacity(mappings.len());
    let mut objects = Objects::default();
    let mut reasons = Vec::new();
    // The parts of a file stand together, and each look at it takes the kernel three calls.
    let mut last: Option<(&Mapping, FileId)> = None;
    for mapping in mappings.iter().filter(|mapping| !mapping.is_special()) {
        let known = last.filter(|(other, _)| mapping.is_of_same_file(other)).map(|(_, id)| Ok(id));
        let backing = if mapping.inode == 0 {
            Ok(Backing::Anonymous)
        } else if files.is_object(mapping) {
            object(pid, mapping, files, &mut objects)
        } else {
            known.unwrap_or_else(|| file(pid, mapping, files)).map(|id| {
                last = Some((mapping, id));
                Backing::File { id, offset: mapping.offset }
            })
        };
        match backing {
            Ok(backing) => areas.push(describe(mapping, backing)),
            Err(reason) => reasons.push(reason),
        }
    }
    let executable = File::open(format!("/proc/{pid}/exe")).and_then(|file| files.learn(file));
    let executable = executable.map_err(Error::io("reading the executable", pid))?.id;
    if !reasons.is_empty() {
        return Err(Error::Refused(Reasons(reasons)));
    }
    let (vdso, vdso_code) = vdso(pid, mappings)?;
    Ok(Layout { areas, objects: objects.found, vdso, vdso_code, executable })
}

/// The objects that have been met, by device and inode.
#[derive(Default)]
struct Objects {
    indices: HashMap<Identity, u32>,
    found: Vec<Object>,
}

/// The object under a mapping.
fn object(
    pid: i32,
    mapping: &Mapping,
    files: &Files,
    objects: &mut Objects,
) -> std::result::Result<Backing, Reason> {
    let id = mapping.identity();
    let index = match objects.indices.get(&id) {
        Some(&index) => index,
        None => {
            let data = std::fs::metadata(link(pid, mapping)).map_err(unreadable(mapping))?;
            let index = objects.found.len() as u32;
            let length = data.len().next_multiple_of(4096);
            objects.found.push(Object { length, file: files.own_under(mapping) });
            objects.indices.insert(id, index);
            index
        }
    };
    Ok(Backing::Object { index, offset: mapping.offset })
}

/// The file under a mapping.
fn file(pid: i32, mapping: &Mapping, files: &mut Files) -> std::result::Result<FileId, Reason> {
    let known = File::open(link(pid, mapping)).and_then(|file| files.learn(file));
    known.map(|known| known.id).map_err(unreadable(mapping))
}

/// What leads to the file or object under a mapping, whatever its name.
pub(crate) fn link(pid: i32, mapping: &Mapping) -> String {
    format!("/proc/{pid}/map_files/{}", mapping.file_name())
}

fn unreadable(mapping: &Mapping) -> impl FnOnce(std::io::Error) -> Reason {
    |error| Reason::new(ReasonCode::Unreadable, format!("{}: {error}", mapping.path))
}

/// An area over a known backing.
pub fn describe(mapping: &Mapping, backing: Backing) -> Area {
    let advice =
        Advice::TABLE.iter().filter(|(_, _, flag)| mapping.has(flag)).fold(0, |bits, (bit, _, _)| bits | bit);
    Area {
        start: mapping.start,
        end: mapping.end,
        protection: mapping.protection,
        shared: mapping.shared,
        backing,
        kind: if mapping.path == "[stack]" || mapping.has("gd") { Kind::Stack } else { Kind::Plain },
        unreserved: mapping.has("nr"),
        charged: !mapping.shared && mapping.has("ac"),
        advice: Advice(advice),
    }
}

impl Layout {
    /// Where another kernel's vDSO stands in for this one's ([`crate::stand_in::StandIn`]): it is no area of the program's.
    pub fn leave_out(&mut self, vdso: (u64, u64), code: &[u8]) -> Result<()> {
        let (start, end) = (vdso.0, vdso.0 + vdso.1);
        self.areas.retain(|area| area.start < start || area.end > end);
        if self.areas.iter().any(|area| area.start < end && area.end > start) {
            let detail = "a mapping of its has grown together with the vDSO of its home";
            return Err(Error::Refused(Reasons(vec![Reason::new(model::ReasonCode::Kernel, detail)])));
        }
        self.vdso = vdso;
        self.vdso_code = code.to_vec();
        Ok(())
    }
}

/// Start and length of the kernel's own areas around the vDSO, and its code.
pub fn vdso(pid: i32, mappings: &[Mapping]) -> Result<((u64, u64), Vec<u8>)> {
    let own: Vec<_> =
        mappings.iter().filter(|mapping| mapping.is_special() && mapping.path != "[vsyscall]").collect();
    let (Some(first), Some(last)) = (own.first(), own.last()) else { return Ok(((0, 0), Vec::new())) };
    let code = own.iter().find(|mapping| mapping.path == "[vdso]").unwrap_or(last);
    let mut bytes = vec![0; code.length() as usize];
    memory::read_exact(pid, code.start, &mut bytes).map_err(Error::kernel("reading the vDSO", pid))?;
    Ok(((first.start, last.end - first.start), bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_part_of_a_file_is_known_as_that_file() {
        let (own, mut files) = (std::process::id() as i32, Files::default());
        let mappings = procinfo::maps_with_flags(own).unwrap();
        let layout = match read(own, &mappings, &mut files) {
            Err(error) => return println!("skipped: without the right to open mapped files: {error}"),
            Ok(layout) => layout,
        };
        let plain: Vec<_> = mappings.iter().filter(|mapping| !mapping.is_special()).collect();
        assert_eq!(plain.len(), layout.areas.len());
        for (mapping, area) in plain.iter().zip(&layout.areas) {
            let wanted = match mapping.inode {
                0 => Backing::Anonymous,
                _ => {
                    let id = files.learn(File::open(&mapping.path).unwrap()).unwrap().id;
                    Backing::File { id, offset: mapping.offset }
                }
            };
            assert_eq!(area.backing, wanted, "{mapping:?}");
        }
    }

    #[test]
    fn a_file_of_this_moment_may_change_unseen() {
        let fingerprint = |changed| Fingerprint { device: 1, inode: 2, length: 3, changed };
        let now = Duration::from_secs(100);
        for (changed, settled) in [
            ((99, 0), true),
            ((99, 899_999_999), true),
            ((99, 900_000_000), false),
            ((100, 0), false),
            ((100, 1), false),
            ((i64::MAX, 0), false),
            ((-5, 0), true),
        ] {
            assert_eq!(fingerprint(changed).is_settled(now), settled, "{changed:?}");
        }
    }
}
