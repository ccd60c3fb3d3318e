//! Calls with a command among their arguments: what each command takes.
//!
//! A command that is not listed takes something nobody here knows, so the process goes home with it.

use crate::arg::{Arg, Family};

/// One command.
#[derive(Clone, Copy, Debug)]
pub struct Command {
    /// Its number.
    pub number: u32,
    /// Its name in the kernel's headers.
    pub name: &'static str,
    /// What its operand is.
    pub operand: Arg,
}

/// What the command `number` of a family takes; `None` for one that is not known.
pub fn command(family: Family, number: u32) -> Option<&'static Command> {
    commands(family).iter().find(|command| command.number == number)
}

/// All known commands of a family.
pub fn commands(family: Family) -> &'static [Command] {
    match family {
        Family::Ioctl => IOCTL,
        Family::Fcntl => FCNTL,
        Family::Prctl => PRCTL,
    }
}

/// Where a `prctl` runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PrctlRoute {
    /// At home.
    Home,
    /// Where the process is, and at home as well.
    Both,
    /// The process comes home first.
    GoHome,
}

/// Where `prctl(option, ...)` runs, when the filter has not already let it pass.
pub fn prctl_route(option: u32) -> PrctlRoute {
    match command(Family::Prctl, option) {
        Some(command) if command.name == "PR_SET_NAME" => PrctlRoute::Both,
        Some(_) => PrctlRoute::Home,
        None => PrctlRoute::GoHome,
    }
}

/// Whether the value of a socket option is plain data: no pointers inside, and its length in bytes.
pub fn socket_option_is_plain(level: u32, name: u32) -> bool {
    match level {
        // SOL_SOCKET: filters are given by pointer and counted in instructions.
        1 => ![26, 51].contains(&name),
        // IPPROTO_IP, IPPROTO_IPV6: netfilter's tables begin at 64.
        0 | 41 => name < 64,
        // IPPROTO_TCP: TCP_ZEROCOPY_RECEIVE names memory.
        6 => name != 35,
        // ICMP, UDP, ICMPv6, UDPLITE, RAW, NETLINK, TLS.
        _ => [17, 58, 136, 255, 270, 282].contains(&level),
    }
}

macro_rules! commands {
    ($table:ident: $($number:literal $name:ident $operand:expr;)*) => {
        const $table: &[Command] =
            &[$(Command { number: $number, name: stringify!($name), operand: $operand }),*];
    };
}

use Arg::{In, InOut, Out, Text, Value};

commands! { FCNTL:
    0 F_DUPFD Value;
    1 F_GETFD Value;
    2 F_SETFD Value;
    3 F_GETFL Value;
    4 F_SETFL Value;
    5 F_GETLK InOut(32);
    6 F_SETLK In(32);
    7 F_SETLKW In(32);
    8 F_SETOWN Value;
    9 F_GETOWN Value;
    10 F_SETSIG Value;
    11 F_GETSIG Value;
    15 F_SETOWN_EX In(8);
    16 F_GETOWN_EX Out(8);
    17 F_GETOWNER_UIDS Out(8);
    36 F_OFD_GETLK InOut(32);
    37 F_OFD_SETLK In(32);
    38 F_OFD_SETLKW In(32);
    1024 F_SETLEASE Value;
    1025 F_GETLEASE Value;
    1026 F_NOTIFY Value;
    1027 F_DUPFD_QUERY Value;
    1028 F_CREATED_QUERY Value;
    1030 F_DUPFD_CLOEXEC Value;
    1031 F_SETPIPE_SZ Value;
    1032 F_GETPIPE_SZ Value;
    1033 F_ADD_SEALS Value;
    1034 F_GET_SEALS Value;
    1035 F_GET_RW_HINT Out(8);
    1036 F_SET_RW_HINT In(8);
    1037 F_GET_FILE_RW_HINT Out(8);
    1038 F_SET_FILE_RW_HINT In(8);
}

