//! Whether counters bear a claim out: pure functions.
//!
//! Counters of devices are shared with everybody on the machine, so that they prove by growing and
//! contradict by not growing. That a claim of shared memory is wrong takes more than a loopback
//! interface which grew: the sockets of the job's own processes must have grown as well.

use super::counters::{Grown, Kind};
use super::library::{Claim, Way};

/// Fewer bytes than these are not told from what others send meanwhile.
pub const LEAST: u64 = 1_000_000;

/// How many bytes must have moved.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Payload {
    /// Between ranks of one node.
    Within(u64),
    /// From one node to another.
    Between(u64),
    /// Between some ranks, or in none of these ways at all.
    Somewhere(u64),
}

/// What the devices of a node counted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeMoved {
    pub node: String,
    pub grown: Vec<Grown>,
}

/// What the counters say, in a sentence.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// Devices carried at least half of it.
    Proved(String),
    /// No device carried it: it stayed in memory, as claimed or for want of another way.
    SharedMemory(String),
    /// They do not tell.
    Unknown(String),
    /// It went another way than claimed.
    Contradicted(String),
}

impl Verdict {
    /// The verdict and its sentence.
    pub fn in_words(&self) -> String {
        let (verdict, sentence) = match self {
            Self::Proved(sentence) => ("proved", sentence),
            Self::SharedMemory(sentence) => ("shared memory", sentence),
            Self::Unknown(sentence) => ("unknown", sentence),
            Self::Contradicted(sentence) => ("contradicted", sentence),
        };
        format!("{verdict}: {sentence}")
    }
}

/// What was seen, each in bytes and in words.
struct Seen {
    loopback: Sum,
    netdevs: Sum,
    rdma: Sum,
    /// The job's own, `None` if not known.
    sockets: Option<u64>,
    bytes: u64,
}

/// The bytes of all devices of a kind, and those that carried most of them.
struct Sum {
    bytes: u64,
    words: String,
    /// Whether there is such a device that counts.
    there: bool,
}

/// Judges a claim. `sockets` is what the job's own sockets sent.
pub fn weigh(
    claim: &Claim,
    payload: &Payload,
    moved: &[NodeMoved],
    sockets: Option<u64>,
) -> Verdict {
    let (Payload::Within(bytes) | Payload::Between(bytes) | Payload::Somewhere(bytes)) = *payload;
    if bytes < LEAST {
        return Verdict::Unknown(format!(
            "{bytes} bytes of payload are too few to be told from other traffic"
        ));
    }
    let seen = Seen {
        loopback: Sum::of(moved, Kind::Loopback),
        netdevs: Sum::of(moved, Kind::Netdev),
        rdma: Sum::of(moved, Kind::Rdma),
        sockets,
        bytes,
    };
    match payload {
        Payload::Within(_) => seen.within(claim),
        Payload::Between(_) => seen.between(claim),
        Payload::Somewhere(_) => seen.somewhere(),
    }
}

impl Seen {
    fn carried(&self, sum: &Sum) -> bool {
        sum.bytes >= self.bytes / 2
    }

    /// Whether it may have been this job that a network device counted.
    fn ours(&self) -> bool {
        self.sockets.is_none_or(|sent| sent >= self.bytes / 2)
    }

    fn within(&self, claim: &Claim) -> Verdict {
        let over_sockets = self.carried(&self.loopback) && self.ours();
        let over_rdma = self.carried(&self.rdma);
        let (bytes, claimed) = (self.bytes, &claim.within_words);
        let lo = self.grew(&self.loopback);
        let wrong = |went: &str| {
            Verdict::Contradicted(format!(
                "the library's way within a node is {claimed}, but {went}"
            ))
        };
        match claim.within {
            Way::Memory if over_sockets => wrong(&format!("{lo}{}", self.by_sockets())),
            Way::Sockets if over_rdma && !over_sockets => wrong(&self.grew(&self.rdma)),
            Way::Sockets if !over_sockets && self.loopback.there => {
                wrong(&format!("{lo}{}: it did not carry them", self.by_sockets()))
            }
            Way::Rdma if over_sockets => wrong(&format!("{lo}{}", self.by_sockets())),
            _ if over_sockets => Verdict::Proved(format!("{lo}{}", self.by_sockets())),
            Way::Memory | Way::Untold if !over_rdma && self.loopback.there => {
                Verdict::SharedMemory(format!(
                    "no interface carried the {bytes} bytes of payload ({lo}{})",
                    self.by_sockets()
                ))
            }
            Way::Rdma | Way::Untold if over_rdma => Verdict::Proved(self.grew(&self.rdma)),
            Way::Memory if over_rdma => wrong(&self.grew(&self.rdma)),
            // A device need not count what it does not put on a wire.
            Way::Rdma => Verdict::Unknown(format!(
                "{}: a device need not count what stays in its node",
                self.grew(&self.rdma)
            )),
            _ => Verdict::Unknown("/proc/net/dev shows no loopback interface".to_owned()),
        }
    }

