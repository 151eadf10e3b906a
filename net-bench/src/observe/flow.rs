//! The life of the flows, as `TCP_INFO` tells it: before, after, and at every slice between.
//!
//! What is summed over all flows is summed here, on the side that has them, so that a thousand
//! flows do not have to travel one by one: the first [`FLOWS_KEPT`] keep their own record, and the
//! first few of those their course over time.

use bench_sys::TcpInfo;
use bench_sys::socket_state::{incoming_cpu, incoming_napi_id, mem_info};
use reports::model::Fact;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::io;
use std::os::fd::BorrowedFd;

/// Flows whose state before and after is kept one by one; the sums are over all.
pub const FLOWS_KEPT: usize = 64;

/// States of single flows that are kept over time. Beyond them every second moment is forgotten.
pub const COURSE_KEPT: usize = 1024;

/// Flows whose course over time is kept.
const FLOWS_WITH_COURSE: usize = 16;

/// What is told of a flow at one moment. `null` stands where the kernel does not tell.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FlowState {
    /// Smoothed round-trip time.
    pub rtt_us: Option<u32>,
    /// Its mean deviation.
    pub rttvar_us: Option<u32>,
    /// The smallest round-trip time so far.
    pub min_rtt_us: Option<u32>,
    /// Congestion window.
    pub cwnd_segments: Option<u32>,
    /// Maximum segment size.
    pub send_mss_bytes: Option<u32>,
    /// Segments sent again since the flow was made.
    pub retransmits: Option<u32>,
    /// The latest rate of delivery.
    pub delivery_bytes_per_s: Option<u64>,
    /// Whether that rate was bounded by the sender having nothing to send.
    pub delivery_app_limited: Option<bool>,
    /// Time with data to send since the flow was made.
    pub busy_us: Option<u64>,
    /// The part of it in which the peer's window was full.
    pub rwnd_limited_us: Option<u64>,
    /// The part of it in which the send buffer was too small.
    pub sndbuf_limited_us: Option<u64>,
    /// The limit of the sender's rate that the application set; `null` where it set none.
    pub max_pacing_bytes_per_s: Option<u64>,
    /// Payload bytes sent, those sent again included.
    pub sent_bytes: Option<u64>,
    /// Payload bytes received.
    pub received_bytes: Option<u64>,
    /// Segments sent.
    pub segments_out: Option<u32>,
    /// Segments received.
    pub segments_in: Option<u32>,
    /// Segments that came out of order.
    pub out_of_order_in: Option<u32>,
    /// Segments that the peer had already.
    pub dsack_duplicates: Option<u32>,
    /// The window that the peer grants.
    pub send_window_bytes: Option<u32>,
}

impl From<TcpInfo> for FlowState {
    fn from(info: TcpInfo) -> Self {
        Self {
            rtt_us: info.rtt_us,
            rttvar_us: info.rttvar_us,
            min_rtt_us: info.min_rtt_us,
            cwnd_segments: info.cwnd_segments,
            send_mss_bytes: info.send_mss_bytes,
            retransmits: info.retransmits,
            delivery_bytes_per_s: info.delivery_bytes_per_s,
            delivery_app_limited: info.delivery_app_limited,
            busy_us: info.busy_us,
            rwnd_limited_us: info.rwnd_limited_us,
            sndbuf_limited_us: info.sndbuf_limited_us,
            max_pacing_bytes_per_s: info.max_pacing_bytes_per_s,
            sent_bytes: info.sent_bytes,
            received_bytes: info.received_bytes,
            segments_out: info.segments_out,
            segments_in: info.segments_in,
            out_of_order_in: info.out_of_order_in,
            dsack_duplicates: info.dsack_duplicates,
            send_window_bytes: info.send_window_bytes,
        }
    }
}

/// One flow of a side.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FlowRecord {
    /// The CPU that last took in a packet of it.
    pub incoming_cpu: Option<u32>,
    /// The NAPI instance, one per receive queue, that it came through.
    pub incoming_napi_id: Option<u32>,
    /// The receive queue of that instance, where the driver ties them together.
    pub rx_queue: Option<u32>,
    /// The most bytes that may wait to be read, with the kernel's own share.
    pub receive_buffer_bytes: Option<u32>,
    /// The most bytes that may wait to be acknowledged, likewise.
    pub send_buffer_bytes: Option<u32>,
    /// Packets dropped because the receive buffer was full.
    pub drops: Option<u32>,
    /// When the window opened.
    pub before: FlowState,
    /// When it closed.
    pub after: FlowState,
}

