//! All variables of a scheduler into one vector of words, as fast as they can be had.
//!
//! Sections mapped into memory cost one load per word. Frozen sections are read once, when they are opened.
//! Sections that must be copied by a system call are copied each time, large ones only now and then.

use super::maps::{OpenMap, ReadError, Run, Word};

/// A copied section above this size is large: copying 64 KiB takes some 10 us.
pub const LARGE_SECTION_BYTES: u32 = 64 << 10;

/// A section prepared for reading.
pub struct Section {
    map: Box<dyn OpenMap>,
    words: Vec<Word>,
    source: Source,
}

enum Source {
    Mapped(Vec<Run>),
    /// The words as they will always be.
    Frozen(Vec<u64>),
    Copied {
        buffer: Vec<u8>,
        words: Vec<u64>,
        read_at_ns: Option<u64>,
    },
}

/// The prepared plan: reads every section into one vector, in the layout's order.
pub struct Sampler {
    sections: Vec<Section>,
    large_interval_ns: u64,
}

impl Sampler {
    /// A plan over `sections`; large copied ones are read at most every `large_interval_ns`.
    pub const fn new(sections: Vec<Section>, large_interval_ns: u64) -> Self {
        Self { sections, large_interval_ns }
    }

    /// Reads one word per variable into `out`, which is emptied first and keeps its capacity.
    ///
    /// `mono_ns` only decides whether large copied sections are due.
    ///
    /// # Errors
    /// A copy that failed. `out` is empty then.
    pub fn sample(&mut self, mono_ns: u64, out: &mut Vec<u64>) -> Result<(), ReadError> {
        out.clear();
        for section in &mut self.sections {
            if let Err(error) = section.sample(mono_ns, self.large_interval_ns, out) {
                out.clear();
                return Err(error);
            }
        }
        Ok(())
    }

    /// Copies bytes of one section, whatever its kind, as they are now.
    ///
    /// # Errors
    /// A copy that failed, or bytes outside the section.
    pub fn copy(&self, section: usize, offset: u32, len: usize) -> Result<Vec<u8>, ReadError> {
        let Some(section) = self.sections.get(section) else { return Err(outside(offset)) };
        section.copy(offset, len)
    }
}

impl Section {
    /// Prepares an opened map; frozen ones are read here.
    ///
    /// # Errors
    /// A copy that failed, or a word outside the section.
    pub fn new(map: Box<dyn OpenMap>, words: Vec<Word>) -> Result<Self, ReadError> {
        let (frozen, mapped) = (map.info().frozen, map.mapped().is_some());
        let source = match mapped {
            true => Source::Mapped(Run::of(&words)),
            false => Source::Copied { buffer: Vec::new(), words: Vec::new(), read_at_ns: None },
        };
        let mut section = Self { map, words, source };
        if frozen {
            let mut values = Vec::with_capacity(section.words.len());
            section.sample(0, 0, &mut values)?;
            section.source = Source::Frozen(values);
        }
        Ok(section)
    }

    fn sample(&mut self, mono_ns: u64, large_interval_ns: u64, out: &mut Vec<u64>) -> Result<(), ReadError> {
        match &mut self.source {
            Source::Frozen(values) => out.extend_from_slice(values),
            Source::Mapped(runs) => {
                let gathered = self.map.mapped().and_then(|mapped| mapped.gather(runs, out));
                gathered.ok_or_else(|| outside(0))?;
            }
            Source::Copied { buffer, words, read_at_ns } => {
                let size = self.map.info().value_size;
                let wait_ns = if size > LARGE_SECTION_BYTES { large_interval_ns } else { 0 };
                let due = read_at_ns.is_none_or(|at| mono_ns.saturating_sub(at) >= wait_ns);
                if due && !self.words.is_empty() {
                    buffer.resize(size as usize, 0);
                    self.map.lookup(buffer)?;
                    words.clear();
                    for word in &self.words {
                        words.push(word.read(buffer).ok_or_else(|| outside(word.offset))?);
                    }
                    *read_at_ns = Some(mono_ns);
                    if size > LARGE_SECTION_BYTES {
                        *buffer = Vec::new(); // rarely used: not worth keeping
                    }
                }
                out.extend_from_slice(words);
            }
        }
        Ok(())
    }

    fn copy(&self, offset: u32, len: usize) -> Result<Vec<u8>, ReadError> {
        let (start, size) = (offset as usize, self.map.info().value_size as usize);
        let end = start.checked_add(len).filter(|&end| end <= size).ok_or_else(|| outside(offset))?;
        if let Some(mapped) = self.map.mapped() {
            let mut bytes = vec![0; len];
            return mapped.copy(offset, &mut bytes).map(|()| bytes).ok_or_else(|| outside(offset));
        }
        let mut value = vec![0; size];
        self.map.lookup(&mut value)?;
        Ok(value[start..end].to_vec())
    }
}

const fn outside(offset: u32) -> ReadError {
    ReadError::Outside { offset }
}

#[cfg(test)]
mod tests;
