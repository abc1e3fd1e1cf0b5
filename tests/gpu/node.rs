//! A node that reads GPUs: an exporter with pods from a kubelet, and a library that answers, hangs and goes.

use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Result, ensure};
use serde_json::Value;
use sextant_tests::role::{Role, eventually};

use crate::http::ask;

const WITHIN: Duration = Duration::from_secs(30);

fn exporter(text: &'static str) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/metrics", listener.local_addr().unwrap());
    std::thread::spawn(move || {
        for mut stream in listener.incoming().map_while(Result::ok) {
            let _ = stream.read(&mut [0; 4_096]);
            let _ = write!(stream, "HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{text}", text.len());
        }
    });
    url
}

fn config(dir: &Path, lines: &str) -> PathBuf {
    let path = dir.join("node.toml");
    std::fs::write(&path, format!("[gpu]\ninterval_ms = 1000\n{lines}\n")).unwrap();
    path
}

fn metrics_with(node: &Role, line: &str) -> Result<()> {
    let (_, text) = ask("GET", &format!("{}/metrics", node.url), "")?;
    ensure!(text.lines().any(|found| found == line), "no {line} in\n{text}");
    Ok(())
}

/// What a source says of itself.
fn source(node: &Role, name: &str) -> Result<Value> {
    let (_, text) = ask("GET", &format!("{}/status?format=json", node.url), "")?;
    let status: Value = serde_json::from_str(&text)?;
    let found = status["sources"].as_array().into_iter().flatten().find(|source| source["name"] == name);
    found.cloned().ok_or_else(|| anyhow::anyhow!("no {name} in {status}"))
}

#[test]
fn an_exporters_gpu_is_in_metrics_and_on_its_way_to_the_receiver() {
    let dir = tempfile::tempdir().unwrap();
    let receiver = Role::start("receiver", &dir.path().join("receiver"), &[]).unwrap();
    let url =
        exporter("DCGM_FI_DEV_GPU_UTIL{gpu=\"0\",UUID=\"GPU-1\",device=\"nvidia0\",Hostname=\"n1\"} 97\n");
    let config = config(dir.path(), &format!("scrape = [{url:?}]\nnvml_library = \"/no/library.so\""));
    let args = ["--receiver", &receiver.url, "--config", config.to_str().unwrap()];
    let node = Role::start("node", &dir.path().join("node"), &args).unwrap();
    let line = "DCGM_FI_DEV_GPU_UTIL{gpu=\"0\",UUID=\"GPU-1\",device=\"nvidia0\",Hostname=\"n1\"} 97.0";
    eventually(WITHIN, "the series", || metrics_with(&node, line)).unwrap();
    assert_eq!(source(&node, "gpu").unwrap()["condition"], "up");
    eventually(WITHIN, "the record", || {
        let url = format!("{}/api/v1/stream?kind=gpu", receiver.url);
        let output = Command::new("curl").args(["-s", "-N", "--max-time", "3", &url]).output()?;
        let text = String::from_utf8(output.stdout)?;
        ensure!(
            text.contains("\"fields\":[\"DCGM_FI_DEV_GPU_UTIL\"]") && text.contains("\"UUID\":\"GPU-1\""),
            "{text}"
        );
        Ok(())
    })
    .unwrap();
}

#[test]
fn a_library_that_answers_as_nvidias_is_read_and_one_that_hangs_hangs_alone() {
    let dir = tempfile::tempdir().unwrap();
    let library = dir.path().join("libnvidia-ml.so.1");
    let source_file = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/gpu/nvml.c");
    let built =
        Command::new("cc").args(["-shared", "-fPIC", "-Wall", "-o"]).arg(&library).arg(source_file).status();
    assert!(built.unwrap().success());
    let (hang, lost) = (dir.path().join("hang"), dir.path().join("lost"));
    let config = config(dir.path(), &format!("nvml_library = {library:?}"));
    let variables = [("FAKE_NVML_HANG", hang.to_str().unwrap()), ("FAKE_NVML_LOST", lost.to_str().unwrap())];
    let node = Role::start_with(
        &variables,
        "node",
        dir.path(),
        &["--config", config.to_str().unwrap(), "--node-name", "n1"],
    )
    .unwrap();
    let labels = "{gpu=\"0\",UUID=\"GPU-fake\",device=\"nvidia3\",modelName=\"NVIDIA H100 80GB HBM3\",Hostname=\"n1\",DCGM_FI_DRIVER_VERSION=\"550.90.07\"}";
    eventually(WITHIN, "the series", || metrics_with(&node, &format!("DCGM_FI_DEV_GPU_UTIL{labels} 97.0")))
        .unwrap();
    for (name, value) in [
        ("SM_CLOCK", "1980.0"),
        ("MEM_CLOCK", "2619.0"),
        ("GPU_TEMP", "41.0"),
        ("POWER_USAGE", "123.456"),
        ("TOTAL_ENERGY_CONSUMPTION", "987654321.0"),
        ("MEM_COPY_UTIL", "12.0"),
        ("FB_USED", "1024.0"),
        ("FB_FREE", "80384.0"),
    ] {
        metrics_with(&node, &format!("DCGM_FI_DEV_{name}{labels} {value}")).unwrap();
    }
    assert!(
        metrics_with(&node, &format!("DCGM_FI_DEV_PCIE_REPLAY_COUNTER{labels} 0.0")).is_err(),
        "not supported is no value"
    );

    std::fs::write(&hang, "").unwrap();
    eventually(WITHIN, "the hang is told", || {
        let gpu = source(&node, "gpu")?;
        ensure!(gpu["condition"] == "degraded" && gpu.to_string().contains("has not answered for"), "{gpu}");
        Ok(())
    })
    .unwrap();
    metrics_with(&node, "sextant_gpu_devices 0").unwrap();
    let (status, _) = ask("GET", &format!("{}/livez", node.url), "").unwrap();
    assert_eq!(status, 200);
    std::fs::remove_file(&hang).unwrap();
    eventually(WITHIN, "it goes on", || metrics_with(&node, "sextant_gpu_devices 1")).unwrap();
    std::fs::write(&lost, "").unwrap();
    eventually(WITHIN, "the loss is told", || {
        let gpu = source(&node, "gpu")?;
        ensure!(gpu["condition"] == "degraded" && gpu.to_string().contains("library fails"), "{gpu}");
        Ok(())
    })
    .unwrap();
    std::fs::remove_file(&lost).unwrap();
    std::fs::write(&hang, "").unwrap();
    assert_eq!(node.stop().unwrap(), Some(0), "a node ends although the library hangs");
}
