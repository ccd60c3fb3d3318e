//! What cannot be moved is refused with every reason, and goes on unharmed.
#![forbid(unsafe_code)]

use anyhow::{Result, bail, ensure};
use model::ReasonCode;
use std::process::ExitCode;
use std::time::{Duration, Instant};
use suite::{Cluster, Input, Place, Run, SOON, main as run, trial};

fn main() -> ExitCode {
    run(vec![
        trial("to-where-it-is", &["cc"], || refused_to("n1", ReasonCode::SameNode)),
        trial("home-while-at-home", &["cc"], || refused_to("home", ReasonCode::SameNode)),
        trial("to-an-unknown-node", &["cc"], || refused_to("n9", ReasonCode::UnknownNode)),
        trial("to-a-dead-node", &["cc"], to_a_dead_node),
        trial("no-such-process", &[], || refused_pid("4000000", ReasonCode::NoSuchProcess)),
        trial("pid-1", &[], || refused_pid("1", ReasonCode::Init)),
        trial("our-own-daemon", &[], our_own_daemon),
        trial("a-zombie", &["python3"], a_zombie),
        trial("of-another-user", &["cc"], of_another_user),
        trial("of-the-same-user", &["cc"], of_the_same_user),
        trial("of-32-bits", &["as", "ia32"], || refused_guest("thirtytwo", ReasonCode::Architecture)),
        trial("with-io-uring", &["cc", "io_uring"], || refused_guest("iouring", ReasonCode::IoUring)),
        trial("with-shared-memory", &["cc"], || refused_guest("shared", ReasonCode::SharedMemory)),
        trial("traced", &["cc", "strace"], traced),
        trial("for-two-reasons", &["cc", "strace", "io_uring"], for_two_reasons),
        trial("bad-arguments", &["cc"], bad_arguments),
    ])
}

/// A guest by its name alone, waiting for `finish`.
fn start<'a>(place: Place<'a>, name: &str) -> Result<Run<'a>> {
    let run = Run::command(place, &[format!("{}/{name}", place.guests()?)], Input::Pipes, String::new())?;
    run.expect("ready", 0)?;
    Ok(run)
}

fn unharmed(mut run: Run<'_>) -> Result<()> {
    let output = String::from_utf8_lossy(&run.finish(0)?).into_owned();
    ensure!(output.contains("unharmed"), "it said: {output}");
    Ok(())
}

/// The reasons are exactly these, as codes; and in words the refusal is one line.
fn refused(place: Place<'_>, pid: &str, to: &str, wanted: &[ReasonCode]) -> Result<()> {
    let refusal = match place.migrate(pid.parse()?, to)? {
        Ok(moved) => bail!("it was moved: {moved:?}"),
        Err(refusal) => refusal,
    };
    for code in wanted.iter().map(|code| code.code()) {
        ensure!(
            refusal.codes.iter().any(|said| said == code),
            "no {code} in {:?}: {}",
            refusal.codes,
            refusal.text
        );
    }
    ensure!(refusal.codes.len() == wanted.len(), "{:?} instead of {wanted:?}", refusal.codes);
    let status = status_of(wanted);
    ensure!(refusal.status == status, "om ended with {} instead of {status}", refusal.status);
    let words = place.shell(&format!("om migrate {pid} {to}"))?;
    ensure!(words.status == status, "without --json om ended with {}", words.status);
    ensure!(words.output.is_empty(), "om printed {}", words.output);
    ensure!(words.errors.trim().lines().count() == 1, "not one line: {}", words.errors);
    ensure!(!words.errors.contains("panicked"), "{}", words.errors);
    Ok(())
}

/// The exit status that scripts tell refusals apart by.
fn status_of(wanted: &[ReasonCode]) -> i32 {
    match wanted {
        [ReasonCode::NoSuchProcess | ReasonCode::UnknownNode] => 4,
        [ReasonCode::NotOwner] => 5,
        _ => 3,
    }
}

fn refused_to(to: &str, code: ReasonCode) -> Result<()> {
    let place = Cluster::shared()?.home();
    let run = start(place, "quiet")?;
    refused(place, &run.pid.to_string(), to, &[code])?;
    unharmed(run)
}

fn refused_pid(pid: &str, code: ReasonCode) -> Result<()> {
    refused(Cluster::shared()?.home(), pid, "n2", &[code])
}

fn refused_guest(name: &str, code: ReasonCode) -> Result<()> {
    let place = Cluster::shared()?.home();
    let run = start(place, name)?;
    refused(place, &run.pid.to_string(), "n2", &[code])?;
    let why = place.shell(&format!("om why {} --json", run.pid))?;
    ensure!(why.status == 3 && why.output.contains(code.code()), "om why: {} {}", why.status, why.output);
    unharmed(run)
}

/// The daemon of n3 stands still for a moment; the other trials do not use n3.
fn to_a_dead_node() -> Result<()> {
    let cluster = Cluster::shared()?;
    let run = start(cluster.home(), "quiet")?;
    cluster.node("n3").must("pkill -STOP -x omd")?;
    let answer = refused(cluster.home(), &run.pid.to_string(), "n3", &[ReasonCode::DeadNode]);
    cluster.node("n3").must("pkill -CONT -x omd")?;
    answer?;
    unharmed(run)
}

