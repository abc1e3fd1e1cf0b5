//! One run of the compiler for `bpfel-unknown-none`, and what is taken out of its results.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use super::tools::Tools;
use crate::process;

const TARGET: &str = "bpfel-unknown-none";
const PROFILE: &str = "ebpf";

/// Builds every object, `NAME.bpf.o` for each program of `agent-ebpf/src/bin`, into `folder`, from nothing, so that no
/// leftover of an earlier build goes in.
pub(crate) fn objects(tools: &Tools, workspace: &Path, folder: &Path) -> Result<Vec<PathBuf>> {
    eprintln!("ebpf: building the programs (about a minute)");
    let target = tempfile::tempdir()?;
    let mut cargo = Command::new(env!("CARGO"));
    cargo
        .current_dir(workspace)
        .args(["build", "--quiet", "--locked", "--package", "agent-ebpf", "--bins"])
        .args(["--profile", PROFILE, "--target", TARGET, "-Zbuild-std=core", "--target-dir"])
        .arg(target.path())
        // The target has no libcore of its own, and building one is an unstable wish of a stable compiler.
        .env("RUSTC_BOOTSTRAP", "1")
        .env("__CARGO_TESTS_ONLY_SRC_ROOT", &tools.library)
        .env("CARGO_TARGET_BPFEL_UNKNOWN_NONE_LINKER", &tools.linker)
        .env("CARGO_ENCODED_RUSTFLAGS", flags(tools, workspace)?.join("\x1f"));
    process::shown(&mut cargo)?;
    let built = target.path().join(TARGET).join(PROFILE);
    names(workspace)?.iter().map(|name| strip(tools, &built.join(name), folder)).collect()
}

fn names(workspace: &Path) -> Result<Vec<OsString>> {
    let folder = workspace.join("agent-ebpf/src/bin");
    let entries = fs::read_dir(&folder).with_context(|| folder.display().to_string())?;
    let mut names = entries.map(|entry| Ok(entry?.file_name())).collect::<Result<Vec<_>>>()?;
    names.sort();
    Ok(names)
}

fn strip(tools: &Tools, program: &Path, folder: &Path) -> Result<PathBuf> {
    let object =
        folder.join(program.file_name().context("a program without a name")?).with_extension("bpf.o");
    let mut strip = Command::new(tools.of_rust("rust-objcopy"));
    strip
        // Debug information goes, the types that the kernel reads stay.
        .arg("--strip-debug")
        .arg(program)
        .arg(&object)
        .env("LD_LIBRARY_PATH", tools.sysroot.join("lib"));
    process::quiet(&mut strip)?;
    Ok(object)
}

fn flags(tools: &Tools, workspace: &Path) -> Result<Vec<String>> {
    let home = std::env::home_dir().context("no home directory")?;
    let cargo = std::env::var_os("CARGO_HOME").map_or_else(|| home.join(".cargo"), PathBuf::from);
    let remap = |from: &Path, to| format!("--remap-path-prefix={}={to}", from.display());
    let mut flags = vec![
        // Decides the layout of registers only, which no program here looks at: one object for all machines.
        r#"--cfg=bpf_target_arch="x86_64""#.to_owned(),
        "-Clink-arg=--btf".to_owned(),
        // Types carry the files they are declared in; these must not depend on who builds.
        remap(&cargo, "/cargo"),
        remap(&tools.library, "/rust"),
        remap(workspace, "/sextant"),
    ];
    // The folders below are named after the registry's host and a hash, which differ between machines. The last
    // prefix that fits wins.
    let sources = cargo.join("registry/src");
    for entry in fs::read_dir(&sources).with_context(|| sources.display().to_string())? {
        flags.push(remap(&entry?.path(), "/cargo/registry"));
    }
    Ok(flags)
}
