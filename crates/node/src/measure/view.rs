//! How much of the machine a node sees.

/// Number of the pid namespace that the machine starts with (`include/linux/proc_ns.h`, `PROC_PID_INIT_INO`).
const FIRST_PID_NAMESPACE: &str = "pid:[4026531836]";

/// What the processes that a node sees are of the machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum View {
    /// All: the machine is the node.
    WholeMachine,
    /// A part: what the kernel counts for the machine is not about this node.
    Part,
}

impl View {
    /// Of this process.
    pub(super) fn own() -> View {
        let namespace = std::fs::read_link("/proc/self/ns/pid").unwrap_or_default();
        if namespace.as_os_str() == FIRST_PID_NAMESPACE { View::WholeMachine } else { View::Part }
    }
}
