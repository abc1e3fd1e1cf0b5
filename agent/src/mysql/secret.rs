//! A string that is not printed.

use std::fmt;

/// A password. Neither `Debug` nor anything that serialises shows it.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Of this text.
    pub const fn new(text: String) -> Self {
        Self(text)
    }

    /// The text, for the one who must have it.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_empty() { "<empty>" } else { "<set>" })
    }
}
