//! Query and form parameters as they come: in their order, with what comes twice, and nothing repaired.
//!
//! The usual decoders put a replacement character where bytes are no UTF-8; that would be another event.

use percent_encoding::percent_decode;

use crate::events::Invalid;
use crate::http::ApiError;

/// See the module.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(in crate::http) struct Pairs(pub(in crate::http) Vec<(String, String)>);

impl Pairs {
    /// Parses `a=1&b=x+y%21`.
    ///
    /// # Errors
    /// [`Invalid::Encoding`].
    pub(in crate::http) fn of(text: &[u8]) -> Result<Self, Invalid> {
        let pairs = text.split(|byte| *byte == b'&').filter(|pair| !pair.is_empty());
        let pairs = pairs.map(|pair| {
            let at = pair.iter().position(|byte| *byte == b'=').unwrap_or(pair.len());
            Ok((decode(&pair[..at])?, decode(pair.get(at + 1..).unwrap_or_default())?))
        });
        Ok(Self(pairs.collect::<Result<_, _>>()?))
    }

    /// The first of this name.
    pub(in crate::http) fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(known, _)| known == name).map(|(_, value)| &**value)
    }
}

fn decode(text: &[u8]) -> Result<String, Invalid> {
    let blanks: Vec<u8> = text.iter().map(|byte| if *byte == b'+' { b' ' } else { *byte }).collect();
    String::from_utf8(percent_decode(&blanks).collect()).map_err(|error| {
        Invalid::Encoding(String::from_utf8_lossy(error.as_bytes()).chars().take(64).collect())
    })
}

/// A whole number.
///
/// # Errors
/// [`ApiError::Query`].
pub(in crate::http) fn number<N: std::str::FromStr>(name: &'static str, text: &str) -> Result<N, ApiError> {
    text.parse().map_err(|_| ApiError::Query { name, why: "a whole number".to_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_repaired() {
        let pair = |label: &str, value: &str| (label.to_owned(), value.to_owned());
        let pairs = Pairs::of(b"a=1&&b=x+y%21%C3%A4&a=2&c&=d&e=f=g").unwrap();
        let all = [
            pair("a", "1"),
            pair("b", "x y!ä"),
            pair("a", "2"),
            pair("c", ""),
            pair("", "d"),
            pair("e", "f=g"),
        ];
        assert_eq!(pairs.0, all);
        assert_eq!(pairs.get("a"), Some("1"));
        assert_eq!(Pairs::of(b""), Ok(Pairs::default()));
        assert_eq!(Pairs::of(b"a=%ff"), Err(Invalid::Encoding("\u{fffd}".to_owned())));
        assert_eq!(
            Pairs::of(b"a=%4").unwrap().0,
            [pair("a", "%4")],
            "as the reference's library has it: a percent sign"
        );
    }
}
