use std::io::Cursor;

use super::*;
use crate::receiver::telemetry::{key, to_series};

#[test]
fn a_payload_is_what_the_references_streamer_sends() {
    let row = Row { at_ns: 0, metric: "DCGM_FI_DEV_GPU_UTIL".to_owned(), value: 97.0, ..Row::default() };
    let mut row = row;
    row.device.model_name = "H100".to_owned();
    row.device.hostname = "host-1".to_owned();
    let text = payload(&row, 1_752_871_354_500_000_000).unwrap();
    let json: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!((&json["modelName"], &json["Hostname"]), (&"H100".into(), &"host-1".into()));
    assert_eq!((&json["time"], &json["value"]), (&"2025-07-18T20:42:34.5Z".into(), &97.0.into()));
    let back: TelemetryRecord = serde_json::from_str(&text).unwrap();
    assert_eq!((back.model_name.as_str(), back.hostname.as_str()), ("H100", "host-1"));
    assert_eq!(beside(Path::new("/a/b.csv")), Path::new("/a/b.csv.quarantine.csv"));
}

/// What counts as sent ends in no dead letter.
#[test]
fn what_is_sent_can_be_stored() {
    let foreign = "\u{413}\u{41f}\u{423}";
    let text = format!(
        r#"timestamp,metric_name,gpu_id,device,uuid,modelName,Hostname,container,pod,namespace,value,labels_raw
2025-07-18T20:42:34Z,m,0,nvidia0,GPU-1,H100,host-1,c,p,n,97,"UUID=""GPU-1"",app=""x"""
2025-07-18T20:42:34Z,m,0,,,H100,host-1,,,,97,
2025-07-18T20:42:34Z,m,,card0,,,,,,,97,
2025-07-18T20:42:34Z,m,,,,,,,,,97,"UUID=""{foreign}"""
"#
    );
    let mut reader = Reader::new(Cursor::new(text)).unwrap();
    let mut keys = Vec::new();
    while let Some(item) = reader.next_item().unwrap() {
        let Item::Row(row) = item else { panic!("{item:?}") };
        let record: TelemetryRecord = serde_json::from_str(&payload(&row, row.at_ns).unwrap()).unwrap();
        assert_eq!(to_series(&record).unwrap().samples[0].value, 97.0);
        assert_eq!(key(&record).unwrap(), row.device.queue_key(), "the same queue, the same place");
        keys.push(key(&record).unwrap());
    }
    assert_eq!(keys, ["GPU-1", "nvidia0", "card0", foreign]);
}
