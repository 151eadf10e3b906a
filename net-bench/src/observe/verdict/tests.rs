//! Fixtures of both sides for every outcome.

use super::super::device::QdiscUse;
use super::super::flow::FlowTotals;
use super::super::queues::layout::{Layout, Roots};
use super::super::{CoreUse, DeviceSeen, FlowsSeen, ThreadUse};
use super::*;
use reports::model::{Counter, Fact};
use std::collections::BTreeMap;

/// A side with nothing in its way: 10 s, 4 flows, two cores, threads a third busy.
fn side() -> Observed {
    let core = |cpu| CoreUse {
        cpu,
        user_s: 1.0,
        system_s: 2.0,
        softirq_s: 1.0,
        idle_s: 6.0,
        ..CoreUse::default()
    };
    Observed {
        elapsed_s: 10.0,
        flows: Fact::Known(FlowsSeen {
            totals: FlowTotals {
                flows: 4,
                segments_out: Some(1_000_000),
                segments_in: Some(500_000),
                retransmits: Some(0),
                busy_us: Some(39_000_000),
                rwnd_limited_us: Some(400_000),
                sndbuf_limited_us: Some(0),
                mean_rtt_us: Some(120.0),
                min_rtt_us: Some(60),
                ..FlowTotals::default()
            },
            flows: Vec::new(),
            course: Vec::new(),
        }),
        threads: ThreadUse {
            threads: 1,
            user_s: 0.5,
            system_s: 3.0,
            busiest_thread: 0.35,
            voluntary_switches: 0,
            involuntary_switches: 0,
            system_calls: 0,
        },
        thread_cpus: Fact::Known(vec![0]),
        listener_cpus: Vec::new(),
        pace: None,
        ring: None,
        cores: Fact::Known(vec![core(0), core(1)]),
        device: Fact::Known(DeviceSeen {
            name: "eth0".to_owned(),
            driver: Fact::Known("ena".to_owned()),
            mtu_bytes: Some(9001),
            speed_bits_per_s: Fact::unavailable("the driver reports no speed"),
            allowances: BTreeMap::from([("pps_allowance_exceeded".to_owned(), Fact::Known(0.0))]),
            queues: Fact::unavailable("not under test"),
            layout: Layout::read(
                &Roots {
                    sys: "/none".into(),
                    proc: "/none".into(),
                },
                None,
                "x",
                0,
            ),
            qdiscs: Fact::Known(vec![QdiscUse {
                kind: "fq_codel".to_owned(),
                tx_queue: None,
                rate_bytes_per_s: None,
                sent_bytes: Some(1_250_000_000),
                sent_packets: Some(830_000),
                drops: Some(0),
                overlimits: Some(0),
            }]),
        }),
        counters: Vec::new(),
    }
}

fn totals(side: &mut Observed) -> &mut FlowTotals {
    match &mut side.flows {
        Fact::Known(flows) => &mut flows.totals,
        Fact::Unavailable { .. } => panic!("the fixture has flows"),
    }
}

fn device(side: &mut Observed) -> &mut DeviceSeen {
    match &mut side.device {
        Fact::Known(device) => device,
        Fact::Unavailable { .. } => panic!("the fixture has a device"),
    }
}

fn cores(side: &mut Observed) -> &mut Vec<CoreUse> {
    match &mut side.cores {
        Fact::Known(cores) => cores,
        Fact::Unavailable { .. } => panic!("the fixture has cores"),
    }
}

fn qdisc(side: &mut Observed) -> &mut QdiscUse {
    match &mut device(side).qdiscs {
        Fact::Known(qdiscs) => &mut qdiscs[0],
        Fact::Unavailable { .. } => panic!("the fixture has qdiscs"),
    }
}

/// 1 Gbit/s arrived.
const GOODPUT: f64 = 125e6;

/// What the fixture is judged to be after `change` to sender and receiver.
fn judged(change: impl Fn(&mut Observed, &mut Observed)) -> Verdict {
    let (mut sender, mut receiver) = (side(), side());
    change(&mut sender, &mut receiver);
    judge(["sender", "receiver"], &sender, &receiver, GOODPUT)
}

fn assert_judged(limit: Limit, words: &[&str], change: impl Fn(&mut Observed, &mut Observed)) {
    let verdict = judged(change);
    assert_eq!(verdict.limited_by, limit, "{verdict}");
    for word in words {
        assert!(verdict.evidence.contains(word), "no {word:?} in {verdict}");
    }
}

