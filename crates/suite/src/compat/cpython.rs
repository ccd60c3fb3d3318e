//! CPython's own tests, a module at a time.

use super::{Entry, LeftOut};
use crate::Bring;

const fn module(name: &'static str, left_out: &'static [LeftOut]) -> Entry {
    Entry {
        group: "CPython",
        name,
        package: "libpython3.11-testsuite",
        needs: &["python3", "python3:test.test_os"],
        brought: &[Bring::Guest("cpython.py")],
        line: "exec {python} cpython.py {name} {without}",
        tests: &[],
        without: "",
        left_out,
        differs: &[],
        in_ci: false,
    }
}

const fn in_ci(entry: Entry) -> Entry {
    Entry { in_ci: true, ..entry }
}

pub(super) const ENTRIES: &[Entry] = &[
    in_ci(module("test_os", &[])),
    in_ci(module("test_posix", &[])),
    module("test_signal", &[]),
    module("test_subprocess", &[]),
    module("test_threading", &[]),
    in_ci(module("test_thread", &[])),
    module(
        "test_socket",
        &[LeftOut {
            tests: &["*.InterruptedRecvTimeoutTest.*", "*.InterruptedSendTimeoutTest.*"],
            why: "they expect an alarm of 50 ms to find the program in the call behind it, which a freeze of that length puts off",
        }],
    ),
    in_ci(module("test_select", &[])),
    module("test_selectors", &[]),
    module("test_asyncio.test_base_events", &[]),
    module("test_asyncio.test_events", &[]),
    module("test_asyncio.test_futures", &[]),
    module("test_asyncio.test_locks", &[]),
    module("test_asyncio.test_queues", &[]),
    module("test_asyncio.test_runners", &[]),
    module("test_asyncio.test_selector_events", &[]),
    module("test_asyncio.test_sendfile", &[]),
    module("test_asyncio.test_server", &[]),
    module("test_asyncio.test_sock_lowlevel", &[]),
    module("test_asyncio.test_sslproto", &[]),
    module("test_asyncio.test_streams", &[]),
    module("test_asyncio.test_subprocess", &[]),
    module("test_asyncio.test_taskgroups", &[]),
    module("test_asyncio.test_tasks", &[]),
    module("test_asyncio.test_threads", &[]),
    module("test_asyncio.test_timeouts", &[]),
    module("test_asyncio.test_transports", &[]),
    module("test_asyncio.test_unix_events", &[]),
    module("test_asyncio.test_waitfor", &[]),
    in_ci(module("test_mmap", &[])),
    in_ci(module("test_fcntl", &[])),
    in_ci(module("test_pty", &[])),
    in_ci(module("test_tempfile", &[])),
    module(
        "test_time",
        &[LeftOut {
            tests: &["*.test_process_time", "*.test_thread_time"],
            why: "they allow 20 ms of CPU time in a sleep of 100 ms, and a move takes some",
        }],
    ),
    module(
        "test_io",
        &[LeftOut {
            tests: &["*SignalsTest.test_interrupted_write_unbuffered"],
            why: "a move ends a write to a pipe that has written a part of it, as a stop by SIGSTOP does; the test wants its alarm to end it",
        }],
    ),
    module("test_multiprocessing_fork", &[]),
    in_ci(module("test_resource", &[])),
    module("test_faulthandler", &[]),
    in_ci(module("test_gc", &[])),
];
