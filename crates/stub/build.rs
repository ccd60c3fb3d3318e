//! Builds the blob with a cargo of its own and flattens it into one image with a list of relocations.
//!
//! Cargo cannot make one package's binary another's input on stable, so the blob is an excluded package. Everything
//! that the outer cargo leaks into the environment is scrubbed, or coverage or native flags would end up in the blob.

use object::{Object, ObjectSection, ObjectSegment, ObjectSymbol};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::{env, fs};

const TARGET: &str = "x86_64-unknown-linux-gnu";
const ENTRIES: [&str; 5] = ["stub_batch", "stub_deputy", "stub_syscall", "stub_restorer", "stub_handler"];
const BYTES_MAX: usize = 64 << 10;

fn main() {
    let here = PathBuf::from(env::var_os("CARGO_MANIFEST_DIR").expect("cargo sets it"));
    let out = PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets it"));
    let blob = here.join("blob");
    for watched in ["blob/src", "blob/Cargo.toml", "blob/Cargo.lock", "../stub-abi/src", "build.rs"] {
        println!("cargo::rerun-if-changed={}", here.join(watched).display());
    }
    let elf = build(&blob, &out.join("blob"));
    flatten(&elf, &out);
}

fn build(blob: &Path, target_dir: &Path) -> Vec<u8> {
    let flags = [
        "-Crelocation-model=pic",
        "-Ctarget-cpu=x86-64",
        "-Cforce-unwind-tables=no",
        "-Clinker=cc",
        "-Clink-arg=-nostdlib",
        "-Clink-arg=-nostartfiles",
        "-Clink-arg=-static-pie",
        "-Clink-arg=-Wl,--no-dynamic-linker",
        "-Clink-arg=-Wl,-e,stub_batch",
        "-Clink-arg=-Wl,--build-id=none",
        "-Clink-arg=-Wl,-z,norelro",
        "-Clink-arg=-Wl,-z,noexecstack",
        "-Clink-arg=-Wl,-z,noseparate-code",
        "-Clink-arg=-Wl,--gc-sections",
        "-Clink-arg=-Wl,--export-dynamic",
    ];
    let mut cargo = Command::new(env::var_os("CARGO").expect("cargo sets it"));
    for (name, _) in env::vars_os() {
        let Some(name) = name.to_str() else { continue };
        let kept = ["CARGO_HOME", "CARGO_MAKEFLAGS", "CARGO_NET_OFFLINE", "CARGO_TERM_COLOR"].contains(&name);
        let leaks =
            ["CARGO", "RUSTFLAGS", "RUSTC", "RUSTDOC", "DEP_"].iter().any(|prefix| name.starts_with(prefix))
                || ["TARGET", "HOST", "PROFILE", "OPT_LEVEL", "DEBUG", "NUM_JOBS", "LLVM_PROFILE_FILE"]
                    .contains(&name);
        if leaks && !kept {
            cargo.env_remove(name);
        }
    }
    cargo.env("RUSTC", env::var_os("RUSTC").expect("cargo sets it"));
    cargo.env("CARGO_ENCODED_RUSTFLAGS", flags.join("\u{1f}"));
    cargo
        .current_dir(blob)
        .args(["build", "--release", "--locked", "--target", TARGET, "--target-dir"])
        .arg(target_dir);
    let status = cargo.status().expect("cargo can be started");
    assert!(status.success(), "the blob did not build");
    fs::read(target_dir.join(TARGET).join("release/stub-blob")).expect("cargo built the blob")
}

fn flatten(elf: &[u8], out: &Path) {
    let file = object::File::parse(elf).expect("the blob is an ELF file");
    for symbol in file.symbols() {
        let name = symbol.name().unwrap_or("");
        assert!(!symbol.is_undefined() || name.is_empty(), "the blob lacks {name}");
    }
    for section in file.sections() {
        let tls = matches!(section.kind(), object::SectionKind::Tls | object::SectionKind::UninitializedTls);
        assert!(!tls, "the blob has thread-local storage");
    }
    let length = file
        .segments()
        .map(|segment| segment.address() + segment.size())
        .max()
        .expect("the blob has segments");
    let length = usize::try_from(length).expect("small").next_multiple_of(4096);
    assert!(length <= BYTES_MAX, "the blob has {length} bytes");
    let mut image = vec![0; length];
    for segment in file.segments() {
        let data = segment.data().expect("a segment has its data");
        let at = usize::try_from(segment.address()).expect("small");
        image[at..at + data.len()].copy_from_slice(data);
    }
    let mut relocations = Vec::new();
    for (at, relocation) in file.dynamic_relocations().into_iter().flatten() {
        let object::RelocationFlags::Elf { r_type } = relocation.flags() else {
            panic!("not an ELF relocation")
        };
        assert_eq!(r_type, object::elf::R_X86_64_RELATIVE, "only relative relocations can be applied");
        relocations.push((at, relocation.addend()));
    }
    let mut text = format!(
        "/// Relative relocations: offset and addend.\npub(crate) const RELOCATIONS: &[(u64, i64)] = &{relocations:?};\n"
    );
    for entry in ENTRIES {
        let address =
            file.symbol_by_name(entry).unwrap_or_else(|| panic!("the blob lacks {entry}")).address();
        text += &format!(
            "/// Offset of `{entry}`.\npub(crate) const {}: u64 = {address:#x};\n",
            entry.to_uppercase()
        );
    }
    fs::write(out.join("blob.bin"), image).expect("OUT_DIR is writable");
    fs::write(out.join("blob.rs"), text).expect("OUT_DIR is writable");
}
