//! The README says nothing that is not so: its commands run, its endpoints exist, its flags are the binary's.

#![expect(clippy::disallowed_methods, reason = "runs the README's commands")]
#![expect(clippy::unwrap_used, reason = "a test's helpers fail the test")]

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Result, ensure};
use sextant_tests::role::{Role, eventually, sextant};

const KEY: &str = "correct horse battery staple";
/// `printf %s "$KEY" | sha256sum`
const KEY_SHA256: &str = "c4bbcb1fbec99d65bf59d85c8cb62ee2db963f0fe106f483d9afa73bd4e39a8a";

#[test]
fn every_command_of_the_readme_runs() {
    let dir = tempfile::tempdir().unwrap();
    let receiver = Role::start("receiver", &dir.path().join("receiver"), &[]).unwrap();
    let (socket, config) = (dir.path().join("node.sock"), dir.path().join("node.toml"));
    let text = format!(
        "[[keys.key]]\nname = \"readme\"\nsha256 = \"{KEY_SHA256}\"\nscopes = [\"act\"]\n\
         [actions]\nenabled = true\n[workloads]\nenabled = true\n"
    );
    std::fs::write(&config, text).unwrap();
    let (socket, config) = (socket.to_str().unwrap(), config.to_str().unwrap());
    let args =
        ["--receiver", &receiver.url, "--interval", "100ms", "--unix-socket", socket, "--config", config];
    let node = Role::start("node", &dir.path().join("node"), &args).unwrap();
    let url = format!("{}/api/v1/nodes", receiver.url);
    eventually(Duration::from_secs(30), "the receiver knows the node", || {
        let nodes = run("curl", &["-s", "--fail", &url])?;
        ensure!(nodes.contains("\"node\""), "{nodes}");
        Ok(())
    })
    .unwrap();

    // Loading programs into the kernel takes longer than the rest: a reader looks at a node that has started.
    let url = format!("{}/readyz", node.url);
    eventually(Duration::from_secs(30), "the node is ready", || run("curl", &["-s", "--fail", &url]))
        .unwrap();

    let mut ran = 0;
    for line in shell_lines() {
        let line = line
            .replace("http://localhost:8090", &node.url)
            .replace("http://localhost:8080", &receiver.url)
            .replace("$SEXTANT_KEY", KEY)
            .replace("curl -s", "curl -s --fail-with-body");
        let line = line
            .strip_prefix("sextant ")
            .map_or(line.clone(), |rest| format!("{} {rest}", sextant().display()));
        if line.starts_with("cargo ") {
            continue; // The two commands themselves: one runs this test, the other has its own.
        }
        // The README is ours: what a reader pastes into a shell goes through a shell here too.
        let output = run("bash", &["-c", &line]).unwrap();
        assert!(!output.trim().is_empty(), "`{line}` printed nothing");
        ran += 1;
    }
    assert!(ran >= 17, "only {ran} commands were found in the README");
    assert_eq!(node.stop().unwrap(), Some(0));
    assert_eq!(receiver.stop().unwrap(), Some(0));
}

#[test]
fn the_endpoint_table_is_the_openapi_documents() {
    let mut documented = BTreeSet::new();
    for row in table_rows("| endpoint | role |") {
        let [endpoint, role] = [row[0].trim_matches('`').to_owned(), row[1].clone()];
        for one in ["node", "receiver"].iter().filter(|one| role == "both" || role == **one) {
            documented.insert(format!("{one} {endpoint}"));
        }
    }
    let mut served = BTreeSet::new();
    for role in ["node", "receiver"] {
        let document: serde_json::Value =
            serde_json::from_str(&run(sextant().to_str().unwrap(), &["openapi", role]).unwrap()).unwrap();
        for (path, item) in document["paths"].as_object().unwrap() {
            for method in item
                .as_object()
                .unwrap()
                .keys()
                .filter(|key| ["get", "post", "delete"].contains(&key.as_str()))
            {
                served.insert(format!("{role} {} {path}", method.to_uppercase()));
            }
        }
    }
    assert_eq!(documented, served);
}

#[test]
fn the_flag_table_is_the_help() {
    let mut documented = BTreeSet::new();
    for row in table_rows("| flag | environment |") {
        for role in ["node", "receiver"].iter().filter(|one| row[2] == "both" || row[2] == **one) {
            documented.insert(format!("{role} {} {}", row[0].trim_matches('`'), row[1].trim_matches('`')));
        }
    }
    let mut helped = BTreeSet::new();
    for role in ["node", "receiver"] {
        let help = run(sextant().to_str().unwrap(), &[role, "--help"]).unwrap();
        let mut flag = String::new();
        for line in help.lines().map(str::trim) {
            if let Some(name) = line.split_whitespace().find(|word| word.starts_with("--"))
                && (line.starts_with("--") || line.starts_with("-v,"))
            {
                name.trim_end_matches("...").clone_into(&mut flag);
            }
            if let Some(variable) = line.split("[env: ").nth(1) {
                let variable = variable.split(['=', ']']).next().unwrap();
                helped.insert(format!("{role} {flag} {variable}"));
            }
        }
    }
    assert_eq!(documented, helped);
}

/// Each of them with its command, and none that there is not.
#[test]
fn the_table_of_figures_has_every_benchmark() {
    let named: BTreeSet<_> = table_rows("| what | figure | command |")
        .into_iter()
        .filter_map(|row| Some(row[2].trim_matches('`').strip_prefix("cargo xtask bench ")?.to_owned()))
        .collect();
    let entries = std::fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("benches")).unwrap();
    let names = entries.map(|entry| entry.unwrap().path().file_stem().unwrap().to_str().unwrap().to_owned());
    assert_eq!(named, names.collect());
}

fn readme() -> String {
    std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("../README.md")).unwrap()
}

/// Every line of every `sh` block.
fn shell_lines() -> Vec<String> {
    let text = readme();
    let blocks = text.split("```sh\n").skip(1).map(|rest| rest.split("```").next().unwrap().to_owned());
    blocks.flat_map(|block| block.lines().map(str::to_owned).collect::<Vec<_>>()).collect()
}

/// The cells of the table that begins with `head`.
fn table_rows(head: &str) -> Vec<Vec<String>> {
    let text = readme();
    let rows = text.lines().skip_while(|line| !line.starts_with(head)).skip(2);
    let rows = rows.take_while(|line| line.starts_with('|'));
    let rows: Vec<Vec<String>> = rows
        .map(|line| line.trim_matches('|').split('|').map(|cell| cell.trim().to_owned()).collect())
        .collect();
    assert!(!rows.is_empty(), "no table `{head}` in the README");
    rows
}

fn run(program: &str, args: &[&str]) -> Result<String> {
    let output =
        Command::new(program).args(args).current_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/..")).output()?;
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    ensure!(
        output.status.success(),
        "`{program} {}` failed ({}):\n{out}{err}",
        args.join(" "),
        output.status
    );
    Ok(out.into_owned())
}
