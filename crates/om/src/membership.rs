//! `om init`, `om invite`, `om join`.

use crate::arguments::{Init, Invite, Join, Place};
use crate::commands::show;
use crate::exit::Failure;
use control::FailureKind;
use node::Setup;
use node::cluster::{self, Founding, Joining, Places, Token};
use serde::Serialize;
use std::path::{Path, PathBuf};

#[derive(Serialize)]
struct Made {
    node: model::NodeId,
    name: String,
    config: PathBuf,
}

#[derive(Serialize)]
struct Invited {
    token: String,
    node: model::NodeId,
    valid_seconds: u64,
}

fn places(place: &Place) -> Result<Places, Failure> {
    match &place.directory {
        None => Ok(Places::usual()),
        Some(directory) => {
            let absolute = std::path::absolute(directory).map_err(|error| {
                Failure::new(FailureKind::BadRequest, format!("{}: {error}", directory.display()))
            })?;
            Ok(Places::below(&absolute))
        }
    }
}

fn report(json: bool, places: &Places, made: &Made, what: &str) -> Result<(), Failure> {
    show(json, made, || {
        let config = if places.config == Path::new(node::config::CONFIG_FILE) {
            String::new()
        } else {
            format!(" --config {}", places.config.display())
        };
        format!(
            "this machine is node {} ({}) of {what}\nstart its daemon: omd{config}\n",
            made.node, made.name
        )
    })
}

pub(crate) fn init(arguments: &Init) -> Result<(), Failure> {
    let places = places(&arguments.place)?;
    let name = arguments.name.clone().unwrap_or_else(|| format!("n{}", arguments.id));
    let founding = Founding {
        cluster: arguments.cluster.clone(),
        id: arguments.id,
        name: name.clone(),
        listen: arguments.listen,
    };
    cluster::init(&places, &founding)?;
    let made = Made { node: arguments.id, name, config: places.config.clone() };
    report(arguments.json, &places, &made, &format!("the new cluster '{}'", arguments.cluster))
}

pub(crate) fn invite(arguments: &Invite) -> Result<(), Failure> {
    let setup = Setup::load(&arguments.config)?;
    let token = cluster::invite(&setup, arguments.id, arguments.name.clone(), arguments.address)?;
    let invited = Invited {
        token: token.to_string(),
        node: token.id,
        valid_seconds: model::limits::INVITATION_SECONDS,
    };
    show(arguments.json, &invited, || {
        eprintln!("node {} joins with this, once, within an hour, as root on the new machine:", token.id);
        format!("om join {token}\n")
    })
}

pub(crate) fn join(arguments: &Join) -> Result<(), Failure> {
    let places = places(&arguments.place)?;
    let token: Token = arguments
        .token
        .parse()
        .map_err(|error: node::Error| Failure::new(FailureKind::BadRequest, error.to_string()))?;
    let joining = Joining { name: arguments.name.clone(), listen: arguments.listen };
    let (node, name) = cluster::join(&places, &token, &joining)?;
    let made = Made { node, name, config: places.config.clone() };
    report(arguments.json, &places, &made, "its new cluster")
}
