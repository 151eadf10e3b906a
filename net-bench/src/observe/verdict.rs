//! What limited a stream: a judgement over the observations of both sides and nothing else, so that
//! it can be repeated from the report and tested without a network.
//!
//! The causes are tried in the order of how directly they are seen. A shaper that counts what it
//! held back is a witness; a thread that used all of a CPU is one too; round trips that grew tell of
//! a full queue somewhere, but not where. Where nothing stands out the verdict is `unknown` and says
//! what was looked at.

use super::{Observed, Pace};
use serde::{Deserialize, Serialize};
use std::fmt;

/// Share of a CPU from which a thread counts as busy all the time.
const BUSY_THREAD: f64 = 0.9;
/// Share of its time from which a core counts as full.
const FULL_CORE: f64 = 0.95;
/// Share of a full core's time in interrupts from which they are what fills it.
const INTERRUPTED_CORE: f64 = 0.5;
/// Share of the sending time from which a window is what limits.
const WINDOW_SHARE: f64 = 0.5;
/// Share of the window in which flows must have had data to send for their waits to count.
const SENDING_SHARE: f64 = 0.5;
/// Share of a known rate from which it is what limits.
pub(crate) const NEAR_RATE: f64 = 0.9;
/// Share of segments sent again from which the path loses them.
const LOSS_SHARE: f64 = 1e-3;
/// How much longer than the shortest a round trip is behind a full queue: by this factor, and by
/// at least so many microseconds.
const QUEUED_FACTOR: f64 = 4.0;
const QUEUED_US: f64 = 1000.0;
/// Share of a shaper's packets that it held back from which it is what limits, where it does not
/// tell its rate.
const HELD_SHARE: f64 = 0.1;
/// Share of datagrams dropped for want of buffer from which their reader is too slow.
const OVERFLOW_SHARE: f64 = 0.01;

/// What held a stream back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Limit {
    /// The CPU of the sending side.
    SenderCpu,
    /// The CPU of the receiving side.
    ReceiverCpu,
    /// The receiver's window or the sender's buffer.
    Window,
    /// A pacing rate that was asked for.
    Pacing,
    /// A shaper: the instance's allowances, or a queueing discipline.
    Shaping,
    /// The link or the path behind it.
    Link,
    /// Nothing stands out.
    Unknown,
}

impl fmt::Display for Limit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::SenderCpu => "sender CPU",
            Self::ReceiverCpu => "receiver CPU",
            Self::Window => "window",
            Self::Pacing => "pacing",
            Self::Shaping => "shaping",
            Self::Link => "link",
            Self::Unknown => "unknown",
        })
    }
}

/// A judgement and what it rests on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Verdict {
    /// What held the stream back.
    pub limited_by: Limit,
    /// What was seen, with figures.
    pub evidence: String,
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.limited_by, self.evidence)
    }
}

/// Judges a test by what both of its sides observed. `goodput_bytes_per_s` is the receiver's;
/// `names` are what sender and receiver are called. Of requests and responses the client counts as
/// the sender.
#[must_use]
pub fn judge(
    names: [&str; 2],
    sender: &Observed,
    receiver: &Observed,
    goodput_bytes_per_s: f64,
) -> Verdict {
    let sides = Sides {
        names,
        sender,
        receiver,
        goodput_bytes_per_s,
    };
    let found = [
        (Limit::Shaping, sides.allowance()),
        (Limit::Shaping, sides.shaper()),
        (Limit::Pacing, sides.pacing()),
        (Limit::Link, sides.link()),
    ];
    let found = found
        .into_iter()
        .find_map(|(limit, evidence)| Some((limit, evidence?)));
    let found = found.or_else(|| Some((Limit::ReceiverCpu, sides.overflow()?)));
    let found = found.or_else(|| sides.threads());
    // A reader without a CPU of its own leaves the window full: the CPU is then the cause.
    let found = found.or_else(|| sides.cores());
    let found = found.or_else(|| Some((Limit::Window, sides.window()?)));
    let found = found.or_else(|| Some((Limit::Link, sides.path()?)));
    let (limited_by, evidence) = found.unwrap_or_else(|| (Limit::Unknown, sides.nothing()));
    Verdict {
        limited_by,
        evidence,
    }
}

struct Sides<'a> {
    names: [&'a str; 2],
    sender: &'a Observed,
    receiver: &'a Observed,
    goodput_bytes_per_s: f64,
}

fn percent(share: f64) -> String {
    format!("{:.0} %", share * 100.0)
}

