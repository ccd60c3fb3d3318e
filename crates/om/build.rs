//! How the tool is linked.
#![forbid(unsafe_code)]

fn main() {
    // At a fixed place nothing has to be relocated when it starts, which takes a third of the time otherwise: the tool is started
    // for each order, on the CPU of the processes that it is about. The daemon and its agents, to whom others speak, start once, at
    // a random place.
    println!("cargo:rustc-link-arg-bins=-no-pie");
    println!("cargo:rerun-if-changed=build.rs");
}
