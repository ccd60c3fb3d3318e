//! The table against the kernel's headers, and the page against the table.

mod numbers;

use syscalls::{Arg, Family, PrctlRoute, Route, Row, command, prctl_route};

#[test]
fn numbers_and_names_are_the_kernels() {
    for &(name, nr) in numbers::KERNEL {
        let row = syscalls::row(nr).unwrap_or_else(|| panic!("no row for {name}"));
        assert_eq!(format!("__NR_{}", row.name), name, "number {nr}");
    }
    let younger: Vec<_> =
        syscalls::rows().filter(|row| numbers::KERNEL.iter().all(|&(_, nr)| nr != row.nr)).collect();
    let names: Vec<_> = younger.iter().map(|row| row.name).collect();
    assert_eq!(names, ["listns", "rseq_slice_yield"], "younger than the headers");
}

#[test]
fn lookup_finds_each_row_and_nothing_else() {
    for row in syscalls::rows() {
        assert_eq!(syscalls::row(row.nr).map(|found| found.name), Some(row.name));
    }
    for nr in [336, 423, 472, 0x4000_0000, u32::MAX] {
        assert!(syscalls::row(nr).is_none(), "{nr}");
    }
}

/// The number of the argument that an argument refers to, and how far it is.
fn referred(arg: Arg) -> Option<u8> {
    match arg {
        Arg::Send(n) | Arg::Receive(n) | Arg::OutTyped(n) | Arg::Address(n) => Some(n),
        Arg::OptionIn(n) | Arg::OptionOut(n) | Arg::Vector(n, _) | Arg::Messages(n, _) => Some(n),
        Arg::InMany { count, .. } | Arg::InOutMany { count, .. } | Arg::OutMany { count, .. } => Some(count),
        _ => None,
    }
}

#[test]
fn arguments_refer_to_numbers_and_lengths() {
    for row in syscalls::rows() {
        assert!(row.args.len() <= 6, "{}", row.name);
        for &arg in row.args {
            let Some(other) = referred(arg) else { continue };
            let wanted = match arg {
                Arg::Address(_) | Arg::OptionOut(_) => Arg::Length,
                _ => Arg::Value,
            };
            assert_eq!(row.args.get(usize::from(other)), Some(&wanted), "{}: {arg:?}", row.name);
        }
    }
}

#[test]
fn what_travels_has_arguments_or_needs_none() {
    let bare = |row: &&Row| row.args.is_empty() && matches!(row.route, Route::Home | Route::HomeBlocking);
    let names: Vec<_> = syscalls::rows().filter(bare).map(|row| row.name).collect();
    assert_eq!(
        names.join(" "),
        "getuid getgid geteuid getegid getppid getpgrp setsid vhangup sync inotify_init"
    );
}

#[test]
fn decisions_of_the_design_hold() {
    let own_pid = 4711;
    let route = |name: &str, args: [u64; 6]| {
        let row = syscalls::rows().find(|row| row.name == name).expect(name);
        format!("{:?}", row.route_of(&args, own_pid))
    };
    let check = |name, args, expected: &str| assert_eq!(route(name, args), expected, "{name}{args:x?}");
    check("mmap", [0, 4096, 3, 0x22, u64::MAX, 0], "Local");
    check("mmap", [0, 4096, 3, 0x4_0022, u64::MAX, 0], "Special(Mmap)");
    check("mmap", [0, 4096, 3, 0x21, u64::MAX, 0], "Special(Mmap)");
    check("mmap", [0, 4096, 3, 0x02, 3, 0], "Special(Mmap)");
    check("rt_sigaction", [2, 0, 1, 8, 0, 0], "Local");
    check("rt_sigaction", [2, 1 << 32, 0, 8, 0, 0], "Special(Sigaction)");
    check("futex", [8, 0x80, 0, 0, 0, 0], "Local");
    check("futex", [8, 0x80, 0, 1 << 32, 0, 0], "Special(Sleep)");
    check("futex", [8, 0x189, 0, 8, 0, 0], "Local");
    check("clock_nanosleep", [1, 0, 8, 0, 0, 0], "Special(Sleep)");
    check("clock_nanosleep", [1, 1, 8, 0, 0, 0], "Local");
    check("clock_nanosleep", [0xffff_fffa, 1, 8, 0, 0, 0], "GoHome");
    check("get_robust_list", [0, 8, 8, 0, 0, 0], "Local");
    check("get_robust_list", [4711, 8, 8, 0, 0, 0], "Local");
    check("get_robust_list", [1, 8, 8, 0, 0, 0], "GoHome");
    check("setitimer", [0; 6], "Home");
    check("setitimer", [1, 0, 0, 0, 0, 0], "GoHome");
    check("personality", [0xffff_ffff, 0, 0, 0, 0, 0], "Home");
    check("personality", [0x40000, 0, 0, 0, 0, 0], "GoHome");
    check("prctl", [16, 8, 0, 0, 0, 0], "Local");
    check("prctl", [15, 8, 0, 0, 0, 0], "Special(Prctl)");
    check("arch_prctl", [0x1002, 0, 0, 0, 0, 0], "Local");
    check("arch_prctl", [0x1005, 0, 0, 0, 0, 0], "GoHome");
    assert_eq!(prctl_route(15), PrctlRoute::Both);
    assert_eq!(prctl_route(1), PrctlRoute::Home);
    assert_eq!(prctl_route(35), PrctlRoute::GoHome);
}

