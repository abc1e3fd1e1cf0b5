//! Ids of the reference's shape, `<kind>_<YYYYMMDD>_<HHMMSS>` in UTC.

use jiff::Timestamp;

/// An id that is not taken: a second start within one second gets the next second that is free.
pub(super) fn fresh(kind: &str, at_ns: i64, taken: impl Fn(&str) -> bool) -> String {
    let second = at_ns.div_euclid(1_000_000_000);
    let ids = (second..).map(|second| of(kind, second));
    // Those that are told of are few, so a free one is near.
    ids.into_iter().find(|id| !taken(id)).unwrap_or_default()
}

fn of(kind: &str, second: i64) -> String {
    let at = Timestamp::from_second(second).unwrap_or(Timestamp::UNIX_EPOCH);
    format!("{kind}_{}", at.strftime("%Y%m%d_%H%M%S"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn starts_within_one_second_differ_and_keep_the_shape() {
        let mut taken = vec!["oltp_read_write_20240110_120001".to_owned()];
        for wanted in ["20240110_120000", "20240110_120002", "20240110_120003"] {
            let id = fresh("oltp_read_write", 1_704_888_000_999_999_999, |id| taken.iter().any(|t| t == id));
            assert_eq!(id, format!("oltp_read_write_{wanted}"));
            taken.push(id);
        }
    }
}
