//! Paths under which a process looks at itself.
//!
//! At home they would show the deputy, whose memory is gone. So the warden takes a process home before it opens one,
//! except for those entries that the deputy still has: descriptors, directories, namespaces, names, limits.

/// Entries of `/proc/PID` that are right at home.
const RIGHT_AT_HOME: &[&[u8]] = &[
    b"attr",
    b"autogroup",
    b"cgroup",
    b"cmdline",
    b"comm",
    b"cpuset",
    b"cwd",
    b"environ",
    b"exe",
    b"fd",
    b"fdinfo",
    b"gid_map",
    b"limits",
    b"loginuid",
    b"mountinfo",
    b"mounts",
    b"mountstats",
    b"net",
    b"ns",
    b"oom_adj",
    b"oom_score_adj",
    b"projid_map",
    b"root",
    b"sessionid",
    b"setgroups",
    b"uid_map",
];

/// Whether an absolute path names something about the process itself that its deputy would answer wrongly.
///
/// Judged by the path alone: links elsewhere that lead into `/proc` are not followed. The bare directory
/// (`/proc/self`) has the same entries at home.
pub fn describes_oneself(path: &[u8], pid: i32) -> bool {
    let mut parts: Vec<&[u8]> = Vec::new();
    if path.first() != Some(&b'/') {
        return false;
    }
    for part in path.split(|&byte| byte == b'/') {
        match part {
            b"" | b"." => {}
            b".." => {
                parts.pop();
            }
            _ => parts.push(part),
        }
        // Beyond such an entry lies something else: `/proc/self/root/proc/...` is another question, asked of a link.
        if let [b"proc", _, entry] | [b"proc", _, b"task", _, entry] = parts.as_slice()
            && RIGHT_AT_HOME.contains(entry)
        {
            return false;
        }
    }
    let [b"proc", who, rest @ ..] = parts.as_slice() else { return false };
    let oneself = matches!(*who, b"self" | b"thread-self") || *who == pid.to_string().as_bytes();
    oneself && !rest.is_empty()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_deputy_would_answer_wrongly() {
        let wrong = "/proc/self/maps /proc/4711/smaps /proc//self/./stat /proc/thread-self/status /proc/self/task \
            /proc/self/task/4712/stat /../proc/self/mem /proc/self/task/../maps /proc/tty/../self/statm";
        let right = "/etc/passwd /proc /proc/self /proc/self/ /proc/cpuinfo /proc/1/maps /proc/self/fd/3 /proc/self/exe \
            /proc/4711/cmdline /proc/self/root/proc/x /proc/self/task/4712/comm proc/self/maps /proc/self/../meminfo \
            /proc/47110/maps /dev/fd/0 /proc/self/fd/../maps";
        for path in wrong.split_whitespace() {
            assert!(describes_oneself(path.as_bytes(), 4711), "{path}");
        }
        for path in right.split_whitespace() {
            assert!(!describes_oneself(path.as_bytes(), 4711), "{path}");
        }
        assert!(!describes_oneself(b"", 4711));
    }
}
