//! Lines of at most [`super::MAX_LINE_BYTES`]; the rest of a longer one is read and thrown away.

use std::io::{self, BufRead};

use super::MAX_LINE_BYTES;

/// A line without its end.
pub(super) struct Line<'a> {
    /// Its bytes, or the beginning of them.
    pub(super) bytes: &'a [u8],
    /// It was longer.
    pub(super) is_cut: bool,
    /// The file ends without a line end after it.
    pub(super) is_last_and_open: bool,
}

/// The lines of an input.
pub(super) struct Lines<R> {
    input: R,
    buffer: Vec<u8>,
    /// Lines so far.
    pub(super) number: u64,
    /// Bytes so far.
    pub(super) read_bytes: u64,
}

impl<R: BufRead> Lines<R> {
    pub(super) const fn new(input: R) -> Self {
        Self { input, buffer: Vec::new(), number: 0, read_bytes: 0 }
    }

    /// The next one; `None` at the end.
    pub(super) fn next_line(&mut self) -> io::Result<Option<Line<'_>>> {
        self.buffer.clear();
        let (mut is_cut, mut is_ended, mut was_read) = (false, false, false);
        while !is_ended {
            let part = match self.input.fill_buf() {
                Ok(part) => part,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(error),
            };
            if part.is_empty() {
                break;
            }
            was_read = true;
            let end = part.iter().position(|byte| *byte == b'\n');
            is_ended = end.is_some();
            let line = &part[..end.unwrap_or(part.len())];
            let room = MAX_LINE_BYTES - self.buffer.len();
            is_cut |= line.len() > room;
            self.buffer.extend_from_slice(&line[..line.len().min(room)]);
            let used = line.len() + usize::from(is_ended);
            self.read_bytes += u64::try_from(used).unwrap_or(0);
            self.input.consume(used);
        }
        if !was_read {
            return Ok(None);
        }
        self.number += 1;
        if !is_cut && self.buffer.last() == Some(&b'\r') {
            self.buffer.pop();
        }
        Ok(Some(Line { bytes: &self.buffer, is_cut, is_last_and_open: !is_ended }))
    }

    /// Memory that it keeps.
    #[cfg(test)]
    pub(super) const fn buffer_bytes(&self) -> usize {
        self.buffer.capacity()
    }
}
