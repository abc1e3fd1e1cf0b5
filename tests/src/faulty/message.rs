//! One HTTP/1.1 message off a connection, as its bytes: just enough of the format to know where it ends.

use std::io::{self, Read};

/// More is no test's message.
const MAX_BYTES: usize = 64 << 20;

/// A message and where its body begins.
#[derive(Clone, Debug)]
pub(super) struct Message {
    pub(super) bytes: Vec<u8>,
    body_at: usize,
}

impl Message {
    /// Its first line.
    pub(super) fn line(&self) -> String {
        let line = self.bytes.split(|byte| *byte == b'\r').next().unwrap_or_default();
        String::from_utf8_lossy(line).into_owned()
    }

    pub(super) fn head(&self) -> &[u8] {
        &self.bytes[..self.body_at]
    }

    pub(super) fn body(&self) -> &[u8] {
        &self.bytes[self.body_at..]
    }

    /// The head, and half of the body.
    pub(super) fn half(&self) -> &[u8] {
        &self.bytes[..self.body_at + self.body().len() / 2]
    }
}

/// The next message, or `None` where the connection ended before one began. An answer without a length lasts until the
/// connection ends.
pub(super) fn read(from: &mut impl Read, answer: bool) -> io::Result<Option<Message>> {
    let mut reader = Reader { from, bytes: Vec::new() };
    let body_at = loop {
        if let Some(at) = find(&reader.bytes, b"\r\n\r\n") {
            break at + 4;
        }
        if !reader.more()? {
            return if reader.bytes.is_empty() { Ok(None) } else { Err(io::ErrorKind::UnexpectedEof.into()) };
        }
    };
    let head = String::from_utf8_lossy(&reader.bytes[..body_at]).to_ascii_lowercase();
    let header = |name: &str| {
        head.lines()
            .find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))
            .map(|value| value.trim().to_owned())
    };
    if header("transfer-encoding").is_some_and(|value| value.contains("chunked")) {
        reader.chunks(body_at)?;
    } else if let Some(length) = header("content-length") {
        let length: usize = length.parse().map_err(|_| io::ErrorKind::InvalidData)?;
        reader.up_to(body_at.saturating_add(length))?;
    } else if answer && !matches!(status(&head), "204" | "304") {
        while reader.more()? {}
    }
    Ok(Some(Message { bytes: reader.bytes, body_at }))
}

fn status(head: &str) -> &str {
    head.split(' ').nth(1).unwrap_or_default()
}

fn find(bytes: &[u8], wanted: &[u8]) -> Option<usize> {
    bytes.windows(wanted.len()).position(|window| window == wanted)
}

/// What has been read so far. Nobody sends a second request before the first is answered, so nothing is read beyond one.
struct Reader<'a, R> {
    from: &'a mut R,
    bytes: Vec<u8>,
}

impl<R: Read> Reader<'_, R> {
    /// False at the end.
    fn more(&mut self) -> io::Result<bool> {
        let mut buffer = [0; 16 << 10];
        let count = self.from.read(&mut buffer)?;
        self.bytes.extend_from_slice(&buffer[..count]);
        if self.bytes.len() > MAX_BYTES {
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        Ok(count > 0)
    }

    fn up_to(&mut self, length: usize) -> io::Result<()> {
        while self.bytes.len() < length {
            if !self.more()? {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
        Ok(())
    }

    /// To the end of the last chunk, without trailers.
    fn chunks(&mut self, mut at: usize) -> io::Result<()> {
        loop {
            let end = loop {
                if let Some(end) = find(&self.bytes[at..], b"\r\n") {
                    break at + end;
                }
                self.up_to(self.bytes.len() + 1)?;
            };
            let size = String::from_utf8_lossy(&self.bytes[at..end]);
            let size = size.split(';').next().unwrap_or_default().trim();
            let size = usize::from_str_radix(size, 16).map_err(|_| io::ErrorKind::InvalidData)?;
            at = end.saturating_add(size).saturating_add(4);
            self.up_to(at)?;
            if size == 0 {
                return Ok(());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As if every byte came alone.
    struct Slow<'a>(&'a [u8]);

    impl Read for Slow<'_> {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            let count = self.0.len().min(1);
            buffer[..count].copy_from_slice(&self.0[..count]);
            self.0 = &self.0[count..];
            Ok(count)
        }
    }

    #[test]
    fn a_message_ends_where_it_says() {
        let cases: [(&str, bool, &str); 5] = [
            ("GET / HTTP/1.1\r\nhost: x\r\n\r\n", false, ""),
            ("POST / HTTP/1.1\r\nContent-Length: 3\r\n\r\nabc", false, "abc"),
            (
                "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n0\r\n\r\n",
                true,
                "2\r\nab\r\n0\r\n\r\n",
            ),
            ("HTTP/1.1 200 OK\r\n\r\nto the end", true, "to the end"),
            ("HTTP/1.1 204 No Content\r\n\r\n", true, ""),
        ];
        for (text, answer, body) in cases {
            let message = read(&mut Slow(text.as_bytes()), answer).unwrap().unwrap();
            assert_eq!((message.body(), &*message.bytes), (body.as_bytes(), text.as_bytes()), "{text}");
        }
        assert!(read(&mut Slow(b""), false).unwrap().is_none());
        for cut in ["GET / HT", "POST / HTTP/1.1\r\ncontent-length: 3\r\n\r\nab"] {
            assert!(read(&mut Slow(cut.as_bytes()), false).is_err(), "{cut}");
        }
    }
}
