//! Commands for a machine that is reached by its network alone.
//!
//! One connection is one command: its arguments, then what goes in and out, then how it ended. Each piece is a kind, a
//! length and so many bytes. There is no protection: it is for a laboratory's network.

use anyhow::{Context as _, Result, bail};
use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::os::unix::process::ExitStatusExt as _;
use std::process::{Child, Command, ExitCode, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// Bytes of one piece, at most.
const PIECE_BYTES_MAX: usize = 1 << 20;
const CONNECT: Duration = Duration::from_secs(5);

const ARGUMENTS: u8 = 1;
/// Empty at the end of the input.
const INPUT: u8 = 2;
const OUTPUT: u8 = 3;
const ERRORS: u8 = 4;
const STATUS: u8 = 5;

fn send(mut to: impl Write, kind: u8, bytes: &[u8]) -> io::Result<()> {
    let mut piece = vec![kind];
    piece.extend((bytes.len() as u32).to_le_bytes());
    piece.extend(bytes);
    to.write_all(&piece)
}

fn receive(mut from: impl Read) -> io::Result<(u8, Vec<u8>)> {
    let mut head = [0; 5];
    from.read_exact(&mut head)?;
    let [kind, length @ ..] = head;
    let length = u32::from_le_bytes(length) as usize;
    if length > PIECE_BYTES_MAX {
        return Err(io::ErrorKind::InvalidData.into());
    }
    let mut bytes = vec![0; length];
    from.read_exact(&mut bytes)?;
    Ok((kind, bytes))
}

/// Runs commands for whoever connects, for ever.
pub(super) fn serve(listener: &TcpListener) -> Result<()> {
    for connection in listener.incoming() {
        let connection = connection.context("failed to accept")?;
        std::thread::spawn(move || {
            if let Err(error) = run_for(&connection) {
                eprintln!("machine: {error:#}");
            }
        });
    }
    Ok(())
}

fn run_for(connection: &TcpStream) -> Result<()> {
    connection.set_nodelay(true)?;
    let (kind, arguments) = receive(connection)?;
    anyhow::ensure!(kind == ARGUMENTS, "no arguments came first");
    let words: Vec<String> = serde_json::from_slice(&arguments).context("arguments that are none")?;
    let (program, rest) = words.split_first().context("no command")?;
    let mut command = Command::new(program);
    command.args(rest).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    match command.spawn() {
        Ok(child) => pass(connection, child),
        Err(error) => {
            send(connection, ERRORS, format!("{program}: {error}\n").as_bytes())?;
            Ok(send(connection, STATUS, &127_i32.to_le_bytes())?)
        }
    }
}

/// Passes everything between a connection and a child, until the child has ended and its outputs have.
fn pass(connection: &TcpStream, mut child: Child) -> Result<()> {
    let writer = Arc::new(Mutex::new(connection.try_clone()?));
    let mut pumps = Vec::new();
    let outputs: [(u8, Option<Box<dyn Read + Send>>); 2] = [
        (OUTPUT, child.stdout.take().map(|pipe| Box::new(pipe) as Box<dyn Read + Send>)),
        (ERRORS, child.stderr.take().map(|pipe| Box::new(pipe) as Box<dyn Read + Send>)),
    ];
    for (kind, pipe) in outputs {
        let (writer, mut pipe) = (Arc::clone(&writer), pipe.context("no pipe")?);
        pumps.push(std::thread::spawn(move || {
            let mut buffer = vec![0; 64 << 10];
            while let Ok(count @ 1..) = pipe.read(&mut buffer) {
                let writer = writer.lock().unwrap_or_else(PoisonError::into_inner);
                if send(&*writer, kind, &buffer[..count]).is_err() {
                    return;
                }
            }
        }));
    }
    let (reader, mut input) = (connection.try_clone()?, child.stdin.take().context("no pipe")?);
    std::thread::spawn(move || {
        while let Ok((INPUT, bytes)) = receive(&reader) {
            if bytes.is_empty() || input.write_all(&bytes).and_then(|()| input.flush()).is_err() {
                return;
            }
        }
    });
    let status = child.wait().context("failed to wait")?;
    for pump in pumps {
        drop(pump.join());
    }
    let status = status.code().unwrap_or(128 + status.signal().unwrap_or(0));
    send(connection, STATUS, &status.to_le_bytes())?;
    Ok(connection.shutdown(Shutdown::Both)?)
}

/// Has a command run at an address, with this process's input and outputs, and ends as it ends.
pub fn call(address: SocketAddr, words: &[String]) -> Result<ExitCode> {
    let connection = TcpStream::connect_timeout(&address, CONNECT)
        .with_context(|| format!("failed to reach {address}"))?;
    connection.set_nodelay(true)?;
    send(&connection, ARGUMENTS, &serde_json::to_vec(words)?)?;
    let writer = connection.try_clone()?;
    std::thread::spawn(move || {
        let mut buffer = vec![0; 64 << 10];
        // The last piece, at the end of the input, is empty.
        while let Ok(count) = io::stdin().read(&mut buffer) {
            if send(&writer, INPUT, &buffer[..count]).is_err() || count == 0 {
                return;
            }
        }
    });
    loop {
        let (kind, bytes) = receive(&connection).context("the machine hung up")?;
        match kind {
            OUTPUT => io::stdout().write_all(&bytes).and_then(|()| io::stdout().flush())?,
            ERRORS => io::stderr().write_all(&bytes)?,
            STATUS => {
                let status = i32::from_le_bytes(bytes.try_into().ok().context("a status that is none")?);
                return Ok(ExitCode::from(u8::try_from(status).unwrap_or(u8::MAX)));
            }
            other => bail!("the machine sent a piece of kind {other}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn exchange(words: &[&str], input: &[u8]) -> (Vec<u8>, i32) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let serving = std::thread::spawn(move || run_for(&listener.accept().unwrap().0));
        let connection = TcpStream::connect(address).unwrap();
        send(&connection, ARGUMENTS, &serde_json::to_vec(words).unwrap()).unwrap();
        send(&connection, INPUT, input).unwrap();
        send(&connection, INPUT, &[]).unwrap();
        let mut output = Vec::new();
        loop {
            match receive(&connection).unwrap() {
                (STATUS, status) => {
                    serving.join().unwrap().unwrap();
                    return (output, i32::from_le_bytes(status.try_into().unwrap()));
                }
                (_, bytes) => output.extend(bytes),
            }
        }
    }

    #[test]
    fn a_command_gets_its_input_and_gives_its_output_and_its_status() {
        let (output, status) = exchange(&["sh", "-c", "cat; exit 3"], b"some words");
        assert_eq!((output.as_slice(), status), (b"some words".as_slice(), 3));
    }

    #[test]
    fn what_is_no_program_is_told() {
        let (output, status) = exchange(&["/no/such/program"], b"");
        assert!(String::from_utf8_lossy(&output).contains("/no/such/program"));
        assert_eq!(status, 127);
    }
}
