//! More of something than there may be.

/// There is more than is taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{what}: {size} is more than {limit}; send less at once")]
pub struct Over {
    /// Of what there is too much.
    pub what: &'static str,
    /// How much there is.
    pub size: usize,
    /// How much there may be.
    pub limit: usize,
}

pub(in crate::series) const fn at_most(what: &'static str, size: usize, limit: usize) -> Result<(), Over> {
    if size > limit { Err(Over { what, size, limit }) } else { Ok(()) }
}
