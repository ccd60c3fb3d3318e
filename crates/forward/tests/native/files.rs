//! Files and directories.

use crate::world::{World, at, compare, to};

const AT_FDCWD: u64 = -100i64 as u64;
const CREATE: u64 = (libc::O_RDWR | libc::O_CREAT) as u64;
/// Nothing is mapped there.
const NOWHERE: u64 = 0x10_0000;

#[test]
fn reading_and_writing() {
    compare(|world: &mut World| {
        let path = world.path("file");
        let fd = world.open("openat", &[AT_FDCWD, at(&path), CREATE, 0o640]);
        world.call("write", &[fd, at(b"hello world"), 11]);
        world.call("pwrite64", &[fd, at(b"W"), 1, 6]);
        let vector = [at(b"vector"), 6, 0, 0, at(b"ed"), 2];
        world.call("writev", &[fd, at(&vector), 3]);
        world.call("pwritev", &[fd, at(&vector), 1, 30, 0]);
        world.call("lseek", &[fd, 2, 0]);
        let mut buffer = [0u8; 64];
        world.call("read", &[fd, to(&mut buffer), 64]);
        world.note("read", buffer);
        let (mut first, mut second) = ([b'.'; 4], [b'.'; 20]);
        let vector = [to(&mut first), 4, to(&mut second), 20];
        for (name, offset) in [("preadv", 5), ("preadv2", 30), ("preadv2", 0), ("preadv2", 99)] {
            world.call(name, &[fd, at(&vector), 2, offset, 0, 0]);
            world.note(name, (first, second));
        }
        world.call("pread64", &[fd, to(&mut buffer), 4, 3]);
        world.note("pread64", &buffer[..8]);
        let mut status = [0u8; 144];
        world.call("fstat", &[fd, to(&mut status)]);
        world.note("mode and size", (&status[24..28], &status[48..56]));
        world.call("ftruncate", &[fd, 5]);
        let mut status = [0u8; 256];
        world.call("statx", &[AT_FDCWD, at(&path), 0, 0x7ff, to(&mut status)]);
        world.note("size", &status[40..48]);
        world.call("fallocate", &[fd, 0, 0, 9]);
        world.call("fsync", &[fd]);
        world.call("read", &[fd, 0, 4]);
        world.call("read", &[fd, NOWHERE, 0]);
        world.call("write", &[fd, NOWHERE, 4]);
        world.call("write", &[fd, at(&buffer), u64::MAX]);
        world.call("pread64", &[fd, to(&mut buffer), 4, u64::MAX]);
        world.call("writev", &[fd, at(&[NOWHERE, 4]), 1]);
        world.call("readv", &[fd, NOWHERE, 1]);
        world.call("close", &[fd]);
        world.call("read", &[fd, NOWHERE, 4]);
    });
}

#[test]
fn large_payloads() {
    compare(|world: &mut World| {
        let path = world.path("large");
        let fd = world.open("openat", &[AT_FDCWD, at(&path), CREATE, 0o600]);
        let data: Vec<u8> = (0..3_500_000u32).map(|n| (n % 251) as u8).collect();
        world.call("write", &[fd, at(&data), data.len() as u64]);
        let mut back = vec![0u8; 4_000_000];
        world.call("pread64", &[fd, to(&mut back), 4_000_000, 1]);
        world.note("same", back[..3_499_999] == data[1..]);
        world.call("lseek", &[fd, 0, 0]);
        let (head, tail) = back.split_at_mut(1_500_000);
        let vector = [to(head), 1_500_000, to(tail), 2_500_000];
        world.call("readv", &[fd, at(&vector), 2]);
        world.note("same", back[..3_500_000] == data);
        world.call("close", &[fd]);
    });
}

