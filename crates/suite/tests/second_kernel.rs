//! A cluster of two kernels and two kinds of CPUs: what may move between them does, the rest is refused.
#![forbid(unsafe_code)]

use anyhow::{Context as _, Result, bail, ensure};
use model::ReasonCode;
use serde_json::Value;
use std::process::ExitCode;
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};
use suite::machine::Machine;
use suite::{Cluster, Input, Place, Run, find, guest, main as run, native, trial};

/// Guests that the machine has.
const GUESTS: &[&str] = &["compute", "compute-static", "compute-go", "maker-static"];
const LOG: &str = "/var/log/openmosix/omd.log";
/// How long two daemons may take to find each other, one of them on an emulated CPU.
const COMPANY: Duration = Duration::from_secs(60);
/// How long a program computes between two moves.
const PAUSE: Duration = Duration::from_millis(250);
const NEEDS: &[&str] = &["second-kernel", "qemu-system-x86_64", "ip", "strip", "cc", "musl-gcc", "go"];

fn main() -> ExitCode {
    let ended = run(vec![
        trial("joins-the-cluster", NEEDS, joins),
        trial("a-static-program-goes-there-and-back", NEEDS, || there_and_back(From::Here, "compute-static")),
        trial("a-go-program-goes-there-and-back", NEEDS, || there_and_back(From::Here, "go")),
        trial("a-static-program-of-there-comes-here", NEEDS, || {
            there_and_back(From::There, "compute-static")
        }),
        trial("a-go-program-of-there-comes-here", NEEDS, || there_and_back(From::There, "go")),
        trial("clocks-are-read-there-under-signals", NEEDS, || makes_code(From::Here)),
        trial("clocks-are-read-here-under-signals", NEEDS, || makes_code(From::There)),
        trial("what-may-use-more-is-refused", NEEDS, || refused(From::Here)),
        trial("what-saves-its-registers-is-refused", NEEDS, || refused(From::There)),
    ]);
    match both_if_up().map(|both| both.cluster.end()) {
        Some(Err(error)) => {
            eprintln!("the lab did not end: {error:#}");
            ExitCode::FAILURE
        }
        _ => ended,
    }
}

/// The lab with n1, and the machine, which is n2 of its cluster.
struct Both {
    cluster: &'static Cluster,
    machine: Machine<'static>,
}

static BOTH: OnceLock<std::result::Result<Both, String>> = OnceLock::new();
static STARTING: Mutex<()> = Mutex::new(());

/// Both, started when they are first asked for.
fn both() -> Result<&'static Both> {
    let _one_at_a_time = STARTING.lock().unwrap_or_else(PoisonError::into_inner);
    let both = BOTH.get_or_init(|| start().map_err(|error| format!("{error:#}")));
    both.as_ref().map_err(|error| anyhow::anyhow!("{error}"))
}

fn both_if_up() -> Option<&'static Both> {
    BOTH.get()?.as_ref().ok()
}

fn start() -> Result<Both> {
    // It is used until the program ends.
    let cluster: &'static Cluster = Box::leak(Box::new(Cluster::bare(2)?));
    let machine = Machine::boot(cluster, "n2", "n2", GUESTS)?;
    println!("the machine runs commands after {:?}", machine.boot);
    let (first, second) = (cluster.home(), machine.place());
    cluster.bring_guests("n1")?;
    first.must("om init --id 1 --name n1")?;
    start_daemon(first)?;
    let told = first.must("om invite --id 2 --name n2 --address 10.77.0.1:4660 --json")?;
    let token = find(&told, "token").and_then(|token| token.as_str().map(str::to_owned));
    second.must(&format!("om join {}", token.with_context(|| told.clone())?))?;
    start_daemon(second)?;
    let began = Instant::now();
    while !row_of_machine(first)?["alive"].as_bool().unwrap_or(false) {
        ensure!(began.elapsed() < COMPANY, "n1 does not see the machine: {}", logs(first, second));
        std::thread::sleep(Duration::from_millis(100));
    }
    Ok(Both { cluster, machine })
}

fn start_daemon(place: Place<'_>) -> Result<()> {
    place.must(&format!("mkdir -p /var/log/openmosix; omd < /dev/null > /dev/null 2>> {LOG} &"))?;
    let deadline = Instant::now() + COMPANY;
    while place.shell("om nodes --json")?.status != 0 {
        ensure!(Instant::now() < deadline, "no daemon: {}", place.must(&format!("cat {LOG}"))?);
        std::thread::sleep(Duration::from_millis(100));
    }
    Ok(())
}

