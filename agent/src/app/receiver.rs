//! `sextant receiver`
