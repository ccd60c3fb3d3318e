//! The code that a process runs, as far as it is known for good.

use kernel::memory;
use procinfo::Mapping;

/// More code than this is not looked at, bytes.
const CODE_BYTES_MAX: u64 = 64 << 20;
const READABLE: u8 = 1;
const WRITABLE: u8 = 2;
const EXECUTABLE: u8 = 4;

/// All code that a process can run, each mapping of it in one piece; nothing is stopped for it.
///
/// `None` if that is not known, or may not be all: code that can be written, or that no file has, is made while it runs;
/// and who has mapped more than one program has a dynamic linker, and may map more. `None` also if it is too much.
pub fn whole_code(pid: i32) -> Option<Vec<Vec<u8>>> {
    let mappings = procinfo::maps(pid).ok()?;
    let code: Vec<&Mapping> = mappings
        .iter()
        // The kernel's own code is another one on each node.
        .filter(|mapping| mapping.protection & EXECUTABLE != 0 && !mapping.is_special())
        .collect();
    let first = code.first()?;
    // A running program's own file cannot be written; another's can, and what is mapped of it would change.
    let [start_code, ..] = procinfo::stat(pid).ok()?.memory;
    code.iter().find(|mapping| (mapping.start..mapping.end).contains(&start_code))?;
    let known = |mapping: &&Mapping| {
        mapping.protection & (READABLE | WRITABLE) == READABLE
            && mapping.inode != 0
            && !mapping.shared
            && (&mapping.device, mapping.inode) == (&first.device, first.inode)
    };
    let bytes: u64 = code.iter().map(|mapping| mapping.length()).sum();
    if !code.iter().all(known) || bytes > CODE_BYTES_MAX {
        return None;
    }
    code.iter()
        .map(|mapping| {
            // From the memory, not from the file: that is what will run.
            let mut piece = vec![0; usize::try_from(mapping.length()).ok()?];
            memory::read_exact(pid, mapping.start, &mut piece).ok()?;
            Some(piece)
        })
        .collect()
}
