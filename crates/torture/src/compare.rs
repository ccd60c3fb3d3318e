//! The comparison of the two runs: everything that a user could see of them.

use crate::aspect::Aspect;
use crate::difference;
use crate::error::Result;
use crate::mask::{Mask, cover};
use crate::run::Outcome;
use crate::tree::Tree;

/// Differences that are told, at most; more would hide the first.
const DIFFERENCES_MAX: usize = 20;

/// Every difference, what it is about and in words; none is what torture is to prove.
pub(crate) fn differences(
    (peace, peace_files): (&Outcome, &Tree),
    (torture, torture_files): (&Outcome, &Tree),
    masks: &[Mask],
) -> Result<Vec<(Aspect, String)>> {
    let mut found = Vec::new();
    if peace.ending != torture.ending {
        let text = format!("it {} in peace, and {} when moved", peace.ending, torture.ending);
        found.push((Aspect::Ending, text));
    }
    for (aspect, name, one, other) in [
        (Aspect::Output, "stdout", &peace.stdout, &torture.stdout),
        (Aspect::Complaints, "stderr", &peace.stderr, &torture.stderr),
    ] {
        if let Some(text) = difference::between(&cover(masks, one), &cover(masks, other)) {
            found.push((aspect, format!("its {name} differs {text}")));
        }
    }
    let files = peace_files.differences(torture_files, masks)?;
    found.extend(files.into_iter().map(|text| (Aspect::Files, text)));
    let more = found.len().saturating_sub(DIFFERENCES_MAX);
    if more > 0 {
        found.truncate(DIFFERENCES_MAX);
        found.push((Aspect::Files, format!("and {more} more differences")));
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::run::Ending;

    /// The canary: a comparison that finds nothing would let every torture pass.
    #[test]
    fn every_difference_is_found() {
        let directory = tempfile::tempdir().unwrap();
        let files = Tree::of(directory.path()).unwrap();
        let peace =
            Outcome { ending: Ending::Exited(3), stdout: b"a\nb\n".to_vec(), stderr: b"e".to_vec(), left: 0 };
        let found = |change: fn(&mut Outcome)| {
            let mut other = peace.clone();
            change(&mut other);
            let found = differences((&peace, &files), (&other, &files), &[]).unwrap();
            found.into_iter().map(|(aspect, _)| aspect).collect::<Vec<_>>()
        };
        assert_eq!(found(|_| {}), []);
        assert_eq!(found(|other| other.ending = Ending::Exited(0)), [Aspect::Ending]);
        assert_eq!(found(|other| other.ending = Ending::Killed(3)), [Aspect::Ending]);
        assert_eq!(found(|other| other.stdout.truncate(2)), [Aspect::Output]);
        assert_eq!(found(|other| other.stderr.push(b'c')), [Aspect::Complaints]);
    }
}
