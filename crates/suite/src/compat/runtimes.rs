//! The tests of languages and servers, from the sources of Debian's packages, run by the installed programs.

use super::{Entry, Known};
use crate::Bring;

const PERL: Entry = Entry {
    group: "perl",
    name: "",
    package: "perl (source)",
    needs: &["python3", "perl", "source:perl"],
    brought: &[Bring::Guest("told.py"), Bring::Debian("perl")],
    // The tests look for the perl they are to test beside them, and for its library one above: both are the installed ones.
    line: "set -e; mkdir -p perl/lib; \
           for part in $(perl -e 'print join(q( ), grep { m(^/usr/(share|lib/.*)/perl(/5|-base)) } @INC)'); do \
           cp -rsn $part/. perl/lib/; done; \
           ln -s $(command -v perl) perl/t/perl; \
           {python} told.py --in perl/t {without} tap ./perl {} -- {tests}; rm -rf perl",
    tests: &[],
    without: "--without=",
    left_out: &[],
    differs: &[],
    in_ci: false,
};

const TCL: Entry = Entry {
    group: "tcl",
    name: "",
    package: "tcl8.6 (source)",
    needs: &["python3", "tclsh", "source:tcl8.6"],
    brought: &[Bring::Guest("told.py"), Bring::Debian("tcl8.6")],
    line: "set -e; {python} told.py --in tcl8.6/tests {without} tcl tclsh {} -verbose ps -- {tests}; rm -rf tcl8.6",
    ..PERL
};

const REDIS: Entry = Entry {
    group: "redis",
    name: "",
    package: "redis (source)",
    needs: &["python3", "tclsh", "redis-server", "redis-benchmark", "source:redis"],
    brought: &[Bring::Guest("told.py"), Bring::Debian("redis")],
    line: "set -e; mkdir redis/src; for program in server cli benchmark check-aof check-rdb; do \
           ln -s $(command -v redis-$program) redis/src/; done; \
           {python} told.py --in redis {without} redis tclsh tests/test_helper.tcl --clients 1 --single {} -- {tests}; \
           rm -rf redis",
    ..PERL
};

pub(super) const ENTRIES: &[Entry] = &[
    Entry {
        name: "t/op: processes and signals",
        tests: &[
            "op/alarm.t",
            "op/die_exit.t",
            "op/exec.t",
            "op/fork.t",
            "op/getpid.t",
            "op/getppid.t",
            "op/kill0.t",
            "op/select.t",
            "op/sigdispatch.t",
            "op/sigsystem.t",
            "op/sleep.t",
            "op/sselect.t",
            "op/threads.t",
            "op/threads-dirh.t",
            "op/time.t",
            "op/waitpid.t",
        ],
        ..PERL
    },
    Entry {
        name: "t/op: files",
        tests: &[
            "op/chdir.t",
            "op/filetest.t",
            "op/filetest_t.t",
            "op/glob.t",
            "op/lfs.t",
            "op/mkdir.t",
            "op/print.t",
            "op/read.t",
            "op/readline.t",
            "op/stat.t",
            "op/sysio.t",
            "op/unlink.t",
            "op/write.t",
        ],
        ..PERL
    },
    Entry {
        name: "t/op: the language",
        tests: &[
            "op/array.t",
            "op/closure.t",
            "op/each.t",
            "op/eval.t",
            "op/goto.t",
            "op/hash.t",
            "op/inc.t",
            "op/local.t",
            "op/method.t",
            "op/numconvert.t",
            "op/pack.t",
            "op/pow.t",
            "op/rand.t",
            "op/ref.t",
            "op/sort.t",
            "op/split.t",
            "op/sprintf.t",
            "op/sprintf2.t",
            "op/substr.t",
            "op/tie.t",
            "op/tr.t",
            "op/vec.t",
        ],
        ..PERL
    },
    Entry {
        name: "t/io",
        tests: &[
            "io/argv.t",
            "io/closepid.t",
            "io/dup.t",
            "io/eintr.t",
            "io/eintr_print.t",
            "io/errno.t",
            "io/errnosig.t",
            "io/fs.t",
            "io/inplace.t",
            "io/msg.t",
            "io/open.t",
            "io/openpid.t",
            "io/pipe.t",
            "io/read.t",
            "io/sem.t",
            "io/shm.t",
            "io/socket.t",
            "io/socketpair.t",
            "io/tell.t",
        ],
        ..PERL
    },
    Entry {
        name: "events, processes, files",
        differs: &[Known {
            tests: &["socket.test: socket-14.15"],
            why: "socket-14.15, seen once: it gives another program no more time to answer than a latency measured before",
        }],
        tests: &[
            "chan.test",
            "chanio.test",
            "event.test",
            "exec.test",
            "fCmd.test",
            "fileName.test",
            "fileSystem.test",
            "io.test",
            "ioCmd.test",
            "iogt.test",
            "pid.test",
            "socket.test",
            "timer.test",
            "unixFCmd.test",
            "unixFile.test",
        ],
        ..TCL
    },
    Entry {
        name: "the language",
        tests: &[
            "async.test",
            "basic.test",
            "binary.test",
            "clock.test",
            "coroutine.test",
            "dict.test",
            "encoding.test",
            "expr.test",
            "interp.test",
            "list.test",
            "namespace.test",
            "oo.test",
            "proc.test",
            "regexp.test",
            "string.test",
            "trace.test",
            "zlib.test",
        ],
        ..TCL
    },
    Entry {
        name: "types",
        tests: &[
            "unit/type/hash",
            "unit/type/incr",
            "unit/type/list",
            "unit/type/set",
            "unit/type/string",
            "unit/type/zset",
        ],
        ..REDIS
    },
    Entry {
        name: "server",
        tests: &[
            "unit/auth",
            "unit/dump",
            "unit/expire",
            "unit/keyspace",
            "unit/multi",
            "unit/protocol",
            "unit/pubsub",
            "unit/quit",
            "unit/scan",
            "unit/scripting",
            "unit/sort",
        ],
        ..REDIS
    },
];
