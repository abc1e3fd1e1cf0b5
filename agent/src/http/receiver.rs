//! The receiver's routes.
