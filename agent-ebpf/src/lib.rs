//! Memory layouts shared by the eBPF programs and the node agent that loads them.
#![no_std]
