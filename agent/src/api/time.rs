//! Wall time on the wire.

use jiff::Timestamp;

/// RFC 3339 in UTC with whole seconds (`2025-06-19T10:30:00Z`), as the reference API prints it.
pub fn rfc3339_seconds(at_ns: i64) -> String {
    let seconds = Timestamp::from_second(at_ns.div_euclid(1_000_000_000)).unwrap_or(Timestamp::UNIX_EPOCH);
    seconds.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

/// The same without a zone (`2024-01-10T12:00:00`), as the reference's database metrics have it.
pub fn plain_seconds(at_ns: i64) -> String {
    rfc3339_seconds(at_ns).trim_end_matches('Z').to_owned()
}

/// RFC 3339 in UTC with as many digits as there are, down to nanoseconds.
pub fn rfc3339(at_ns: i64) -> String {
    Timestamp::from_nanosecond(at_ns.into()).unwrap_or(Timestamp::UNIX_EPOCH).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seconds_are_cut_not_rounded() {
        assert_eq!(rfc3339_seconds(1_750_329_000_999_999_999), "2025-06-19T10:30:00Z");
        assert_eq!(rfc3339_seconds(-1), "1969-12-31T23:59:59Z");
        assert_eq!(rfc3339(1_750_329_000_000_000_001), "2025-06-19T10:30:00.000000001Z");
        assert_eq!(rfc3339(1_750_329_000_000_000_000), "2025-06-19T10:30:00Z");
    }
}
