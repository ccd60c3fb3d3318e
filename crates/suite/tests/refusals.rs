//! What cannot be moved is refused with every reason, and goes on unharmed.
#![forbid(unsafe_code)]

use anyhow::{Result, bail, ensure};
use model::ReasonCode;
use std::process::ExitCode;
use std::time::{Duration, Instant};
use suite::{Cluster, Input, Place, Run, SOON, Stop, main as run, trial};

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
        trial("of-a-thread", &["python3"], of_a_thread),
        trial("while-it-moves", &["python3"], while_it_moves),
        trial("to-a-node-without-daemon", &["cc"], to_a_node_without_daemon),
        trial("to-a-full-disk", &["cc"], to_a_full_disk),
        trial("to-little-memory", &["python3"], to_little_memory),
        trial("out-of-memory-midway", &["python3"], out_of_memory_midway),
        trial("for-two-reasons", &["cc", "strace", "io_uring"], for_two_reasons),
        trial("why-lists-all", &["python3", "python3:ctypes"], why_lists_all),
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

/// The daemon of n3 is gone, in a lab of its own; a guest that n3 has goes on, since it does not depend on it.
fn to_a_node_without_daemon() -> Result<()> {
    let cluster = Cluster::up(&[])?;
    let (staying, hosted) = (start(cluster.home(), "quiet")?, start(cluster.home(), "quiet")?);
    hosted.go(Stop::N3)?;
    let n3 = cluster.node("n3");
    n3.must("kill -KILL $(pgrep -o -x omd)")?;
    refused(cluster.home(), &staying.pid.to_string(), "n3", &[ReasonCode::DeadNode])?;
    hosted.go(Stop::Home)?;
    unharmed(hosted)?;
    unharmed(staying)
}

/// The host's cache has no room for the program's files.
fn to_a_full_disk() -> Result<()> {
    let cluster = Cluster::up(&[])?;
    let run = start(cluster.home(), "quiet")?;
    let host = cluster.node("n2");
    host.must("mount -t tmpfs -o size=200k tmpfs /var/cache/openmosix")?;
    refused(cluster.home(), &run.pid.to_string(), "n2", &[ReasonCode::Disk])?;
    let left = host.must("find /var/cache/openmosix -type f -name '.*'")?;
    ensure!(left.is_empty(), "halves of files are left: {left}");
    host.must("umount /var/cache/openmosix")?;
    run.go(Stop::N2)?;
    unharmed(run)
}