fn our_own_daemon() -> Result<()> {
    let place = Cluster::shared()?.home();
    let daemon = place.must("pgrep -o -x omd")?;
    refused(place, daemon.trim(), "n2", &[ReasonCode::OwnDaemon])
}

fn a_zombie() -> Result<()> {
    let place = Cluster::shared()?.home();
    let words = ["/usr/bin/python3".to_owned(), format!("{}/zombie.py", place.guests()?)];
    let run = Run::command(place, &words, Input::Pipes, String::new())?;
    run.expect("ready", 0)?;
    let said = run.output().text();
    let child = said.lines().find_map(|line| line.strip_prefix("child ")).unwrap_or_default().to_owned();
    refused(place, child.trim(), "n2", &[ReasonCode::Zombie])?;
    unharmed(run)
}

fn of_another_user() -> Result<()> {
    let cluster = Cluster::shared()?;
    let run = start(cluster.home(), "quiet")?;
    let pid = run.pid.to_string();
    let mut command = cluster.exec_as(Some("4242"), "n1", &["om", "migrate", &pid, "n2", "--json"], false);
    let output = command.output()?;
    let said =
        String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    let status = output.status.code();
    ensure!(
        status == Some(5) && said.contains(ReasonCode::NotOwner.code()),
        "om ended with {status:?}: {said}"
    );
    unharmed(run)
}

/// The owner needs no rights of root's.
fn of_the_same_user() -> Result<()> {
    let cluster = Cluster::shared()?;
    let script = format!(
        "{}/quiet < /tmp/fifo-4242 > /tmp/said-4242 & exec 3> /tmp/fifo-4242; sleep 0.3; \
         om migrate $! n2 --json && om migrate $! home --json; moved=$?; echo finish >&3; wait $!; \
         cat /tmp/said-4242; exit $moved",
        cluster.home().guests()?
    );
    let script = format!("mkfifo /tmp/fifo-4242; {script}");
    let output = cluster.exec_as(Some("4242"), "n1", &["sh", "-c", &script], false).output()?;
    let said =
        String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success() && said.contains("unharmed"), "{said}");
    Ok(())
}

/// Attaches strace to a process, and waits until it is.
fn trace<'a>(place: Place<'a>, pid: i32) -> Result<Run<'a>> {
    let words = ["strace", "-qq", "-o", "/dev/null", "-p", &pid.to_string()].map(str::to_owned);
    let tracer = Run::command(place, &words, Input::Pipes, String::new())?;
    let deadline = Instant::now() + SOON;
    while place.must(&format!("grep TracerPid /proc/{pid}/status"))?.trim().ends_with("\t0") {
        ensure!(Instant::now() < deadline, "strace did not attach: {}", tracer.said());
        std::thread::sleep(Duration::from_millis(20));
    }
    Ok(tracer)
}

fn traced() -> Result<()> {
    let place = Cluster::shared()?.home();
    let run = start(place, "quiet")?;
    let mut tracer = trace(place, run.pid)?;
    refused(place, &run.pid.to_string(), "n2", &[ReasonCode::Traced])?;
    place.must(&format!("kill -INT {}", tracer.pid))?;
    tracer.end(SOON)?;
    // The reason clears when its cause ends.
    let moved = place.migrate(run.pid, "n2")?;
    ensure!(moved.is_ok(), "{moved:?}");
    unharmed(run)
}

fn for_two_reasons() -> Result<()> {
    let place = Cluster::shared()?.home();
    let run = start(place, "iouring")?;
    let mut tracer = trace(place, run.pid)?;
    refused(place, &run.pid.to_string(), "n2", &[ReasonCode::Traced, ReasonCode::IoUring])?;
    place.must(&format!("kill -INT {}", tracer.pid))?;
    tracer.end(SOON)?;
    unharmed(run)
}

fn bad_arguments() -> Result<()> {
    let place = Cluster::shared()?.home();
    let run = start(place, "quiet")?;
    let pid = run.pid;
    let wrong = [
        "om migrate".to_owned(),
        format!("om migrate {pid}"),
        "om migrate x n2".to_owned(),
        "om migrate 0 n2".to_owned(),
        "om migrate -1 n2".to_owned(),
        "om migrate 99999999999 n2".to_owned(),
        format!("om migrate {pid} 0"),
        format!("om migrate {pid} 70000"),
        format!("om migrate {pid} ''"),
        format!("om migrate {pid} n2 n3"),
        format!("om migrate {pid} $(head -c 100000 /dev/zero | tr '\\0' x)"),
        "om where x".to_owned(),
        "om why 4000000".to_owned(),
        "om nonsense".to_owned(),
    ];
    for line in wrong {
        let said = place.shell(&line)?;
        let shown: String = line.chars().take(60).collect();
        ensure!(said.status != 0 && said.status < 126, "'{shown}' ended with {}", said.status);
        ensure!(
            !said.errors.trim().is_empty() && !said.errors.contains("panicked"),
            "'{shown}': {}",
            said.errors
        );
    }
    unharmed(run)
}
