//! Pipes, sockets, terminals, and waiting for them.

use crate::world::{World, at, compare, to};

const NOWHERE: u64 = 0x10_0000;

fn pair(world: &mut World, name: &str, args: &[u64]) -> [u64; 2] {
    let mut pair = [0u32; 2];
    let mut args = args.to_vec();
    let index = if name == "pipe2" { 0 } else { 3 };
    args.insert(index, to(&mut pair));
    world.call(name, &args);
    pair.map(u64::from)
}

fn close(world: &mut World, fds: &[u64]) {
    for &fd in fds {
        world.call("close", &[fd]);
    }
}

#[test]
fn pipes_and_waiting() {
    compare(|world: &mut World| {
        let [read, write] = pair(world, "pipe2", &[libc::O_NONBLOCK as u64]);
        let mut polled = [read | 1 << 32, write | 5 << 32];
        let revents = |polled: [u64; 2]| polled.map(|entry| entry >> 48);
        world.call("poll", &[to(&mut polled), 2, 0]);
        world.note("revents", revents(polled));
        world.call("write", &[write, at(b"some bytes"), 10]);
        world.call("ppoll", &[to(&mut polled), 2, at(&[1u64, 0]), at(&[0u64]), 8]);
        world.note("revents", revents(polled));
        world.call("ppoll", &[to(&mut polled), 2, at(&[1u64, 1 << 40]), 0, 8]);
        let mut pending = [0u32; 1];
        world.call("ioctl", &[read, libc::FIONREAD, to(&mut pending)]);
        world.note("pending", pending);
        let mut sets = [[0u64; 16]; 2];
        sets[0][read as usize / 64] |= 1 << (read % 64);
        sets[1][write as usize / 64] |= 1 << (write % 64);
        let mut time = [3u64, 0];
        let ([first, second], bits) = (&mut sets, 1024);
        world.call("select", &[bits, to(first), to(second), 0, to(&mut time)]);
        world.note("time is left", time[0] <= 3);
        world.note("ready", sets.map(|set| set.iter().map(|word| word.count_ones()).sum::<u32>()));
        let mut buffer = [0u8; 16];
        world.call("read", &[read, to(&mut buffer), 16]);
        world.note("read", buffer);
        world.call("read", &[read, to(&mut buffer), 16]);
        let [first, second] = &mut sets;
        second.fill(0);
        let mut short = [0u64, 1_000_000];
        world.call("pselect6", &[1024, to(first), to(second), 0, to(&mut short), at(&[0u64, 8])]);
        world.note("no time left", (short, sets[0].iter().all(|&word| word == 0)));
        world.call("poll", &[NOWHERE, 1, 0]);
        world.call("fcntl", &[read, libc::F_SETPIPE_SZ as u64, 8192]);
        close(world, &[write]);
        world.call("read", &[read, to(&mut buffer), 16]);
        close(world, &[read]);
    });
}

#[test]
fn epoll_timers_and_events() {
    compare(|world: &mut World| {
        let epoll = world.open("epoll_create1", &[0]);
        let event = world.open("eventfd2", &[3, 0]);
        let wanted = [1u32, 0xaabb, 0xccdd];
        world.call("epoll_ctl", &[epoll, 1, event, at(&wanted)]);
        let mut events = [0u32; 12];
        world.call("epoll_wait", &[epoll, to(&mut events), 4, 100]);
        world.note("events", events);
        let mut value = [0u64];
        world.call("read", &[event, to(&mut value), 8]);
        world.note("value", value);
        world.call("epoll_pwait2", &[epoll, to(&mut events), 4, at(&[0u64, 1000]), at(&[0u64]), 8]);
        world.call("epoll_pwait", &[epoll, to(&mut events), 0, 0, 0, 8]);
        world.call("epoll_ctl", &[epoll, 2, event, 0]);
        let timer = world.open("timerfd_create", &[1, 0]);
        let (setting, mut old) = ([0u64, 0, 100, 0], [7u64; 4]);
        world.call("timerfd_settime", &[timer, 0, at(&setting), 0]);
        world.call("timerfd_settime", &[timer, 0, at(&[0u64, 0, 0, 1000]), to(&mut old)]);
        world.note("old", (old[0], old[2] / 10));
        world.call("read", &[timer, to(&mut value), 8]);
        world.call("timerfd_gettime", &[timer, to(&mut old)]);
        world.note("now", old);
        let directory = world.path("");
        let watch = world.open("inotify_init1", &[libc::O_NONBLOCK as u64]);
        world.call("inotify_add_watch", &[watch, at(&directory), u64::from(libc::IN_CREATE)]);
        let sub = world.path("sub");
        world.call("mkdir", &[at(&sub), 0o700]);
        let mut seen = [0u8; 64];
        world.call("read", &[watch, to(&mut seen), 64]);
        world.note("seen", seen);
        close(world, &[epoll, event, timer, watch]);
    });
}

