//! The units under systemd's own eyes. None of it needs systemd to be running.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;

use crate::arguments::{check, misspelt, variables};
use crate::tool::{Said, repository, run, text, tool};

/// Exposure, in tenths of systemd's points, that a role may have at most.
const ROLES: [(&str, u32); 2] = [("node", 30), ("receiver", 20)];

/// Targets and slices that the units refer to, and those that systemd itself adds to them.
const SURROUNDINGS: [&str; 9] = [
    "-.mount",
    "-.slice",
    "basic.target",
    "local-fs.target",
    "multi-user.target",
    "network.target",
    "shutdown.target",
    "sysinit.target",
    "system.slice",
];

/// The text of a role's unit.
pub(crate) fn unit(role: &str) -> String {
    text(&format!("systemd/sextant-{role}.service"))
}

/// The values of a directive, in order.
pub(crate) fn values<'a>(unit: &'a str, key: &'a str) -> impl Iterator<Item = &'a str> {
    unit.lines().filter_map(move |line| line.strip_prefix(key)?.strip_prefix('='))
}

/// The arguments after the program of the unit's `ExecStart`.
fn exec_start(unit: &str) -> Vec<String> {
    let mut words = values(unit, "ExecStart").flat_map(str::split_whitespace).map(str::to_owned);
    assert_eq!(words.next().as_deref(), Some("/usr/bin/sextant"));
    words.collect()
}

fn security(unit: &str, limit: u32) -> Said {
    let folder = tempfile::tempdir().expect("temporary directory");
    let path = folder.path().join("sextant-under-test.service");
    std::fs::write(&path, unit).expect("write the unit");
    let mut analyze = Command::new(tool("SEXTANT_SYSTEMD_ANALYZE", "systemd-analyze"));
    run(analyze.args(["security", "--offline=yes", &format!("--threshold={limit}")]).arg(path))
}

/// `verify` in a root that holds nothing but the unit, a program in the binary's place, and the surroundings.
fn verify(unit: &str) -> Said {
    let root = tempfile::tempdir().expect("temporary directory");
    let system = root.path().join("usr/lib/systemd/system");
    let binary = root.path().join("usr/bin/sextant");
    std::fs::create_dir_all(&system).expect("unit directory");
    std::fs::create_dir_all(root.path().join("usr/bin")).expect("program directory");
    std::fs::copy("/bin/true", &binary).expect("a program in the binary's place");
    for name in SURROUNDINGS {
        std::fs::write(system.join(name), "[Unit]\nDescription=stub\n").expect("write a stub");
    }
    std::fs::write(system.join("sextant-under-test.service"), unit).expect("write the unit");
    let mut analyze = Command::new(tool("SEXTANT_SYSTEMD_ANALYZE", "systemd-analyze"));
    let root = format!("--root={}", root.path().display());
    let said = run(analyze.args(["verify", "--man=no", &root, "sextant-under-test.service"]));
    // Of a directive that it does not know, systemd only says so.
    Said { content: said.content && said.text.is_empty(), ..said }
}

#[test]
fn exposure_stays_below_each_roles_limit() {
    for (role, limit) in ROLES {
        security(&unit(role), limit).expect_content();
    }
}

#[test]
fn a_unit_without_its_hardening_is_above_the_limit() {
    for (role, limit) in ROLES {
        let hardening = ["Capability", "Private", "Protect", "Restrict", "SystemCall"];
        let bare: Vec<_> = unit(role)
            .lines()
            .filter(|line| !hardening.iter().any(|word| line.starts_with(word)))
            .map(str::to_owned)
            .collect();
        security(&bare.join("\n"), limit).expect_refusal();
    }
}

#[test]
fn systemd_finds_nothing_to_say_about_the_units() {
    for (role, _) in ROLES {
        verify(&unit(role)).expect_content();
    }
}

#[test]
fn systemd_finds_nothing_to_say_about_the_drop_ins() {
    for (name, right, wrong) in [
        ("anomalies", "PrivateDevices=no", "PrivateDevice=no"),
        ("workloads", "TasksMax=512", "TasksMax=many"),
    ] {
        let drop_in = text(&format!("systemd/sextant-node.service.d/{name}.conf"));
        let (before, after) = (unit("node"), drop_in.replace("[Service]\n", ""));
        let whole = before.replace("[Install]", &format!("{after}\n[Install]"));
        verify(&whole).expect_content();
        verify(&whole.replace(right, wrong)).expect_refusal();
    }
}

#[test]
fn a_misspelt_directive_and_an_unknown_unit_are_found() {
    let misspelt = verify(&unit("node").replace("WatchdogSec=", "WatchdogSecs=")).expect_refusal();
    assert!(misspelt.contains("WatchdogSecs"), "{misspelt}");
    let elsewhere = verify(&unit("node").replace("/usr/bin/sextant", "/usr/bin/sextent")).expect_refusal();
    assert!(elsewhere.contains("not executable"), "{elsewhere}");
}

