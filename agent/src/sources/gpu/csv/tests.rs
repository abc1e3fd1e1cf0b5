use std::io::{BufReader, Cursor, Read};

use super::*;
use crate::domain::series::MAX_LABELS;

const HEADER: &str =
    "timestamp,metric_name,gpu_id,device,uuid,modelName,Hostname,container,pod,namespace,value,labels_raw";

/// As the reference's file has it.
const GOOD: &str = r#""2025-07-18T20:42:34Z","DCGM_FI_DEV_GPU_UTIL","0","nvidia0","GPU-1","NVIDIA H100 80GB HBM3","host-1","","","","97","DCGM_FI_DRIVER_VERSION=""535.129.03"",Hostname=""host-1"",UUID=""GPU-1"",__name__=""DCGM_FI_DEV_GPU_UTIL"",gpu=""0"",pci_bus_id=""00000000:1B:00.0""""#;

fn read(text: impl AsRef<[u8]>) -> Vec<Item> {
    let mut reader = Reader::new(Cursor::new(text.as_ref().to_vec())).unwrap();
    std::iter::from_fn(|| reader.next_item().unwrap()).collect()
}

fn header_error(text: &str) -> String {
    Reader::new(Cursor::new(text.as_bytes())).err().unwrap().to_string()
}

/// A row with one field replaced.
fn row_with(place: usize, field: &str) -> String {
    let mut fields =
        ["2025-07-18T20:42:34Z", "m", "0", "nvidia0", "GPU-1", "H100", "host-1", "", "", "", "1", ""];
    fields[place] = field;
    fields.join(",")
}

#[test]
fn a_row_of_the_reference_is_read_whole() {
    let items = read(format!("{HEADER}\n{GOOD}\n"));
    let [Item::Row(row)] = &*items else { panic!("{items:?}") };
    assert_eq!(
        (row.at_ns, &*row.metric, row.value),
        (1_752_871_354_000_000_000, "DCGM_FI_DEV_GPU_UTIL", 97.0)
    );
    let device = &row.device;
    assert_eq!((&*device.gpu, &*device.device, &*device.uuid), ("0", "nvidia0", "GPU-1"));
    assert_eq!((&*device.model_name, &*device.hostname), ("NVIDIA H100 80GB HBM3", "host-1"));
    assert_eq!((&*device.driver_version, &*device.pci_bus_id), ("535.129.03", "00000000:1B:00.0"));
    assert!(row.labels_raw.starts_with("DCGM_FI_DRIVER_VERSION=\"535.129.03\","), "{}", row.labels_raw);
    assert_eq!(row.worker, Worker::default());
}

