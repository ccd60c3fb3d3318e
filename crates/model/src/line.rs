//! Failures as people read them.

use std::error::Error;

/// An error and its causes in one line, without saying anything twice: most errors end with their cause already.
pub fn one_line(error: &(dyn Error + 'static)) -> String {
    let mut line = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let text = cause.to_string();
        if !line.ends_with(&text) {
            line = format!("{line}: {text}");
        }
        source = cause.source();
    }
    line.replace('\n', " ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fmt;

    #[derive(Debug)]
    struct Step(&'static str, Option<Box<Step>>);

    impl fmt::Display for Step {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str(self.0)
        }
    }

    impl Error for Step {
        fn source(&self) -> Option<&(dyn Error + 'static)> {
            self.1.as_deref().map(|cause| cause as &(dyn Error + 'static))
        }
    }

    #[test]
    fn a_cause_is_told_once() {
        let cause = || Some(Box::new(Step("no such file", None)));
        for (text, cause, want) in [
            ("find x: no such file", cause(), "find x: no such file"),
            ("find x", cause(), "find x: no such file"),
            ("find\nx", None, "find x"),
            ("find x", Some(Box::new(Step("", None))), "find x"),
        ] {
            assert_eq!(one_line(&Step(text, cause)), want);
        }
    }
}
