//! Which pages of a mapping exist only in its process (`PAGEMAP_SCAN`, Linux 6.7; before that, the pagemap itself).

use crate::Errno;
use crate::memory::Range;
use linux_raw_sys::general::{page_region, pm_scan_arg};
use std::fs::File;
use std::os::fd::AsRawFd;
use std::os::unix::fs::FileExt;

const PAGE: u64 = 4096;
const PAGE_IS_FILE: u64 = 1 << 2;
const PAGE_IS_PRESENT: u64 = 1 << 3;
const PAGE_IS_SWAPPED: u64 = 1 << 4;
const PAGE_IS_PFNZERO: u64 = 1 << 5;
const REGIONS: usize = 2048;

mod ioctl {
    nix::ioctl_readwrite!(pagemap_scan, b'f', 16, linux_raw_sys::general::pm_scan_arg);
}

/// A process's pagemap.
#[derive(Debug)]
pub struct Pagemap(File);

impl Pagemap {
    /// Opens it.
    pub fn open(pid: i32) -> std::io::Result<Pagemap> {
        File::open(format!("/proc/{pid}/pagemap")).map(Pagemap)
    }

    /// Runs of pages in `start..end` that are anonymous: written by the process, in no file, and not the zero page.
    pub fn anonymous(&self, start: u64, end: u64) -> Result<Vec<Range>, Errno> {
        match self.scan(start, end) {
            Err(Errno::ENOTTY | Errno::EINVAL) => self.read_entries(start, end),
            scanned => scanned,
        }
    }

    fn scan(&self, start: u64, end: u64) -> Result<Vec<Range>, Errno> {
        let mut runs = Vec::new();
        let mut from = start;
        while from < end {
            let mut regions = [page_region { start: 0, end: 0, categories: 0 }; REGIONS];
            let mut argument = pm_scan_arg {
                size: size_of::<pm_scan_arg>() as u64,
                flags: 0,
                start: from,
                end,
                walk_end: 0,
                vec: regions.as_mut_ptr() as u64,
                vec_len: REGIONS as u64,
                max_pages: 0,
                category_inverted: PAGE_IS_FILE | PAGE_IS_PFNZERO,
                category_mask: PAGE_IS_FILE | PAGE_IS_PFNZERO,
                category_anyof_mask: PAGE_IS_PRESENT | PAGE_IS_SWAPPED,
                return_mask: PAGE_IS_PRESENT,
            };
            // SAFETY: the argument and the regions it points to are valid for the call.
            let count = unsafe { ioctl::pagemap_scan(self.0.as_raw_fd(), &raw mut argument) }? as usize;
            for region in &regions[..count] {
                push(&mut runs, region.start, region.end);
            }
            from = argument.walk_end;
        }
        Ok(runs)
    }

    fn read_entries(&self, start: u64, end: u64) -> Result<Vec<Range>, Errno> {
        let mut runs = Vec::new();
        let mut buffer = vec![0u8; 64 << 10];
        let mut from = start;
        while from < end {
            let pages = ((end - from) / PAGE).min(buffer.len() as u64 / 8);
            let bytes = &mut buffer[..pages as usize * 8];
            let at = from / PAGE * 8;
            self.0
                .read_exact_at(bytes, at)
                .map_err(|error| error.raw_os_error().map_or(Errno::EIO, Errno::from_raw))?;
            for (index, entry) in bytes.chunks_exact(8).enumerate() {
                let entry = u64::from_le_bytes(entry.try_into().unwrap_or_default());
                let (present, swapped, file) =
                    (entry >> 63 & 1 == 1, entry >> 62 & 1 == 1, entry >> 61 & 1 == 1);
                if (present || swapped) && !file {
                    let page = from + index as u64 * PAGE;
                    push(&mut runs, page, page + PAGE);
                }
            }
            from += pages * PAGE;
        }
        Ok(runs)
    }
}

fn push(runs: &mut Vec<Range>, start: u64, end: u64) {
    match runs.last_mut() {
        Some(last) if last.start + last.length == start => last.length += end - start,
        _ => runs.push(Range { start, length: end - start }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_ways_find_exactly_the_written_pages() {
        let length = 64 * PAGE as usize;
        let mut mapping = nix_map(length);
        for page in [3usize, 4, 9] {
            mapping.bytes()[page * PAGE as usize] = 7;
        }
        let start = mapping.bytes().as_ptr() as u64;
        let expect = [
            Range { start: start + 3 * PAGE, length: 2 * PAGE },
            Range { start: start + 9 * PAGE, length: PAGE },
        ];
        let pagemap = Pagemap::open(std::process::id() as i32).unwrap();
        assert_eq!(pagemap.read_entries(start, start + length as u64).unwrap(), expect);
        assert_eq!(pagemap.anonymous(start, start + length as u64).unwrap(), expect);
    }

    struct Mapping(std::ptr::NonNull<std::ffi::c_void>, usize);

    impl Mapping {
        fn bytes(&mut self) -> &mut [u8] {
            // SAFETY: the mapping is readable and writable and lives as long as self.
            unsafe { std::slice::from_raw_parts_mut(self.0.as_ptr().cast(), self.1) }
        }
    }

    impl Drop for Mapping {
        fn drop(&mut self) {
            // SAFETY: nothing refers to the mapping any more.
            unsafe { nix::sys::mman::munmap(self.0, self.1) }.unwrap();
        }
    }

    fn nix_map(length: usize) -> Mapping {
        use nix::sys::mman::{MapFlags, ProtFlags, mmap_anonymous};
        let size = std::num::NonZeroUsize::new(length).unwrap();
        let (prot, flags) = (ProtFlags::PROT_READ | ProtFlags::PROT_WRITE, MapFlags::MAP_PRIVATE);
        // SAFETY: a fresh anonymous mapping overlaps nothing.
        Mapping(unsafe { mmap_anonymous(None, size, prot, flags) }.unwrap(), length)
    }
}
