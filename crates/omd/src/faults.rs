//! The daemon with faults on demand, for the suite only.
#![forbid(unsafe_code)]

#[path = "main.rs"]
mod program;

fn main() -> std::process::ExitCode {
    program::main()
}
