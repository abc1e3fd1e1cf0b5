use super::*;

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
