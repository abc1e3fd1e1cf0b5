//! Sextant: node agent and receiver.
