//! Hosts that a list knows by their addresses.
//!
//! Reports hold no addresses ([`crate::host`] says why), so an address is matched the other way
//! round: the names of the nodes of the reports are looked up, as every program on this machine
//! would, and this machine knows its own addresses. What matches no node stays an address, and is
//! named as one.

use super::{Expected, Nodes, same_host};
use crate::model::Report;
use std::borrow::Borrow;
use std::collections::BTreeMap;
use std::net::{IpAddr, ToSocketAddrs};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

/// How many names are looked up at a time: one that nobody knows may take seconds.
const AT_A_TIME: usize = 32;

impl Expected {
    /// The same hosts, of which those that are known by an address have the name of the node of the
    /// reports that it belongs to. Looks names up, if there is an address among them.
    #[must_use]
    pub fn named<R: Borrow<Report>>(self, reports: &[R]) -> Self {
        match self {
            Self::Hosts(hosts) if hosts.iter().any(|host| address(host).is_some()) => {
                let reports: Vec<&Report> = reports.iter().map(Borrow::borrow).collect();
                let nodes = Nodes::of(&reports);
                let names: Vec<&str> = nodes.list().iter().map(|node| &*node.host).collect();
                Self::Hosts(by_name(&hosts, &addresses_of(&names)))
            }
            other => other,
        }
    }
}

/// The addresses of each node, by its name.
type Book = BTreeMap<String, Vec<IpAddr>>;

/// The hosts with names for addresses, each once. An address that several nodes' names lead to is
/// nobody's.
fn by_name(hosts: &[String], book: &Book) -> Vec<String> {
    let name_of = |host: &String| -> String {
        let Some(address) = address(host) else {
            return host.clone();
        };
        let mut found = book.iter().filter(|(_, own)| own.contains(&address));
        match (found.next(), found.next()) {
            (Some((name, _)), None) => name.clone(),
            _ => host.clone(),
        }
    };
    let mut named: Vec<String> = Vec::new();
    for name in hosts.iter().map(name_of) {
        if !named.iter().any(|known| same_host(known, &name)) {
            named.push(name);
        }
    }
    named
}

/// Looks all names up.
fn addresses_of(names: &[&str]) -> Book {
    let next = AtomicUsize::new(0);
    let book = Mutex::new(Book::new());
    std::thread::scope(|scope| {
        for _ in 0..AT_A_TIME.min(names.len()) {
            scope.spawn(|| {
                while let Some(name) = names.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let found = look_up(name);
                    // Nobody panics while holding it.
                    let mut book = book.lock().unwrap_or_else(|held| held.into_inner());
                    book.insert((*name).to_owned(), found);
                }
            });
        }
    });
    book.into_inner().unwrap_or_else(|held| held.into_inner())
}

/// The addresses that a name leads to. Names of this machine often lead to its loopback interface,
/// whose addresses every machine has; instead of those it has the addresses of its interfaces.
fn look_up(name: &str) -> Vec<IpAddr> {
    if is_own_name(name) {
        return own_addresses();
    }
    let found = (name, 0).to_socket_addrs().into_iter().flatten();
    let addresses = found.map(|found| found.ip().to_canonical());
    addresses.filter(|ip| !ip.is_loopback()).collect()
}

/// Whether a host is this one, by its name or by an address of it.
pub(crate) fn is_this_host(host: &str) -> bool {
    match address(host) {
        Some(address) => own_addresses().contains(&address),
        None => is_own_name(host),
    }
}

fn is_own_name(name: &str) -> bool {
    let own = nix::unistd::gethostname();
    own.is_ok_and(|own| same_host(&own.to_string_lossy(), name))
}

fn own_addresses() -> Vec<IpAddr> {
    let interfaces = nix::ifaddrs::getifaddrs().into_iter().flatten();
    let addresses = interfaces.filter_map(|interface| {
        let address = interface.address?;
        let v4 = address.as_sockaddr_in().map(|v4| IpAddr::from(v4.ip()));
        let v6 = address.as_sockaddr_in6().map(|v6| IpAddr::from(v6.ip()));
        v4.or(v6)
    });
    addresses.collect()
}

/// The address that a host is known by, if it is one.
pub(super) fn address(host: &str) -> Option<IpAddr> {
    host.parse().ok().map(|ip: IpAddr| ip.to_canonical())
}

/// What is to be known of a host that is in no report, when it is known by an address only.
pub(crate) fn why_absent(host: &str) -> Option<String> {
    address(host)?;
    Some(format!(
        "{host} is the address of no node in the reports, as this machine looks up their names"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::Ipv4Addr;

    fn strings(words: &[&str]) -> Vec<String> {
        words.iter().map(|word| (*word).to_owned()).collect()
    }

    #[test]
    fn addresses_become_the_names_of_their_nodes_and_strangers_stay() {
        let ip = |last| IpAddr::from(Ipv4Addr::new(10, 0, 0, last));
        let book = Book::from([
            ("n1".to_owned(), vec![ip(1), ip(101)]),
            ("n2".to_owned(), vec![ip(2)]),
            ("n3".to_owned(), vec![ip(3)]),
            ("n3-again".to_owned(), vec![ip(3)]),
            ("n4".to_owned(), Vec::new()),
        ]);
        let hosts = [
            "10.0.0.101",
            "n1.domain",
            "10.0.0.2",
            "::ffff:10.0.0.2",
            "10.0.0.3",
            "10.0.0.9",
            "n4",
        ];
        let named = by_name(&strings(&hosts), &book);
        assert_eq!(named, strings(&["n1", "n2", "10.0.0.3", "10.0.0.9", "n4"]));
    }

    #[test]
    fn this_machine_knows_itself_by_all_its_addresses() {
        let own = nix::unistd::gethostname().expect("it has a name");
        let own = own.to_string_lossy().into_owned();
        assert!(is_this_host(&own) && is_this_host("127.0.0.1"));
        // A name that is nobody's (RFC 6761), and an address for documents (RFC 5737).
        assert!(!is_this_host("host.invalid") && !is_this_host("192.0.2.1"));
        let book = addresses_of(&[&own, "host.invalid"]);
        assert!(book["host.invalid"].is_empty());
        let named = by_name(&strings(&["127.0.0.1", "192.0.2.1"]), &book);
        assert_eq!(named, [own, "192.0.2.1".to_owned()]);
    }

    #[test]
    fn an_address_that_is_nobodys_is_named_as_one() {
        assert!(why_absent("n1").is_none());
        let why = why_absent("fd00::7").expect("it is an address");
        assert!(why.starts_with("fd00::7 is the address of no node"));
    }
}
