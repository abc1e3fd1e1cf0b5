//! `/metrics` of both roles as real processes, in both formats, by the rules that scrapers go by.

#![expect(clippy::disallowed_methods, reason = "asks with curl")]

use std::process::Command;
use std::time::Duration;

use anyhow::{Result, ensure};
use sextant_tests::exposition::{Format, check};
use sextant_tests::role::{Role, eventually};

#[test]
fn both_roles_answer_in_both_formats() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let receiver = Role::start("receiver", &dir.path().join("receiver"), &[])?;
    let socket = dir.path().join("node.sock");
    let socket = socket.to_string_lossy();
    let args = ["--receiver", &receiver.url, "--interval", "100ms", "--unix-socket", &socket];
    let node = Role::start("node", &dir.path().join("node"), &args)?;
    // With everything there is to tell: a record that was posted, and a node that the receiver knows.
    run(&["-d", r#"{"usersched_pid":1,"nr_queued":2}"#, &format!("{}/api/v1/metrics", node.url)])?;
    eventually(Duration::from_secs(30), "the receiver knows the node", || {
        let nodes = run(&[&format!("{}/api/v1/nodes", receiver.url)])?;
        ensure!(nodes.contains("\"adds_up\""), "{nodes}");
        Ok(())
    })?;
    for role in [&node, &receiver] {
        for format in [Format::OpenMetrics, Format::Classic] {
            let accept = format!("Accept: {}", format.accept());
            let answer = run(&["-i", "-H", &accept, &format!("{}/metrics", role.url)])?;
            let (head, text) = answer.split_once("\r\n\r\n").unwrap_or_default();
            let content_type = head.lines().find(|line| line.starts_with("content-type")).unwrap_or_default();
            ensure!(content_type.contains(format.accept()), "{content_type}");
            let series = check(text, format)?;
            ensure!(series > 20, "{series} series");
            let other = if format == Format::Classic { Format::OpenMetrics } else { Format::Classic };
            ensure!(check(text, other).is_err(), "the control: one format is not the other");
            spoiled_is_refused(text, format)?;
        }
    }
    Ok(())
}

/// The negative control: each of these is what some exporter has answered with.
fn spoiled_is_refused(text: &str, format: Format) -> Result<()> {
    let help = text.lines().find(|line| line.starts_with("# HELP")).unwrap_or_default();
    let series = text.lines().find(|line| line.contains('{')).unwrap_or_default();
    let first_family: String = text.split_inclusive('\n').take(3).collect();
    let end = if format == Format::OpenMetrics { "# EOF\n" } else { "" };
    let spoiled = [
        ("a line without its end", text.trim_end().to_owned()),
        ("HELP twice", text.replacen(help, &format!("{help}\n{help}"), 1)),
        ("no HELP", text.replacen(help, "", 1).replacen("\n\n", "\n", 1)),
        ("a series twice", text.replacen(series, &format!("{series}\n{series}"), 1)),
        ("a family twice", text.replacen(end, "", 1) + &first_family + end),
        ("a label without its end", text.replacen("\"} ", "} ", 1)),
        ("no number", text.replacen(series, &format!("{series}x"), 1)),
        ("two ends", format!("{text}# EOF\n")),
    ];
    for (what, text) in spoiled {
        ensure!(check(&text, format).is_err(), "{format:?} with {what} is taken");
    }
    Ok(())
}

#[test]
fn histograms_count_up_to_all() {
    let text = |buckets: &str| format!("# HELP h H.\n# TYPE h histogram\n{buckets}h_sum 1\nh_count 3\n");
    let good = "h_bucket{le=\"1\"} 2\nh_bucket{le=\"+Inf\"} 3\n";
    assert!(check(&text(good), Format::Classic).is_ok());
    for bad in [
        "h_bucket{le=\"1\"} 4\nh_bucket{le=\"+Inf\"} 3\n",
        "h_bucket{le=\"1\"} 2\nh_bucket{le=\"+Inf\"} 2\n",
        "h_bucket{le=\"1\"} 2\n",
        "h_bucket{le=\"1\",le=\"1\"} 2\nh_bucket{le=\"+Inf\"} 3\n",
    ] {
        assert!(check(&text(bad), Format::Classic).is_err(), "{bad}");
    }
}

fn run(args: &[&str]) -> Result<String> {
    let done =
        Command::new("curl").args(["-s", "--fail-with-body", "--max-time", "20"]).args(args).output()?;
    ensure!(done.status.success(), "curl {args:?}: {}", String::from_utf8_lossy(&done.stdout));
    Ok(String::from_utf8_lossy(&done.stdout).into_owned())
}
