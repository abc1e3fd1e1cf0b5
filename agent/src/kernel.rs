//! The running kernel, as sources that look into it need it: its types.

pub mod btf;
