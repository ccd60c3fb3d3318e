//! Where guests are built: once, into `target/guests`.

use crate::needs;
use anyhow::{Context as _, Result, ensure};
use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

/// Guests in C that are linked statically as well.
const STATIC_TOO: &[&str] = &["compute", "maker"];

/// The built guests, and the programs of the project.
pub struct Workshop {
    /// Directory of the guests: programs and scripts.
    pub guests: PathBuf,
    /// Directory of `om` and `omd`.
    pub programs: PathBuf,
    /// Directory of the sources of Debian's packages, a directory each.
    pub sources: PathBuf,
    /// Directory of the second kernel, as its package has it.
    pub kernel: PathBuf,
    /// Directory of what is kept of the tests of other projects, for the next page of them.
    pub records: PathBuf,
    /// Directory for the scratch directories of native runs.
    pub scratch: PathBuf,
}

impl Workshop {
    /// The workshop, with every guest built that can be built here.
    pub fn open() -> Result<&'static Workshop> {
        static OPEN: OnceLock<std::result::Result<Workshop, String>> = OnceLock::new();
        OPEN.get_or_init(|| open().map_err(|error| format!("{error:#}")))
            .as_ref()
            .map_err(|error| anyhow::anyhow!("{error}"))
    }
}

/// A directory with programs that have faults on demand, built for this.
pub fn faulty_programs() -> Result<PathBuf> {
    let programs = &Workshop::open()?.programs;
    let mut build = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    build.args(["build", "--quiet", "--package", "omd", "--bin", "omd-faults", "--features", "faults"]);
    if programs.ends_with("release") {
        build.arg("--release");
    }
    build.current_dir(env!("CARGO_MANIFEST_DIR"));
    ensure!(build.status().context("failed to start cargo")?.success(), "failed to build omd-faults");
    let faulty = programs.join("faulty");
    fs::create_dir_all(&faulty).context("failed to make the directory of faulty programs")?;
    for (from, to) in [("om", "om"), ("omd-faults", "omd")] {
        replace(&faulty.join(to), |path| Ok(fs::copy(programs.join(from), path).map(|_| ())?))?;
    }
    Ok(faulty)
}

fn open() -> Result<Workshop> {
    let own = env::current_exe().context("failed to find our own program")?;
    // target/PROFILE/deps/TEST-HASH or target/PROFILE/PROGRAM.
    let profile = own.ancestors().find(|path| path.ends_with("release") || path.ends_with("debug"));
    let profile = profile.context("our own program is in no directory of cargo's")?;
    let target = profile.parent().context("cargo's directory has no parent")?;
    let programs = env::var_os("OM_BIN_DIR").map_or_else(|| profile.to_owned(), PathBuf::from);
    let workshop = Workshop {
        guests: target.join("guests"),
        programs,
        sources: target.join("debian-sources"),
        kernel: target.join("debian-kernel"),
        records: target.join("compat"),
        scratch: target.join("guests-scratch"),
    };
    fs::create_dir_all(&workshop.guests).context("failed to make the directory of guests")?;
    let sources = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../guests");
    for entry in fs::read_dir(&sources).context("failed to read guests/")? {
        build(&entry?.path(), &workshop.guests)?;
    }
    Ok(workshop)
}

fn build(source: &Path, guests: &Path) -> Result<()> {
    let stem = source.file_stem().unwrap_or_default().to_string_lossy().into_owned();
    let (from, to) = (source.to_string_lossy(), guests.to_string_lossy());
    match source.extension().and_then(|extension| extension.to_str()) {
        Some("c") => {
            compile(source, guests, &stem, &["cc", "-O1", "-pthread", &from, "-o"])?;
            if STATIC_TOO.contains(&stem.as_str()) {
                compile(
                    source,
                    guests,
                    &format!("{stem}-static"),
                    &["musl-gcc", "-O1", "-static", &from, "-o"],
                )?;
            }
        }
        Some("go") => {
            // The cache of the Go compiler may be in a home that is not ours; ours is beside the guests.
            let cache = format!("GOCACHE={to}/go-cache");
            let go = ["go", "build", "-o"];
            let environment = ["env", &cache, "GO111MODULE=off", "CGO_ENABLED=0"];
            compile_to(
                source,
                guests,
                &format!("{stem}-go"),
                "go",
                &[&environment[..], &go[..]].concat(),
                &[&from],
            )?;
        }
        Some("s") => {
            let script = format!("as --32 -o {to}/{stem}.o {from} && ld -m elf_i386 {to}/{stem}.o -o \"$0\"");
            compile(source, guests, &stem, &["sh", "-c", &script])?;
        }
        Some("py" | "pl" | "sh" | "awk" | "java") => {
            let copy = guests.join(source.file_name().unwrap_or_default());
            if is_older(&copy, source) {
                replace(&copy, |path| Ok(fs::copy(source, path).map(|_| ())?))?;
            }
        }
        _ => {}
    }
    Ok(())
}

/// Compiles unless it is done; without the compiler it does nothing: the guests that need it say so themselves.
fn compile(source: &Path, guests: &Path, name: &str, command: &[&str]) -> Result<()> {
    compile_to(source, guests, name, command[0], command, &[])
}

fn compile_to(
    source: &Path,
    guests: &Path,
    name: &str,
    needs: &str,
    command: &[&str],
    rest: &[&str],
) -> Result<()> {
    let program = guests.join(name);
    let header = source.with_file_name("guest.h");
    if needs::missing(&[needs]).is_some() || !(is_older(&program, source) || is_older(&program, &header)) {
        return Ok(());
    }
    replace(&program, |path| {
        let output = Command::new(command[0]).args(&command[1..]).arg(path).args(rest).output();
        let output = output.with_context(|| format!("failed to start {}", command[0]))?;
        let said = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "failed to build the guest {name}: {said}");
        Ok(())
    })
}

/// Makes a file under another name first, so that another test program never sees half of it.
fn replace(path: &Path, make: impl FnOnce(&Path) -> Result<()>) -> Result<()> {
    let new = path.with_extension(format!("new-{}", std::process::id()));
    make(&new)?;
    fs::rename(&new, path).with_context(|| format!("failed to make {}", path.display()))
}

fn is_older(built: &Path, source: &Path) -> bool {
    let modified = |path: &Path| fs::metadata(path).and_then(|metadata| metadata.modified()).ok();
    match (modified(built), modified(source)) {
        (Some(built), Some(source)) => built < source,
        (None, _) => true,
        (Some(_), None) => false,
    }
}
