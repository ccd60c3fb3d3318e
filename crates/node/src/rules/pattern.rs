//! Patterns for programs: `*` stands for any text, `?` for one character.

/// A pattern for a program: with a `/` in it for the whole path, else for the name alone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Pattern(String);

impl Pattern {
    pub(super) fn new(text: &str) -> Pattern {
        Pattern(text.to_owned())
    }

    pub(super) fn text(&self) -> &str {
        &self.0
    }

    /// Whether a program with this name (or any of these) or this path is meant.
    pub(super) fn fits<'a>(&self, names: impl IntoIterator<Item = &'a str>, path: Option<&str>) -> bool {
        if self.0.contains('/') {
            path.is_some_and(|path| glob(&self.0, path))
        } else {
            names.into_iter().any(|name| glob(&self.0, name))
        }
    }
}

/// Whether a text is of a pattern. Needs no more than the product of both lengths.
pub(super) fn glob(pattern: &str, text: &str) -> bool {
    let (pattern, text): (Vec<char>, Vec<char>) = (pattern.chars().collect(), text.chars().collect());
    let (mut at, mut from) = (0, 0);
    // Where the last star was, and how much of the text it stands for.
    let mut star: Option<(usize, usize)> = None;
    while from < text.len() {
        match pattern.get(at) {
            Some('*') => {
                star = Some((at, from));
                at += 1;
            }
            Some(letter) if *letter == '?' || *letter == text[from] => {
                at += 1;
                from += 1;
            }
            _ => {
                let Some((place, taken)) = star else { return false };
                star = Some((place, taken + 1));
                (at, from) = (place + 1, taken + 1);
            }
        }
    }
    pattern[at..].iter().all(|letter| *letter == '*')
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn stars_and_question_marks() {
        for (pattern, text, fits) in [
            ("lame", "lame", true),
            ("lame", "lame2", false),
            ("python3*", "python3.11", true),
            ("*", "", true),
            ("?", "", false),
            ("a*b*c", "a-b-b-c", true),
            ("a*b*c", "a-b-b-d", false),
            ("??", "ab", true),
            ("*.so", "x.so.1", false),
            ("***x", "x", true),
        ] {
            assert_eq!(glob(pattern, text), fits, "{pattern} {text}");
        }
    }

    #[test]
    fn a_slash_means_the_path() {
        let fits = |pattern: &str| Pattern::new(pattern).fits(["cc1", "gcc"], Some("/usr/lib/gcc/cc1"));
        assert!(fits("cc1") && fits("gcc") && fits("/usr/lib/*") && fits("*/cc1"));
        assert!(!fits("cc2") && !fits("/usr/cc1"));
        assert!(!Pattern::new("/usr/*").fits(["x"], None));
    }

    proptest! {
        #[test]
        fn a_text_fits_itself_and_any_part_may_be_a_star(text in "[a-c]{0,12}", cut in 0_usize..12, end in 0_usize..12) {
            prop_assert!(glob(&text, &text));
            let (cut, end) = (cut.min(text.len()), end.min(text.len()));
            let (cut, end) = (cut.min(end), cut.max(end));
            let starred = format!("{}*{}", &text[..cut], &text[end..]);
            prop_assert!(glob(&starred, &text), "{starred} {text}");
        }

        #[test]
        fn stars_do_not_take_for_ever(text in "a{60}") {
            let pattern = format!("{}b", "a*".repeat(30));
            prop_assert!(!glob(&pattern, &text));
        }
    }
}
