//! Which schedulers there are, and what is known of each.

/// The schedulers that `cargo xtask vm` brings into the guest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// scx_rustland 1.1.4: decides in user space; 16 variables.
    Rustland1_1_4,
    /// scx_rustland 1.0.10: the same with the older 12 variables.
    Rustland1_0_10,
    /// scx_rlfifo 1.1.4: the smallest user-space scheduler, no statistics socket.
    Rlfifo,
    /// scx_bpfland 1.1.4: decides in BPF alone.
    Bpfland,
}

impl Kind {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Rustland1_1_4, Self::Rustland1_0_10, Self::Rlfifo, Self::Bpfland];

    /// The program's file name in the guest.
    #[must_use]
    pub fn file_name(self) -> &'static str {
        match self {
            Self::Rustland1_1_4 => "scx_rustland-1.1.4",
            Self::Rustland1_0_10 => "scx_rustland-1.0.10",
            Self::Rlfifo => "scx_rlfifo-1.1.4",
            Self::Bpfland => "scx_bpfland-1.1.4",
        }
    }

    /// What `root/ops` begins with; newer ones add version and target.
    #[must_use]
    pub fn base_name(self) -> &'static str {
        match self {
            Self::Rustland1_1_4 | Self::Rustland1_0_10 => "rustland",
            Self::Rlfifo => "rlfifo",
            Self::Bpfland => "bpfland",
        }
    }

    /// A variable of `.bss` that grows while this scheduler is under [`Load`](super::Load). Not the dispatches that
    /// user space decided: on a slow machine most tasks are dispatched by the BPF half alone, and those stand still
    /// for minutes.
    #[must_use]
    pub fn busy_counter(self) -> &'static str {
        match self {
            Self::Bpfland => "nr_shared_dispatches",
            _ => "nr_kernel_dispatches",
        }
    }
}
