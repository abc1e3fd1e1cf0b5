//! Samples of one day that are in no chunk yet; on disk they are in tails.

use super::index::make_room;
use crate::domain::series::{Range, Sample};

/// By a series' number.
#[derive(Debug, Default)]
pub(super) struct Head {
    series: Vec<Vec<Sample>>,
    samples: usize,
}

impl Head {
    /// Samples of all series.
    pub(super) const fn len(&self) -> usize {
        self.samples
    }

    /// Samples of one series.
    pub(super) fn len_of(&self, number: u32) -> usize {
        let samples = usize::try_from(number).ok().and_then(|number| self.series.get(number));
        samples.map_or(0, Vec::len)
    }

    /// Keeps one; false if there was one of that time, which it replaces.
    pub(super) fn insert(&mut self, number: u32, sample: Sample) -> bool {
        let Ok(number) = usize::try_from(number) else { return false };
        while number >= self.series.len() {
            make_room(&mut self.series);
            self.series.push(Vec::new());
        }
        let Some(samples) = self.series.get_mut(number) else { return false };
        if samples.capacity() == 0 {
            // What is told twice a minute has no more before it goes into a chunk.
            samples.reserve_exact(2);
        }
        if samples.last().is_none_or(|last| last.at_ms < sample.at_ms) {
            samples.push(sample);
            self.samples += 1;
            return true;
        }
        match samples.binary_search_by_key(&sample.at_ms, |known| known.at_ms) {
            Ok(at) => {
                if let Some(known) = samples.get_mut(at) {
                    *known = sample;
                }
                false
            }
            Err(at) => {
                samples.insert(at, sample);
                self.samples += 1;
                true
            }
        }
    }

    /// A series' samples within a range, ascending.
    pub(super) fn within(&self, number: u32, range: Range) -> &[Sample] {
        let samples = usize::try_from(number).ok().and_then(|number| self.series.get(number));
        let samples = samples.map_or(&[][..], Vec::as_slice);
        let from = samples.partition_point(|sample| sample.at_ms < range.from_ms);
        let to = samples.partition_point(|sample| sample.at_ms <= range.to_ms);
        samples.get(from..to).unwrap_or_default()
    }

    /// Takes a series' samples out.
    pub(super) fn take(&mut self, number: u32) -> Vec<Sample> {
        let samples = usize::try_from(number).ok().and_then(|number| self.series.get_mut(number));
        let taken = samples.map(std::mem::take).unwrap_or_default();
        self.samples -= taken.len();
        taken
    }

    /// Numbers of the series that have some.
    pub(super) fn numbers(&self) -> Vec<u32> {
        let with = self.series.iter().enumerate().filter(|(_, samples)| !samples.is_empty());
        with.filter_map(|(number, _)| u32::try_from(number).ok()).collect()
    }
}
