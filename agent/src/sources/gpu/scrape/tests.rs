use std::net::SocketAddr;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

use super::*;
use crate::domain::gpu::fields::{FB_USED, GPU_UTIL};
use crate::domain::gpu::{Allocations, GpuMap};

const DCGM: &str = "# HELP DCGM_FI_DEV_GPU_UTIL GPU utilization (in %).\n# TYPE DCGM_FI_DEV_GPU_UTIL gauge\n\
    DCGM_FI_DEV_GPU_UTIL{gpu=\"0\",UUID=\"GPU-1\",pci_bus_id=\"00000000:1B:00.0\",device=\"nvidia0\",\
    modelName=\"NVIDIA H100 80GB HBM3\",Hostname=\"n1\",DCGM_FI_DRIVER_VERSION=\"550.1\",container=\"c\",\
    namespace=\"ml\",pod=\"one\"} 97\n";

/// An exporter that gives every connection these bytes and hangs up.
async fn exporter(answer: Vec<u8>) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let _ = stream.read(&mut [0; 4_096]).await;
            let _ = stream.write_all(&answer).await;
        }
    });
    address
}

async fn scraped(answer: impl Into<Vec<u8>>) -> Result<Scraped, String> {
    let url = format!("http://{}/metrics", exporter(answer.into()).await);
    Exporter::new(&url).unwrap().scrape("here").await.map_err(|error| error.to_string())
}

fn ok(body: &str) -> String {
    format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{body}", body.len())
}

#[tokio::test]
async fn an_exporters_devices_are_read_with_their_pods() {
    let text = format!("{DCGM}up 1\ngo_goroutines{{device=\"x\"}} 5\nnot a sample\n");
    let scraped = scraped(ok(&text)).await.unwrap();
    assert_eq!((scraped.bad, scraped.first_bad.as_deref()), (1, Some("line 6: no number")));
    let [reading] = &*scraped.readings else { panic!("{scraped:?}") };
    let device = &reading.device;
    assert_eq!((&*device.uuid, &*device.hostname, &*device.driver_version), ("GPU-1", "n1", "550.1"));
    assert_eq!(reading.values, [(Metric::from(GPU_UTIL), 97.0)]);
    assert_eq!(reading.workers[0].pod, "one");
}

#[test]
fn a_device_shared_by_pods_is_one_device_with_both() {
    let text = DCGM.to_owned() + &DCGM.replace("\"one\"", "\"two\"");
    let readings = read(&text, "here").readings;
    assert_eq!(readings.len(), 2);
    let map = GpuMap::new(0, readings, &Allocations::default());
    assert_eq!((map.devices.len(), map.devices[0].workers.len(), map.devices[0].worker()), (1, 2, None));
    assert_eq!(map.devices[0].value(GPU_UTIL), Some(97.0));
}

#[test]
fn an_exporter_without_end_is_cut_and_told() {
    let line = |n: usize| format!("DCGM_FI_DEV_GPU_UTIL{{UUID=\"GPU-{n}\"}} 1\n");
    let scraped = read(&(0..MAX_SAMPLES + 7).map(line).collect::<String>(), "here");
    assert_eq!((scraped.beyond, scraped.readings.len()), (7, MAX_SAMPLES));
}

#[test]
fn other_spellings_and_devices_without_an_id_are_devices() {
    let text = "gpu_used_vram{gpu_id=\"1\",gpu_uuid=\"72ff\",card_model=\"MI300X\",hostname=\"h\",pod=\"\"} 5\n\
        DCGM_FI_DEV_FB_USED{gpu=\"3\"} 7\nDCGM_FI_DEV_FB_USED{GPU_I_ID=\"2\",UUID=\"GPU-1\"} 8\n\
        DCGM_FI_DEV_FB_USED{GPU_I_ID=\"3\",UUID=\"GPU-1\"} 9223372036854775794\n";
    let map = GpuMap::new(0, read(text, "here").readings, &Allocations::default());
    let shown: Vec<_> = map
        .devices
        .iter()
        .map(|one| (&*one.device.uuid, &*one.device.device, &*one.device.instance_id, &*one.device.hostname))
        .collect();
    assert_eq!(
        shown,
        [
            ("72ff", "", "", "h"),
            ("", "nvidia3", "", "here"),
            ("GPU-1", "", "2", "here"),
            ("GPU-1", "", "3", "here")
        ]
    );
    assert_eq!((map.devices[2].value(FB_USED), map.devices[3].value(FB_USED)), (Some(8.0), None));
    assert_eq!(map.left_out.blank, 1);
}

#[tokio::test]
async fn an_exporter_that_does_not_answer_as_it_should_is_told() {
    let endless = format!("HTTP/1.1 200 OK\r\n\r\n{}", "a 1\n".repeat(MAX_ANSWER_BYTES / 4 + 1));
    for (answer, words) in [
        ("HTTP/1.1 500 Oh\r\ncontent-length: 0\r\n\r\n".to_owned(), "500"),
        (
            "HTTP/1.1 302 Found\r\nlocation: http://127.0.0.1:1/\r\ncontent-length: 0\r\n\r\n".to_owned(),
            "302",
        ),
        (String::new(), "error sending"),
        (endless, "more than"),
    ] {
        let error = scraped(answer).await.unwrap_err();
        assert!(error.contains(words), "{words}: {error}");
    }
    let mut bad = ok("xx").into_bytes();
    bad.truncate(bad.len() - 2);
    bad.extend([0xff, 0xfe]);
    assert!(scraped(bad).await.unwrap_err().contains("UTF-8"));
    assert!(scraped(ok(DCGM)).await.is_ok(), "the control");
    for url in ["https://h/metrics", "h:9400", "http://u:p@h/", "ftp://h/", ""] {
        assert!(Exporter::new(url).is_err(), "{url}");
    }
}
