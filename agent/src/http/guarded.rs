//! What changes the node, and is off until it is configured: everybody may look at it, callers whose key has the scope
//! `act` may use it.

use super::ApiError;
use super::keys::{Caller, Scope};

/// Its owner, or why there is none.
#[derive(Clone)]
pub struct Guarded<T>(Result<T, String>);

impl<T> From<Result<T, String>> for Guarded<T> {
    fn from(owner: Result<T, String>) -> Self {
        Self(owner)
    }
}

impl<T> Guarded<T> {
    /// For a request that looks.
    ///
    /// # Errors
    /// [`ApiError::Forbidden`]: it is off, and how to switch it on.
    pub(super) fn look(&self) -> Result<&T, ApiError> {
        self.0.as_ref().map_err(|why| ApiError::Forbidden(why.clone()))
    }

    /// For a request that changes something.
    ///
    /// # Errors
    /// As for [`Guarded::look`], and those of [`Caller::may`].
    pub(super) fn act(&self, caller: &Caller) -> Result<&T, ApiError> {
        let owner = self.look()?;
        caller.may(Scope::Act)?;
        Ok(owner)
    }

    /// The owner, or why there is none.
    pub const fn owner(&self) -> Result<&T, &String> {
        self.0.as_ref()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn off_is_said_before_a_key_is_asked_for_and_on_asks_for_it() {
        let refused = |result: Result<&u8, ApiError>| result.err().map(|error| error.status().as_u16());
        let off = Guarded::<u8>::from(Err("off: set enabled".to_owned()));
        let on = Guarded::from(Ok(7));
        for caller in [Caller::Nobody, Caller::Stranger, Caller::Local] {
            assert!(off.act(&caller).is_err_and(|error| error.to_string().contains("set enabled")));
        }
        assert_eq!(refused(on.act(&Caller::Nobody)), Some(401));
        assert_eq!(refused(on.act(&Caller::Stranger)), Some(401));
        assert_eq!(refused(on.act(&Caller::Local)), None);
        assert_eq!(refused(on.look()), None);
    }
}