/// The first flows at one moment.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Moment {
    /// Seconds since the window opened.
    pub t_s: f64,
    /// Those flows, in their order.
    pub flows: Vec<Course>,
}

/// What of a flow's state is kept over time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Course {
    /// As in [`FlowState`].
    pub rtt_us: Option<u32>,
    /// As in [`FlowState`].
    pub rttvar_us: Option<u32>,
    /// As in [`FlowState`].
    pub cwnd_segments: Option<u32>,
    /// As in [`FlowState`].
    pub retransmits: Option<u32>,
    /// As in [`FlowState`].
    pub delivery_bytes_per_s: Option<u64>,
    /// As in [`FlowState`].
    pub busy_us: Option<u64>,
    /// As in [`FlowState`].
    pub rwnd_limited_us: Option<u64>,
    /// As in [`FlowState`].
    pub sndbuf_limited_us: Option<u64>,
}

impl From<&FlowState> for Course {
    fn from(state: &FlowState) -> Self {
        Self {
            rtt_us: state.rtt_us,
            rttvar_us: state.rttvar_us,
            cwnd_segments: state.cwnd_segments,
            retransmits: state.retransmits,
            delivery_bytes_per_s: state.delivery_bytes_per_s,
            busy_us: state.busy_us,
            rwnd_limited_us: state.rwnd_limited_us,
            sndbuf_limited_us: state.sndbuf_limited_us,
        }
    }
}

/// All flows of a side together, over its window. A sum is `null` if any flow's part is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FlowTotals {
    /// How many they are.
    pub flows: u64,
    /// Segments sent, pure acknowledgements included.
    pub segments_out: Option<u64>,
    /// Segments received, likewise.
    pub segments_in: Option<u64>,
    /// Segments sent again.
    pub retransmits: Option<u64>,
    /// Segments that came out of order.
    pub out_of_order_in: Option<u64>,
    /// Payload bytes sent.
    pub sent_bytes: Option<u64>,
    /// Payload bytes received.
    pub received_bytes: Option<u64>,
    /// Time with data to send, added up over the flows.
    pub busy_us: Option<u64>,
    /// Time in which the peer's window was full, likewise.
    pub rwnd_limited_us: Option<u64>,
    /// Time in which the send buffer was too small, likewise.
    pub sndbuf_limited_us: Option<u64>,
    /// The mean of all round-trip times seen at the slices.
    pub mean_rtt_us: Option<f64>,
    /// The smallest round-trip time of any flow.
    pub min_rtt_us: Option<u32>,
    /// The mean congestion window, likewise.
    pub mean_cwnd_segments: Option<f64>,
    /// The limits that the application set for the flows, added up; `null` if a flow has none.
    pub max_pacing_bytes_per_s: Option<u64>,
}

/// A mean over whatever was known.
#[derive(Debug, Default)]
struct Mean {
    sum: f64,
    count: u32,
}

impl Mean {
    fn add(&mut self, value: Option<u32>) {
        if let Some(value) = value {
            self.sum += f64::from(value);
            self.count += 1;
        }
    }

    fn value(&self) -> Option<f64> {
        (self.count > 0).then(|| self.sum / f64::from(self.count))
    }
}

/// The flows of a side under observation.
#[derive(Debug)]
pub(super) struct Flows<'a> {
    sockets: Vec<BorrowedFd<'a>>,
    before: Vec<FlowState>,
    course: Vec<Moment>,
    /// Of so many moments one is kept.
    stride: usize,
    seen: usize,
    rtt: Mean,
    cwnd: Mean,
}

/// What became of the flows.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FlowsSeen {
    /// All of them together.
    pub totals: FlowTotals,
    /// The first of them, one by one.
    pub flows: Vec<FlowRecord>,
    /// The first few over time, at the ends of the slices.
    pub course: Vec<Moment>,
}

