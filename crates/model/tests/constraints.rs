//! The page of the reasons why a process cannot move is written from the table of reasons.
#![forbid(unsafe_code)]

use model::ReasonCode as Code;
use std::fmt::Write as _;

const HEAD: &str = "\
# Why a process cannot move

What `om why PID` and a refused `om migrate` say. The code is what `--json` prints. Written from the table in
`crates/model/src/reason.rs`; `cargo test -p model` tells when it is out of date, and with `UPDATE_PAGES=1` in the environment
brings it up to date.

| code | in words | comes from | cleared when |
|---|---|---|---|
";

/// What a reason comes from, and when it no longer holds.
fn origin(code: Code) -> (&'static str, &'static str) {
    match code {
        Code::NoSuchProcess => ("the pid asked for; /proc", "give the pid of a running process"),
        Code::Zombie => ("its state in /proc/PID/stat", "its parent waits for it"),
        Code::KernelThread => ("its flags in /proc/PID/stat", "never"),
        Code::Init => ("its pid", "never"),
        Code::OwnDaemon => ("its program, which is one of the cluster's own", "never"),
        Code::NotOwner => ("the user who asks", "its owner or root asks"),
        Code::SameNode => ("where it is now", "name another node"),
        Code::UnknownNode => ("the roster of the cluster", "the node joins"),
        Code::DeadNode => ("the connection to the node", "the node answers again"),
        Code::Guest => ("the node asked is not its home", "ask its home node"),
        Code::Refused => {
            ("the rules and the state of the node it is to go to", "that node takes guests again")
        }
        Code::Busy => ("a move of it that is under way, or a program that has just begun", "that is over"),
        Code::Traced => ("TracerPid in /proc/PID/status", "the debugger lets it go"),
        Code::Architecture => ("its executable, or its code segment when it is frozen", "never"),
        Code::IoUring => ("a descriptor or mapping of it", "it closes and unmaps the rings"),
        Code::Aio => ("a mapping of it", "it destroys its contexts (`io_destroy`)"),
        Code::Userfaultfd => ("a descriptor of it, or the flags of a mapping", "it closes the descriptor"),
        Code::SharedMemory => (
            "a shared mapping of no file on a disk that another process maps too, or that has a name or a descriptor (memfd, System V, /dev/shm)",
            "it unmaps it; or the others that map it have ended",
        ),
        Code::SharedMapping => (
            "a shared mapping of a file that may change, if another process maps it too or has it open; or if it is empty, on a file system that other machines may change, mapped privately as well, or if there are more than 256 MB of such files",
            "the others unmap and close it; or it unmaps it",
        ),
        Code::DeviceMapping => (
            "a mapping of a device or of its registers, or a descriptor of the hypervisor or the performance counters",
            "it unmaps or closes it",
        ),
        Code::SharesMemoryMap => {
            ("its parent or a child runs on its memory", "that process ends or becomes another program")
        }
        Code::VforkParent => {
            ("nothing now: `shares-memory-map` says it", "the child ends or becomes another program")
        }
        Code::RealTime => {
            ("the scheduling class of a thread", "the thread has an ordinary class (`chrt -o -p 0 TID`)")
        }
        Code::IoPorts => ("nothing now", "it gives up the access"),
        Code::Seccomp => ("Seccomp in /proc/PID/status", "never: a filter stays for ever"),
        Code::UserDispatch => ("nothing now", "it turns the dispatching off"),
        Code::HugePages => ("a mapping of it", "it unmaps it"),
        Code::SecretMemory => ("a mapping of it", "it unmaps it"),
        Code::SealedMemory => ("the flags of a mapping", "never: a seal stays for ever"),
        Code::LockedMemory => ("the flags of a mapping", "it unlocks it (`munlock`)"),
        Code::CpuTimer => ("a timer of it in /proc/PID/timers", "it deletes the timer"),
        Code::PosixTimer => ("a timer of it in /proc/PID/timers", "it deletes the timer"),
        Code::Signalfd => ("a descriptor of it", "it closes the descriptor"),
        Code::Namespaces => ("NSpid in /proc/PID/status", "never"),
        Code::Limits => (
            "its resource limits, or an address space without a gap",
            "its limits are raised, or it unmaps something",
        ),
        Code::TooLarge => (
            "its threads in /proc/PID/task, its mappings in /proc/PID/smaps, and what the other node takes",
            "it has fewer of them",
        ),
        Code::CpuFeatures => (
            "the CPUs of both nodes, and what it may have seen of its own",
            "it goes to a node that has them",
        ),
        Code::Kernel => (
            "the kernel of the node it is to go to",
            "that node has a newer kernel, or another node is chosen",
        ),
        Code::Memory => ("the memory of the node it is to go to", "that node has more of it free"),
        Code::Disk => ("the disk of the node it is to go to", "that node has more room"),
        Code::Unreadable => (
            "a file that it maps and that cannot be opened, or that somebody writes to while it is sent",
            "the file can be read, and is as it was at the end of that",
        ),
        Code::Stuck => (
            "a thread that does not stop, mostly one that waits for a disk or a network file system",
            "the wait is over",
        ),
        Code::Stopped => (
            "a thread that was stopped at home in a `nanosleep`, `poll` or `futex` with a time, which it will go on with",
            "it is continued (`kill -CONT PID`)",
        ),
        Code::Locked => (
            "what its owner has said about it; `om why` tells it as a reason to stay",
            "its owner unlocks it",
        ),
    }
}

#[test]
fn the_page_is_up_to_date() {
    let mut page = HEAD.to_owned();
    for &code in Code::ALL {
        let (from, cleared) = origin(code);
        let _ = writeln!(page, "| `{}` | {} | {from} | {cleared} |", code.code(), code.words());
    }
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/constraints.md");
    if std::env::var_os("UPDATE_PAGES").is_some() {
        std::fs::write(path, &page).expect("docs/constraints.md is writable");
    }
    let committed = std::fs::read_to_string(path).unwrap_or_default();
    assert!(committed == page, "docs/constraints.md is out of date: run UPDATE_PAGES=1 cargo test -p model");
}
