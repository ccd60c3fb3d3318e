//! Where two texts part, told so that somebody sees it at once.

/// Lines shown before the one that differs.
const LINES_BEFORE: usize = 2;
/// Bytes of a line shown on each side of the first that differs.
const BYTES_AROUND: usize = 100;

/// Nothing where both are equal; else where they part, with both sides of it.
pub(crate) fn between(peace: &[u8], torture: &[u8]) -> Option<String> {
    if peace == torture {
        return None;
    }
    let at = peace.iter().zip(torture).take_while(|(a, b)| a == b).count();
    let same = &peace[..at];
    let line = same.iter().filter(|byte| **byte == b'\n').count() + 1;
    let begin = same.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
    let mut text = format!(
        "from byte {at} on, in line {line} ({} bytes in peace, {} when moved)\n",
        peace.len(),
        torture.len()
    );
    let before = same[..begin].split_inclusive(|byte| *byte == b'\n').collect::<Vec<_>>();
    for line in before.iter().skip(before.len().saturating_sub(LINES_BEFORE)) {
        text += &format!("  both:    {}\n", shown(line));
    }
    for (name, bytes) in [("peace", peace), ("moved", torture)] {
        let from = begin.max(at.saturating_sub(BYTES_AROUND));
        let until = (at + BYTES_AROUND).min(bytes.len());
        let end = bytes[at..until].iter().position(|byte| *byte == b'\n').map_or(until, |length| at + length);
        let cut = if from > begin { "..." } else { "" };
        let rest = if end == bytes.len() { " (its end)" } else { "" };
        text += &format!("  {name}:   {cut}{}{rest}\n", shown(&bytes[from..end]));
    }
    Some(text)
}

fn shown(line: &[u8]) -> String {
    let line = &line[line.len().saturating_sub(2 * BYTES_AROUND)..];
    line.strip_suffix(b"\n").unwrap_or(line).escape_ascii().to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(peace: &[u8], torture: &[u8], wanted: &[&str]) {
        let text = between(peace, torture).unwrap();
        for part in wanted {
            assert!(text.contains(part), "{part:?} is not in {text}");
        }
    }

    #[test]
    fn the_first_difference_is_shown_with_what_is_around_it() {
        assert_eq!(between(b"a\nb\n", b"a\nb\n"), None);
        check(b"a\nb\nc 1\nd\n", b"a\nb\nc 2\nd\n", &["byte 6", "line 3", "both:    b\n", "peace:   c 1\n"]);
        check(b"a\nb\n", b"a\n", &["byte 2", "line 2", "peace:   b\n", "moved:    (its end)"]);
        check(b"", b"x", &["byte 0", "line 1", "0 bytes in peace, 1 when moved"]);
        check(&[b'z'; 5000], &[b'z'; 4000], &["byte 4000", "peace:   ...zz"]);
        check(b"\xff\x00", b"\xff\x01", &["\\xff\\x00", "\\xff\\x01"]);
    }
}
