//! Who sent a request, as the doors ask.

use std::convert::Infallible;
use std::sync::Arc;

use axum::extract::FromRequestParts;
use axum::http::request::Parts;

use super::{Key, Scope};
use crate::http::ApiError;

/// The sender of a request: an extension of it, and an argument of handlers.
#[derive(Clone, Debug, Default)]
pub(in crate::http) enum Caller {
    /// No key came.
    #[default]
    Nobody,
    /// A key came that is none.
    Stranger,
    /// The holder of a key.
    Holder(Arc<Key>),
    /// A process at the unix socket.
    Local,
}

impl Caller {
    /// Refuses what the sender may not do.
    ///
    /// # Errors
    /// 401 without a key or with one that is none, 403 with one that lacks the scope.
    pub(in crate::http) fn may(&self, scope: Scope) -> Result<(), ApiError> {
        match self {
            Self::Local => Ok(()),
            Self::Holder(key) if key.may(scope) => Ok(()),
            Self::Holder(key) => {
                let (name, scope) = (&key.name, scope.name());
                Err(ApiError::Forbidden(format!("the key `{name}` has not the scope `{scope}`")))
            }
            Self::Nobody => Err(ApiError::Unauthorized),
            Self::Stranger => Err(ApiError::WrongKey),
        }
    }
}

impl<S: Sync> FromRequestParts<S> for Caller {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self, Infallible> {
        Ok(parts.extensions.get::<Self>().cloned().unwrap_or_default())
    }
}
