//! Whether flows landed on the receive queues that their source ports were chosen for.
//!
//! The ports come from a prediction, and a driver may hash otherwise than it says. The device's own
//! counters of its queues are the witness.

use super::queues::QueueUse;
use crate::control::message::Leg;
use reports::model::{Fact, Measurement, OBSERVED, Severity};
use serde::Serialize;
use std::collections::BTreeMap;

/// What a receive queue was to get and what it got.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
struct Landed {
    queue: u32,
    /// Flows that were led here.
    flows: usize,
    /// Packets that the device counted on it in the window, whoever sent them.
    packets: Fact<u64>,
}

/// What became of all of them.
#[derive(Debug, Clone, PartialEq, Serialize)]
struct Landings {
    queues: Vec<Landed>,
    /// Packets on these queues over all that the device received.
    share_of_packets: Fact<f64>,
}

/// Less than this share of what a device received says that the flows went elsewhere.
const LEAST_SHARE: f64 = 0.5;

/// Adds to a measurement where its flows landed: `queues` are the queue that each was led to, and
/// `theirs` what the server saw of its device.
pub fn report(measurement: &mut Measurement, queues: &[u32], theirs: &[Leg]) {
    if queues.is_empty() {
        return;
    }
    let seen = theirs.iter().find_map(|leg| leg.observed.as_deref());
    let counted = match seen.map(|observed| &observed.device) {
        None => Fact::unavailable("the server observed nothing"),
        Some(Fact::Unavailable { unavailable }) => Fact::unavailable(unavailable),
        Some(Fact::Known(device)) => device.queues.clone(),
    };
    let landings = landings(queues, &counted);
    if let Some(evidence) = fault(&landings) {
        measurement
            .validity
            .flag(Severity::Degraded, "queues_missed", evidence);
    }
    let Ok(told) = serde_json::to_value(&landings) else {
        return;
    };
    if let Some(serde_json::Value::Object(observed)) = measurement.facts.get_mut(OBSERVED) {
        observed.insert("landing".to_owned(), words(&landings).into());
        observed.insert("led_to_queues".to_owned(), told);
    }
}

fn landings(queues: &[u32], counted: &Fact<QueueUse>) -> Landings {
    let mut flows: BTreeMap<u32, usize> = BTreeMap::new();
    for queue in queues {
        *flows.entry(*queue).or_default() += 1;
    }
    let packets = |queue: u32| match counted {
        Fact::Unavailable { unavailable } => Fact::unavailable(unavailable),
        Fact::Known(counted) => {
            let count = counted.rx.iter().find(|count| count.queue == queue);
            match count.and_then(|count| count.packets) {
                Some(packets) => Fact::Known(packets),
                None => Fact::unavailable("the device does not count this queue's packets"),
            }
        }
    };
    let queues: Vec<Landed> = flows
        .into_iter()
        .map(|(queue, flows)| Landed {
            queue,
            flows,
            packets: packets(queue),
        })
        .collect();
    let here: Option<u64> = queues.iter().map(|landed| landed.packets.known()).sum();
    let all = counted.known().and_then(|counted| {
        let each = counted.rx.iter().map(|count| count.packets);
        each.sum::<Option<u64>>().filter(|&all| all > 0)
    });
    let share_of_packets = match (here, all) {
        (Some(here), Some(all)) => Fact::Known(here as f64 / all as f64),
        _ => Fact::unavailable("the device's queues counted nothing"),
    };
    Landings {
        queues,
        share_of_packets,
    }
}

/// What speaks against the prediction.
fn fault(landings: &Landings) -> Option<String> {
    let share = *landings.share_of_packets.known()?;
    let idle = |landed: &&Landed| landed.packets == Fact::Known(0);
    if let Some(landed) = landings.queues.iter().find(idle) {
        return Some(format!(
            "{} flows were led to receive queue {} of the server's device, which counted no packet: \
             the driver spreads flows otherwise than its key and table say",
            landed.flows, landed.queue
        ));
    }
    (share < LEAST_SHARE).then(|| {
        format!(
            "the queues that flows were led to got {:.0} % of what the server's device received: \
             other traffic, or the driver spreads flows otherwise than its key and table say",
            share * 100.0
        )
    })
}

fn words(landings: &Landings) -> String {
    let each = landings.queues.iter().map(|landed| {
        let packets = match &landed.packets {
            Fact::Known(packets) => format!("{packets} packets"),
            Fact::Unavailable { .. } => "packets unknown".to_owned(),
        };
        format!(
            "{} flows on queue {}: {packets}",
            landed.flows, landed.queue
        )
    });
    each.collect::<Vec<_>>().join("; ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::observe::queues::QueueCount;

    fn counted(packets: &[u64]) -> Fact<QueueUse> {
        let rx = (0..).zip(packets).map(|(queue, &packets)| QueueCount {
            queue,
            packets: Some(packets),
            bytes: None,
        });
        Fact::Known(QueueUse {
            rx: rx.collect(),
            ..QueueUse::default()
        })
    }

    #[test]
    fn flows_that_landed_are_counted_and_those_that_did_not_are_flagged() {
        let good = landings(&[0, 2, 0], &counted(&[200, 3, 97, 0]));
        assert_eq!(
            words(&good),
            "2 flows on queue 0: 200 packets; 1 flows on queue 2: 97 packets"
        );
        assert_eq!(good.share_of_packets, Fact::Known(0.99));
        assert_eq!(fault(&good), None);
        let idle = fault(&landings(&[0, 3], &counted(&[200, 0, 0, 0]))).expect("queue 3 is idle");
        assert!(idle.contains("receive queue 3"), "{idle}");
        let elsewhere = fault(&landings(&[1], &counted(&[90, 10])));
        assert!(elsewhere.expect("elsewhere").contains("got 10 %"));
    }

    #[test]
    fn what_the_device_does_not_count_is_unknown_and_no_fault() {
        let none = Fact::unavailable("the driver has no such counters");
        let unknown = landings(&[1, 1], &none);
        assert_eq!(fault(&unknown), None);
        assert_eq!(words(&unknown), "2 flows on queue 1: packets unknown");
        // A queue beyond those that are counted.
        let beyond = landings(&[5], &counted(&[1]));
        assert_eq!(fault(&beyond), None);
        assert!(beyond.queues[0].packets.known().is_none());
    }
}