#[test]
fn the_binary_accepts_what_the_units_start() {
    for (role, _) in ROLES {
        let arguments = exec_start(&unit(role));
        assert_eq!(arguments[0], role);
        check(&arguments, &[]).expect_content();
        check(&misspelt(&arguments), &[]).expect_refusal();
    }
}

#[test]
fn the_units_write_only_where_their_sandbox_lets_them() {
    let own = |unit: &str, key: &'static str, base: &str| -> Vec<String> {
        values(unit, key).map(|name| format!("{base}/{name}")).collect()
    };
    for (role, _) in ROLES {
        let unit = unit(role);
        let directories =
            [own(&unit, "StateDirectory", "/var/lib"), own(&unit, "RuntimeDirectory", "/run")].concat();
        for path in exec_start(&unit).iter().filter(|argument| argument.starts_with('/')) {
            assert!(
                directories.iter().any(|own| Path::new(path).starts_with(own)),
                "{path} in {directories:?}"
            );
        }
    }
}

#[test]
fn every_capability_is_named_once_with_the_reason_above_it() {
    let unit = unit("node");
    let lines: Vec<_> = unit.lines().collect();
    let mut named = BTreeSet::new();
    for (at, line) in lines.iter().enumerate() {
        let Some(capability) = line.strip_prefix("CapabilityBoundingSet=") else { continue };
        assert!(lines[at - 1].starts_with(&format!("# {capability}: ")), "{capability} has no reason");
        named.insert(capability);
    }
    let ambient: BTreeSet<_> = values(&unit, "AmbientCapabilities").flat_map(str::split_whitespace).collect();
    assert_eq!(named, ambient);
    assert_eq!(named, capabilities_of_the_manifest().iter().map(String::as_str).collect());
}

fn capabilities_of_the_manifest() -> BTreeSet<String> {
    crate::manifests::added_capabilities().into_iter().map(|name| format!("CAP_{name}")).collect()
}

/// `#NAME=value` of an environment file: everything in it is optional and commented out.
fn offered(role: &str) -> Vec<(String, String)> {
    let text = text(&format!("systemd/sextant-{role}.env"));
    let pairs = text.lines().filter_map(|line| line.strip_prefix("#SEXTANT_")?.split_once('='));
    pairs.map(|(name, value)| (format!("SEXTANT_{name}"), value.to_owned())).collect()
}

#[test]
fn the_binary_knows_every_variable_of_the_environment_files() {
    for (role, _) in ROLES {
        let known = variables(role);
        let offered = offered(role);
        assert!(offered.len() >= 3, "{offered:?}");
        for (name, _) in &offered {
            assert!(known.contains(name), "sextant {role} --help does not name {name}");
        }
        assert!(!known.contains("SEXTANT_NO_SUCH_VARIABLE"));
        let file = format!("EnvironmentFile=-/etc/default/sextant-{role}");
        assert!(unit(role).lines().any(|line| line == file), "{role} reads its file");
    }
}

#[test]
fn the_binary_accepts_the_values_of_the_environment_files() {
    let empty = tempfile::NamedTempFile::new().expect("temporary file");
    for (role, _) in ROLES {
        let mut environment = offered(role);
        for (name, value) in &mut environment {
            // The example's files are not on this machine.
            if ["SEXTANT_CONFIG", "SEXTANT_API_KEYS_FILE"].contains(&name.as_str()) {
                *value = empty.path().display().to_string();
            }
        }
        check(&exec_start(&unit(role)), &environment).expect_content();
        environment.push(("SEXTANT_LISTEN".to_owned(), "nowhere".to_owned()));
        check(&exec_start(&unit(role)), &environment).expect_refusal();
    }
}

#[test]
fn the_users_and_directories_of_the_units_are_made() {
    let root = tempfile::tempdir().expect("temporary directory");
    let analyze = tool("SEXTANT_SYSTEMD_ANALYZE", "systemd-analyze");
    let argument = format!("--root={}", root.path().display());
    for (program, arguments) in [("systemd-sysusers", vec![]), ("systemd-tmpfiles", vec!["--create"])] {
        let folder = program.replace("systemd-", "") + ".d";
        let from = repository("systemd").join(&folder).join("sextant.conf");
        let to = root.path().join("usr/lib").join(&folder);
        std::fs::create_dir_all(&to).expect("configuration directory");
        std::fs::copy(from, to.join("sextant.conf")).expect("copy the configuration");
        std::fs::create_dir_all(root.path().join("etc")).expect("etc");
        run(Command::new(analyze.with_file_name(program)).arg(&argument).args(arguments)).expect_content();
    }
    let made = |file: &str| std::fs::read_to_string(root.path().join("etc").join(file)).expect("a data base");
    for (role, _) in ROLES {
        for (key, file) in [("User", "passwd"), ("Group", "group")] {
            for name in values(&unit(role), key) {
                let prefix = format!("{name}:");
                assert!(made(file).lines().any(|line| line.starts_with(&prefix)), "{key}={name}");
            }
        }
    }
    assert!(root.path().join("etc/sextant").is_dir());
}