#[test]
fn messages_with_descriptors() {
    compare(|world: &mut World| {
        let [left, right] = pair(world, "socketpair", &[1, libc::SOCK_DGRAM as u64, 0]);
        // One control message: length, SOL_SOCKET, SCM_RIGHTS, a descriptor.
        let control = [20u64, 1 | 1 << 32, left];
        let vector = [at(b"with a "), 7, at(b"gift"), 4];
        let header = [0, 0, at(&vector), 2, at(&control), 24, 0];
        world.call("sendmsg", &[left, at(&header), 0]);
        let (mut first, mut second) = ([b'.'; 3], [b'.'; 20]);
        let mut name = [0xeeu8; 16];
        let mut got = [0xffu64; 5];
        let vector = [to(&mut first), 3, to(&mut second), 20];
        let mut header = [to(&mut name), 16, at(&vector), 2, to(&mut got), 40, u64::MAX];
        world.call("recvmsg", &[right, to(&mut header), 0]);
        world.note("payload", (first, second));
        world.note("header", (header[1], header[3], header[5], header[6]));
        world.note("control", (got[0], got[1], got[3], got[4]));
        close(world, &[got[2] & 0xffff_ffff]);
        for text in [&b"one"[..], b"second", b"3"] {
            world.call("sendto", &[left, at(text), text.len() as u64, 0, 0, 0]);
        }
        let mut texts = [[b'.'; 4]; 4];
        let vectors = texts.each_mut().map(|text| [to(text), 4]);
        let mut entries = [0u64; 32];
        for (entry, vector) in entries.chunks_exact_mut(8).zip(&vectors) {
            (entry[2], entry[3], entry[7]) = (at(vector), 1, 0xdddd_dddd_dddd_dddd);
        }
        let mut time = [5u64, 0];
        let nonblocking = libc::MSG_DONTWAIT as u64;
        world.call("recvmmsg", &[right, to(&mut entries), 4, nonblocking, to(&mut time)]);
        world.note("texts", texts);
        world.note("entries", entries.chunks_exact(8).map(|entry| (entry[6], entry[7])).collect::<Vec<_>>());
        world.call("recvmmsg", &[right, to(&mut entries), 4, nonblocking, 0]);
        world.call("sendmmsg", &[right, to(&mut entries), 3, 0]);
        world.note("sent", entries.chunks_exact(8).map(|entry| entry[7]).collect::<Vec<_>>());
        world.call("sendmsg", &[left, NOWHERE, 0]);
        world.call("recvmsg", &[right, 0, nonblocking]);
        close(world, &[left, right]);
    });
}