commands! { PRCTL:
    1 PR_SET_PDEATHSIG Value;
    2 PR_GET_PDEATHSIG Out(4);
    3 PR_GET_DUMPABLE Value;
    7 PR_GET_KEEPCAPS Value;
    8 PR_SET_KEEPCAPS Value;
    15 PR_SET_NAME Text;
    23 PR_CAPBSET_READ Value;
    24 PR_CAPBSET_DROP Value;
    27 PR_GET_SECUREBITS Value;
    28 PR_SET_SECUREBITS Value;
    36 PR_SET_CHILD_SUBREAPER Value;
    37 PR_GET_CHILD_SUBREAPER Out(4);
    38 PR_SET_NO_NEW_PRIVS Value;
    39 PR_GET_NO_NEW_PRIVS Value;
    47 PR_CAP_AMBIENT Value;
    0x59616d61 PR_SET_PTRACER Value;
}

// Sizes are those the kernel copies (its own structures, not libc's), x86-64.
commands! { IOCTL:
    // Terminals.
    0x5401 TCGETS Out(36);
    0x5402 TCSETS In(36);
    0x5403 TCSETSW In(36);
    0x5404 TCSETSF In(36);
    0x5405 TCGETA Out(18);
    0x5406 TCSETA In(18);
    0x5407 TCSETAW In(18);
    0x5408 TCSETAF In(18);
    0x5409 TCSBRK Value;
    0x540a TCXONC Value;
    0x540b TCFLSH Value;
    0x540c TIOCEXCL Value;
    0x540d TIOCNXCL Value;
    0x540e TIOCSCTTY Value;
    0x540f TIOCGPGRP Out(4);
    0x5410 TIOCSPGRP In(4);
    0x5411 TIOCOUTQ Out(4);
    0x5412 TIOCSTI In(1);
    0x5413 TIOCGWINSZ Out(8);
    0x5414 TIOCSWINSZ In(8);
    0x5415 TIOCMGET Out(4);
    0x5416 TIOCMBIS In(4);
    0x5417 TIOCMBIC In(4);
    0x5418 TIOCMSET In(4);
    0x5419 TIOCGSOFTCAR Out(4);
    0x541a TIOCSSOFTCAR In(4);
    0x541b FIONREAD Out(4);
    0x541d TIOCCONS Value;
    0x5420 TIOCPKT In(4);
    0x5421 FIONBIO In(4);
    0x5422 TIOCNOTTY Value;
    0x5423 TIOCSETD In(4);
    0x5424 TIOCGETD Out(4);
    0x5425 TCSBRKP Value;
    0x5427 TIOCSBRK Value;
    0x5428 TIOCCBRK Value;
    0x5429 TIOCGSID Out(4);
    0x802c542a TCGETS2 Out(44);
    0x402c542b TCSETS2 In(44);
    0x402c542c TCSETSW2 In(44);
    0x402c542d TCSETSF2 In(44);
    0x80045430 TIOCGPTN Out(4);
    0x40045431 TIOCSPTLCK In(4);
    0x80045432 TIOCGDEV Out(4);
    0x40045436 TIOCSIG Value;
    0x5437 TIOCVHANGUP Value;
    0x80045438 TIOCGPKT Out(4);
    0x80045439 TIOCGPTLCK Out(4);
    0x80045440 TIOCGEXCL Out(4);
    0x5441 TIOCGPTPEER Value;
    // Any file.
    0x5450 FIONCLEX Value;
    0x5451 FIOCLEX Value;
    0x5452 FIOASYNC In(4);
    0x5460 FIOQSIZE Out(8);
    0x2 FIGETBSZ Out(4);
    0x80086601 FS_IOC_GETFLAGS Out(4);
    0x40086602 FS_IOC_SETFLAGS In(4);
    0x80087601 FS_IOC_GETVERSION Out(4);
    0x40087602 FS_IOC_SETVERSION In(4);
    0x801c581f FS_IOC_FSGETXATTR Out(28);
    0x401c5820 FS_IOC_FSSETXATTR In(28);
    0x40049409 FICLONE Value;
    0x4020940d FICLONERANGE In(32);
    0xc0045877 FIFREEZE Value;
    0xc0045878 FITHAW Value;
    0xc0185879 FITRIM InOut(24);
    // Block devices.
    0x125d BLKROSET In(4);
    0x125e BLKROGET Out(4);
    0x125f BLKRRPART Value;
    0x1260 BLKGETSIZE Out(8);
    0x1261 BLKFLSBUF Value;
    0x1262 BLKRASET Value;
    0x1263 BLKRAGET Out(8);
    0x1268 BLKSSZGET Out(4);
    0x80081270 BLKBSZGET Out(4);
    0x40081271 BLKBSZSET In(4);
    0x80081272 BLKGETSIZE64 Out(8);
    0x1277 BLKDISCARD In(16);
    0x1278 BLKIOMIN Out(4);
    0x1279 BLKIOOPT Out(4);
    0x127a BLKALIGNOFF Out(4);
    0x127b BLKPBSZGET Out(4);
    0x127c BLKDISCARDZEROES Out(4);
    0x127e BLKROTATIONAL Out(2);
    0x127f BLKZEROOUT In(16);
    // Sockets. `struct ifreq` is 40 bytes; requests whose ifreq holds a pointer are not here.
    0x8901 FIOSETOWN In(4);
    0x8902 SIOCSPGRP In(4);
    0x8903 FIOGETOWN Out(4);
    0x8904 SIOCGPGRP Out(4);
    0x8905 SIOCATMARK Out(4);
    0x8906 SIOCGSTAMP Out(16);
    0x8907 SIOCGSTAMPNS Out(16);
    0x8910 SIOCGIFNAME InOut(40);
    0x8913 SIOCGIFFLAGS InOut(40);
    0x8914 SIOCSIFFLAGS In(40);
    0x8915 SIOCGIFADDR InOut(40);
    0x8916 SIOCSIFADDR In(40);
    0x8917 SIOCGIFDSTADDR InOut(40);
    0x8918 SIOCSIFDSTADDR In(40);
    0x8919 SIOCGIFBRDADDR InOut(40);
    0x891a SIOCSIFBRDADDR In(40);
    0x891b SIOCGIFNETMASK InOut(40);
    0x891c SIOCSIFNETMASK In(40);
    0x891d SIOCGIFMETRIC InOut(40);
    0x8921 SIOCGIFMTU InOut(40);
    0x8922 SIOCSIFMTU In(40);
    0x8923 SIOCSIFNAME In(40);
    0x8924 SIOCSIFHWADDR In(40);
    0x8927 SIOCGIFHWADDR InOut(40);
    0x8933 SIOCGIFINDEX InOut(40);
    0x8935 SIOCGIFPFLAGS InOut(40);
    0x8942 SIOCGIFTXQLEN InOut(40);
    0x8943 SIOCSIFTXQLEN In(40);
    0x8970 SIOCGIFMAP InOut(40);
    // Tunnels, loop devices, clocks, randomness, namespaces, watchdogs.
    0x400454ca TUNSETIFF InOut(40);
    0x400454cb TUNSETPERSIST Value;
    0x800454cf TUNGETFEATURES Out(4);
    0x800454d2 TUNGETIFF Out(40);
    0x4c00 LOOP_SET_FD Value;
    0x4c01 LOOP_CLR_FD Value;
    0x4c04 LOOP_SET_STATUS64 In(232);
    0x4c05 LOOP_GET_STATUS64 Out(232);
    0x4c07 LOOP_SET_CAPACITY Value;
    0x4c0a LOOP_CONFIGURE In(304);
    0x4c80 LOOP_CTL_ADD Value;
    0x4c81 LOOP_CTL_REMOVE Value;
    0x4c82 LOOP_CTL_GET_FREE Value;
    0x80247009 RTC_RD_TIME Out(36);
    0x80045200 RNDGETENTCNT Out(4);
    0x40045201 RNDADDTOENTCNT In(4);
    0xb701 NS_GET_USERNS Value;
    0xb702 NS_GET_PARENT Value;
    0xb703 NS_GET_NSTYPE Value;
    0xb704 NS_GET_OWNER_UID Out(4);
    0x80045705 WDIOC_KEEPALIVE Value;
}
