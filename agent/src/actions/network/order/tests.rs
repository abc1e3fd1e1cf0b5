use super::*;

fn order(fault: Fault) -> Order {
    Order { fault, ..Order::default() }
}

fn field(order: &Order) -> Option<&'static str> {
    order.check().err().map(|invalid| invalid.field)
}

#[test]
fn an_order_comes_back_from_json_and_defaults_are_the_careful_ones() {
    let text = r#"{"netns":"/proc/7/ns/net","interfaces":["eth0"],"filter":{"peers":["10.0.0.0/8"],"ports":[443,
        "8000-8100"],"protocol":"tcp","direction":"ingress"},"fault":{"delay_ns":5,"loss_percent":0.5}}"#;
    let order: Order = serde_json::from_str(text).unwrap();
    assert_eq!(order.check(), Ok(()));
    assert_eq!((order.filter.protocol, order.filter.direction), (Protocol::Tcp, Direction::Ingress));
    let spared: Vec<_> = order.exclude.ports.iter().map(ToString::to_string).collect();
    assert_eq!(spared, ["53", "67-68", "546-547"], "DNS and DHCP");
    let again = serde_json::to_string(&order).unwrap();
    assert_eq!(serde_json::from_str::<Order>(&again).unwrap(), order);
    assert!(serde_json::from_str::<Order>(r#"{"delay_ns":5}"#).is_err(), "unknown fields are no fields");
}

#[test]
fn numbers_that_cannot_be_are_refused() {
    for (fault, wanted) in [
        (Fault::default(), "strength"),
        (Fault { loss_percent: f64::NAN, ..Fault::default() }, "strength.loss_percent"),
        (Fault { loss_percent: f64::INFINITY, ..Fault::default() }, "strength.loss_percent"),
        (Fault { loss_percent: -0.1, ..Fault::default() }, "strength.loss_percent"),
        (Fault { duplicate_percent: 100.1, ..Fault::default() }, "strength.duplicate_percent"),
        (Fault { corrupt_percent: f64::MIN, ..Fault::default() }, "strength.corrupt_percent"),
        (Fault { reorder_percent: 10.0, ..Fault::default() }, "strength.reorder_percent"),
        (Fault { delay_ns: 60_000_000_001, ..Fault::default() }, "strength.delay_ms"),
        (Fault { delay_ns: u64::MAX, ..Fault::default() }, "strength.delay_ms"),
        (Fault { delay_ns: 5, jitter_ns: 6, ..Fault::default() }, "strength.jitter_ms"),
        (Fault { jitter_ns: 1, ..Fault::default() }, "strength.jitter_ms"),
        (Fault { rate_bits_per_s: 7_999, ..Fault::default() }, "strength.rate_bits_per_s"),
        (Fault { rate_bits_per_s: u64::MAX, ..Fault::default() }, "strength.rate_bits_per_s"),
        (Fault { partition: true, delay_ns: 1, ..Fault::default() }, "strength.partition"),
        (Fault { partition: true, ..Fault::default() }, "strength.partition"),
    ] {
        assert_eq!(field(&order(fault)), Some(wanted), "{fault:?}");
    }
    for fault in [
        Fault { loss_percent: 100.0, ..Fault::default() },
        Fault { delay_ns: 60_000_000_000, jitter_ns: 60_000_000_000, ..Fault::default() },
        Fault { delay_ns: 1, reorder_percent: 100.0, ..Fault::default() },
        Fault { rate_bits_per_s: 8_000, ..Fault::default() },
    ] {
        assert_eq!(field(&order(fault)), None, "{fault:?}");
    }
}

#[test]
fn lists_are_bounded_and_names_are_names() {
    let loss = Fault { loss_percent: 1.0, ..Fault::default() };
    let names = |names: &[&str]| Order {
        interfaces: names.iter().map(|name| (*name).to_owned()).collect(),
        ..order(loss)
    };
    for bad in [
        &[""][..],
        &["a/b"],
        &["sixteen-bytes-00"],
        &["a b"],
        &["e\0"],
        &["sextant%d"],
        &["a", "a"],
        &["a"; 9],
    ] {
        assert_eq!(field(&names(bad)), Some("strength.interfaces"), "{bad:?}");
    }
    assert_eq!(field(&names(&["eth0", "bond0.100@"])), None);
    let peer: Prefix = "10.0.0.0/8".parse().unwrap();
    let many = Filter { peers: vec![peer; 257], ..Filter::default() };
    assert_eq!(field(&Order { filter: many, ..order(loss) }), Some("strength.peers"));
    let many = Filter { ports: vec![Ports::from(1..=1); 257], ..Filter::default() };
    assert_eq!(field(&Order { filter: many, ..order(loss) }), Some("strength.ports"));
    let portless = Filter { ports: vec![Ports::from(1..=1)], protocol: Protocol::Icmp, ..Filter::default() };
    assert_eq!(field(&Order { filter: portless, ..order(loss) }), Some("strength.ports"));
    let incoming = Filter { direction: Direction::Ingress, ..Filter::default() };
    let cgroup = Some("/sys/fs/cgroup/x".into());
    assert_eq!(field(&Order { filter: incoming, cgroup, ..order(loss) }), Some("strength.direction"));
}

#[test]
fn the_plan_says_what_is_done() {
    let fault = Fault { delay_ns: 100_000_000, jitter_ns: 5_000_000, loss_percent: 2.5, ..Fault::default() };
    let mut asked = order(fault);
    asked.netns = Some("/proc/7/ns/net".into());
    asked.filter.peers = vec!["10.0.0.7".parse().unwrap()];
    assert_eq!(
        asked.words(),
        "hold those packets in a worker, behind a TAP for each interface; attach a program to every interface with a \
         default route of /proc/7/ns/net: delay packets by 100 ms +- 5 ms, lose 2.5 % to 10.0.0.7/32, ports all, \
         sparing 53, 67-68, 546-547"
    );
    let lossy = order(Fault { loss_percent: 1.0, ..Fault::default() });
    assert!(lossy.words().starts_with("attach a program"), "no relay");
}