#[test]
fn a_device_is_told_by_its_place_or_by_its_labels() {
    let row = |text: &str| match &*read(format!("{HEADER}\n{text}\n")) {
        [Item::Row(row)] => (**row).clone(),
        items => panic!("{items:?}"),
    };
    let placed = row("2025-07-18T20:42:34Z,m,3,,,,host-1,,,,1,").device;
    assert_eq!((&*placed.device, &*placed.uuid, placed.queue_key()), ("nvidia3", "", "nvidia3"));
    let labelled = row(r#"2025-07-18T20:42:34Z,m,,,,,,,,,1,"UUID=""GPU-1"",pod=""p"",GPU_I_ID=""2""""#);
    assert_eq!((&*labelled.device.uuid, &*labelled.worker.pod), ("GPU-1", "p"));
    assert_eq!(&*labelled.device.instance_id, "2");
}

#[test]
fn columns_are_found_by_name_in_any_order_and_spelling() {
    let items = read(
        "\u{feff}value,Extra,model_name,hostname,uuid,device,gpu_id,metric_name,timestamp,pod\r\n\
         5,x,M,h,U,d,1,m,2025-07-18T20:42:34.5+02:00,p\r\n",
    );
    let [Item::Row(row)] = &*items else { panic!("{items:?}") };
    assert_eq!((row.value, &*row.device.model_name, &*row.worker.pod), (5.0, "M", "p"));
    assert_eq!(row.at_ns, 1_752_864_154_500_000_000);
    let reader = Reader::new(Cursor::new(format!("{HEADER},Extra\n"))).unwrap();
    assert_eq!(reader.unknown_columns(), ["Extra"]);
}

#[test]
fn a_file_without_dcgm_columns_is_refused_with_what_is_missing() {
    assert!(header_error("").contains("empty"));
    assert!(header_error("a,b\n").contains("without timestamp, metric_name"));
    assert!(header_error(&HEADER.replace(",value", "")).ends_with("without value"));
    assert!(header_error(&format!("{HEADER},uuid")).contains("uuid is there twice"));
    assert!(header_error("\"timestamp\n").contains("quotes"));
    assert!(header_error(&"x".repeat(MAX_LINE_BYTES + 1)).contains("longer"));
}

#[test]
fn what_is_wrong_with_a_row_is_told_and_the_next_one_is_read() {
    let long = "x".repeat(MAX_VALUE_BYTES + 1);
    let endless = "x".repeat(MAX_LINE_BYTES * 3);
    // As many as a series may have, and the columns are more.
    let many: Vec<_> = (0..MAX_LABELS).map(|n| format!("l{n}=\"\"1\"\"")).collect();
    let cases: Vec<(Vec<u8>, Reason)> = [
        (row_with(0, "yesterday"), Reason::Timestamp),
        (row_with(0, "2025-07-18 20:42:34"), Reason::Timestamp),
        (row_with(0, ""), Reason::Timestamp),
        (row_with(0, "9999-12-31T00:00:00Z"), Reason::Timestamp),
        (row_with(1, ""), Reason::Metric),
        (row_with(1, "a b"), Reason::Metric),
        (row_with(1, "0m"), Reason::Metric),
        (row_with(5, &long), Reason::Field),
        (row_with(10, "12 W"), Reason::Value),
        (row_with(10, "0x10"), Reason::Value),
        (row_with(10, "1,5"), Reason::Columns),
        (row_with(11, "a=b"), Reason::Labels),
        (row_with(11, &format!("\"{}\"", many.join(","))), Reason::Labels),
        (row_with(11, "\"a=\"\"1\"\",a=\"\"2\"\"\""), Reason::Labels),
        (row_with(4, "\"GPU"), Reason::Quotes),
        (row_with(4, "GP\"U"), Reason::Quotes),
        (row_with(4, "\"GPU\"x"), Reason::Quotes),
        (row_with(4, "a\rb"), Reason::Text),
        (row_with(4, "a\0b"), Reason::Text),
        ("no row".to_owned(), Reason::Columns),
        (",,,,,,,,,,,".to_owned(), Reason::Timestamp),
        ("2025-07-18T20:42:34Z,m,,,,,,,,,1,".to_owned(), Reason::Device),
        ("2025-07-18T20:42:34Z,m,,,,,host,,,,1,".to_owned(), Reason::Device),
        ("2025-07-18T20:42:34Z,m,0,,,,,,,,1,".to_owned(), Reason::Device),
        (",".repeat(400), Reason::Columns),
        (endless, Reason::TooLong),
    ]
    .into_iter()
    .map(|(text, reason)| (text.into_bytes(), reason))
    .chain([(b"2025-07-18T20:42:34Z,m,0,d,\xff,M,h,,,,1,".to_vec(), Reason::Text)])
    .collect();
    for (bad, reason) in cases {
        let mut text = format!("{HEADER}\r\n\r\n").into_bytes();
        text.extend_from_slice(&bad);
        text.extend_from_slice(format!("\r\n{GOOD}\r\n").as_bytes());
        let items = read(&text);
        let shown = String::from_utf8_lossy(&bad[..bad.len().min(80)]).into_owned();
        let [Item::Bad(told), Item::Row(_)] = &*items else { panic!("{shown}: {items:?}") };
        assert_eq!((told.reason, told.line), (reason, 3), "{shown}");
        assert!(told.text.len() <= MAX_TOLD_BYTES + 3);
    }
    // The control: the row that they are made from is one.
    assert!(matches!(&*read(format!("{HEADER}\n{}", row_with(4, "GPU-1"))), [Item::Row(_)]));
}

#[test]
fn a_value_that_is_none_is_no_bad_row() {
    for (value, blank) in [
        ("NaN", Blank::NotFinite),
        ("+Inf", Blank::NotFinite),
        ("-inf", Blank::NotFinite),
        ("1e999", Blank::NotFinite),
        ("9223372036854775794", Blank::Sentinel),
        ("18446744073709551615", Blank::Sentinel),
        ("140737488355328.0", Blank::Sentinel),
        ("", Blank::Empty),
        ("N/A", Blank::Empty),
    ] {
        assert_eq!(read(format!("{HEADER}\n{}\n", row_with(10, value))), [Item::Blank(blank)], "{value}");
    }
}

#[test]
fn a_file_that_ends_within_a_row_says_so() {
    let whole = read(format!("{HEADER}\n{GOOD}"));
    assert!(matches!(&*whole, [Item::Row(_)]), "a row needs no line end: {whole:?}");
    for cut in [1, 20, 100, GOOD.len() - 1] {
        let items = read(format!("{HEADER}\n{}", &GOOD[..cut]));
        let [Item::Bad(bad)] = &*items else { panic!("{items:?}") };
        assert_eq!((bad.reason, bad.line), (Reason::Truncated, 2), "{cut}");
    }
}

#[test]
fn a_line_of_a_hundred_megabytes_costs_a_buffer() {
    let endless = std::io::repeat(b'"').take(100_000_000);
    let input = Cursor::new(format!("{HEADER}\n")).chain(endless).chain(Cursor::new(format!("\n{GOOD}\n")));
    let mut reader = Reader::new(BufReader::new(input)).unwrap();
    let Some(Item::Bad(bad)) = reader.next_item().unwrap() else { panic!("a bad row") };
    assert_eq!((bad.reason, bad.text.len()), (Reason::TooLong, MAX_TOLD_BYTES));
    assert!(matches!(reader.next_item().unwrap(), Some(Item::Row(_))));
    assert!(reader.lines.buffer_bytes() <= 2 * MAX_LINE_BYTES, "{}", reader.lines.buffer_bytes());
    assert!(reader.next_item().unwrap().is_none());
}

proptest::proptest! {
    /// Nothing panics, and every line that is not empty is told of.
    #[test]
    fn every_line_is_told_of(lines in proptest::collection::vec("[\\PC]{0,60}|[\",a1:\r]{0,40}", 0..20)) {
        let items = read(format!("{HEADER}\n{}\n", lines.join("\n")));
        let wanted = lines.iter().filter(|line| !line.strip_suffix('\r').unwrap_or(line).is_empty()).count();
        proptest::prop_assert_eq!(items.len(), wanted);
    }
}
