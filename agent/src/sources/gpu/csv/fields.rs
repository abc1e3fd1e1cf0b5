//! The fields of one line, unquoted. The library splits and unquotes, and takes quotes wherever they stand; where they may
//! stand is looked at before.

use csv_core::{ReadRecordResult, Reader};

use super::Reason;

/// Fields of one line: more columns than anybody's file has.
const MAX_FIELDS: usize = 256;

/// The fields of the last line that was split.
pub(super) struct Fields {
    reader: Reader,
    text: String,
    /// Where each ends in the text.
    ends: [usize; MAX_FIELDS],
    count: usize,
}

impl Default for Fields {
    fn default() -> Self {
        Self { reader: Reader::new(), text: String::new(), ends: [0; MAX_FIELDS], count: 0 }
    }
}

impl Fields {
    /// Splits a line that has no line end.
    pub(super) fn split(&mut self, line: &[u8]) -> Result<(), Reason> {
        self.count = 0;
        if !quotes_are_right(line) {
            return Err(Reason::Quotes);
        }
        // A lone carriage return would end the record for the library.
        if line.iter().any(|byte| matches!(byte, b'\r' | 0)) || str::from_utf8(line).is_err() {
            return Err(Reason::Text);
        }
        let mut bytes = std::mem::take(&mut self.text).into_bytes();
        // A little more, so that the end of the output is never the end of the line.
        bytes.resize(line.len() + 8, 0);
        self.reader.reset();
        let (mut input, mut written, mut count) = (line, 0, 0);
        loop {
            // An empty input tells it that this is the end.
            let (result, read, wrote, ended) =
                self.reader.read_record(input, &mut bytes[written..], &mut self.ends[count..]);
            input = &input[read..];
            written += wrote;
            count += ended;
            match result {
                ReadRecordResult::InputEmpty => {}
                ReadRecordResult::Record | ReadRecordResult::End => break,
                ReadRecordResult::OutputEndsFull => return Err(Reason::Columns),
                // Unquoted text is never longer than the line.
                ReadRecordResult::OutputFull => return Err(Reason::TooLong),
            }
        }
        bytes.truncate(written);
        // Unquoting cuts at ASCII only, so this cannot fail after the look above.
        self.text = String::from_utf8(bytes).map_err(|_| Reason::Text)?;
        self.count = count;
        Ok(())
    }

    pub(super) const fn len(&self) -> usize {
        self.count
    }

    /// A field; empty beyond the last.
    pub(super) fn get(&self, at: usize) -> &str {
        if at >= self.count {
            return "";
        }
        let from = if at == 0 { 0 } else { self.ends[at - 1] };
        self.text.get(from..self.ends[at]).unwrap_or_default()
    }
}

/// A quote begins a field, ends it, or is doubled inside; and every field that begins with one ends with one.
fn quotes_are_right(line: &[u8]) -> bool {
    let mut rest = line;
    loop {
        if let Some(quoted) = rest.strip_prefix(b"\"") {
            let mut at = 0;
            loop {
                match quoted.get(at..).and_then(|from| from.iter().position(|byte| *byte == b'"')) {
                    None => return false,
                    Some(quote) if quoted.get(at + quote + 1) == Some(&b'"') => at += quote + 2,
                    Some(quote) => {
                        rest = &quoted[at + quote + 1..];
                        break;
                    }
                }
            }
        } else {
            let end = rest.iter().position(|byte| *byte == b',').unwrap_or(rest.len());
            if rest[..end].contains(&b'"') {
                return false;
            }
            rest = &rest[end..];
        }
        match rest.split_first() {
            None => return true,
            Some((b',', after)) => rest = after,
            Some(_) => return false,
        }
    }
}
