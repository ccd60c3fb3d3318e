//! What may differ between two runs: pids, times, addresses.

use crate::error::{Error, Result};
use regex::bytes::Regex;
use std::borrow::Cow;
use std::str::FromStr;

/// What stands where something was masked.
const COVER: &[u8] = b"<masked>";

/// A pattern whose matches are not compared.
#[derive(Clone, Debug)]
pub struct Mask(Regex);

impl FromStr for Mask {
    type Err = Error;
    /// A regular expression; `^` and `$` stand for the ends of each line.
    fn from_str(pattern: &str) -> Result<Mask> {
        let built = regex::bytes::RegexBuilder::new(pattern).multi_line(true).build();
        built
            .map(Mask)
            .map_err(|source| Error::Pattern { pattern: pattern.to_owned(), source: Box::new(source) })
    }
}

/// The bytes with every match of every mask covered.
pub(crate) fn cover<'a>(masks: &[Mask], bytes: &'a [u8]) -> Cow<'a, [u8]> {
    masks.iter().fold(Cow::Borrowed(bytes), |bytes, Mask(pattern)| match pattern.replace_all(&bytes, COVER) {
        Cow::Borrowed(_) => bytes,
        Cow::Owned(covered) => Cow::Owned(covered),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_matches_is_covered() {
        let masks = ["pid [0-9]+".parse().unwrap(), "^took .*$".parse::<Mask>().unwrap()];
        let covered = cover(&masks, b"pid 4711 ends\ntook 3 s\nit took 3 s\n");
        assert_eq!(String::from_utf8_lossy(&covered), "<masked> ends\n<masked>\nit took 3 s\n");
        assert!(matches!(cover(&masks, b"\xff\xfe"), Cow::Borrowed(_)));
        assert!("(".parse::<Mask>().is_err());
    }
}
