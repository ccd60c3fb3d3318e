//! The rules, applied: every reason why a process is not moved automatically.

use super::pattern::Pattern;
use super::programs::{is_interactive_shell, known};
use super::settings::{Balance, Policy};
use super::subject::Subject;
use model::{Hold, Standing, Stay, StayCode};
use nix::unistd::User;

/// User ids that distributions give to accounts that are no persons; root has 0 and is one (`login.defs`, `SYS_UID_MAX`).
const SYSTEM_IDS: std::ops::RangeInclusive<u32> = 1..=999;
/// The highest pair of ids belongs to nobody.
const NOBODY: std::ops::RangeInclusive<u32> = 65_534..=65_535;
/// Where service managers put services, and themselves.
const SERVICE_GROUPS: [&str; 2] = ["/system.slice/", "/init.scope"];

/// The rules of a node.
#[derive(Clone, Debug)]
pub struct Rules {
    active: bool,
    moves: Vec<Pattern>,
    stay: Vec<Pattern>,
    /// Nobody for everybody.
    users: Vec<u32>,
    only_users: bool,
    min_age_ms: u64,
}

impl Rules {
    /// The rules of a configuration; users that this node does not know are nobody.
    pub fn new(balance: &Balance) -> Rules {
        Rules::with_users(balance, &|name| User::from_name(name).ok().flatten().map(|user| user.uid.as_raw()))
    }

    fn with_users(balance: &Balance, look_up: &dyn Fn(&str) -> Option<u32>) -> Rules {
        let patterns = |texts: &[String]| texts.iter().map(|text| Pattern::new(text)).collect();
        let user = |text: &String| text.parse().ok().or_else(|| look_up(text));
        Rules {
            active: balance.automatic && balance.policy != Policy::None,
            moves: patterns(&balance.moves),
            stay: patterns(&balance.stay),
            users: balance.users.iter().filter_map(user).collect(),
            only_users: !balance.users.is_empty(),
            min_age_ms: balance.min_age_ms,
        }
    }

    /// Why a process is not moved automatically, if it could be moved at all: all reasons, or none.
    pub fn stays(&self, subject: &Subject, standing: &Standing) -> Vec<Stay> {
        let mut stays = self.firm(subject, standing);
        let names = subject.names();
        let fits = |pattern: &&Pattern| pattern.fits(names.iter().copied(), subject.path.as_deref());
        if let Some(pattern) = self.stay.iter().find(fits) {
            stays.push(Stay::new(StayCode::StayRule, format!("stay = \"{}\"", pattern.text())));
        }
        // Somebody wants just this one to be moved.
        if standing.job || self.moves.iter().any(|pattern| fits(&pattern)) {
            return stays;
        }
        stays.extend(self.usual(subject, &names));
        stays
    }

    /// Whether it stays for longer than its youth: then it is no job that the cluster can count on.
    pub fn keeps(&self, subject: &Subject, standing: &Standing) -> bool {
        self.stays(subject, standing).iter().any(|stay| stay.code != StayCode::Young)
    }

    /// What no rule that moves programs can overcome.
    fn firm(&self, subject: &Subject, standing: &Standing) -> Vec<Stay> {
        let mut stays = Vec::new();
        if !self.active {
            stays.push(StayCode::Off.into());
        }
        if subject.id.pid == 1 {
            stays.push(StayCode::Init.into());
        }
        if subject.own {
            stays.push(Stay::new(StayCode::OwnTool, &subject.name));
        }
        if standing.hold == Some(Hold::Locked) {
            stays.push(StayCode::Locked.into());
        }
        if self.only_users && !self.users.contains(&subject.uid) {
            stays.push(Stay::new(StayCode::OtherUser, format!("user {}", subject.uid)));
        }
        stays
    }