impl<'a> Flows<'a> {
    /// Starts to observe.
    ///
    /// # Errors
    /// The flows are none of TCP's.
    pub(super) fn start(sockets: Vec<BorrowedFd<'a>>) -> io::Result<Self> {
        let before = states(&sockets)?;
        Ok(Self {
            sockets,
            before,
            course: Vec::new(),
            stride: 1,
            seen: 0,
            rtt: Mean::default(),
            cwnd: Mean::default(),
        })
    }

    /// Notes that the window opens.
    pub(super) fn open(&mut self) {
        if let Ok(states) = states(&self.sockets) {
            self.before = states;
        }
        self.course.clear();
        (self.rtt, self.cwnd) = (Mean::default(), Mean::default());
    }

    /// Notes the flows at the end of a slice.
    pub(super) fn look(&mut self, t_s: f64) {
        let Ok(states) = states(&self.sockets) else {
            return;
        };
        for state in &states {
            self.rtt.add(state.rtt_us);
            self.cwnd.add(state.cwnd_segments);
        }
        self.keep(t_s, &states);
    }

    fn keep(&mut self, t_s: f64, states: &[FlowState]) {
        let kept = states.len().min(FLOWS_WITH_COURSE);
        self.seen += 1;
        if !self.seen.is_multiple_of(self.stride) {
            return;
        }
        self.course.push(Moment {
            t_s,
            flows: states[..kept].iter().map(Course::from).collect(),
        });
        if self.course.len() * kept > COURSE_KEPT {
            // Those at even places are the ones that the doubled stride would have kept.
            let mut place = 0;
            self.course.retain(|_| {
                place += 1;
                place % 2 == 0
            });
            self.stride *= 2;
        }
    }

    /// Notes that the window is closed. `queues` are the receive queues of the device's NAPI
    /// instances.
    pub(super) fn close(mut self, queues: &BTreeMap<u32, u32>) -> Fact<FlowsSeen> {
        let after = match states(&self.sockets) {
            Ok(after) => after,
            Err(error) => return Fact::unavailable(format!("TCP_INFO of a flow: {error}")),
        };
        if self.rtt.count == 0 {
            after.iter().for_each(|state| {
                self.rtt.add(state.rtt_us);
                self.cwnd.add(state.cwnd_segments);
            });
        }
        let pairs = self.before.iter().zip(&after);
        let totals = FlowTotals {
            mean_rtt_us: self.rtt.value(),
            mean_cwnd_segments: self.cwnd.value(),
            ..totals(pairs.clone())
        };
        let flows = pairs.zip(&self.sockets).take(FLOWS_KEPT);
        Fact::Known(FlowsSeen {
            totals,
            flows: flows
                .map(|((before, after), socket)| record(socket, queues, *before, *after))
                .collect(),
            course: self.course,
        })
    }
}

fn record(
    socket: &BorrowedFd<'_>,
    queues: &BTreeMap<u32, u32>,
    before: FlowState,
    after: FlowState,
) -> FlowRecord {
    let memory = mem_info(socket).ok();
    let napi_id = incoming_napi_id(socket).ok().flatten();
    FlowRecord {
        incoming_cpu: incoming_cpu(socket).ok().flatten(),
        incoming_napi_id: napi_id,
        rx_queue: napi_id.and_then(|id| queues.get(&id)).copied(),
        receive_buffer_bytes: memory.map(|memory| memory.receive_buffer_bytes),
        send_buffer_bytes: memory.map(|memory| memory.send_buffer_bytes),
        drops: memory.and_then(|memory| memory.drops),
        before,
        after,
    }
}