#[test]
fn sockets_have_addresses_and_options() {
    compare(|world: &mut World| {
        // AF_INET, any port, 127.0.0.1.
        let any = [2u8, 0, 0, 0, 127, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0];
        let listener = world.open("socket", &[2, 1, 0]);
        world.call("bind", &[listener, at(&any), 16]);
        world.call("listen", &[listener, 4]);
        let (mut address, mut len) = ([0xeeu8; 32], [32u32]);
        world.call("getsockname", &[listener, to(&mut address), to(&mut len)]);
        world.note("name", (len, &address[..2], &address[4..]));
        let client = world.open("socket", &[2, 1, 0]);
        world.call("connect", &[client, at(&address), 16]);
        let (mut peer, mut peer_len) = ([0xeeu8; 32], [8u32]);
        let server = world.open("accept4", &[listener, to(&mut peer), to(&mut peer_len), 0]);
        world.note("peer, cut", (peer_len, &peer[..2], &peer[4..]));
        world.call("getpeername", &[client, to(&mut peer), 0]);
        world.call("getsockname", &[client, 0, to(&mut peer_len)]);
        world.call("sendto", &[client, at(b"stream"), 6, 0, 0, 0]);
        let mut text = [b'.'; 10];
        world.call("recvfrom", &[server, to(&mut text), 10, 0, to(&mut peer), to(&mut len)]);
        world.note("text", (text, len));
        for (level, name) in [(1, 3), (1, 4), (6, 1), (1, 9999)] {
            let (mut value, mut len) = ([0xeeu8; 8], [8u32]);
            world.call("getsockopt", &[server, level, name, to(&mut value), to(&mut len)]);
            world.note("option", (value, len));
        }
        world.call("setsockopt", &[server, 6, 1, at(&[1u32]), 4]);
        world.call("setsockopt", &[server, 6, 1, at(&[1u32]), -1i64 as u64]);
        world.call("setsockopt", &[server, 1, 2, NOWHERE, 4]);
        world.call("shutdown", &[server, 2]);
        world.call("read", &[client, to(&mut text), 10]);
        close(world, &[listener, client, server]);
        let receiver = world.open("socket", &[2, 2, 0]);
        world.call("bind", &[receiver, at(&any), 16]);
        len = [16];
        world.call("getsockname", &[receiver, to(&mut address), to(&mut len)]);
        world.call("sendto", &[receiver, at(b"to myself"), 9, 0, at(&address), 16]);
        world.call(
            "recvfrom",
            &[receiver, to(&mut text), 4, libc::MSG_TRUNC as u64, to(&mut peer), to(&mut len)],
        );
        world.note("datagram", (text, len, peer[..8] == address[..8]));
        close(world, &[receiver]);
    });
}

#[test]
fn terminals() {
    if !std::path::Path::new("/dev/ptmx").exists() {
        println!("skipped: there is no /dev/ptmx");
        return;
    }
    compare(|world: &mut World| {
        let flags = (libc::O_RDWR | libc::O_NOCTTY) as u64;
        let terminal = world.open("open", &[at(b"/dev/ptmx\0"), flags]);
        world.call("ioctl", &[terminal, libc::TIOCSPTLCK, at(&[0u32])]);
        let mut number = [u32::MAX];
        world.call("ioctl", &[terminal, libc::TIOCGPTN, to(&mut number)]);
        world.note("has a number", number[0] != u32::MAX);
        let mut settings = [0xeeu8; 40];
        world.call("ioctl", &[terminal, libc::TCGETS, to(&mut settings)]);
        world.note("settings", settings);
        settings[12] &= !8;
        world.call("ioctl", &[terminal, libc::TCSETSW, at(&settings)]);
        world.call("ioctl", &[terminal, libc::TIOCSWINSZ, at(&[24u16, 80, 0, 0])]);
        let mut size = [0u16; 4];
        world.call("ioctl", &[terminal, libc::TIOCGWINSZ, to(&mut size)]);
        world.note("size", size);
        world.call("ioctl", &[terminal, libc::TCGETS, NOWHERE]);
        world.call("ioctl", &[terminal, libc::TCFLSH, 2]);
        close(world, &[terminal]);
        world.call("ioctl", &[terminal, libc::TCGETS, to(&mut settings)]);
    });
}
