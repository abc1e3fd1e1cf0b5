//! All variables of a scheduler into one vector of words, as fast as they can be had.
//!
//! Sections mapped into memory cost one load per word: their places are checked when they are opened. Frozen sections
//! are read once, when they are opened. Sections that must be copied by a system call are copied each time, large ones
//! only now and then.

use super::maps::{OpenMap, Plan, ReadError, Word};

/// A copied section above this size is large: copying 64 KiB takes some 10 us.
pub const LARGE_SECTION_BYTES: u32 = 64 << 10;

/// A section prepared for reading.
pub struct Section {
    map: Box<dyn OpenMap>,
    words: Vec<Word>,
    source: Source,
}

enum Source {
    Mapped(Box<dyn Plan>),
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
    /// Words in all sections.
    words: usize,
    large_interval_ns: u64,
}

impl Sampler {
    /// A plan over `sections`; large copied ones are read at most every `large_interval_ns`.
    pub fn new(sections: Vec<Section>, large_interval_ns: u64) -> Self {
        let words = sections.iter().map(|section| section.words.len()).sum();
        Self { sections, words, large_interval_ns }
    }

    /// Reads one word per variable into `out`, whatever was in it; it keeps its capacity.
    ///
    /// `mono_ns` only decides whether large copied sections are due.
    ///
    /// # Errors
    /// A copy that failed. `out` is empty then.
    #[inline]
    pub fn sample(&mut self, mono_ns: u64, out: &mut Vec<u64>) -> Result<(), ReadError> {
        if out.len() != self.words {
            out.resize(self.words, 0);
        }
        let mut rest = out.as_mut_slice();
        for section in &mut self.sections {
            let Some((own, behind)) = rest.split_at_mut_checked(section.words.len()) else { break };
            rest = behind;
            if let Source::Mapped(plan) = &section.source {
                plan.read(own);
            } else if let Err(error) = section.sample(mono_ns, self.large_interval_ns, own) {
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
        let size = u64::from(map.info().value_size);
        let beyond = words.iter().find(|word| u64::from(word.offset) + u64::from(word.size) > size);
        if let Some(word) = beyond {
            return Err(outside(word.offset));
        }
        let frozen = map.info().frozen;
        let source = match map.mapped() {
            Some(mapped) => Source::Mapped(mapped.plan(&words).ok_or_else(|| outside(0))?),
            None => Source::Copied { buffer: Vec::new(), words: vec![0; words.len()], read_at_ns: None },
        };
        let mut section = Self { map, words, source };
        if frozen {
            let mut values = vec![0; section.words.len()];
            section.sample(0, 0, &mut values)?;
            section.source = Source::Frozen(values);
        }
        Ok(section)
    }

    /// `out` is as long as there are words.
    fn sample(&mut self, mono_ns: u64, large_interval_ns: u64, out: &mut [u64]) -> Result<(), ReadError> {
        match &mut self.source {
            Source::Mapped(plan) => plan.read(out),
            Source::Frozen(values) => out.copy_from_slice(values),
            Source::Copied { buffer, words, read_at_ns } => {
                let size = self.map.info().value_size;
                let wait_ns = if size > LARGE_SECTION_BYTES { large_interval_ns } else { 0 };
                let due = read_at_ns.is_none_or(|at| mono_ns.saturating_sub(at) >= wait_ns);
                if due && !self.words.is_empty() {
                    buffer.resize(size as usize, 0);
                    self.map.lookup(buffer)?;
                    for (value, word) in words.iter_mut().zip(&self.words) {
                        *value = word.read(buffer).ok_or_else(|| outside(word.offset))?;
                    }
                    *read_at_ns = Some(mono_ns);
                    if size > LARGE_SECTION_BYTES {
                        *buffer = Vec::new(); // rarely used: not worth keeping
                    }
                }
                out.copy_from_slice(words);
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
