//! The counters of the protocols in this network namespace, as `/proc/net/{snmp,snmp6,netstat}`
//! keep them: what was sent again, what was dropped and where, whose queue was full.
//!
//! They count for every process of the namespace, so they are context: how much of it was this
//! test's, the flows' own records tell.

use reports::model::{Counter, Fact, Severity, Validity};
use std::collections::BTreeMap;
use std::fs;

/// The counters that explain a number, by file, group and name.
const WANTED: &[(&str, &str, &[&str])] = &[
    (
        "snmp",
        "Ip",
        &["InDiscards", "OutDiscards", "ReasmFails", "FragFails"],
    ),
    (
        "snmp",
        "Tcp",
        &[
            "InSegs",
            "OutSegs",
            "RetransSegs",
            "InErrs",
            "OutRsts",
            "AttemptFails",
        ],
    ),
    (
        "snmp",
        "Udp",
        &[
            "InDatagrams",
            "OutDatagrams",
            "NoPorts",
            "InErrors",
            "RcvbufErrors",
            "SndbufErrors",
            "InCsumErrors",
            "MemErrors",
        ],
    ),
    (
        "netstat",
        "TcpExt",
        &[
            "ListenOverflows",
            "ListenDrops",
            "TCPBacklogDrop",
            "TCPRcvQDrop",
            "TCPZeroWindowDrop",
            "PruneCalled",
            "RcvPruned",
            "TCPRcvCollapsed",
            "TCPOFOQueue",
            "TCPLostRetransmit",
            "TCPFastRetrans",
            "TCPSlowStartRetrans",
            "TCPTimeouts",
            "TCPSpuriousRTOs",
            "TCPDSACKRecv",
            "TCPSackRecoveryFail",
            "TCPMemoryPressures",
            "TCPAbortOnMemory",
            "TCPFromZeroWindowAdv",
            "TCPToZeroWindowAdv",
            "TCPWantZeroWindowAdv",
            "TCPAutoCorking",
            "TCPRcvCoalesce",
            "BusyPollRxPackets",
        ],
    ),
    (
        "snmp6",
        "",
        &[
            "Ip6InDiscards",
            "Ip6OutDiscards",
            "Udp6InDatagrams",
            "Udp6InErrors",
            "Udp6RcvbufErrors",
            "Udp6SndbufErrors",
        ],
    ),
];

/// Counters whose growth speaks against a number: the name, the flag's code, and what happened.
const SUSPECT: &[(&str, &str, &str)] = &[
    (
        "ListenDrops",
        "listen_drops",
        "connections were turned away because a listener's queue was full",
    ),
    (
        "TCPBacklogDrop",
        "tcp_backlog_drops",
        "segments were dropped because a reader could not keep up",
    ),
    (
        "TCPMemoryPressures",
        "tcp_memory_pressure",
        "TCP as a whole ran out of memory (net.ipv4.tcp_mem)",
    ),
    (
        "RcvbufErrors",
        "udp_receive_drops",
        "datagrams were dropped because a receive buffer was full",
    ),
    (
        "Udp6RcvbufErrors",
        "udp_receive_drops",
        "datagrams over IPv6 were dropped because a receive buffer was full",
    ),
];

/// Every counter of one moment, by file and by `Group.Name`.
pub(super) type Reading = BTreeMap<&'static str, Result<BTreeMap<String, f64>, String>>;

/// Reads all files.
pub(super) fn read() -> Reading {
    // Of this thread, because threads may be in different namespaces.
    let read = |file: &'static str| {
        let path = format!("/proc/thread-self/net/{file}");
        let text = fs::read_to_string(&path).map_err(|error| format!("{path}: {error}"));
        (file, text.map(|text| parse(&text)))
    };
    ["snmp", "netstat", "snmp6"].map(read).into()
}

/// Lines in pairs, names above numbers, under the group they begin with; or, in `snmp6`, a name
/// and a number on each line.
fn parse(text: &str) -> BTreeMap<String, f64> {
    let mut counters = BTreeMap::new();
    let mut names: Option<(&str, &str)> = None;
    for line in text.lines() {
        let Some((group, rest)) = line.split_once(':') else {
            let mut words = line.split_ascii_whitespace();
            if let (Some(name), Some(Ok(value))) = (words.next(), words.next().map(str::parse)) {
                counters.insert(format!(".{name}"), value);
            }
            continue;
        };
        names = match names {
            Some((same, heads)) if same == group => {
                let values = rest.split_ascii_whitespace().map(str::parse::<f64>);
                for (name, value) in heads.split_ascii_whitespace().zip(values) {
                    if let Ok(value) = value {
                        counters.insert(format!("{group}.{name}"), value);
                    }
                }
                None
            }
            _ => Some((group, rest)),
        };
    }
    counters
}

