//! `om lock` and `om unlock`: what people say about automatic moves of a process.

use crate::arguments::OfProcess;
use crate::client::{Client, unexpected};
use crate::commands::show;
use crate::exit::Failure;
use control::{Answer, Request};
use model::{Hold, Standing};

pub(crate) fn set(arguments: &OfProcess, hold: Hold) -> Result<(), Failure> {
    let standing = Standing { hold: Some(hold), ..Standing::default() };
    let request = Request::Stand { pid: arguments.pid, standing };
    let answer = Client::connect(&arguments.common.socket)?.ask(&request)?;
    let Answer::Stands { pid, standing } = &answer else { return Err(unexpected()) };
    show(arguments.common.json, &answer, || match standing.hold {
        Some(Hold::Locked) => {
            format!("process {pid} is locked: it and what it starts are not moved automatically\n")
        }
        _ => format!("process {pid} is not locked\n"),
    })
}
