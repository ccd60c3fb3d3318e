//! What runs in the machine with the second kernel as its first process, and what speaks to it from outside.
#![forbid(unsafe_code)]

use anyhow::{Context as _, Result, bail};
use std::process::ExitCode;
use suite::machine;

fn main() -> ExitCode {
    match run() {
        Ok(code) => code,
        Err(error) => {
            eprintln!("machine: {error:#}");
            ExitCode::from(125)
        }
    }
}

fn run() -> Result<ExitCode> {
    let words: Vec<String> = std::env::args().collect();
    let ended = match words.get(1).map(String::as_str) {
        Some("call") => {
            let address = words.get(2).context("call whom?")?.parse().context("no address")?;
            return machine::call(address, words.get(3..).unwrap_or_default());
        }
        Some("serve") => machine::serve(),
        // The kernel starts it with what it did not understand of its command line.
        _ if std::process::id() == 1 => machine::init(),
        _ => bail!("machine call ADDRESS:PORT COMMAND..."),
    };
    ended.map(|()| ExitCode::SUCCESS)
}