/// The wanted counters before and after, and what of their growth speaks against a number.
pub(super) fn between(before: &Reading, after: &Reading) -> (Vec<Counter>, Validity) {
    let mut validity = Validity::default();
    let mut counters = Vec::new();
    for &(file, group, names) in WANTED {
        for name in names {
            let of = |reading: &Reading| match reading.get(file) {
                Some(Ok(values)) => match values.get(&format!("{group}.{name}")) {
                    Some(&value) => Fact::Known(value),
                    None => Fact::unavailable(format!("/proc/net/{file} has no such counter")),
                },
                Some(Err(reason)) => Fact::unavailable(reason),
                None => Fact::unavailable(format!("/proc/net/{file} was not read")),
            };
            let counter = Counter {
                source: format!("/proc/net/{file} {group}").trim_end().to_owned(),
                name: (*name).to_owned(),
                before: of(before),
                after: of(after),
            };
            suspect(&counter, &mut validity);
            counters.push(counter);
        }
    }
    (counters, validity)
}

fn suspect(counter: &Counter, validity: &mut Validity) {
    let found = SUSPECT.iter().find(|(name, ..)| *name == counter.name);
    if let (Some((name, code, what)), Some(grown)) = (found, super::grown(counter))
        && grown > 0.0
    {
        let evidence = format!(
            "{what}: {name} grew by {grown} in this network namespace, by this test or others"
        );
        validity.flag(Severity::Info, code, evidence);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SNMP: &str = "Udp: InDatagrams RcvbufErrors\nUdp: 10 3\nUdpLite: RcvbufErrors\n\
                        UdpLite: 99\nTcp: RtoMin RetransSegs\nTcp: -1 7\n";

    fn reading(snmp: &str, netstat: &str) -> Reading {
        let missing = Err("/proc/thread-self/net/snmp6: No such file".to_owned());
        [
            ("snmp", Ok(parse(snmp))),
            ("netstat", Ok(parse(netstat))),
            ("snmp6", missing),
        ]
        .into()
    }

    #[test]
    fn names_belong_to_the_numbers_below_them() {
        let counters = parse(SNMP);
        assert_eq!(counters["Udp.RcvbufErrors"], 3.0);
        assert_eq!(counters["UdpLite.RcvbufErrors"], 99.0);
        assert_eq!(counters["Tcp.RetransSegs"], 7.0);
        assert_eq!(parse("Udp6InErrors  \t4\n")[".Udp6InErrors"], 4.0);
        assert_eq!(parse("Tcp: A B\nIp: 1 2\nnonsense\n"), BTreeMap::new());
    }

    #[test]
    fn growth_is_told_and_what_is_not_kept_is_unavailable() {
        let before = reading(SNMP, "TcpExt: ListenDrops\nTcpExt: 4\n");
        let after = SNMP.replace("10 3", "12 8");
        let after = reading(&after, "TcpExt: ListenDrops\nTcpExt: 4\n");
        let (counters, validity) = between(&before, &after);
        let codes: Vec<&str> = validity
            .flags
            .iter()
            .map(|flag| flag.code.as_str())
            .collect();
        assert_eq!(codes, ["udp_receive_drops"], "{validity:?}");
        assert!(
            validity.flags[0].evidence.contains("grew by 5"),
            "{validity:?}"
        );
        let named = |name: &str| counters.iter().find(|counter| counter.name == name);
        let retransmits = named("RetransSegs").expect("it is wanted");
        assert_eq!(retransmits.after, Fact::Known(7.0));
        let absent = named("InDiscards").expect("it is wanted");
        assert!(
            absent
                .before
                .reason()
                .is_some_and(|reason| reason.contains("no such counter"))
        );
        let ipv6 = named("Udp6InErrors").expect("it is wanted");
        assert!(
            ipv6.after
                .reason()
                .is_some_and(|reason| reason.contains("No such file"))
        );
    }

    #[test]
    fn the_running_kernel_keeps_what_matters_most() {
        let (counters, _) = between(&read(), &read());
        for name in ["RetransSegs", "ListenDrops", "RcvbufErrors"] {
            let found = counters.iter().find(|counter| counter.name == name);
            assert!(
                found.is_some_and(|found| found.after.known().is_some()),
                "{name}"
            );
        }
    }
}
