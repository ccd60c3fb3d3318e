//! Lines of JSON on a unix socket, of bounded length.

use crate::Error;
use model::limits::CONTROL_LINE_BYTES_MAX;
use std::io::{BufRead, Read as _};

/// The next line without its end; `None` at the end of the stream.
pub(crate) fn read(stream: &mut impl BufRead) -> Result<Option<Vec<u8>>, Error> {
    let mut line = Vec::new();
    let limit = CONTROL_LINE_BYTES_MAX as u64 + 1;
    stream.by_ref().take(limit).read_until(b'\n', &mut line).map_err(Error::system("read a line"))?;
    match line.pop() {
        None => Ok(None),
        Some(b'\n') => Ok(Some(line)),
        Some(_) if line.len() >= CONTROL_LINE_BYTES_MAX => {
            Err(Error::Line(format!("it is longer than {CONTROL_LINE_BYTES_MAX} bytes")))
        }
        Some(_) => Err(Error::Line("it has no end".to_owned())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_end_and_are_not_endless() {
        let mut stream: &[u8] = b"{}\n\nrest";
        assert_eq!(read(&mut stream).unwrap().as_deref(), Some(&b"{}"[..]));
        assert_eq!(read(&mut stream).unwrap().as_deref(), Some(&b""[..]));
        assert!(matches!(read(&mut stream), Err(Error::Line(_))));
        assert_eq!(read(&mut stream).unwrap(), None);
        let long = vec![b'x'; CONTROL_LINE_BYTES_MAX + 10];
        assert!(matches!(read(&mut &long[..]), Err(Error::Line(text)) if text.contains("longer")));
        let mut full = vec![b'x'; CONTROL_LINE_BYTES_MAX];
        full.push(b'\n');
        assert_eq!(read(&mut &full[..]).unwrap().unwrap().len(), CONTROL_LINE_BYTES_MAX);
    }
}