#[test]
fn directories_and_links() {
    compare(|world: &mut World| {
        let (sub, link, other) = (world.path("sub"), world.path("link"), world.path("other"));
        world.call("mkdirat", &[AT_FDCWD, at(&sub), 0o755]);
        world.call("mkdir", &[at(&sub), 0o755]);
        world.call("symlinkat", &[at(b"target\0"), AT_FDCWD, at(&link)]);
        let mut text = [b'.'; 32];
        world.call("readlinkat", &[AT_FDCWD, at(&link), to(&mut text), 32]);
        world.call("readlink", &[at(&link), to(&mut text[10..]), 3]);
        world.note("link", text);
        world.call("renameat2", &[AT_FDCWD, at(&link), AT_FDCWD, at(&other), 1]);
        let directory = world.path("");
        let fd = world.open("open", &[at(&directory), libc::O_DIRECTORY as u64]);
        let mut entries = [0u8; 1024];
        let len = world.call("getdents64", &[fd, to(&mut entries), 1024]);
        let mut names = Vec::new();
        let mut rest = &entries[..len as usize];
        while let [_, _, _, _, _, _, _, _, _, _, _, _, _, _, _, _, low, high, kind, ..] = *rest {
            let (entry, behind) = rest.split_at(usize::from(u16::from_le_bytes([low, high])));
            let name: String =
                entry[19..].iter().take_while(|&&byte| byte != 0).map(|&byte| byte as char).collect();
            names.push((name, kind));
            rest = behind;
        }
        names.sort();
        world.note("names", names);
        world.call("faccessat", &[fd, at(b"sub\0"), 7]);
        world.call("access", &[at(b"/no/such/file\0"), 0]);
        world.call("openat", &[fd, at(&vec![b'x'; 5000]), 0]);
        world.call("openat", &[fd, at(&[vec![b'x'; 300], vec![0]].concat()), 0]);
        world.call("openat", &[fd, NOWHERE, 0]);
        world.call("openat", &[fd, 0, 0]);
        world.call("utimensat", &[fd, at(b"sub\0"), at(&[1u64, 2, 3, 4]), 0]);
        let mut status = [0u8; 144];
        world.call("newfstatat", &[fd, at(b"sub\0"), to(&mut status), 0]);
        world.note("times", &status[72..104]);
        world.call("unlinkat", &[fd, at(b"sub\0"), 0]);
        world.call("unlinkat", &[fd, at(b"sub\0"), libc::AT_REMOVEDIR as u64]);
        let mut statistics = [0u8; 120];
        world.call("fstatfs", &[fd, to(&mut statistics)]);
        world.note("type", &statistics[..8]);
        world.call("close", &[fd]);
        let mut here = [0u8; 4096];
        let len = world.call("getcwd", &[to(&mut here), 4096]);
        world.note("here", &here[..len as usize]);
        world.call("getcwd", &[to(&mut here), 1]);
    });
}

#[test]
fn attributes_and_handles() {
    compare(|world: &mut World| {
        let path = world.path("file");
        let fd = world.open("creat", &[at(&path), 0o600]);
        world.call("setxattr", &[at(&path), at(b"user.key\0"), at(b"value"), 5, 0]);
        let mut value = [b'.'; 16];
        world.call("fgetxattr", &[fd, at(b"user.key\0"), to(&mut value), 16]);
        world.note("value", value);
        world.call("fgetxattr", &[fd, at(b"user.key\0"), to(&mut value), 2]);
        world.call("fgetxattr", &[fd, at(b"user.key\0"), 0, 0]);
        world.call("getxattr", &[at(&path), at(b"user.none\0"), to(&mut value), 16]);
        world.call("listxattr", &[at(&path), to(&mut value), 16]);
        world.note("names", value);
        world.call("removexattr", &[at(&path), at(b"user.key\0")]);
        let mut handle = [0u32; 34];
        let mut mount = [0u64; 1];
        world.call("name_to_handle_at", &[AT_FDCWD, at(&path), to(&mut handle), to(&mut mount), 0]);
        world.note("bytes wanted", handle[0]);
        handle[0] = 128;
        world.call("name_to_handle_at", &[AT_FDCWD, at(&path), to(&mut handle), to(&mut mount), 0]);
        world.note("bytes", handle[0]);
        let mut lock = [0u16; 16];
        lock[0] = libc::F_WRLCK as u16;
        world.call("fcntl", &[fd, libc::F_SETLK as u64, at(&lock)]);
        world.call("fcntl", &[fd, libc::F_GETLK as u64, to(&mut lock)]);
        world.note("lock", lock);
        world.call("fcntl", &[fd, libc::F_OFD_GETLK as u64, to(&mut lock)]);
        world.note("lock is held by this process", lock[12] == std::process::id() as u16);
        world.call("flock", &[fd, libc::LOCK_EX as u64]);
        world.call("fcntl", &[fd, libc::F_GETFL as u64]);
        world.call("close", &[fd]);
    });
}

#[test]
fn from_file_to_file() {
    compare(|world: &mut World| {
        let (from, into) = (world.path("from"), world.path("into"));
        let from = world.open("openat", &[AT_FDCWD, at(&from), CREATE, 0o600]);
        let into = world.open("openat", &[AT_FDCWD, at(&into), CREATE, 0o600]);
        world.call("write", &[from, at(b"0123456789"), 10]);
        let (mut source, mut target) = ([2u64], [5u64]);
        world.call("copy_file_range", &[from, to(&mut source), into, to(&mut target), 4, 0]);
        world.note("offsets", (source, target));
        world.call("sendfile", &[into, from, to(&mut source), 100]);
        world.note("offset", source);
        world.call("sendfile", &[into, from, 0, 100]);
        world.call("sendfile", &[into, from, NOWHERE, 100]);
        let mut back = [b'.'; 16];
        world.call("pread64", &[into, to(&mut back), 16, 0]);
        world.note("content", back);
        world.call("close", &[from]);
        world.call("close", &[into]);
    });
}
