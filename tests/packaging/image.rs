//! The Dockerfile: no image engine is needed to judge it.

use std::process::Command;

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
    let manifest = text("Cargo.toml");
    let members = manifest.lines().find_map(|line| line.strip_prefix("members = ")).expect("members");
    let members: Vec<String> = serde_json::from_str(members).expect("an array of strings");
    for member in members {
        assert!(kept.contains(&member.as_str()), "{member} is left out of the build context");
    }
}
