//! `cargo xtask fetch`: everything that tests need and this machine lacks, so that they can run without network.

use anyhow::Result;

use crate::cache::Cache;
use crate::{tools, vm};

/// Fetch what the tests need into the cache.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Also build cargo-deny and cargo-fuzz, and make the virtual machine (about half an hour)
    #[arg(long)]
    all: bool,
}

/// Fetches and says where everything is.
pub(crate) fn main(args: &Args) -> Result<u8> {
    let cache = Cache::open()?;
    for tool in tools::all(&cache)? {
        println!("{}={}", tool.variable, tool.path.display());
    }
    if args.all {
        println!("{}", tools::cargo_deny(&cache)?.display());
        println!("{}", tools::cargo_fuzz(&cache)?.display());
        return vm::fetch(&cache);
    }
    Ok(0)
}