#[test]
fn nothing_that_stands_out_is_unknown() {
    assert_judged(Limit::Unknown, &["nothing stands out", "35 %"], |_, _| ());
    assert_judged(Limit::Unknown, &["without data to send"], |sender, _| {
        totals(sender).busy_us = Some(1000);
        totals(sender).retransmits = Some(100_000);
    });
}

#[test]
fn what_was_not_observed_proves_nothing() {
    assert_judged(
        Limit::Unknown,
        &["nothing stands out"],
        |sender, receiver| {
            for side in [sender, receiver] {
                side.flows = Fact::unavailable("no TCP");
                side.device = Fact::unavailable("no route");
                side.cores = Fact::unavailable("no /proc");
            }
        },
    );
    assert_judged(Limit::Unknown, &[], |sender, _| {
        device(sender).allowances.insert(
            "bw_in_allowance_exceeded".to_owned(),
            Fact::unavailable("-"),
        );
        // Too short for the kernel's clock.
        *cores(sender) = vec![CoreUse {
            user_s: 0.01,
            ..CoreUse::default()
        }];
    });
}

#[test]
fn an_exceeded_allowance_is_shaping_whatever_else_is_seen() {
    let change = |side: &mut Observed| {
        let exceeded = Fact::Known(17.0);
        device(side)
            .allowances
            .insert("bw_in_allowance_exceeded".to_owned(), exceeded);
    };
    let words = ["bw_in_allowance_exceeded grew by 17", "receiver's eth0"];
    assert_judged(Limit::Shaping, &words, |sender, receiver| {
        change(receiver);
        sender.threads.busiest_thread = 1.0;
    });
    assert_judged(Limit::Shaping, &["sender's eth0"], |sender, _| {
        change(sender)
    });
}

#[test]
fn a_token_bucket_at_its_rate_is_shaping_and_one_below_it_is_not() {
    let bucket = |rate| {
        move |sender: &mut Observed, _: &mut Observed| {
            let qdisc = qdisc(sender);
            qdisc.kind = "tbf".to_owned();
            qdisc.rate_bytes_per_s = Some(rate);
            qdisc.overlimits = Some(5000);
            qdisc.drops = Some(12);
        }
    };
    // 1.25 GB in 10 s.
    let words = [
        "tbf on the sender's eth0",
        "1000.0 Mbit/s",
        "5000 times",
        "dropped 12",
    ];
    assert_judged(Limit::Shaping, &words, bucket(125_000_000));
    assert_judged(Limit::Unknown, &[], bucket(250_000_000));
    // A shaper that does not tell its rate is judged by how often it held back.
    assert_judged(Limit::Shaping, &["htb"], |sender, _| {
        let qdisc = qdisc(sender);
        (qdisc.kind, qdisc.overlimits) = ("htb".to_owned(), Some(400_000));
    });
    assert_judged(Limit::Unknown, &[], |sender, _| {
        qdisc(sender).overlimits = Some(12)
    });
}

#[test]
fn a_pacing_rate_that_is_reached_is_pacing() {
    let paced = |rate| {
        move |sender: &mut Observed, _: &mut Observed| {
            totals(sender).max_pacing_bytes_per_s = Some(rate);
        }
    };
    assert_judged(
        Limit::Pacing,
        &["1000.0 Mbit/s", "1040.0"],
        paced(130_000_000),
    );
    assert_judged(Limit::Unknown, &[], paced(500_000_000));
}

#[test]
fn a_link_at_its_speed_is_the_link_and_veths_speed_is_none() {
    let fast = |driver: &'static str| {
        move |_: &mut Observed, receiver: &mut Observed| {
            device(receiver).driver = Fact::Known(driver.to_owned());
            device(receiver).speed_bits_per_s = Fact::Known(1_000_000_000);
        }
    };
    assert_judged(
        Limit::Link,
        &["1000 Mbit/s", "receiver's eth0"],
        fast("ixgbe"),
    );
    assert_judged(Limit::Unknown, &[], fast("veth"));
}

#[test]
fn a_busy_thread_is_its_sides_cpu_and_of_two_the_busier() {
    assert_judged(
        Limit::SenderCpu,
        &["sender's busiest thread used 97 %"],
        |sender, _| {
            sender.threads.busiest_thread = 0.97;
        },
    );
    let words = ["receiver's busiest thread used 99 %", "sender's 97 %"];
    assert_judged(Limit::ReceiverCpu, &words, |sender, receiver| {
        sender.threads.busiest_thread = 0.97;
        receiver.threads.busiest_thread = 0.99;
        // A reader that cannot keep up fills its window: the cause is the CPU.
        totals(sender).rwnd_limited_us = Some(30_000_000);
    });
}

