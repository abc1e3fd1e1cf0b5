//! Rows of a database: a value as JSON, and a checksum that knows the row's key, so that nothing is read as another row's.

use serde::{Deserialize, Serialize};

/// A value as a row.
///
/// # Errors
/// None in practice: rows are numbers, text, lists and maps of them.
pub fn json<T: Serialize + ?Sized>(value: &T) -> Result<Vec<u8>, redb::Error> {
    serde_json::to_vec(value).map_err(|error| redb::Error::Corrupted(format!("row: {error}")))
}

/// A row as a value.
///
/// # Errors
/// [`redb::Error::Corrupted`] of what is none.
pub fn parse<'a, T: Deserialize<'a>>(row: &'a [u8]) -> Result<T, redb::Error> {
    serde_json::from_slice(row).map_err(|error| redb::Error::Corrupted(format!("row: {error}")))
}

/// CRC32 of a row's key and the rest of the row.
#[must_use]
pub fn checksum(key: &[u8], rest: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(key);
    hasher.update(rest);
    hasher.finalize()
}

/// A row that begins with its checksum (4 bytes, little endian).
#[must_use]
pub fn sealed(key: &[u8], rest: &[u8]) -> Vec<u8> {
    let mut row = checksum(key, rest).to_le_bytes().to_vec();
    row.extend_from_slice(rest);
    row
}

/// What is behind a row's checksum; `None` if the row is damaged, or another key's.
#[must_use]
pub fn checked<'a>(key: &[u8], row: &'a [u8]) -> Option<&'a [u8]> {
    let (crc, rest) = row.split_first_chunk::<4>()?;
    (checksum(key, rest) == u32::from_le_bytes(*crc)).then_some(rest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_is_its_keys_and_whole() {
        let row = sealed(b"key", b"rest");
        assert_eq!(checked(b"key", &row), Some(&b"rest"[..]));
        assert_eq!(checked(b"kex", &row), None);
        for at in 0..row.len() {
            let mut turned = row.clone();
            turned[at] ^= 1;
            assert_eq!(checked(b"key", &turned), None);
            assert_eq!(checked(b"key", &row[..at]), None);
        }
    }
}