#[test]
fn commands_are_unique_and_the_kernels() {
    use linux_raw_sys::{general, ioctl, prctl};
    for family in [Family::Ioctl, Family::Fcntl, Family::Prctl] {
        for known in command::commands(family) {
            let found = command::command(family, known.number).expect(known.name);
            assert_eq!(found.name, known.name, "{:x} twice", known.number);
        }
    }
    let number = |family, name: &str| {
        command::commands(family).iter().find(|known| known.name == name).expect(name).number
    };
    macro_rules! same {
        ($family:ident, $module:ident: $($name:ident)*) => {
            $(assert_eq!(number(Family::$family, stringify!($name)), $module::$name, stringify!($name));)*
        };
    }
    same!(Ioctl, ioctl: TCGETS TCSETS TCSETSW TCSETSF TCSBRK TCXONC TCFLSH TIOCEXCL TIOCNXCL TIOCSCTTY TIOCGPGRP
        TIOCSPGRP TIOCOUTQ TIOCSTI TIOCGWINSZ TIOCSWINSZ TIOCMGET TIOCMBIS TIOCMBIC TIOCMSET FIONREAD TIOCCONS
        TIOCPKT FIONBIO TIOCNOTTY TIOCSETD TIOCGETD TCSBRKP TIOCSBRK TIOCCBRK TIOCGSID TIOCGPTN TIOCSPTLCK
        TIOCGDEV TIOCSIG TIOCVHANGUP TIOCGPKT TIOCGPTLCK TIOCGEXCL TIOCGPTPEER FIONCLEX FIOCLEX FIOASYNC FIOQSIZE
        FIGETBSZ FS_IOC_GETFLAGS FS_IOC_SETFLAGS FS_IOC_GETVERSION FS_IOC_SETVERSION FS_IOC_FSGETXATTR
        FS_IOC_FSSETXATTR FICLONE FICLONERANGE FIFREEZE FITHAW FITRIM BLKROSET BLKROGET BLKRRPART BLKGETSIZE
        BLKFLSBUF BLKRASET BLKRAGET BLKSSZGET BLKBSZGET BLKBSZSET BLKGETSIZE64 BLKDISCARD BLKIOMIN BLKIOOPT
        BLKALIGNOFF BLKPBSZGET BLKDISCARDZEROES BLKROTATIONAL BLKZEROOUT TUNSETIFF TUNSETPERSIST TUNGETFEATURES
        TUNGETIFF RTC_RD_TIME RNDGETENTCNT NS_GET_USERNS NS_GET_PARENT NS_GET_NSTYPE NS_GET_OWNER_UID);
    same!(Fcntl, general: F_DUPFD F_GETFD F_SETFD F_GETFL F_SETFL F_GETLK F_SETLK F_SETLKW F_SETOWN F_GETOWN F_SETSIG
        F_GETSIG F_SETOWN_EX F_GETOWN_EX F_GETOWNER_UIDS F_OFD_GETLK F_OFD_SETLK F_OFD_SETLKW F_SETLEASE F_GETLEASE
        F_NOTIFY F_DUPFD_CLOEXEC F_SETPIPE_SZ F_GETPIPE_SZ F_ADD_SEALS F_GET_SEALS F_GET_RW_HINT F_SET_RW_HINT
        F_GET_FILE_RW_HINT F_SET_FILE_RW_HINT);
    same!(Prctl, prctl: PR_SET_PDEATHSIG PR_GET_PDEATHSIG PR_GET_DUMPABLE PR_GET_KEEPCAPS PR_SET_KEEPCAPS PR_SET_NAME
        PR_CAPBSET_READ PR_CAPBSET_DROP PR_GET_SECUREBITS PR_SET_SECUREBITS PR_SET_CHILD_SUBREAPER
        PR_GET_CHILD_SUBREAPER PR_SET_NO_NEW_PRIVS PR_GET_NO_NEW_PRIVS PR_CAP_AMBIENT PR_SET_PTRACER);
}

#[test]
fn the_page_is_up_to_date() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/syscalls.md");
    let page = syscalls::page::markdown();
    if std::env::var_os("UPDATE_PAGES").is_some() {
        std::fs::write(path, &page).expect("docs/syscalls.md is writable");
    }
    let committed = std::fs::read_to_string(path).unwrap_or_default();
    assert!(committed == page, "docs/syscalls.md is out of date: run UPDATE_PAGES=1 cargo test -p syscalls");
}

/// What runs on a host runs in its kernel: docs/security.md says of each why a hostile guest can do no harm with it.
#[test]
fn every_call_that_runs_on_the_host_is_argued_for() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/security.md");
    let page = std::fs::read_to_string(path).expect("docs/security.md is there");
    let (_, behind) = page.split_once("## What a guest may call on its host").expect("it has the section");
    let (section, _) = behind.split_once("\n## ").expect("the section ends");
    let here = |route: Route| matches!(route, Route::Local | Route::Special(_));
    let runs_here = |row: &&Row| here(row.route) || row.cases.iter().any(|case| here(case.route));
    let missing: Vec<_> = syscalls::rows()
        .filter(runs_here)
        .map(|row| row.name)
        .filter(|name| !section.contains(&format!("`{name}`")))
        .collect();
    assert!(missing.is_empty(), "docs/security.md says nothing of {}", missing.join(", "));
}