    /// What keeps a process where nobody has said anything about it.
    fn usual(&self, subject: &Subject, names: &[&str]) -> Vec<Stay> {
        let mut stays = Vec::new();
        if subject.lived_ms < self.min_age_ms {
            stays.push(StayCode::Young.into());
        }
        if let Some(group) = subject.group.as_deref()
            && SERVICE_GROUPS.iter().any(|service| group.contains(service))
        {
            stays.push(Stay::new(StayCode::Service, group));
        }
        if SYSTEM_IDS.contains(&subject.uid) || NOBODY.contains(&subject.uid) {
            stays.push(Stay::new(StayCode::SystemAccount, format!("user {}", subject.uid)));
        }
        if is_interactive_shell(names, &subject.arguments) {
            stays.push(Stay::new(StayCode::Shell, &subject.name));
        }
        if let Some((code, name)) = known(names) {
            stays.push(Stay::new(code, name));
        }
        stays
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use model::ProcessId;

    /// An encoder that somebody has started in a terminal a minute ago.
    fn encoder() -> Subject {
        Subject {
            id: ProcessId { pid: 500, start_ticks: 9 },
            parent: 400,
            name: "lame".to_owned(),
            path: Some("/usr/bin/lame".to_owned()),
            arguments: ["lame", "a.wav"].map(str::to_owned).to_vec(),
            uid: 1000,
            group: Some("/user.slice/user-1000.slice/session-3.scope".to_owned()),
            lived_ms: 60_000,
            own: false,
        }
    }

    fn codes(balance: &Balance, subject: &Subject, standing: &Standing) -> Vec<StayCode> {
        let users = |name: &str| (name == "ann").then_some(1000);
        let stays = Rules::with_users(balance, &users).stays(subject, standing);
        stays.into_iter().map(|stay| stay.code).collect()
    }

    #[test]
    fn by_default_programs_of_people_are_moved_and_the_rest_stays() {
        type Change = fn(&mut Subject);
        let table: [(Change, &[StayCode]); 12] = [
            (|_| {}, &[]),
            (|it| it.uid = 0, &[]),
            (|it| it.group = None, &[]),
            (|it| it.uid = 33, &[StayCode::SystemAccount]),
            (|it| it.uid = 65_534, &[StayCode::SystemAccount]),
            (|it| it.lived_ms = 10, &[StayCode::Young]),
            (|it| it.id.pid = 1, &[StayCode::Init]),
            (|it| it.own = true, &[StayCode::OwnTool]),
            (|it| it.group = Some("/system.slice/x.service".to_owned()), &[StayCode::Service]),
            (|it| (it.name, it.arguments) = ("vim".to_owned(), Vec::new()), &[StayCode::Interactive]),
            (
                |it| (it.name, it.arguments) = ("bash".to_owned(), vec!["-bash".to_owned()]),
                &[StayCode::Shell],
            ),
            // What it was called by counts, too.
            (|it| it.arguments = vec!["/usr/bin/tmux".to_owned()], &[StayCode::Multiplexer]),
        ];
        for (row, (change, expected)) in table.into_iter().enumerate() {
            let mut subject = encoder();
            change(&mut subject);
            assert_eq!(codes(&Balance::default(), &subject, &Standing::default()), expected, "row {row}");
            let keeps = Rules::new(&Balance::default()).keeps(&subject, &Standing::default());
            assert_eq!(keeps, expected.iter().any(|code| *code != StayCode::Young), "row {row}");
        }
    }

    #[test]
    fn what_people_say_counts_more() {
        let normal = Balance::default();
        let stay = Balance { stay: vec!["lam*".to_owned()], ..normal.clone() };
        let moves = Balance { moves: vec!["/usr/bin/*".to_owned()], ..normal.clone() };
        let both = Balance { moves: vec!["*".to_owned()], ..stay.clone() };
        let off = Balance { automatic: false, ..normal.clone() };
        let none = Balance { policy: Policy::None, ..normal.clone() };
        let ann = Balance { users: vec!["ann".to_owned()], ..normal.clone() };
        let others = Balance { users: vec!["bob".to_owned(), "1001".to_owned()], ..normal.clone() };
        let silent = Standing::default();
        let job = Standing { job: true, ..Standing::default() };
        let locked = Standing { hold: Some(Hold::Locked), ..job.clone() };
        let unlocked = Standing { hold: Some(Hold::Unlocked), ..Standing::default() };
        let editor = Subject { name: "vim".to_owned(), arguments: vec!["vim".to_owned()], ..encoder() };
        for (balance, subject, standing, expected) in [
            (&normal, &editor, &job, vec![]),
            (&normal, &editor, &unlocked, vec![StayCode::Interactive]),
            (&normal, &editor, &locked, vec![StayCode::Locked]),
            (&moves, &editor, &silent, vec![]),
            (&stay, &encoder(), &silent, vec![StayCode::StayRule]),
            (&both, &editor, &job, vec![StayCode::StayRule]),
            (&off, &encoder(), &job, vec![StayCode::Off]),
            (&none, &encoder(), &silent, vec![StayCode::Off]),
            (&ann, &encoder(), &silent, vec![]),
            (&others, &encoder(), &silent, vec![StayCode::OtherUser]),
            (&others, &encoder(), &job, vec![StayCode::OtherUser]),
        ] {
            assert_eq!(codes(balance, subject, standing), expected, "{balance:?} {standing:?}");
        }
    }
}
