//! Texts by number: each is in memory once, however many series have it.

use std::collections::HashMap;
use std::sync::Arc;

/// A text's number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Symbol(u32);

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Symbols {
    texts: Vec<Arc<str>>,
    numbers: HashMap<Arc<str>, Symbol>,
}

impl Symbols {
    /// The number of a text, which may be new. There are fewer than 2^32 series with at most 40 labels, and the memory for
    /// so many texts ends long before their numbers: past them all texts were the last one.
    pub(super) fn of(&mut self, text: &str) -> Symbol {
        if let Some(known) = self.find(text) {
            return known;
        }
        let symbol = Symbol(u32::try_from(self.texts.len()).unwrap_or(u32::MAX));
        let text = Arc::<str>::from(text);
        self.texts.push(Arc::clone(&text));
        self.numbers.insert(text, symbol);
        symbol
    }

    /// The number of a text that is known.
    pub(super) fn find(&self, text: &str) -> Option<Symbol> {
        self.numbers.get(text).copied()
    }

    /// Its text.
    pub(super) fn text(&self, symbol: Symbol) -> &str {
        self.get(symbol).map_or("", |text| text)
    }

    /// Its text, shared with all who have it.
    pub(super) fn shared(&self, symbol: Symbol) -> Option<Arc<str>> {
        self.get(symbol).map(Arc::clone)
    }

    fn get(&self, symbol: Symbol) -> Option<&Arc<str>> {
        self.texts.get(usize::try_from(symbol.0).ok()?)
    }
}