    fn between(&self, claim: &Claim) -> Verdict {
        let over_netdevs = self.carried(&self.netdevs) && self.ours();
        let over_rdma = self.carried(&self.rdma);
        let claimed = &claim.between_words;
        let netdevs = format!("{}{}", self.grew(&self.netdevs), self.by_sockets());
        let rdma = self.grew(&self.rdma);
        let wrong = |went: &str| {
            Verdict::Contradicted(format!(
                "the library's way between nodes is {claimed}, but {went}"
            ))
        };
        match claim.between {
            Way::Rdma if over_rdma => Verdict::Proved(rdma),
            Way::Rdma if over_netdevs => wrong(&netdevs),
            Way::Rdma if self.rdma.there && self.rdma.bytes < self.bytes / 4 => wrong(&rdma),
            Way::Sockets if over_netdevs => Verdict::Proved(netdevs),
            Way::Sockets if over_rdma => wrong(&rdma),
            // Nodes that differ in their names only share a network stack.
            Way::Sockets if self.carried(&self.loopback) && self.ours() => Verdict::Proved(
                format!("{}{}", self.grew(&self.loopback), self.by_sockets()),
            ),
            Way::Sockets if self.netdevs.there => {
                wrong(&format!("{netdevs}: they did not carry it"))
            }
            Way::Untold | Way::Memory if over_rdma => Verdict::Proved(rdma),
            Way::Untold | Way::Memory if over_netdevs => Verdict::Proved(netdevs),
            _ => Verdict::Unknown(format!("{netdevs}; {rdma}")),
        }
    }

    fn somewhere(&self) -> Verdict {
        let places = [&self.rdma, &self.netdevs, &self.loopback];
        let carried = places.into_iter().find(|sum| {
            let is_rdma = std::ptr::eq(*sum, &raw const self.rdma);
            self.carried(sum) && (is_rdma || self.ours())
        });
        match carried {
            Some(sum) => Verdict::Proved(self.grew(sum)),
            None => Verdict::Unknown(format!(
                "no device carried half of the {} bytes, of which some or all may have stayed in \
                 their node ({}; {})",
                self.bytes,
                self.grew(&self.netdevs),
                self.grew(&self.loopback)
            )),
        }
    }

    fn grew(&self, sum: &Sum) -> String {
        format!("{} for {} bytes of payload", sum.words, self.bytes)
    }

    fn by_sockets(&self) -> String {
        match self.sockets {
            Some(sent) => format!(", sockets of the job sent {sent}"),
            None => String::new(),
        }
    }
}

