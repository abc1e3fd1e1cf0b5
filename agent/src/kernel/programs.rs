//! Our eBPF programs: what a kernel needs for them, and in what words it refuses.
//!
//! Nothing is pinned: programs, maps and links end with this process, however it ends.

use std::fs::File;
use std::io;
use std::sync::{Mutex, PoisonError};

use aya::maps::MapError;
use aya::programs::links::LinkError;
use aya::programs::{Iter, ProgramError};
use aya::{BtfError, Ebpf, EbpfError};
use thiserror::Error;

use super::heap::trim;
use super::types::TypesError;

/// What would help where the kernel does not permit.
const PERMIT: &str = "run as root, or give it CAP_BPF and CAP_PERFMON";

/// Held while programs are loaded: the kernel's types, parsed, take some 40 MB for that moment, and two sources that
/// start together would take it twice.
static LOADING: Mutex<()> = Mutex::new(());

/// Loads what `load` loads while nobody else does, and gives back the memory that it took.
pub fn one_at_a_time<T>(load: impl FnOnce() -> T) -> T {
    // A panic of another loader leaves nothing half done here.
    let _alone = LOADING.lock().unwrap_or_else(PoisonError::into_inner);
    let loaded = load();
    trim();
    loaded
}

/// A program of an object that walks (`iter/...`).
///
/// # Errors
/// The object has none of this name, or one of another kind.
pub fn walker<'a>(ebpf: &'a mut Ebpf, name: &'static str) -> Result<&'a mut Iter, LoadError> {
    Ok(ebpf.program_mut(name).ok_or(LoadError::Absent(name))?.try_into()?)
}

/// Begins a walk: what the program writes is read from this file, and the walk is over with it.
///
/// # Errors
/// The kernel refuses the iterator.
pub fn walk(ebpf: &mut Ebpf, name: &'static str) -> Result<File, LoadError> {
    let program = walker(ebpf, name)?;
    let link = program.attach()?;
    Ok(program.take_link(link)?.into_file()?)
}

/// Why a program does not run.
#[derive(Debug, Error)]
pub enum LoadError {
    /// No capability, or a kernel that forbids it to everybody (lockdown).
    #[error("this kernel does not permit it: {PERMIT}; a kernel in lockdown permits nobody")]
    NotPermitted(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// The kernel lacks a field, or shows no types at all.
    #[error(transparent)]
    Types(#[from] TypesError),
    /// The kernel lacks a tracepoint, a helper or a kind of map, or its verifier refuses the program.
    #[error("this kernel does not take the program")]
    Refused(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// The object lacks what its loader knows: the two were built from different sources.
    #[error("the object has no {0}")]
    Absent(&'static str),
}

impl LoadError {
    fn of(error: impl std::error::Error + Send + Sync + 'static) -> Self {
        let denied = |error: &io::Error| error.kind() == io::ErrorKind::PermissionDenied;
        let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(&error);
        while let Some(error) = cause {
            if error.downcast_ref().is_some_and(denied) {
                return Self::NotPermitted(Box::new(error_of(error)));
            }
            cause = error.source();
        }
        Self::Refused(Box::new(error))
    }

    /// The whole chain of causes in one line.
    pub fn said(&self) -> String {
        let mut text = self.to_string();
        let mut cause = std::error::Error::source(self);
        while let Some(error) = cause {
            // A verifier's log ends with the reason; all of it would fill a screen.
            let said = error.to_string();
            let last = said.lines().rev().find(|line| !line.trim().is_empty()).unwrap_or_default().trim();
            text.push_str(": ");
            text.push_str(last);
            cause = error.source();
        }
        text
    }
}

fn error_of(error: &(dyn std::error::Error + 'static)) -> io::Error {
    io::Error::new(io::ErrorKind::PermissionDenied, error.to_string())
}

macro_rules! load_errors {
    ($($error:ty),+) => {
        $(impl From<$error> for LoadError {
            fn from(error: $error) -> Self {
                Self::of(error)
            }
        })+
    };
}
load_errors!(EbpfError, BtfError, MapError, ProgramError, LinkError);