fn logs(first: Place<'_>, second: Place<'_>) -> String {
    let log = |place: Place<'_>| place.must(&format!("cat {LOG}")).unwrap_or_else(|error| error.to_string());
    format!("n1: {}\nn2: {}", log(first), log(second))
}

/// What n1 says of the machine; nothing if it does not know it.
fn row_of_machine(first: Place<'_>) -> Result<Value> {
    let said = first.must("om nodes --json")?;
    let rows = find(&said, "nodes").context("om nodes says nothing")?;
    let mut rows = rows.as_array().into_iter().flatten();
    Ok(rows.find(|row| row["id"] == 2).cloned().unwrap_or(Value::Null))
}

/// Where a program is started.
#[derive(Clone, Copy)]
enum From {
    /// On n1, which has this machine's kernel and CPU.
    Here,
    /// On the machine.
    There,
}

impl From {
    /// Its home, and the name of the other node.
    fn places(self, both: &'static Both) -> (Place<'static>, &'static str) {
        match self {
            From::Here => (both.cluster.home(), "n2"),
            From::There => (both.machine.place(), "n1"),
        }
    }
}

/// It computes the same as natively, twice away and twice at home.
fn there_and_back(from: From, name: &str) -> Result<()> {
    let natively = native(&guest(name))?;
    let (home, other) = from.places(both()?);
    let mut run = Run::start(home, &guest(name))?;
    for to in [other, "home", other, "home"] {
        run.send(b"step\n")?;
        std::thread::sleep(PAUSE);
        if let Err(refusal) = home.migrate_patiently(run.pid, to)? {
            bail!("not moved to {to}: {refusal:?}\n{}", run.said());
        }
    }
    run.send(b"step\n")?;
    let output = run.finish(natively.status)?;
    let (is, was) = (String::from_utf8_lossy(&output), String::from_utf8_lossy(&natively.output));
    ensure!(is == was, "it printed\n{is}\nnatively\n{was}");
    Ok(())
}

/// It reads clocks there and at home, with a signal every few milliseconds. Then it makes code: who is away because of the
/// code that it has comes home for that, and leaves no more.
fn makes_code(from: From) -> Result<()> {
    let (home, other) = from.places(both()?);
    let words = [format!("{}/maker-static", home.guests()?)];
    let mut run = Run::command(home, &words, Input::Pipes, String::new())?;
    run.expect("ready", 0)?;
    let go = |run: &Run<'_>, to: &str| -> Result<()> {
        match home.migrate_patiently(run.pid, to)? {
            Ok(_) => Ok(()),
            Err(refusal) => bail!("not moved to {to}: {refusal:?}\n{}", run.said()),
        }
    };
    for to in [other, "home", other, "home", other] {
        std::thread::sleep(PAUSE);
        go(&run, to)?;
    }
    run.send(b"code\n")?;
    run.expect("made 42", 0)?;
    let home_number = match from {
        From::Here => 1,
        From::There => 2,
    };
    ensure!(
        home.whereabouts(run.pid)? == home_number,
        "it has made code on a CPU for which it was not looked at"
    );
    let refusal = match home.migrate_patiently(run.pid, other)? {
        Ok(moved) => bail!("with code of its own making it was moved: {moved:?}"),
        Err(refusal) => refusal,
    };
    ensure!(refusal.codes == [ReasonCode::CpuFeatures.code()], "{refusal:?}");
    let output = String::from_utf8_lossy(&run.finish(0)?).into_owned();
    ensure!(output.ends_with("unharmed\n"), "it printed {output}");
    Ok(())
}

/// A dynamically linked program has seen all that its CPU has, and saves its registers in areas of that CPU's size: also on
/// a larger CPU they would be too small.
fn refused(from: From) -> Result<()> {
    let (home, other) = from.places(both()?);
    let mut run = Run::start(home, &guest("compute"))?;
    run.send(b"step\n")?;
    let refusal = match home.migrate(run.pid, other)? {
        Ok(moved) => bail!("it was moved: {moved:?}"),
        Err(refusal) => refusal,
    };
    ensure!(refusal.codes == [ReasonCode::CpuFeatures.code()], "{refusal:?}");
    ensure!(refusal.text.contains("register area of "), "{}", refusal.text);
    run.send(b"step\n")?;
    drop(run.finish(0)?);
    Ok(())
}

fn joins() -> Result<()> {
    let both = both()?;
    let row = row_of_machine(both.cluster.home())?;
    let kernel = row["kernel"].as_str().unwrap_or_default();
    ensure!(kernel.starts_with("6.1."), "its kernel is {kernel}");
    Ok(())
}