/// A program that holds this much memory, and looks in the end whether it is as it was.
fn large(place: Place<'_>, megabytes: u32) -> Result<Run<'_>> {
    let program = format!(
        "x = b'x' * ({megabytes} << 20)\nprint('ready', flush=True)\ninput()\n\
         print('unharmed' if x.count(b'x') == len(x) else 'broken')"
    );
    let words = ["/usr/bin/python3".to_owned(), "-c".to_owned(), program];
    let run = Run::command(place, &words, Input::Pipes, String::new())?;
    run.expect("ready", 0)?;
    Ok(run)
}

fn to_little_memory() -> Result<()> {
    let cluster = Cluster::up(&["--mem", "2G,200M,2G"])?;
    let run = large(cluster.home(), 250)?;
    refused(cluster.home(), &run.pid.to_string(), "n2", &[ReasonCode::Memory])?;
    // The reason is the node's, not the process's.
    run.go(Stop::N3)?;
    unharmed(run)
}

/// The host has room when it is asked, and no longer when half of the memory is there.
fn out_of_memory_midway() -> Result<()> {
    let cluster = Cluster::up(&["--mem", "2G,300M,2G", "--rate", "200mbit"])?;
    let run = large(cluster.home(), 150)?;
    let host = cluster.node("n2");
    // The files are there already: what remains takes some seconds, and is memory.
    let guest = start(cluster.home(), "quiet")?;
    guest.go(Stop::N2)?;
    unharmed(guest)?;
    let refusal = std::thread::scope(|scope| {
        let asking = scope.spawn(|| cluster.home().migrate(run.pid, "n2"));
        await_line(host, "ls /run/openmosix/warden", "sock")?;
        std::thread::sleep(Duration::from_secs(1));
        host.must("dd if=/dev/zero of=/tmp/full bs=1M count=180 2>&1")?;
        asking.join().map_err(|_| anyhow::anyhow!("the asker panicked"))?
    })?;
    let Err(refusal) = refusal else { bail!("it was moved all the same: {refusal:?}") };
    ensure!(refusal.codes == [ReasonCode::Memory.code()] && refusal.status == 3, "{refusal:?}");
    ensure!(!refusal.text.contains("panicked"), "{}", refusal.text);
    host.must("rm /tmp/full")?;
    run.go(Stop::N2)?;
    run.go(Stop::Home)?;
    unharmed(run)
}

/// Two who want to move it at once: the second hears that it is being moved, and `om where` answers meanwhile.
fn while_it_moves() -> Result<()> {
    let cluster = Cluster::up(&["--rate", "200mbit"])?;
    let place = cluster.home();
    let run = large(place, 150)?;
    std::thread::scope(|scope| {
        let asking = scope.spawn(|| place.migrate(run.pid, "n2"));
        await_line(cluster.node("n2"), "ls /run/openmosix/warden", "sock")?;
        refused(place, &run.pid.to_string(), "n3", &[ReasonCode::Busy])?;
        let listed = place.must("om ps --json")?;
        ensure!(listed.contains("\"moving\""), "om ps says: {listed}");
        let moved = asking.join().map_err(|_| anyhow::anyhow!("the asker panicked"))??;
        ensure!(moved.is_ok(), "{moved:?}");
        Ok(())
    })?;
    unharmed(run)
}

/// Only a whole process can be moved: a thread's id is nobody's pid.
fn of_a_thread() -> Result<()> {
    let place = Cluster::shared()?.home();
    let program = "import threading; e = threading.Event(); t = threading.Thread(target=e.wait); t.start(); \
                   print('thread', t.native_id); print('ready', flush=True); input(); e.set(); print('unharmed')";
    let words = ["/usr/bin/python3".to_owned(), "-c".to_owned(), program.to_owned()];
    let run = Run::command(place, &words, Input::Pipes, String::new())?;
    run.expect("ready", 0)?;
    let said = run.output().text();
    let thread = said.lines().find_map(|line| line.strip_prefix("thread ")).unwrap_or_default().to_owned();
    refused(place, &thread, "n2", &[ReasonCode::NoSuchProcess])?;
    unharmed(run)
}

/// Waits until a command on a node prints something; it has no event that could be awaited from here.
fn await_line(place: Place<'_>, command: &str, wanted: &str) -> Result<()> {
    let deadline = Instant::now() + SOON;
    while !place.shell(command)?.output.contains(wanted) {
        ensure!(Instant::now() < deadline, "'{command}' never said '{wanted}'");
        std::thread::sleep(Duration::from_millis(20));
    }
    Ok(())
}

/// `om why` tells everything that holds a process, and nothing once nothing does.
fn why_lists_all() -> Result<()> {
    let place = Cluster::shared()?.home();
    let scratch = place.scratch()?;
    let program = format!("{}/confined.py", place.guests()?);
    let words = ["/usr/bin/python3".to_owned(), program, format!("{scratch}/file")];
    let mut run = Run::command(place, &words, Input::Pipes, String::new())?;
    let at = run.expect("ready", 0)?;
    let pid = run.pid;
    let mut wanted = [
        (ReasonCode::SharedMemory, "/dev/zero"),
        (ReasonCode::SharedMapping, "/file"),
        (ReasonCode::LockedMemory, "-"),
        (ReasonCode::Signalfd, "descriptor "),
    ];
    let why = place.shell(&format!("om why {pid}"))?;
    ensure!(why.status == 3 && why.errors.is_empty(), "{} {}", why.status, why.errors);
    for (code, detail) in &wanted {
        let ending = format!("[{}]", code.code());
        let mut lines = why.output.lines().filter(|line| line.ends_with(&ending));
        let line = lines.next().unwrap_or_default();
        ensure!(line.contains(code.words()) && line.contains(detail), "no {code:?} in {}", why.output);
    }
    // Behind them comes why this node does not move it by itself.
    let hard = why.output.lines().take_while(|line| !line.starts_with("it is not moved automatically"));
    ensure!(hard.count() == 1 + wanted.len(), "{}", why.output);
    wanted.sort_by_key(|(code, _)| *code);
    refused(place, &pid.to_string(), "n2", &wanted.map(|(code, _)| code))?;
    run.send(b"\n")?;
    run.expect("free", at)?;
    let why = place.must(&format!("om why {pid}"))?;
    ensure!(why.contains("nothing known"), "{why}");
    run.go(Stop::N2)?;
    run.go(Stop::Home)?;
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
