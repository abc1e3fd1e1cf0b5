//! The Dockerfile: no image engine is needed to judge it, nor to run what it puts into the image.

use std::fs;
use std::os::unix::fs::chown;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use sextant_tests::role::{Role, eventually, sextant};

use crate::arguments::check;
use crate::tool::{Said, repository, run, text, tool};

const DOCKERFILE: &str = "deploy/Dockerfile";

fn lint(dockerfile: &str) -> Said {
    let file = tempfile::NamedTempFile::new().expect("temporary file");
    std::fs::write(file.path(), dockerfile).expect("write the Dockerfile");
    run(Command::new(tool("SEXTANT_HADOLINT", "hadolint"))
        .args(["--no-color", "--failure-threshold=info"])
        .arg(file.path()))
}

/// The words of the last instruction of this name in exec form, which is JSON.
fn words(instruction: &str) -> Vec<String> {
    let text = text(DOCKERFILE);
    let line = text.lines().rev().find_map(|line| line.strip_prefix(instruction)).expect("the instruction");
    serde_json::from_str(line).expect("exec form: a JSON array")
}

#[test]
fn the_linter_finds_nothing() {
    lint(&text(DOCKERFILE)).expect_content();
}

#[test]
fn the_linter_finds_an_image_without_a_version() {
    let said = lint(&text(DOCKERFILE).replace(":1.95.0-slim-bookworm", "")).expect_refusal();
    assert!(said.contains("DL3006"), "{said}");
}

#[test]
fn the_binary_accepts_what_the_image_starts() {
    assert_eq!(words("ENTRYPOINT "), ["/usr/bin/sextant"]);
    check(&words("CMD "), &[]).expect_content();
    check(&["resiever".to_owned()], &[]).expect_refusal();
}

/// The image's root, from the files that the build's last line lays out, put together as the two `COPY` do.
fn root(dir: &Path) -> PathBuf {
    let image = dir.join("image");
    let script = repository("deploy/image-root.sh");
    run(Command::new("sh").arg(script).arg(sextant()).arg(&image)).expect_content();
    let root = image.join("root");
    for (name, below) in [("var", ["lib", "lib/sextant"]), ("run", ["", "sextant"])] {
        let place = root.join(name);
        fs::rename(image.join("own").join(name), &place).expect("what belongs to the user");
        for directory in below.map(|below| place.join(below)) {
            chown(directory, Some(65_532), Some(65_532)).expect("give it to the user");
        }
    }
    root
}

fn curl(url: &str) -> anyhow::Result<String> {
    let output = Command::new("curl").args(["--silent", "--show-error", "--fail", url]).output()?;
    anyhow::ensure!(output.status.success(), "{url}: {}", String::from_utf8_lossy(&output.stderr));
    Ok(String::from_utf8(output.stdout)?)
}

/// In a root that has nothing else, with a driver's library where a GPU's container runtime puts it.
#[test]
fn what_is_in_the_image_runs_both_roles_and_loads_a_drivers_library() {
    let dir = tempfile::tempdir().expect("temporary directory");
    let root = root(dir.path());
    let receiver = Role::start_in_root(&root, "65532:65532", "receiver", &dir.path().join("receiver"), &[]);
    let receiver = receiver.expect("the receiver starts as the image's user");
    let works_with = |devices: &str| {
        let place = dir.path().join(devices);
        let node = Role::start_in_root(&root, "0:0", "node", &place, &["--receiver", &receiver.url]);
        let node = node.expect("the node starts");
        eventually(Duration::from_secs(30), "the node forwards, and has looked for GPUs", || {
            let nodes = curl(&format!("{}/api/v1/nodes", receiver.url))?;
            anyhow::ensure!(nodes.contains("\"adds_up\":true"), "{nodes}");
            let metrics = curl(&format!("{}/metrics", node.url))?;
            let found = metrics.lines().find_map(|line| line.strip_prefix("sextant_gpu_devices "));
            anyhow::ensure!(found == Some(devices), "{found:?} devices");
            Ok(())
        })
        .expect("a node that works");
    };
    works_with("0");
    let c_library = run(Command::new("ldd").arg(sextant())).expect_content();
    let beside = c_library.split_whitespace().find_map(|word| word.strip_suffix("/libc.so.6"));
    let library = root.join(beside.expect("a C library").trim_start_matches('/')).join("libnvidia-ml.so.1");
    let source = repository("tests/fixtures/gpu/nvml.c");
    run(Command::new("cc").args(["-shared", "-fPIC", "-o"]).arg(library).arg(source)).expect_content();
    works_with("1");
}

#[test]
fn the_image_is_built_with_the_pinned_toolchain() {
    let channel = text("rust-toolchain.toml");
    let channel = channel.lines().find_map(|line| line.strip_prefix("channel = \"")?.strip_suffix('"'));
    let channel = channel.expect("a channel");
    let dockerfile = text(DOCKERFILE);
    assert!(dockerfile.contains(&format!("FROM rust:{channel}-slim-bookworm AS build")));
    assert!(dockerfile.contains(&format!("ENV RUSTUP_TOOLCHAIN={channel}\n")));
}

#[test]
fn the_build_context_holds_every_member_of_the_workspace() {
    let ignore = text("deploy/Dockerfile.dockerignore");
    let kept: Vec<_> = ignore.lines().filter_map(|line| line.strip_prefix('!')).collect();
    for name in &kept {
        assert!(repository(name).exists(), "{name} is not there");
    }
    assert!(kept.contains(&"deploy/image-root.sh"));
    let manifest = text("Cargo.toml");
    let members = manifest.lines().find_map(|line| line.strip_prefix("members = ")).expect("members");
    let members: Vec<String> = serde_json::from_str(members).expect("an array of strings");
    for member in members {
        assert!(kept.contains(&member.as_str()), "{member} is left out of the build context");
    }
}
