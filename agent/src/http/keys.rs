//! Who may change the node: the holder of a key, or a process that reaches the unix socket (its owner and group).
//!
//! A key comes in `X-API-Key` or as `Authorization: Bearer`. Only its SHA-256 is known here, and compared in constant
//! time with every one that is configured, so that neither a key nor its place in the list can be measured.

use axum::http::{HeaderMap, header};
use constant_time_eq::constant_time_eq_32;
use sha2::{Digest as _, Sha256};

use super::ApiError;
use super::serve::{Connection, Local};

/// The digests of the keys.
#[derive(Clone, Default)]
pub struct Keys(Vec<[u8; 32]>);

impl Keys {
    /// From SHA-256 digests.
    pub const fn new(digests: Vec<[u8; 32]>) -> Self {
        Self(digests)
    }

    /// Refuses a request that may change nothing.
    ///
    /// # Errors
    /// [`ApiError::Unauthorized`] without a key, [`ApiError::Forbidden`] with a wrong one.
    pub(super) fn check(&self, headers: &HeaderMap, from: Option<Connection>) -> Result<(), ApiError> {
        if from.is_some_and(|from| from.local == Local::Unix) {
            return Ok(());
        }
        let Some(key) = presented(headers) else { return Err(ApiError::Unauthorized) };
        let digest: [u8; 32] = Sha256::digest(key).into();
        let known = self.0.iter().fold(false, |known, one| known | constant_time_eq_32(one, &digest));
        if known { Ok(()) } else { Err(ApiError::Forbidden("this key may not change the node".to_owned())) }
    }
}

fn presented(headers: &HeaderMap) -> Option<&[u8]> {
    if let Some(key) = headers.get("x-api-key") {
        return Some(key.as_bytes());
    }
    let (scheme, key) = headers.get(header::AUTHORIZATION)?.to_str().ok()?.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| key.trim().as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn verdict(headers: &[(&'static str, &'static str)], local: Option<Local>) -> Result<(), u16> {
        let keys = Keys::new(vec![[0; 32], Sha256::digest(b"right").into()]);
        let headers =
            headers.iter().map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap())).collect();
        let from = local.map(|local| Connection { local, peer: None });
        keys.check(&headers, from).map_err(|error| error.status().as_u16())
    }

    #[test]
    fn none_is_401_a_wrong_one_403_the_right_one_passes() {
        let tcp = Some(Local::Tcp(([127, 0, 0, 1], 1).into()));
        for local in [tcp, None] {
            assert_eq!(verdict(&[], local), Err(401));
            assert_eq!(verdict(&[("authorization", "Basic right")], local), Err(401));
            assert_eq!(verdict(&[("x-api-key", "")], local), Err(403));
            assert_eq!(verdict(&[("x-api-key", "wrong")], local), Err(403));
            assert_eq!(verdict(&[("x-api-key", "right ")], local), Err(403));
            assert_eq!(verdict(&[("x-api-key", "right")], local), Ok(()));
            assert_eq!(verdict(&[("authorization", "bearer right")], local), Ok(()));
        }
        assert_eq!(verdict(&[], Some(Local::Unix)), Ok(()));
    }

    #[test]
    fn without_keys_only_the_socket_is_open() {
        let headers = [("x-api-key".parse().unwrap(), "".parse().unwrap())].into_iter().collect();
        assert!(Keys::default().check(&headers, None).is_err());
    }
}
