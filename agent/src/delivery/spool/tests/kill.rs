//! `kill -9` of a process that appends: this test's executable starts itself.