fn states(sockets: &[BorrowedFd<'_>]) -> io::Result<Vec<FlowState>> {
    let states = sockets
        .iter()
        .map(|socket| TcpInfo::of(socket).map(Into::into));
    states.collect()
}

/// What happened between two moments, over all flows.
fn totals<'a>(pairs: impl Iterator<Item = (&'a FlowState, &'a FlowState)> + Clone) -> FlowTotals {
    type Pair<'a> = (&'a FlowState, &'a FlowState);
    // The kernel's counters of 32 bits wrap; a window that moves 2³² segments of a flow does not
    // end within a day.
    let words = |field: fn(&FlowState) -> Option<u32>| {
        let grown =
            |(before, after): Pair<'_>| Some(u64::from(field(after)?.wrapping_sub(field(before)?)));
        pairs.clone().map(grown).sum::<Option<u64>>()
    };
    let longs = |field: fn(&FlowState) -> Option<u64>| {
        let grown = |(before, after): Pair<'_>| Some(field(after)?.saturating_sub(field(before)?));
        pairs.clone().map(grown).sum::<Option<u64>>()
    };
    let limits = pairs.clone().map(|(_, after)| after.max_pacing_bytes_per_s);
    FlowTotals {
        flows: pairs.clone().count() as u64,
        segments_out: words(|state| state.segments_out),
        segments_in: words(|state| state.segments_in),
        retransmits: words(|state| state.retransmits),
        out_of_order_in: words(|state| state.out_of_order_in),
        sent_bytes: longs(|state| state.sent_bytes),
        received_bytes: longs(|state| state.received_bytes),
        busy_us: longs(|state| state.busy_us),
        rwnd_limited_us: longs(|state| state.rwnd_limited_us),
        sndbuf_limited_us: longs(|state| state.sndbuf_limited_us),
        min_rtt_us: pairs
            .clone()
            .filter_map(|(_, after)| after.min_rtt_us)
            .min(),
        max_pacing_bytes_per_s: limits.sum(),
        mean_rtt_us: None,
        mean_cwnd_segments: None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Write};
    use std::net::{TcpListener, TcpStream};
    use std::os::fd::AsFd;

    #[test]
    fn what_a_flow_did_in_the_window_is_the_difference() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("loopback");
        let mut client = TcpStream::connect(listener.local_addr().expect("bound")).expect("a flow");
        let (mut server, _) = listener.accept().expect("a flow");
        let socket = server.try_clone().expect("a duplicate");
        let mut exchange = |bytes: usize| {
            client.write_all(&vec![1; bytes]).expect("it sends");
            server.read_exact(&mut vec![0; bytes]).expect("it arrives");
        };
        exchange(5000);
        let mut flows = Flows::start(vec![socket.as_fd()]).expect("TCP");
        exchange(300);
        flows.open();
        exchange(7000);
        flows.look(1.0);
        let seen = flows.close(&BTreeMap::new());
        let seen = seen.known().expect("TCP");
        assert_eq!(seen.totals.received_bytes, Some(7000));
        assert_eq!(seen.totals.flows, 1);
        assert!(seen.totals.segments_in > Some(0), "{seen:?}");
        assert_eq!(seen.course.len(), 1);
        assert_eq!(seen.flows[0].after.received_bytes, Some(12_300));
    }

    #[test]
    fn counters_wrap_and_what_one_flow_does_not_tell_nobody_sums() {
        let state = |retransmits, busy_us| FlowState {
            retransmits,
            busy_us,
            ..FlowState::default()
        };
        let before = [state(Some(u32::MAX), Some(5)), state(Some(1), None)];
        let after = [state(Some(1), Some(9)), state(Some(1), None)];
        let totals = totals(before.iter().zip(&after));
        assert_eq!(totals.retransmits, Some(2));
        assert_eq!(totals.busy_us, None);
        assert_eq!(totals.max_pacing_bytes_per_s, None);
    }

    #[test]
    fn a_long_course_is_thinned_evenly() {
        let mut flows = Flows::start(Vec::new()).expect("no flows");
        let states = [FlowState::default(); 40];
        for moment in 1..=1000_u32 {
            flows.keep(f64::from(moment), &states);
        }
        assert!(flows.course.len() * FLOWS_WITH_COURSE <= COURSE_KEPT);
        let steps = flows
            .course
            .windows(2)
            .map(|pair| pair[1].t_s - pair[0].t_s);
        let stride = flows.stride as f64;
        assert!(steps.clone().all(|step| step == stride), "{stride}");
        assert!(flows.course.len() * FLOWS_WITH_COURSE > COURSE_KEPT / 2 - 64);
    }
}
