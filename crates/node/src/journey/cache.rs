//! Copies of other nodes' files, named by their content.
//!
//! A file that a guest maps is never taken from the host's own tree: the same path may hold another file, now or
//! tomorrow. It comes from here; a copy is only given its name once its bytes have the right hash.

use super::{Error, Result};
use image::FileId;
use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

/// What files from elsewhere leave free of the disk, bytes, at most.
const DISK_RESERVE_BYTES: u64 = 128 << 20;
/// Of a small disk they leave this part free.
const DISK_RESERVE_PART: u64 = 20;

/// The cache's directory.
#[derive(Clone, Debug)]
pub(crate) struct Cache {
    directory: PathBuf,
}

/// A file on its way into the cache; it leaves nothing behind unless it is finished.
#[derive(Debug)]
pub(crate) struct Incoming {
    id: FileId,
    hasher: blake3::Hasher,
    file: File,
    temporary: PathBuf,
    target: PathBuf,
}

impl Cache {
    /// The cache under `root`, made if need be.
    pub(crate) fn open(root: &Path) -> Result<Cache> {
        let directory = root.join("files");
        fs::create_dir_all(&directory).map_err(Error::io("making the cache"))?;
        // Other users' files lie here. A guest gets what it maps as an open descriptor, never by its name.
        let private = fs::Permissions::from_mode(0o700);
        fs::set_permissions(&directory, private).map_err(Error::io("protecting the cache"))?;
        Ok(Cache { directory })
    }

    fn path(&self, id: &FileId) -> PathBuf {
        self.directory.join(id.to_string())
    }

    /// The file of this content, if it is here.
    pub(crate) fn get(&self, id: &FileId) -> Option<File> {
        File::open(self.path(id)).ok()
    }

    /// Begins a new file.
    pub(crate) fn receive(&self, id: FileId) -> Result<Incoming> {
        let temporary = self.directory.join(format!(".{id}.{}", std::process::id()));
        let file = File::create(&temporary).map_err(Error::io("making a file in the cache"))?;
        Ok(Incoming { id, hasher: blake3::Hasher::new(), file, temporary, target: self.path(&id) })
    }
}

impl Incoming {
    /// The file that is coming.
    pub(crate) fn id(&self) -> FileId {
        self.id
    }

    /// Takes the next bytes.
    ///
    /// Whoever sends it may say more than it announced, without end: a disk that runs full is where it stops.
    pub(crate) fn write(&mut self, bytes: &[u8]) -> Result<()> {
        let disk = rustix::fs::fstatvfs(&self.file)
            .map_err(|errno| Error::io("looking at the disk")(errno.into()))?;
        let free = disk.f_bavail.saturating_mul(disk.f_frsize);
        let reserve = DISK_RESERVE_BYTES.min(disk.f_blocks.saturating_mul(disk.f_frsize) / DISK_RESERVE_PART);
        if free < reserve.saturating_add(bytes.len() as u64) {
            return Err(Error::io("writing to the cache")(io::Error::from_raw_os_error(nix::libc::ENOSPC)));
        }
        self.hasher.update(bytes);
        self.file.write_all(bytes).map_err(Error::io("writing to the cache"))
    }

    /// Checks the whole and gives it its name.
    pub(crate) fn finish(self) -> Result<()> {
        if self.hasher.finalize().as_bytes() != &self.id.0 {
            return Err(Error::Changed);
        }
        // A guest's executable is named to the kernel, which wants it to be one for the guest's user.
        let mode = fs::Permissions::from_mode(0o555);
        self.file.set_permissions(mode).map_err(Error::io("closing a file in the cache"))?;
        fs::rename(&self.temporary, &self.target).map_err(Error::io("naming a file in the cache"))
    }
}

impl Drop for Incoming {
    fn drop(&mut self) {
        // Gone already once it has its name.
        let _ = fs::remove_file(&self.temporary);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_of_others_are_in_a_private_place_and_only_whole() {
        let base = tempfile::tempdir().unwrap();
        let cache = Cache::open(base.path()).unwrap();
        let mode = fs::metadata(base.path().join("files")).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o700);
        let id = FileId(*blake3::hash(b"good").as_bytes());
        for (bytes, good) in [(&b"bad"[..], false), (b"", false), (b"good", true)] {
            let mut incoming = cache.receive(id).unwrap();
            incoming.write(bytes).unwrap();
            assert_eq!(incoming.finish().is_ok(), good);
            assert_eq!(cache.get(&id).is_some(), good);
        }
        let left = fs::read_dir(base.path().join("files")).unwrap().count();
        assert_eq!(left, 1, "half a file stays");
    }
}
