//! `[balance]` of `omd.toml`.

use model::limits::RULE_PATTERNS_MAX;
use serde::Deserialize;

/// Longest age that can be asked of a process: a day.
const MIN_AGE_MS_MAX: u64 = 86_400_000;
/// Characters of a pattern.
const PATTERN_MAX: usize = 256;

/// By which policy processes are moved automatically.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Policy {
    /// Unified marginal slowdown: the sum over all jobs of expected slowdown is to be small.
    #[default]
    Ums,
    /// openMosix's own balancing with memory ushering.
    Mosix,
    /// Opportunity cost.
    Oc,
    /// Nothing is moved automatically.
    None,
}

/// `[balance]`
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Balance {
    /// Whether this node moves anything by itself; it does by default.
    pub automatic: bool,
    /// By which policy; `ums` by default.
    pub policy: Policy,
    /// Patterns of programs that are moved although the usual rules keep them.
    #[serde(rename = "move")]
    pub moves: Vec<String>,
    /// Patterns of programs that are never moved automatically.
    pub stay: Vec<String>,
    /// Users, by name or number, whose programs alone are moved; nobody named means everybody's.
    pub users: Vec<String>,
    /// Milliseconds that a process must have lived; 1000 by default. New programs are placed nevertheless.
    pub min_age_ms: u64,
}

impl Default for Balance {
    fn default() -> Balance {
        Balance {
            automatic: true,
            policy: Policy::Ums,
            moves: Vec::new(),
            stay: Vec::new(),
            users: Vec::new(),
            min_age_ms: 1000,
        }
    }
}

/// How a new configuration shows it.
pub(crate) const TEMPLATE: &str = "\
[balance]
# Whether this node moves processes by itself, and by which policy: \"ums\", \"mosix\", \"oc\" or \"none\".
# automatic = true
# policy = \"ums\"
# Programs that are moved although they usually stay, and programs that always stay: names, or paths where there is a
# '/', with '*' and '?'. 'om why PID' tells which rule keeps a process.
# move = []
# stay = []
# Users, by name or number, whose programs alone are moved; [] for everybody's.
# users = []
# Milliseconds that a process must have lived.
# min_age_ms = 1000

";

impl Balance {
    /// What is wrong with it, in one line.
    pub(crate) fn check(&self) -> Result<(), String> {
        for (name, patterns) in [("move", &self.moves), ("stay", &self.stay), ("users", &self.users)] {
            if patterns.len() > RULE_PATTERNS_MAX {
                return Err(format!("balance.{name} has more than {RULE_PATTERNS_MAX} entries"));
            }
            if let Some(bad) = patterns.iter().find(|text| text.is_empty() || text.len() > PATTERN_MAX) {
                return Err(format!("balance.{name} has an entry that is empty or too long: '{bad:.40}'"));
            }
        }
        if self.min_age_ms > MIN_AGE_MS_MAX {
            return Err(format!("balance.min_age_ms must be {MIN_AGE_MS_MAX} at most"));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_template_shows_the_defaults() {
        let shown = TEMPLATE.replace("[balance]\n", "");
        let settings: String = shown
            .lines()
            .filter(|line| line.contains(" = "))
            .map(|line| format!("{}\n", &line[2..]))
            .collect();
        assert_eq!(settings.lines().count(), 6, "{settings}");
        assert_eq!(toml::from_str::<Balance>(&settings).unwrap(), Balance::default());
    }

    #[test]
    fn absurd_settings_are_named() {
        let of = |text: &str| toml::from_str::<Balance>(text).unwrap().check().unwrap_err();
        assert!(of("stay = [\"\"]").contains("stay"));
        assert!(of("min_age_ms = 90000000").contains("min_age_ms"));
        let many = Balance { users: vec!["a".to_owned(); RULE_PATTERNS_MAX + 1], ..Balance::default() };
        assert!(many.check().unwrap_err().contains("users"));
        assert!(toml::from_str::<Balance>("policy = \"best\"").is_err());
    }
}
