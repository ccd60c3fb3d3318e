//! Why a process is not moved automatically, and what people have said about it.

use crate::{Decay, Mask};
use serde::{Deserialize, Serialize};
use std::fmt;

codes! {
    /// A machine-readable reason why a process that could move is not moved automatically; its words complete "it is not
    /// moved automatically: ...". People may move it all the same.
    StayCode

    Off = "off", "this node moves nothing by itself";
    Locked = "locked", "somebody has locked it to where it is";
    StayRule = "stay-rule", "a rule of this node keeps it";
    OtherUser = "other-user", "this node moves programs of some users only";
    Init = "init", "it is pid 1, on which its whole system rests";
    OwnTool = "own-tool", "it belongs to the cluster itself";
    Young = "young", "it has only just begun";
    Service = "service", "it belongs to a service of the system";
    SystemAccount = "system-account", "its user is no person";
    Shell = "shell", "it is a shell that somebody types into";
    Interactive = "interactive", "somebody works with it";
    Desktop = "desktop", "it belongs to somebody's desktop";
    Multiplexer = "multiplexer", "it holds terminals";
    Daemon = "daemon", "it serves others";
}

/// One reason, with what it comes from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stay {
    /// The kind.
    pub code: StayCode,
    /// The rule, program or user it comes from; empty where the code says all.
    pub detail: String,
}

impl Stay {
    /// A reason with its source.
    pub fn new(code: StayCode, detail: impl Into<String>) -> Stay {
        Stay { code, detail: detail.into() }
    }
}

impl From<StayCode> for Stay {
    fn from(code: StayCode) -> Stay {
        Stay { code, detail: String::new() }
    }
}

impl fmt::Display for Stay {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.code.words())?;
        if !self.detail.is_empty() {
            write!(f, " ({})", self.detail)?;
        }
        write!(f, " [{}]", self.code.code())
    }
}

/// Whether somebody wants a process to stay where it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Hold {
    /// It is not moved automatically.
    Locked,
    /// It is, whatever its parent has.
    Unlocked,
}

/// What people have said about a process. What is not said is inherited from its parent.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Standing {
    /// Whether it is to stay where it is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hold: Option<Hold>,
    /// The nodes that it may use.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mask: Option<Mask>,
    /// How its statistics decay.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub decay: Option<Decay>,
    /// It was started by `mosrun`: that says that it may be moved, whatever program it is.
    pub job: bool,
}

impl Standing {
    /// Nothing was said.
    pub fn is_empty(&self) -> bool {
        *self == Standing::default()
    }

    /// Takes from a parent what is not said here.
    pub fn inherit(&mut self, parent: &Standing) {
        self.hold = self.hold.or(parent.hold);
        if self.mask.is_none() {
            self.mask.clone_from(&parent.mask);
        }
        self.decay = self.decay.or(parent.decay);
        self.job |= parent.job;
    }

    /// Says more, and something else where it was said before.
    pub fn amend(&mut self, more: &Standing) {
        let mut amended = more.clone();
        amended.inherit(self);
        *self = amended;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_spelled_like_their_variants() {
        for code in StayCode::ALL {
            assert_eq!(code.code().replace('-', ""), format!("{code:?}").to_lowercase());
        }
        assert_eq!(
            Stay::new(StayCode::Shell, "bash").to_string(),
            "it is a shell that somebody types into (bash) [shell]"
        );
    }

    #[test]
    fn children_inherit_what_is_not_said_of_them() {
        let decay = Some(Decay::IoJob);
        let locked = Standing { hold: Some(Hold::Locked), job: true, decay, ..Standing::default() };
        let mut child =
            Standing { hold: Some(Hold::Unlocked), mask: Some(Mask::Any), decay: None, job: false };
        child.inherit(&locked);
        assert_eq!(child, Standing { hold: Some(Hold::Unlocked), mask: Some(Mask::Any), decay, job: true });
        let mut silent = Standing::default();
        assert!(silent.is_empty());
        silent.inherit(&locked);
        assert_eq!(silent, locked);
        silent.amend(&Standing { hold: Some(Hold::Unlocked), ..Standing::default() });
        assert_eq!((silent.hold, silent.job), (Some(Hold::Unlocked), true));
    }
}