impl Sides<'_> {
    fn both(&self) -> [(&str, Limit, &Observed); 2] {
        [
            (self.names[0], Limit::SenderCpu, self.sender),
            (self.names[1], Limit::ReceiverCpu, self.receiver),
        ]
    }

    /// An instance's allowance that was exceeded.
    fn allowance(&self) -> Option<String> {
        self.both().into_iter().find_map(|(name, _, side)| {
            let device = side.device.known()?;
            let grown = device.allowances.iter();
            let mut grown = grown.filter_map(|(name, grown)| Some((name, *grown.known()?)));
            let (counter, grown) = grown.find(|(_, grown)| *grown > 0.0)?;
            Some(format!(
                "{counter} grew by {grown} on the {name}'s {}: the instance held packets back",
                device.name
            ))
        })
    }

    /// A queueing discipline of the sender that held packets back all the time.
    fn shaper(&self) -> Option<String> {
        let device = self.sender.device.known()?;
        let mut qdiscs = device.qdiscs.known()?.iter();
        qdiscs.find_map(|qdisc| {
            let held = qdisc.overlimits.filter(|&held| held > 0)?;
            let (sent_bytes, packets) = (qdisc.sent_bytes?, qdisc.sent_packets?);
            let rate = sent_bytes as f64 / self.sender.elapsed_s;
            let detail = match qdisc.rate_bytes_per_s {
                Some(limit) if rate >= NEAR_RATE * limit as f64 => format!(
                    "let {:.1} Mbit/s through of the {:.1} that it is set to",
                    rate * 8e-6,
                    limit as f64 * 8e-6
                ),
                Some(_) => return None,
                None if f64::from(held) >= HELD_SHARE * packets as f64 => {
                    format!("let {:.1} Mbit/s through", rate * 8e-6)
                }
                None => return None,
            };
            Some(format!(
                "{} on the {}'s {} {detail}, held packets back {held} times and dropped {}",
                qdisc.kind,
                self.names[0],
                device.name,
                qdisc.drops.unwrap_or(0)
            ))
        })
    }

    /// A rate that the user asked for and the stream reached, by a schedule that was kept or by the
    /// kernel's pacing.
    fn pacing(&self) -> Option<String> {
        if let Some(pace) = self.sender.pace
            && pace.kept
            && self.goodput_bytes_per_s >= NEAR_RATE * pace.bytes_per_s
        {
            return Some(format!(
                "{:.1} Mbit/s arrived of the {:.1} that were asked for (--rate, --bitrate, --fq-rate)",
                self.goodput_bytes_per_s * 8e-6,
                pace.bytes_per_s * 8e-6
            ));
        }
        let limit = self.sender.flows.known()?.totals.max_pacing_bytes_per_s? as f64;
        (self.goodput_bytes_per_s >= NEAR_RATE * limit).then(|| {
            format!(
                "{:.1} Mbit/s arrived of the {:.1} that the flows are paced to",
                self.goodput_bytes_per_s * 8e-6,
                limit * 8e-6
            )
        })
    }

    /// A link whose rate the stream reached.
    fn link(&self) -> Option<String> {
        self.both().into_iter().find_map(|(name, _, side)| {
            let device = side.device.known()?;
            // veth claims 10 Gbit/s and has no rate; only what a driver of hardware says counts.
            if device.driver.known().is_some_and(|driver| driver == "veth") {
                return None;
            }
            let speed = *device.speed_bits_per_s.known()? as f64;
            let share = self.goodput_bytes_per_s * 8.0 / speed;
            (share >= NEAR_RATE).then(|| {
                format!(
                    "the payload alone is {} of the {:.0} Mbit/s of the {name}'s {}",
                    percent(share),
                    speed * 1e-6,
                    device.name
                )
            })
        })
    }

    /// Datagrams that came and that nobody read in time. Without TCP nobody tells the sender.
    fn overflow(&self) -> Option<String> {
        let grown = |names: &[&str]| -> f64 {
            let counters = self.receiver.counters.iter();
            let named = counters.filter(|counter| {
                counter.source.contains("snmp") && names.contains(&counter.name.as_str())
            });
            named.filter_map(super::grown).sum()
        };
        let dropped = grown(&["RcvbufErrors", "Udp6RcvbufErrors"]);
        let share = dropped / (dropped + grown(&["InDatagrams", "Udp6InDatagrams"]));
        (self.sender.flows.known().is_none() && share >= OVERFLOW_SHARE).then(|| {
            format!(
                "{} of the datagrams that reached the {} were dropped because nobody read them in \
                 time; a larger receive buffer (net.core.rmem_max) bridges short pauses only",
                percent(share),
                self.names[1]
            )
        })
    }

    /// A thread that was busy all the time; of two the busier.
    fn threads(&self) -> Option<(Limit, String)> {
        // A sender that keeps its schedule spins between sends, and is busy with nothing.
        let busiest = |side: &Observed| match side.pace {
            Some(Pace { kept: true, .. }) => 0.0,
            _ => side.threads.busiest_thread,
        };
        let [a, b] = self.both();
        let (first, other) = if busiest(a.2) >= busiest(b.2) {
            (a, b)
        } else {
            (b, a)
        };
        (busiest(first.2) >= BUSY_THREAD).then(|| {
            let evidence = format!(
                "the {}'s busiest thread used {} of a CPU, the {}'s {}",
                first.0,
                percent(busiest(first.2)),
                other.0,
                percent(busiest(other.2))
            );
            (first.1, evidence)
        })
    }

    /// What the flows waited for while they had data to send, as shares of that time.
    fn waits(&self) -> Option<(f64, f64)> {
        let totals = &self.sender.flows.known()?.totals;
        let busy = totals.busy_us? as f64;
        let sending = busy / (totals.flows as f64 * self.sender.elapsed_s * 1e6);
        (sending >= SENDING_SHARE).then_some(())?;
        let share = |part: Option<u64>| part.map_or(0.0, |part| part as f64 / busy);
        Some((
            share(totals.rwnd_limited_us),
            share(totals.sndbuf_limited_us),
        ))
    }

    /// A window that was full most of the time.
    fn window(&self) -> Option<String> {
        let (rwnd, sndbuf) = self.waits()?;
        if rwnd.max(sndbuf) < WINDOW_SHARE {
            return None;
        }
        Some(if rwnd >= sndbuf {
            format!(
                "the {}'s window was full for {} of the time with data to send; larger receive \
                 buffers (net.ipv4.tcp_rmem) or a faster reader would widen it",
                self.names[1],
                percent(rwnd)
            )
        } else {
            format!(
                "the send buffer was too small for {} of the time with data to send; \
                 net.ipv4.tcp_wmem sets its limit",
                percent(sndbuf)
            )
        })
    }

    /// A core full of interrupts, or a machine with no CPU left.
    fn cores(&self) -> Option<(Limit, String)> {
        let interrupted = self.both().into_iter().find_map(|(name, limit, side)| {
            let mut cores = side.cores.known()?.iter();
            let full = cores.find(|core| {
                core.busy() >= Some(FULL_CORE) && core.interrupted() >= Some(INTERRUPTED_CORE)
            })?;
            let evidence = format!(
                "CPU {} of the {name} was {} busy, {} of its time in interrupts and softirqs",
                full.cpu,
                percent(full.busy()?),
                percent(full.interrupted()?)
            );
            Some((limit, evidence))
        });
        interrupted.or_else(|| self.machine())
    }

    /// A machine all of whose CPUs are taken; of two sides on one machine the one that used more.
    fn machine(&self) -> Option<(Limit, String)> {
        let mut sides = self.both();
        sides.sort_by(|a, b| b.2.threads.total_s().total_cmp(&a.2.threads.total_s()));
        sides.into_iter().find_map(|(name, limit, side)| {
            let cores = side.cores.known()?;
            let busy: Option<Vec<f64>> = cores.iter().map(super::CoreUse::busy).collect();
            let busy = busy.filter(|busy| !busy.is_empty())?;
            let mean = busy.iter().sum::<f64>() / busy.len() as f64;
            (mean >= FULL_CORE).then(|| {
                let evidence = format!(
                    "the {} CPUs of the {name}'s machine were {} busy, with this test and others; \
                     its threads got {:.2} s of CPU in {:.2} s",
                    busy.len(),
                    percent(mean),
                    side.threads.total_s(),
                    side.elapsed_s
                );
                (limit, evidence)
            })
        })
    }

    /// A path that loses segments or makes them wait.
    fn path(&self) -> Option<String> {
        self.waits()?;
        let totals = &self.sender.flows.known()?.totals;
        let lost = match (totals.retransmits, totals.segments_out) {
            (Some(again), Some(sent)) if sent > 0 => again as f64 / sent as f64,
            _ => 0.0,
        };
        let (mean_us, min_us) = (totals.mean_rtt_us?, f64::from(totals.min_rtt_us?));
        let queued = mean_us >= QUEUED_FACTOR * min_us && mean_us - min_us >= QUEUED_US;
        if !queued && lost < LOSS_SHARE {
            return None;
        }
        Some(format!(
            "round trips took {:.2} ms where {:.2} ms are possible, and {:.2} % of the segments were \
             sent again: a queue in the path is full",
            mean_us / 1e3,
            min_us / 1e3,
            lost * 100.0
        ))
    }

    /// What was looked at in vain.
    fn nothing(&self) -> String {
        let busiest = |side: &Observed| percent(side.threads.busiest_thread);
        let mut seen = format!(
            "nothing stands out; busiest threads {} of a CPU ({}) and {} ({})",
            busiest(self.sender),
            self.names[0],
            busiest(self.receiver),
            self.names[1]
        );
        match self.waits() {
            _ if self.sender.flows.known().is_none() => {}
            Some((rwnd, sndbuf)) => seen.push_str(&format!(
                ", window full {} and send buffer short {} of the time",
                percent(rwnd),
                percent(sndbuf)
            )),
            None => seen.push_str(", flows without data to send most of the time"),
        }
        seen
    }
}

#[cfg(test)]
mod tests;
