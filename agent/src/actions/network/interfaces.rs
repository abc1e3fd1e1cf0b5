//! Which interfaces of the calling thread's network namespace a fault is on.

use std::path::PathBuf;

use super::Refusal;

/// A node with more ways out names those it means.
const MAX_INTERFACES: usize = 8;
/// `RTF_UP` and `RTF_REJECT` of the kernel.
const UP: u32 = 1;
const REJECT: u32 = 0x200;

/// The named ones, else all with a default route.
pub(super) fn chosen(named: &[String]) -> Result<Vec<String>, Refusal> {
    if !named.is_empty() {
        return Ok(named.to_vec());
    }
    let read = |name: &str| {
        let path = PathBuf::from("/proc/thread-self/net").join(name);
        match std::fs::read_to_string(&path) {
            // A kernel without IPv6 has no such file.
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(String::new()),
            read => read.map_err(|source| Refusal::File { path, source }),
        }
    };
    let found = with_default_route(&read("route")?, &read("ipv6_route")?);
    if found.is_empty() || found.len() > MAX_INTERFACES { Err(Refusal::NoInterface) } else { Ok(found) }
}

/// From the kernel's own tables, `/proc/net/route` and `/proc/net/ipv6_route`; each name once.
fn with_default_route(ipv4: &str, ipv6: &str) -> Vec<String> {
    let usable = |flags: &str| {
        u32::from_str_radix(flags, 16).is_ok_and(|flags| flags & UP != 0 && flags & REJECT == 0)
    };
    let ipv4 = ipv4.lines().filter_map(|line| {
        let fields: Vec<_> = line.split_whitespace().collect();
        let [name, "00000000", _, flags, _, _, _, "00000000", ..] = *fields else { return None };
        usable(flags).then_some(name)
    });
    let ipv6 = ipv6.lines().filter_map(|line| {
        let fields: Vec<_> = line.split_whitespace().collect();
        let [_, "00", _, _, _, _, _, _, flags, name] = *fields else { return None };
        usable(flags).then_some(name)
    });
    let mut names: Vec<String> = ipv4.chain(ipv6).filter(|name| *name != "lo").map(str::to_owned).collect();
    names.sort();
    names.dedup();
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    const IPV4: &str = "\
Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT
eth0\t00000000\t010011AC\t0003\t0\t0\t0\t00000000\t0\t0\t0
eth0\t000011AC\t00000000\t0001\t0\t0\t0\t0000FFFF\t0\t0\t0
down0\t00000000\t00000000\t0002\t0\t0\t0\t00000000\t0\t0\t0
";
    const IPV6: &str = "\
00000000000000000000000000000000 00 00000000000000000000000000000000 00 fe800000000000000000000000000001 00000400 00000001 00000000 00000003 eth1
00000000000000000000000000000000 00 00000000000000000000000000000000 00 00000000000000000000000000000000 ffffffff 00000001 00000000 00200200 lo
fe800000000000000000000000000000 40 00000000000000000000000000000000 00 00000000000000000000000000000000 00000100 00000001 00000000 00000001 eth2
";

    #[test]
    fn those_with_a_default_route_are_meant() {
        assert_eq!(with_default_route(IPV4, IPV6), ["eth0", "eth1"]);
        assert_eq!(with_default_route(IPV4, ""), ["eth0"]);
        assert_eq!(with_default_route("nonsense\n\n\u{0}", "x"), Vec::<String>::new());
    }
}
