//! The list of servers: one to a line, `host` or `host:port`, with `#` before what is a comment.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv6Addr};

/// The longest list that is read, in bytes: tens of thousands of names.
pub const MAX_BYTES: u64 = 1 << 20;

/// How many bad lines are told of.
const MAX_TOLD: usize = 5;

/// Where a server is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Peer {
    /// What it is called in messages and matrices: as it stands in the list.
    pub label: String,
    /// Its name or address.
    pub host: String,
    /// The port of its control channel.
    pub port: u16,
}

/// Reads a list; lines without a port get this one.
///
/// # Errors
/// Every line that is none, by its number.
pub fn parse(text: &str, port: u16) -> Result<Vec<Peer>, String> {
    let mut peers: Vec<Peer> = Vec::new();
    let mut seen: BTreeMap<(String, u16), usize> = BTreeMap::new();
    let mut faults = Vec::new();
    for (index, line) in text.lines().enumerate() {
        let number = index + 1;
        let words = line.split('#').next().unwrap_or_default().trim();
        if words.is_empty() {
            continue;
        }
        match peer(words, port) {
            Err(fault) => faults.push(format!("line {number}: {fault}")),
            Ok(peer) => match seen.insert((peer.host.clone(), peer.port), number) {
                Some(first) => faults.push(format!(
                    "line {number}: {words} stands in line {first} already"
                )),
                None => peers.push(peer),
            },
        }
    }
    faults.extend(mixed(&peers));
    if faults.is_empty() && peers.len() < 2 {
        faults.push(format!(
            "it takes two hosts, this names {}; one host or host:port to a line",
            peers.len()
        ));
    }
    if faults.is_empty() {
        return Ok(peers);
    }
    let more = faults.len().saturating_sub(MAX_TOLD);
    faults.truncate(MAX_TOLD);
    if more > 0 {
        faults.push(format!("and {more} more"));
    }
    Err(faults.join("; "))
}

/// `host`, `host:port`, `[v6]:port` or an address of IPv6 alone.
fn peer(words: &str, port: u16) -> Result<Peer, String> {
    if let Some(word) = words.split_whitespace().nth(1) {
        return Err(format!(
            "{:?} after the host: a line has one host or host:port and nothing else",
            shown(word)
        ));
    }
    let (host, port) = match (words.strip_prefix('['), words.split_once(':')) {
        (Some(rest), _) => {
            let bracketed = rest.split_once("]:");
            let (host, port) = bracketed.ok_or("an address in brackets is [ADDRESS]:PORT")?;
            (host, number(port)?)
        }
        (None, Some(_)) if words.parse::<Ipv6Addr>().is_ok() => (words, port),
        (None, Some((host, port))) => (host, number(port)?),
        (None, None) => (words, port),
    };
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b".-_:%".contains(&byte);
    if host.is_empty() || host.len() > 253 || !host.bytes().all(plain) {
        return Err(format!("{:?} is no host name or address", shown(host)));
    }
    Ok(Peer {
        label: words.to_owned(),
        host: host.to_owned(),
        port,
    })
}

fn number(port: &str) -> Result<u16, String> {
    match port.parse() {
        Ok(port) if port > 0 => Ok(port),
        _ => Err(format!("{:?} is no port from 1 to 65535", shown(port))),
    }
}

/// No more of a line than a message needs: it may be a line of anything.
fn shown(word: &str) -> String {
    word.chars().take(40).collect()
}

/// A server is sent to the others under the names of this list, and `localhost` is another machine on
/// every one of them.
fn mixed(peers: &[Peer]) -> Option<String> {
    let here = |peer: &&Peer| {
        let address = peer.host.parse::<IpAddr>();
        peer.host == "localhost" || address.is_ok_and(|ip| ip.is_loopback())
    };
    let local = peers.iter().find(here)?;
    let other = peers.iter().find(|peer| !here(peer))?;
    Some(format!(
        "{} is this machine for itself only, and {} could not be sent there: give its name or address \
         in the network",
        local.label, other.label
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_ports_comments_and_blank_lines_are_told_apart() {
        let text = "# nodes\n\nn1\n  n2:7000  # the second\n[fd00::3]:7001\r\nfd00::4\n10.0.0.5\n";
        let peers = parse(text, 5280).expect("a list");
        let short: Vec<_> = peers
            .iter()
            .map(|peer| (peer.label.as_str(), peer.host.as_str(), peer.port))
            .collect();
        assert_eq!(
            short,
            [
                ("n1", "n1", 5280),
                ("n2:7000", "n2", 7000),
                ("[fd00::3]:7001", "fd00::3", 7001),
                ("fd00::4", "fd00::4", 5280),
                ("10.0.0.5", "10.0.0.5", 5280),
            ]
        );
    }

    #[test]
    fn every_bad_line_is_named_by_its_number() {
        let fault = |text: &str| parse(text, 5280).expect_err("it is wrong");
        let several = fault("n1\nn2:0\nn3 slots=4\nn1\nn?\n[::1]\n");
        for expected in [
            "line 2: \"0\" is no port",
            "line 3: \"slots=4\" after the host",
            "line 4: n1 stands in line 1 already",
            "line 5: \"n?\" is no host name",
            "line 6: an address in brackets",
        ] {
            assert!(several.contains(expected), "{expected}: {several}");
        }
        assert!(fault("").contains("this names 0"));
        assert!(fault("n1\n").contains("this names 1"));
        assert!(fault(&"a b\n".repeat(9)).ends_with("and 4 more"));
        assert!(fault("localhost:1\nn2\n").contains("localhost:1 is this machine"));
        let long = fault(&format!("n1\n{}\n", "x".repeat(100_000)));
        assert!(long.len() < 200, "{}", long.len());
        assert!(parse("127.0.0.1:1\nlocalhost:2\n", 1).is_ok());
    }
}
