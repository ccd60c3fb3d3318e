//! Users and groups as a node's own `/etc/passwd` and `/etc/group` have them.
//!
//! Not by the C library: it would answer for this machine, and a node may have another root.

use rustix::fs::{Mode, OFlags, ResolveFlags, open, openat2};
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

/// Bytes of passwd and of group that are read, at most.
const FILE_BYTES_MAX: u64 = 4 << 20;

/// The users and groups of one root directory.
pub(crate) struct Accounts {
    pub(crate) accounts: Vec<Account>,
    /// Group id, names of members.
    groups: Vec<(u32, Vec<String>)>,
}

/// A user.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Account {
    pub(crate) name: String,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    pub(crate) home: PathBuf,
    pub(crate) shell: String,
}

/// Reads the accounts below a root directory; files that are absent have no entries.
pub(crate) fn read(root: &Path) -> Accounts {
    parse(&text(root, "etc/passwd"), &text(root, "etc/group"))
}

/// Reads a file without ever following a link out of the root.
fn text(root: &Path, path: &str) -> String {
    let mut text = Vec::new();
    let directory = open(root, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty());
    let file = directory.and_then(|directory| {
        openat2(directory, path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty(), ResolveFlags::IN_ROOT)
    });
    if let Ok(file) = file {
        // What could not be read is treated like what is not there.
        let _ = File::from(file).take(FILE_BYTES_MAX).read_to_end(&mut text);
    }
    String::from_utf8_lossy(&text).into_owned()
}

fn parse(passwd: &str, group: &str) -> Accounts {
    let account = |line: &str| {
        let fields: Vec<_> = line.split(':').collect();
        let [name, _, uid, gid, _, home, shell] = fields[..] else { return None };
        let (uid, gid) = (uid.parse().ok()?, gid.parse().ok()?);
        Some(Account { name: name.to_owned(), uid, gid, home: PathBuf::from(home), shell: shell.to_owned() })
    };
    let members = |line: &str| {
        let fields: Vec<_> = line.split(':').collect();
        let [_, _, gid, members] = fields[..] else { return None };
        Some((gid.parse().ok()?, members.split(',').map(str::to_owned).collect()))
    };
    Accounts {
        accounts: passwd.lines().filter_map(account).collect(),
        groups: group.lines().filter_map(members).collect(),
    }
}

impl Accounts {
    /// A user by name or by number; numbers without an entry are users too.
    pub(crate) fn find(&self, user: &str) -> Option<Account> {
        let number = user.parse::<u32>().ok();
        let named = self.accounts.iter().find(|account| account.name == user);
        let numbered = || self.accounts.iter().find(|account| Some(account.uid) == number);
        let nameless = |uid| Account {
            name: user.to_owned(),
            uid,
            gid: uid,
            home: PathBuf::from("/"),
            shell: "/bin/sh".to_owned(),
        };
        // The number that means "no change" to the kernel is nobody's.
        named.or_else(numbered).cloned().or_else(|| number.filter(|uid| *uid != u32::MAX).map(nameless))
    }

    /// All groups of a user, its own first.
    pub(crate) fn groups_of(&self, account: &Account) -> Vec<u32> {
        let has = |members: &[String]| members.contains(&account.name);
        let further = self.groups.iter().filter(|(gid, members)| *gid != account.gid && has(members));
        [account.gid].into_iter().chain(further.map(|(gid, _)| *gid)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn users_are_found_by_name_and_by_number() {
        let passwd = "root:x:0:0:root:/root:/bin/bash\nann:x:1000:1001:,,,:/home/ann:/bin/sh\nbroken\n";
        let accounts = parse(passwd, "users:x:100:bob,ann\nann:x:1001:\nadm:x:4:ann\n");
        let ann = accounts.find("ann").unwrap();
        assert_eq!((ann.uid, ann.gid), (1000, 1001));
        assert_eq!(accounts.find("1000"), Some(ann.clone()));
        assert_eq!(accounts.groups_of(&ann), [1001, 100, 4]);
        assert_eq!(accounts.find("77").map(|nobody| (nobody.uid, nobody.gid)), Some((77, 77)));
        assert_eq!(accounts.find("bob"), None);
        assert_eq!(accounts.find("4294967295"), None);
    }
}
