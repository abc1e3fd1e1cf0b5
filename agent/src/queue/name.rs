//! Names of topics and groups, ids of batches, and where a key goes.

use super::{Error, MAX_BATCH_BYTES};

/// Ends the name of a dead-letter topic: records of `NAME` that were delivered too often are in `NAME.dead`.
pub const DEAD: &str = ".dead";

/// Longest name: it stands in log lines, metrics and keys.
pub const MAX_NAME_BYTES: usize = 128;

/// Longest id of a batch or key of a record: a hash in any spelling, or two UUIDs.
pub(super) const MAX_ID_BYTES: usize = 256;

/// A topic or group is named by 1 to 128 of `A-Za-z0-9._-`.
pub(super) fn check(what: &str, name: &str) -> Result<(), Error> {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    if (1..=MAX_NAME_BYTES).contains(&name.len()) && name.bytes().all(plain) {
        return Ok(());
    }
    // A name may be megabytes: it is not repeated.
    Err(Error::Invalid(format!("{what} is needed: 1 to {MAX_NAME_BYTES} of A-Z a-z 0-9 . _ -")))
}

/// The topic of the dead letters of `topic`.
pub(super) fn dead(topic: &str) -> String {
    format!("{topic}{DEAD}")
}

/// The topic whose dead letters `topic` holds, if it holds any.
pub(super) fn living(topic: &str) -> Option<&str> {
    topic.strip_suffix(DEAD)
}

pub(super) fn is_dead(topic: &str) -> bool {
    living(topic).is_some()
}

/// A new topic's name leaves room for its dead letters', and is none itself.
pub(super) fn check_new(topic: &str) -> Result<(), Error> {
    check("topic", topic)?;
    if is_dead(topic) {
        let words =
            format!("topics ending with {DEAD} hold dead letters: they can be consumed, not produced to");
        return Err(Error::Invalid(words));
    }
    if topic.len() + DEAD.len() > MAX_NAME_BYTES {
        let most = MAX_NAME_BYTES - DEAD.len();
        return Err(Error::Invalid(format!("topic is at most {most} long, so that {DEAD} fits behind it")));
    }
    Ok(())
}

pub(super) fn check_id(what: &'static str, id: &str) -> Result<(), Error> {
    match id.len() {
        0 => Err(Error::Invalid(format!("{what} is empty"))),
        size if size > MAX_ID_BYTES => Err(Error::TooLarge { what, size, limit: MAX_ID_BYTES }),
        _ => Ok(()),
    }
}

/// FNV-1a with the last step of MurmurHash3, 64 bits, cut to the partitions: the same key goes to the same partition in
/// every build for ever.
pub(super) fn partition_of(key: &[u8], partitions: u32) -> u32 {
    let mut hash = 0xcbf2_9ce4_8422_2325_u64;
    for &byte in key {
        hash = (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
    }
    // Short keys differ in few bits of the first hash: one quarter of the partitions would get most of them.
    hash = (hash ^ (hash >> 33)).wrapping_mul(0xff51_afd7_ed55_8ccd);
    hash = (hash ^ (hash >> 33)).wrapping_mul(0xc4ce_b9fe_1a85_ec53);
    hash ^= hash >> 33;
    // A remainder of a u32 is one.
    u32::try_from(hash % u64::from(partitions.max(1))).unwrap_or(0)
}

const _: () = assert!(MAX_ID_BYTES < MAX_BATCH_BYTES);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_plain_and_short() {
        for good in ["a", "telemetry", "A-1.b_c", &"x".repeat(MAX_NAME_BYTES)] {
            assert!(check("topic", good).is_ok(), "{good}");
        }
        for bad in ["", "a b", "a/b", "ä", "a\n", "\0", &"x".repeat(MAX_NAME_BYTES + 1)] {
            assert!(check("topic", bad).is_err(), "{bad:?}");
        }
        assert!(check_new("orders").is_ok() && check_new("orders.dead").is_err());
        assert!(check_new(&"x".repeat(MAX_NAME_BYTES - 4)).is_err());
    }

    #[test]
    fn keys_spread_evenly_and_stay() {
        let mut counts = [0; 4];
        for key in 0..10_000_u32 {
            counts[partition_of(format!("gpu-{key}").as_bytes(), 4) as usize] += 1;
        }
        assert!(counts.iter().all(|count| (2_200..2_800).contains(count)), "{counts:?}");
        // Written down: a change of the hash would break every producer's order.
        assert_eq!(["a", "b", "gpu-7"].map(|key| partition_of(key.as_bytes(), 4)), [3, 0, 0]);
    }
}
