//! What of this node's CPU a process may be using, where the whole of it is too much to ask of a host.

use model::{CpuProfile, CpuUse};
use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

/// Programs whose code has been looked at and is remembered, at most.
const PROGRAMS_MAX: usize = 256;

/// As much of this node's CPU as a process at home may be using, by its code; `None` where it may be all of it.
pub(crate) fn needed_by(pid: i32, own: &CpuProfile) -> Option<CpuProfile> {
    let code = tracee::whole_code(pid)?;
    Some(own.as_used(&used_by(&code)))
}

/// What this code uses. It takes a second for some megabytes, so it is done once for each content.
fn used_by(code: &[Vec<u8>]) -> CpuUse {
    static KNOWN: Mutex<Option<HashMap<[u8; 32], CpuUse>>> = Mutex::new(None);
    let mut hasher = blake3::Hasher::new();
    for piece in code {
        hasher.update(&(piece.len() as u64).to_le_bytes()).update(piece);
    }
    let name = *hasher.finalize().as_bytes();
    let known = || KNOWN.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(used) = known().get_or_insert_default().get(&name) {
        return used.clone();
    }
    let used = instructions::used_by(code.iter().map(Vec::as_slice));
    let mut known = known();
    let programs = known.get_or_insert_default();
    if programs.len() >= PROGRAMS_MAX {
        programs.clear();
    }
    programs.insert(name, used.clone());
    used
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dynamically_linked_program_may_use_everything() {
        let own = kernel::cpu::profile();
        let pid = i32::try_from(std::process::id()).unwrap();
        assert_eq!(needed_by(pid, &own), None);
    }

    #[test]
    fn the_same_code_is_the_same_use() {
        let code = [vec![0x62, 0xf1, 0x74, 0x48, 0x58, 0xc2], vec![0x90]];
        assert_eq!(used_by(&code), used_by(&code));
        let mut used = CpuUse::least();
        used.add("avx512f");
        assert_eq!(used_by(&code), used);
    }
}