impl Sum {
    fn of(moved: &[NodeMoved], kind: Kind) -> Self {
        let all = moved.iter().flat_map(|node| {
            let grown = node.grown.iter().filter(|grown| grown.kind == kind);
            grown.map(|grown| (node.node.as_str(), grown))
        });
        let all: Vec<(&str, &Grown)> = all.collect();
        // What one sent another received, and need not have counted both.
        let sent = all.iter().map(|(_, grown)| grown.sent);
        let received = all.iter().map(|(_, grown)| grown.received);
        let total = |bytes: &mut dyn Iterator<Item = u64>| bytes.fold(0, u64::saturating_add);
        let (sent, received) = (
            total(&mut sent.into_iter()),
            total(&mut received.into_iter()),
        );
        let (bytes, verb) = match sent >= received {
            true => (sent, "sent"),
            false => (received, "received"),
        };
        let share = |grown: &Grown| match verb {
            "sent" => grown.sent,
            _ => grown.received,
        };
        let most = all.iter().max_by_key(|(_, grown)| share(grown));
        let words = match (kind, most) {
            (Kind::Loopback, None) => "no loopback interface counts".to_owned(),
            (Kind::Netdev, None) => "no other interface counts".to_owned(),
            (Kind::Rdma, None) => "no RDMA device counts".to_owned(),
            (_, Some((_, grown))) if moved.len() == 1 && share(grown) == bytes => {
                format!("{} {verb} {bytes} bytes", grown.place)
            }
            (_, Some((node, grown))) => format!(
                "{} devices {verb} {bytes} bytes, {} on {node} most of them",
                all.len(),
                grown.place
            ),
        };
        Self {
            bytes,
            words,
            there: !all.is_empty(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MB: u64 = 1_000_000;

    fn claim(within: Way, between: Way) -> Claim {
        Claim {
            within,
            within_words: "W".to_owned(),
            between,
            between_words: "B".to_owned(),
            ..Claim::default()
        }
    }

    /// Two nodes' devices, each having sent and received so many megabytes.
    fn moved(lo: u64, eth0: u64, efa: u64) -> Vec<NodeMoved> {
        let grown = |place: &str, kind, megabytes: u64| Grown {
            place: place.to_owned(),
            kind,
            sent: megabytes * MB,
            received: megabytes * MB,
        };
        let node = |node: &str| NodeMoved {
            node: node.to_owned(),
            grown: vec![
                grown("lo", Kind::Loopback, lo),
                grown("eth0", Kind::Netdev, eth0),
                grown("rdmap0s6 port 1", Kind::Rdma, efa),
            ],
        };
        vec![node("a"), node("b")]
    }

    fn short(verdict: &Verdict) -> &str {
        match verdict {
            Verdict::Proved(_) => "proved",
            Verdict::SharedMemory(_) => "memory",
            Verdict::Unknown(_) => "unknown",
            Verdict::Contradicted(_) => "contradicted",
        }
    }

    #[test]
    fn claims_within_a_node_are_judged_by_its_loopback_interface_and_the_jobs_sockets() {
        for (way, lo_and_rdma, sockets, expected) in [
            (Way::Memory, (0, 0), Some(0), "memory"),
            (Way::Memory, (60, 0), Some(110), "contradicted"),
            (Way::Memory, (60, 0), None, "contradicted"),
            (Way::Memory, (60, 0), Some(0), "memory"),
            (Way::Memory, (0, 60), Some(0), "contradicted"),
            (Way::Sockets, (60, 0), Some(110), "proved"),
            (Way::Sockets, (0, 0), Some(0), "contradicted"),
            (Way::Sockets, (60, 0), Some(0), "contradicted"),
            (Way::Sockets, (0, 60), Some(0), "contradicted"),
            (Way::Rdma, (0, 60), Some(0), "proved"),
            (Way::Rdma, (60, 0), Some(110), "contradicted"),
            (Way::Rdma, (0, 0), Some(0), "unknown"),
            (Way::Untold, (0, 0), Some(0), "memory"),
            (Way::Untold, (60, 0), Some(110), "proved"),
            (Way::Untold, (0, 60), Some(0), "proved"),
        ] {
            let (lo, rdma) = lo_and_rdma;
            let sockets = sockets.map(|megabytes: u64| megabytes * MB);
            let payload = Payload::Within(100 * MB);
            let claim = claim(way, Way::Untold);
            let verdict = weigh(&claim, &payload, &moved(lo, 0, rdma), sockets);
            assert_eq!(
                short(&verdict),
                expected,
                "{way:?} {lo_and_rdma:?} {sockets:?}"
            );
        }
    }

    #[test]
    fn claims_between_nodes_are_judged_by_what_is_on_the_way() {
        for (way, eth0_and_rdma, sockets, expected) in [
            (Way::Sockets, (55, 0), 110, "proved"),
            (Way::Sockets, (0, 0), 0, "contradicted"),
            (Way::Sockets, (0, 55), 0, "contradicted"),
            (Way::Rdma, (0, 55), 0, "proved"),
            (Way::Rdma, (55, 0), 110, "contradicted"),
            (Way::Rdma, (55, 0), 0, "contradicted"),
            (Way::Rdma, (0, 20), 0, "unknown"),
            (Way::Untold, (55, 0), 110, "proved"),
            (Way::Untold, (0, 55), 0, "proved"),
            (Way::Untold, (0, 0), 0, "unknown"),
        ] {
            let (eth0, rdma) = eth0_and_rdma;
            let payload = Payload::Between(100 * MB);
            let claim = claim(Way::Untold, way);
            let verdict = weigh(&claim, &payload, &moved(0, eth0, rdma), Some(sockets * MB));
            assert_eq!(
                short(&verdict),
                expected,
                "{way:?} {eth0_and_rdma:?} {sockets}"
            );
        }
    }

    #[test]
    fn little_payload_and_payload_of_unknown_ways_contradict_nothing() {
        let claim = claim(Way::Memory, Way::Rdma);
        let of = |payload, lo, eth0| weigh(&claim, &payload, &moved(lo, eth0, 0), None);
        assert_eq!(short(&of(Payload::Within(LEAST - 1), 60, 0)), "unknown");
        assert_eq!(short(&of(Payload::Somewhere(100 * MB), 0, 0)), "unknown");
        assert_eq!(short(&of(Payload::Somewhere(100 * MB), 0, 55)), "proved");
    }

    #[test]
    fn sentences_name_the_device_and_both_numbers() {
        let of_one = |lo| moved(lo, 0, 0)[..1].to_vec();
        let tcp = claim(Way::Sockets, Way::Sockets);
        let verdict = weigh(&tcp, &Payload::Within(2 * MB), &of_one(3), Some(2 * MB));
        assert_eq!(
            verdict.in_words(),
            "proved: lo sent 3000000 bytes for 2000000 bytes of payload, sockets of the job sent \
             2000000"
        );
        let memory = claim(Way::Memory, Way::Sockets);
        let words = weigh(&memory, &Payload::Within(2 * MB), &of_one(0), Some(0)).in_words();
        assert!(
            words.starts_with("shared memory: no interface carried the 2000000"),
            "{words}"
        );
    }
}
