//! Peers and ports as people write them: `10.0.0.0/8`, `fd00::1`, `443`, `8000-8100`.

use std::fmt;
use std::net::IpAddr;
use std::ops::RangeInclusive;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// Why a text is none.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TextError {
    /// Not an address with or without the bits of a network.
    #[error("{0:?} is no address or network such as 10.0.0.7, 10.0.0.0/8 or fd00::/8")]
    Prefix(String),
    /// Not a port or a range.
    #[error("{0:?} is no port or range such as 443 or 8000-8100")]
    Ports(String),
}

/// Addresses with the same beginning.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Prefix {
    address: IpAddr,
    bits: u8,
}

impl Prefix {
    /// As IPv6, which every IPv4 address also is, and the bits that count.
    pub(super) fn mapped(&self) -> ([u8; 16], u32) {
        match self.address {
            IpAddr::V4(address) => (address.to_ipv6_mapped().octets(), 96 + u32::from(self.bits)),
            IpAddr::V6(address) => (address.octets(), self.bits.into()),
        }
    }
}

impl From<IpAddr> for Prefix {
    fn from(address: IpAddr) -> Self {
        Self { address, bits: if address.is_ipv4() { 32 } else { 128 } }
    }
}

impl FromStr for Prefix {
    type Err = TextError;

    fn from_str(text: &str) -> Result<Self, TextError> {
        let wrong = || TextError::Prefix(text.chars().take(64).collect());
        let (address, bits) = text.split_once('/').map_or((text, None), |(a, b)| (a, Some(b)));
        let whole = Self::from(address.parse::<IpAddr>().map_err(|_| wrong())?);
        let Some(bits) = bits else { return Ok(whole) };
        let digits = bits.bytes().all(|byte| byte.is_ascii_digit());
        let bits = bits.parse::<u8>().ok().filter(|bits| digits && *bits <= whole.bits).ok_or_else(wrong)?;
        Ok(Self { bits, ..whole })
    }
}

impl fmt::Display for Prefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.bits)
    }
}

impl TryFrom<String> for Prefix {
    type Error = TextError;

    fn try_from(text: String) -> Result<Self, TextError> {
        text.parse()
    }
}

impl From<Prefix> for String {
    fn from(prefix: Prefix) -> Self {
        prefix.to_string()
    }
}

/// A port or several in a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Written", into = "String")]
pub struct Ports {
    first: u16,
    last: u16,
}

/// As JSON has it.
#[derive(Deserialize)]
#[serde(untagged)]
enum Written {
    Number(u16),
    Text(String),
}

impl Ports {
    /// Both ends are in it.
    pub(super) const fn range(&self) -> RangeInclusive<u16> {
        self.first..=self.last
    }
}

impl From<RangeInclusive<u16>> for Ports {
    /// An empty range is its first port.
    fn from(range: RangeInclusive<u16>) -> Self {
        Self { first: *range.start(), last: *range.end().max(range.start()) }
    }
}

impl FromStr for Ports {
    type Err = TextError;

    fn from_str(text: &str) -> Result<Self, TextError> {
        let wrong = || TextError::Ports(text.chars().take(64).collect());
        let port = |text: &str| {
            let digits = text.bytes().all(|byte| byte.is_ascii_digit());
            text.parse().ok().filter(|_| digits).ok_or_else(wrong)
        };
        let (first, last) = text.split_once('-').unwrap_or((text, text));
        let ports = Self { first: port(first)?, last: port(last)? };
        if ports.first > ports.last { Err(wrong()) } else { Ok(ports) }
    }
}

impl fmt::Display for Ports {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.first == self.last {
            return write!(f, "{}", self.first);
        }
        write!(f, "{}-{}", self.first, self.last)
    }
}

impl TryFrom<Written> for Ports {
    type Error = TextError;

    fn try_from(written: Written) -> Result<Self, TextError> {
        match written {
            Written::Number(port) => Ok(Self::from(port..=port)),
            Written::Text(text) => text.parse(),
        }
    }
}

impl From<Ports> for String {
    fn from(ports: Ports) -> Self {
        ports.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn peers_are_read_as_people_write_them() {
        for (text, bytes, bits) in [
            ("10.0.0.0/8", [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 255, 255, 10, 0, 0, 0], 104),
            ("10.1.2.3", [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 255, 255, 10, 1, 2, 3], 128),
            ("0.0.0.0/0", [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 255, 255, 0, 0, 0, 0], 96),
            ("fd00::1", [0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1], 128),
            ("::/0", [0; 16], 0),
        ] {
            assert_eq!(text.parse::<Prefix>().unwrap().mapped(), (bytes, bits), "{text}");
        }
        let prefix = "10.0.0.7".parse::<Prefix>().unwrap();
        let json = serde_json::to_string(&prefix).unwrap();
        assert_eq!(json, r#""10.0.0.7/32""#);
        assert_eq!(serde_json::from_str::<Prefix>(&json).unwrap(), prefix);
    }

    #[test]
    fn ports_are_read_as_people_write_them() {
        for (json, range) in [("443", 443..=443), (r#""443""#, 443..=443), (r#""0-65535""#, 0..=u16::MAX)] {
            let ports = serde_json::from_str::<Ports>(json).unwrap();
            assert_eq!(ports.range(), range);
            let again = serde_json::to_string(&ports).unwrap();
            assert_eq!(serde_json::from_str::<Ports>(&again).unwrap(), ports);
        }
    }

    #[test]
    fn what_is_none_is_said_to_be_none() {
        for text in ["", "x", "10.0.0.0/33", "::/129", "10.0.0.0/", "10.0.0.0/+8", "10.0.0.0/8/8", "10.0.0"] {
            assert!(text.parse::<Prefix>().unwrap_err().to_string().contains("is no address"), "{text}");
        }
        for text in ["", "-", "1-", "9-1", "65536", "+80", "1-2-3", "http", "1; reboot"] {
            assert!(text.parse::<Ports>().unwrap_err().to_string().contains("is no port"), "{text}");
        }
        for json in ["-1", "65536", "1.5", "null", "[1]"] {
            assert!(serde_json::from_str::<Ports>(json).is_err(), "{json}");
        }
    }
}