#[test]
fn a_core_full_of_softirqs_is_its_sides_cpu() {
    assert_judged(
        Limit::ReceiverCpu,
        &["CPU 1 of the receiver", "70 %"],
        |_, receiver| {
            let core = &mut cores(receiver)[1];
            (core.softirq_s, core.idle_s, core.user_s, core.system_s) = (7.0, 0.0, 1.0, 2.0);
        },
    );
    // Full, but with somebody's computing.
    assert_judged(Limit::Unknown, &[], |_, receiver| {
        let core = &mut cores(receiver)[1];
        (core.user_s, core.idle_s) = (8.0, 0.0);
    });
}

#[test]
fn a_machine_without_a_free_cpu_is_the_cpu_of_the_side_that_used_more() {
    let fill = |side: &mut Observed| {
        for core in cores(side) {
            (core.user_s, core.idle_s) = (7.0, 0.0);
        }
    };
    assert_judged(
        Limit::SenderCpu,
        &["2 CPUs of the sender's machine"],
        |sender, receiver| {
            fill(sender);
            fill(receiver);
            sender.threads.system_s = 5.0;
        },
    );
    assert_judged(Limit::ReceiverCpu, &["100 % busy"], |sender, receiver| {
        fill(receiver);
        sender.threads.system_s = 5.0;
    });
}

#[test]
fn a_full_window_and_a_short_buffer_are_the_window() {
    assert_judged(
        Limit::Window,
        &["receiver's window", "77 %", "tcp_rmem"],
        |sender, _| {
            totals(sender).rwnd_limited_us = Some(30_000_000);
        },
    );
    assert_judged(Limit::Window, &["send buffer", "tcp_wmem"], |sender, _| {
        totals(sender).sndbuf_limited_us = Some(30_000_000);
    });
}

#[test]
fn datagrams_that_nobody_read_are_the_receivers_cpu() {
    let counter = |name: &str, grown: f64| Counter {
        source: "/proc/net/snmp Udp".to_owned(),
        name: name.to_owned(),
        before: Fact::Known(100.0),
        after: Fact::Known(100.0 + grown),
    };
    let dropped = |drops: f64| {
        move |sender: &mut Observed, receiver: &mut Observed| {
            sender.flows = Fact::unavailable("TCP_INFO of a flow: Operation not supported");
            sender.threads.busiest_thread = 0.99;
            receiver.counters = vec![counter("InDatagrams", 5e5), counter("RcvbufErrors", drops)];
        }
    };
    assert_judged(
        Limit::ReceiverCpu,
        &["50 % of the datagrams", "rmem_max"],
        dropped(5e5),
    );
    assert_judged(Limit::SenderCpu, &["99 %"], dropped(10.0));
}

#[test]
fn losses_and_long_round_trips_are_the_link() {
    assert_judged(Limit::Link, &["0.50 %", "sent again"], |sender, _| {
        totals(sender).retransmits = Some(5000);
    });
    assert_judged(Limit::Link, &["21.00 ms", "0.06 ms"], |sender, _| {
        totals(sender).mean_rtt_us = Some(21_000.0);
    });
}

#[test]
fn a_verdict_reads_as_a_sentence_and_comes_back_from_json() {
    let verdict = judged(|sender, _| sender.threads.busiest_thread = 0.97);
    assert!(
        verdict
            .to_string()
            .starts_with("sender CPU: the sender's busiest thread")
    );
    let json = serde_json::to_value(&verdict).expect("it serialises");
    assert_eq!(json["limited_by"], "sender_cpu");
    assert_eq!(
        serde_json::from_value::<Verdict>(json).expect("it comes back"),
        verdict
    );
}

#[test]
fn a_schedule_that_was_reached_is_what_limits_and_its_spinning_is_not() {
    let mut sender = side();
    sender.threads.busiest_thread = 1.0;
    sender.pace = Some(Pace {
        bytes_per_s: 1e6,
        kept: true,
    });
    let verdict = judge(["sender", "receiver"], &sender, &side(), 0.99e6);
    assert_eq!(verdict.limited_by, Limit::Pacing, "{verdict}");
    assert!(
        verdict.evidence.contains("7.9 Mbit/s arrived of the 8.0"),
        "{verdict}"
    );
    let verdict = judge(["sender", "receiver"], &sender, &side(), 0.5e6);
    assert_ne!(verdict.limited_by, Limit::SenderCpu, "{verdict}");
    sender.pace = Some(Pace {
        bytes_per_s: 1e6,
        kept: false,
    });
    for goodput in [0.5e6, 0.95e6] {
        let verdict = judge(["sender", "receiver"], &sender, &side(), goodput);
        assert_eq!(verdict.limited_by, Limit::SenderCpu, "{verdict}");
    }
}
