//! The table of cases: what `net-bench` can measure, in the order in which it is shown. It drives
//! the subcommands, their help, `list`, and the test that runs every case once.

use crate::client::{self, Family, Finished, Place};
use crate::control::message::{Leg, Role};
use crate::metrics;
use crate::observe::landing;
use crate::observe::report::report;
use crate::rdma::{fabric, verbs};
use crate::side;
use crate::spec::{
    CrrArgs, FabricAtomicArgs, FabricPingpongArgs, FabricRmaArgs, FabricStreamArgs, IncastArgs,
    NullArgs, PpsArgs, Spec, StreamArgs, TcpRrArgs, UdpRrArgs, UdpStreamArgs, UnderLoadArgs,
    UnixRrArgs, VerbsAtomicArgs, VerbsReadArgs, VerbsSendArgs, VerbsWriteArgs,
};
use crate::test::{Shape, Test};
use crate::transport::null::NullFlow;
use crate::workload::rr::{Requester, Sizes};
use crate::workload::{Shared, Vitals};
use anyhow::Context;
use clap::{ArgMatches, Args, Command, FromArgMatches};
use reports::case::{Availability, Entry};
use reports::measure::{self, Observer};
use reports::model::{Measurement, Unit};
use std::net::{Ipv4Addr, TcpListener, UdpSocket};
use std::slice;

/// A row of the table: the case, and the options it takes.
pub struct Row {
    /// The case.
    pub entry: Entry<Spec>,
    /// Adds its options to a subcommand.
    pub options: fn(Command) -> Command,
    /// Turns parsed options into its spec.
    pub spec: fn(&ArgMatches) -> anyhow::Result<Spec>,
}

/// All cases.
pub const CASES: &[Row] = &[
    Row {
        entry: Entry {
            name: "null",
            summary: "Cost of the measuring loop itself: requests are echoed in memory",
            definition: "One operation builds a request, has a transport without a kernel echo its \
                first 8 bytes, checks the response, and stamps the time once. operation_ns runs \
                from stamp to stamp: it is the floor under every figure of this program. No peer \
                publishes its own.",
            probe: || Availability::Available,
            run: run_null,
        },
        options: NullArgs::augment_args,
        spec: |matches| NullArgs::from_arg_matches(matches)?.spec(),
    },
    Row {
        entry: Entry {
            name: "tcp_rr",
            summary: "Round trips over TCP: latency and transactions per second",
            definition: "One transaction sends a request and receives its response, one \
                outstanding per flow, TCP_NODELAY set. round_trip_ns runs from the end of one \
                transaction to the end of the next, as the client sees it. Request and response \
                have 1 byte by default, as netperf's TCP_RR, and transactions_per_s is netperf's \
                transaction rate. half_round_trip_ns is the mean of half a round trip, which is \
                sockperf's ping-pong latency; sockperf's default message has 14 bytes. One flow \
                per thread uses blocking calls, several use epoll. With --rate the loop is open: \
                requests go by a schedule, several may be outstanding on a flow, and round_trip_ns \
                runs from when a request was meant to go (as sockperf's under-load does not, and \
                wrk2 does); a schedule is missed when a request goes after the next was due.",
            probe: probe_tcp,
            run: run_rr,
        },
        options: TcpRrArgs::augment_args,
        spec: |matches| TcpRrArgs::from_arg_matches(matches)?.spec(),
    },
    Row {
        entry: Entry {
            name: "udp_rr",
            summary: "Round trips over UDP: latency and transactions per second",
            definition: "tcp_rr with one datagram per request and per response: netperf's UDP_RR, \
                sockperf's ping-pong. A request without a response within a second counts as \
                unanswered and is in no percentile; the next one follows. Responses carry the \
                number of their request, as far as they have room for it.",
            probe: probe_udp,
            run: run_rr,
        },
        options: UdpRrArgs::augment_args,
        spec: |matches| UdpRrArgs::from_arg_matches(matches)?.spec(),
    },
    Row {
        entry: Entry {
            name: "unix_rr",
            summary: "Round trips over a Unix socket: the floor under every network's",
            definition: "tcp_rr over stream sockets of the Unix domain, between two processes or \
                threads of this machine: system calls, copies and wake-ups, without a network \
                stack. No peer measures it.",
            probe: || Availability::Available,
            run: run_rr,
        },
        options: UnixRrArgs::augment_args,
        spec: |matches| UnixRrArgs::from_arg_matches(matches)?.spec(),
    },
    Row {
        entry: Entry {
            name: "tcp_crr",
            summary: "A TCP connection per transaction: connect, request, response, close",
            definition: "transaction_ns runs from the end of one transaction to the end of the \
                next: a new socket, connect, request, response and the server's end of the \
                connection, which the client waits for and then closes; connect_ns is the first \
                part of it. The server closes first, unlike netperf's TCP_CRR, so that ports do \
                not run out; netperf's transaction rate is transactions_per_s. One connection at \
                a time per thread. TCP_NODELAY is left alone: there is one send.",
            probe: probe_tcp,
            run: run_crr,
        },
        options: CrrArgs::augment_args,
        spec: |matches| CrrArgs::from_arg_matches(matches)?.spec(),
    },
    Row {
        entry: Entry {
            name: "tcp_stream",
            summary: "Bulk transfer over TCP: goodput at the receiver",
            definition: "The sender sends buffers of --length bytes back to back, the receiver \
                reads up to as many; Nagle's algorithm is on, as the peers' streams have it. \
                bandwidth_bytes_per_s is the receiver's: payload bytes that \
                it read in its own window, from the end of its warm-up (counted from the first \
                byte) to the end of the stream, over the length of that window; iperf3's \
                receiver line with -O. With --bidir it is the sum of both directions. \
                sender_bandwidth_bytes_per_s counts what the sender handed to the kernel and may \
                be higher. --engine and --receive choose system calls, each by itself; what is \
                received without being looked at is only counted. uring hands chains of sends, as \
                many as make 1 MiB and at most 64, to io_uring with one call each; --receive uring \
                keeps one request armed that takes buffers of --length bytes from a ring. CPU \
                seconds are those of each side's threads in its window, user and kernel. With \
                --bitrate or --rate each send waits until it is due: offered_per_s sends, of which \
                the kernel took achieved_ratio; one that was late is made up for, and the sender \
                spins before it is due, so that its CPU seconds are no cost of sending. With \
                --busy-poll both sides ask in place of sleeping: that is what the way carries when \
                nobody has to be woken, at two whole CPUs per flow. An \
                operation is one read. One flow per thread uses blocking calls, \
                several use epoll.",
            probe: probe_tcp,
            run: run_stream,
        },
        options: StreamArgs::augment_args,
        spec: |matches| StreamArgs::from_arg_matches(matches)?.spec(),
    },
    Row {
        entry: Entry {
            name: "udp_stream",
            summary: "Numbered datagrams as fast as they go: goodput, loss, reordering",
            definition: "The sender sends datagrams of --length bytes back to back, as iperf3 -u \
                -b 0, or at --bitrate or --rate, as iperf3 -u -b: then each call waits until its \
                first datagram is due, a late one is made up for, offered_per_s is the schedule's \
                datagrams and achieved_ratio the share that the kernel took; loss is of what was \
                sent. packets_per_s and bandwidth_bytes_per_s are the receiver's: datagrams that \
                came for the first time in its own window, and their payload. loss_ratio and the \
                counts are over the whole stream, warm-up included: what was sent and never came; \
                duplicates; reordered as RFC 4737 has it; late is more than 16384 behind, and also \
                counted as lost. sender_packets_per_s is what the kernel took. --engine and --receive \
                choose system calls and offloads, each by itself; uring hands 64 sends to io_uring \
                with one call, --receive uring keeps one request armed; txtime hands datagrams over \
                2 ms before they are to go and leaves the schedule to the queueing discipline fq, \
                without which it is unavailable; datagrams are numbered and \
                counted one by one in all of them. Each address proves itself with a cookie before \
                anything is sent to it.",
            probe: probe_udp,
            run: run_stream,
        },
        options: UdpStreamArgs::augment_args,
        spec: |matches| UdpStreamArgs::from_arg_matches(matches)?.spec(),
    },
    Row {
        entry: Entry {
            name: "pps",
            summary: "Small datagrams as fast as they go: packets per second",
            definition: "udp_stream with the smallest datagrams that fill an Ethernet frame; \
                packets_per_s at the receiver is the result, by default with sendmmsg and \
                recvmmsg. sockperf's throughput test counts what its sender sends: compare that \
                with sender_packets_per_s.",
            probe: probe_udp,
            run: run_pps,
        },
        options: PpsArgs::augment_args,
        spec: |matches| PpsArgs::from_arg_matches(matches)?.spec(),
    },
    Row {
        entry: Entry {
            name: "under_load",
            summary: "Round trips beside bulk streams: idle, loaded, and the difference",
            definition: "First a flow of tcp_rr, or udp_rr with --probe udp, alone \
                (idle_round_trip_ns), for --time; then the same beside --flows streams of \
                tcp_stream, or udp_stream with --load udp (loaded_round_trip_ns). \
                added_round_trip_ns is the difference of the percentiles: the queue that the \
                streams build. TCP's congestion control lets the queue at a bottleneck rise and \
                fall; datagrams keep it full, at the price of lost requests: those have no \
                latency, and unanswered_requests counts them. Percentiles, rates and CPU of the \
                probe are of the loaded part. With --rate the probe keeps a schedule in both. \
                sockperf's under-load loads the way with its own messages instead; \
                half_round_trip_ns is in its terms.",
            probe: probe_tcp,
            run: run_under_load,
        },
        options: UnderLoadArgs::augment_args,
        spec: |matches| UnderLoadArgs::from_arg_matches(matches)?.spec(),
    },
    Row {
        entry: Entry {
            name: "incast",
            summary: "Many flows ask one server at once: time until the last block has come",
            definition: "In a round the client sends a request of 8 bytes on each of --flows \
                connections, back to back from one thread (request_spread_ns is how long that \
                took), and the server's threads answer each with a block of --length bytes; the \
                next round begins when the last block of this one has arrived. round_ns runs from \
                before the first request to the last byte of the last block, block_ns to the last \
                byte of each flow's. bandwidth_bytes_per_s is goodput at the client: bytes of \
                blocks over the length of the window. fairness_ratio is Jain's index of the flows' \
                rates, each the flow's bytes over the sum of its block_ns, warm-up included. \
                retransmits are those of the server. An operation is a round. It is the \
                synchronized read of the incast papers (Phanishayee et al., FAST 2008) with one \
                machine for all servers; no packaged peer measures it.",
            probe: probe_tcp,
            run: run_incast,
        },
        options: IncastArgs::augment_args,
        spec: |matches| IncastArgs::from_arg_matches(matches)?.spec(),
    },
    Row {
        entry: Entry {
            name: "verbs_send",
            summary: "Messages over RDMA verbs: latency, bandwidth, message rate",
            definition: "--measure latency: a message there and one back on one queue pair after the \
                other; half_round_trip_ns is half of that time, from answer to answer, as \
                perftest's ib_send_lat. --measure bandwidth: a sliding window of --depth messages on \
                each queue pair; bandwidth_bytes_per_s is what the receiver got in its own window, \
                and with --mode compat what the sender's completions say, from the first post to the \
                last completion, which is perftest's ib_send_bw (its \"MB/sec\" is 2^20 bytes). \
                --measure rate is the same for short messages. With --mode compat every message of \
                a latency test is signalled and its completion awaited, and the columns named \
                perftest follow its arithmetic: the two largest samples are dropped, and deviations \
                cut to whole microseconds. With --mode fast few are signalled, what fits goes \
                inline, and a receive is posted while the answer is on its way. Messages carry \
                their number, which the receiver checks; --verify compares every byte. A run whose \
                device counters do not account for its bytes is invalid.",
            probe: verbs::probe,
            run: run_rdma,
        },
        options: VerbsSendArgs::augment_args,
        spec: |matches| VerbsSendArgs::from_arg_matches(matches)?.spec(),
    },
    Row {
        entry: Entry {
            name: "verbs_write",
            summary: "Writes into the other side's memory over RDMA verbs",
            definition: "verbs_send with RDMA writes. In a latency test each side watches the last \
                byte of its own memory and answers with a write, as perftest's ib_write_lat; with \
                --operation write_data the write brings immediate data, which completes a receive. \
                In a bandwidth test the writer's completions are counted, as ib_write_bw does, and \
                the other side looks at its memory at the end.",
            probe: verbs::probe,
            run: run_rdma,
        },
        options: VerbsWriteArgs::augment_args,
        spec: |matches| VerbsWriteArgs::from_arg_matches(matches)?.spec(),
    },
    Row {
        entry: Entry {
            name: "verbs_read",
            summary: "Reads of the other side's memory over RDMA verbs",
            definition: "One RDMA read after the other: latency_ns runs from completion to \
                completion, whole and not halved, as perftest's ib_read_lat; with --measure \
                bandwidth a window of them, as ib_read_bw. What is read is compared with what the \
                other side's memory holds.",
            probe: verbs::probe,
            run: run_rdma,
        },
        options: VerbsReadArgs::augment_args,
        spec: |matches| VerbsReadArgs::from_arg_matches(matches)?.spec(),
    },
    Row {
        entry: Entry {
            name: "verbs_atomic",
            summary: "Atomic operations on the other side's memory over RDMA verbs",
            definition: "Fetch-and-add or compare-and-swap on 8 bytes of the other side's memory, a \
                counter for each queue pair: latency_ns from completion to completion, as \
                perftest's ib_atomic_lat, or operations_per_s of a window, as ib_atomic_bw. What \
                each returns, and what the counters hold at the end, is checked.",
            probe: verbs::probe,
            run: run_rdma,
        },
        options: VerbsAtomicArgs::augment_args,
        spec: |matches| VerbsAtomicArgs::from_arg_matches(matches)?.spec(),
    },
    Row {
        entry: Entry {
            name: "fabric_pingpong",
            summary: "Messages there and back over libfabric: half round trip",
            definition: "verbs_send's latency test over any provider of libfabric (-p tcp, \
                \"tcp;ofi_rxm\", shm, verbs, efa): fi_pingpong and fabtests' fi_rdm_pingpong, which \
                print the mean of half a round trip; --tagged is fi_rdm_tagged_pingpong. Messages \
                up to the provider's inject size are injected, as fabtests does. With --operations \
                and no --omit the first 0.05 s are a warm-up, in which providers connect; fabtests \
                leaves out 10 iterations, fi_pingpong none of its 10, and the bandwidth of that counts \
                both directions.",
            probe: fabric::probe,
            run: run_rdma,
        },
        options: |command| fabric_options(FabricPingpongArgs::augment_args(command)),
        spec: |matches| FabricPingpongArgs::from_arg_matches(matches)?.spec(),
    },
    Row {
        entry: Entry {
            name: "fabric_stream",
            summary: "Messages over libfabric as fast as they go: bandwidth, message rate",
            definition: "A sliding window of --depth messages on each endpoint; \
                bandwidth_bytes_per_s is what the receiver got in its own window. fabtests' \
                fi_rdm_bw (fi_msg_bw) stops for completions and an answer after every window of 64 \
                messages, which this case does not; with --mode compat it is the sender's time to \
                its last completion that counts.",
            probe: fabric::probe,
            run: run_rdma,
        },
        options: |command| fabric_options(FabricStreamArgs::augment_args(command)),
        spec: |matches| FabricStreamArgs::from_arg_matches(matches)?.spec(),
    },
    Row {
        entry: Entry {
            name: "fabric_rma",
            summary: "Writes and reads of the other side's memory over libfabric",
            definition: "verbs_write and verbs_read over any provider that has remote memory access: \
                fabtests' fi_rma_pingpong and fi_rma_bw with -o write, writedata or read. Latency of \
                writes is half_round_trip_ns, of reads latency_ns.",
            probe: fabric::probe,
            run: run_rdma,
        },
        options: |command| fabric_options(FabricRmaArgs::augment_args(command)),
        spec: |matches| FabricRmaArgs::from_arg_matches(matches)?.spec(),
    },
    Row {
        entry: Entry {
            name: "fabric_atomic",
            summary: "Atomic operations on the other side's memory over libfabric",
            definition: "verbs_atomic over any provider that has atomic operations, be it in its \
                device or in software; no packaged peer times them so (fabtests' fi_rdm_atomic \
                times whole sets).",
            probe: fabric::probe,
            run: run_rdma,
        },
        options: |command| fabric_options(FabricAtomicArgs::augment_args(command)),
        spec: |matches| FabricAtomicArgs::from_arg_matches(matches)?.spec(),
    },
];

/// As `fabric_info` and libfabric's own tools have it, -p is the provider.
fn fabric_options(command: Command) -> Command {
    command.mut_arg("port", |port| port.short(None))
}

/// Whether this machine has TCP over loopback.
#[must_use]
pub fn probe_tcp() -> Availability {
    match TcpListener::bind((Ipv4Addr::LOCALHOST, 0)) {
        Ok(_) => Availability::Available,
        Err(error) => Availability::Unavailable {
            reason: format!("no TCP socket on 127.0.0.1: {error}; is the loopback interface up?"),
        },
    }
}

fn probe_udp() -> Availability {
    match UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)) {
        Ok(_) => Availability::Available,
        Err(error) => Availability::Unavailable {
            reason: format!("no UDP socket on 127.0.0.1: {error}; is the loopback interface up?"),
        },
    }
}

fn run_null(spec: &Spec, observer: &dyn Observer) -> anyhow::Result<Measurement> {
    let Shape::RequestResponse {
        request_bytes,
        response_bytes,
    } = spec.sockets()?.shape
    else {
        anyhow::bail!("the null case takes requests and responses");
    };
    let sizes = Sizes {
        request: request_bytes as usize,
        response: response_bytes as usize,
    };
    let count = spec.sockets()?.flows as usize;
    let shared = Shared::new(&Vitals::new(count), 0, count);
    let plan = side::plan(spec.sockets()?, Role::Request, count);
    let totals = measure::run(&plan, observer, |thread| {
        let flow = NullFlow::default();
        Ok(Box::new(Requester::new(
            flow,
            thread,
            sizes,
            shared.clone(),
        )))
    })?;
    Ok(metrics::null(&totals))
}

fn run_rr(spec: &Spec, observer: &dyn Observer) -> anyhow::Result<Measurement> {
    let finished = run_test(spec, observer)?;
    let measurement = metrics::request_response(spec.sockets()?, &finished, "round_trip_ns")?;
    Ok(with_observations(measurement, &finished))
}

fn run_stream(spec: &Spec, observer: &dyn Observer) -> anyhow::Result<Measurement> {
    let Shape::Stream { direction, .. } = spec.sockets()?.shape else {
        anyhow::bail!("the stream case takes a stream");
    };
    let finished = run_test(spec, observer)?;
    let measurement = metrics::stream(spec.sockets()?, &finished, direction)?;
    Ok(with_observations(measurement, &finished))
}

/// Adds what was behind the numbers.
fn with_observations(mut measurement: Measurement, finished: &Finished) -> Measurement {
    let ours: Vec<Leg> = finished.parts.iter().map(|part| part.leg()).collect();
    let remote = finished.host.is_some();
    report(&mut measurement, &ours, &finished.legs, remote);
    landing::report(&mut measurement, &finished.queues, &finished.legs);
    measurement
}

fn run_crr(spec: &Spec, observer: &dyn Observer) -> anyhow::Result<Measurement> {
    let finished = run_test(spec, observer)?;
    let measurement = metrics::request_response(spec.sockets()?, &finished, "transaction_ns")?;
    Ok(with_observations(measurement, &finished))
}

fn run_incast(spec: &Spec, observer: &dyn Observer) -> anyhow::Result<Measurement> {
    let finished = run_test(spec, observer)?;
    Ok(with_observations(metrics::incast(&finished)?, &finished))
}

/// The probe alone, then the probe beside the streams.
fn run_under_load(spec: &Spec, observer: &dyn Observer) -> anyhow::Result<Measurement> {
    let Shape::UnderLoad { direction, .. } = spec.sockets()?.shape else {
        anyhow::bail!("the case takes a probe and streams");
    };
    let parts = spec.sockets()?.parts();
    let [probe, load] = parts.as_slice() else {
        anyhow::bail!("a probe and its load are {} tests", parts.len());
    };
    let finished = run_with_server(spec, &[probe.clone(), spec.sockets()?.clone()], observer)?;
    let [idle, loaded] = finished.as_slice() else {
        anyhow::bail!("two tests gave {} results", finished.len());
    };
    let measurement = metrics::under_load((probe, load), idle, loaded, direction)?;
    Ok(with_observations(measurement, loaded))
}

fn run_rdma(spec: &Spec, observer: &dyn Observer) -> anyhow::Result<Measurement> {
    let test = spec.rdma()?;
    let place = spec.place.as_ref().context("the case needs a server")?;
    let finished = client::run_rdma(test, place, observer)?;
    if let Some(host) = &finished.host {
        spec.server_host.get_or_init(|| host.clone());
    }
    metrics::rdma(test, &finished)
}

/// A stream whose result is its rate of packets.
fn run_pps(spec: &Spec, observer: &dyn Observer) -> anyhow::Result<Measurement> {
    let mut measurement = run_stream(spec, observer)?;
    for metric in &mut measurement.metrics {
        metric.headline &= metric.unit != Unit::BytesPerSecond;
    }
    Ok(measurement)
}

fn run_test(spec: &Spec, observer: &dyn Observer) -> anyhow::Result<Finished> {
    let mut finished = run_with_server(spec, slice::from_ref(spec.sockets()?), observer)?;
    finished.pop().context("the test gave no result")
}

fn run_with_server(
    spec: &Spec,
    tests: &[Test],
    observer: &dyn Observer,
) -> anyhow::Result<Vec<Finished>> {
    let here = Place::InProcess {
        family: Family::Any,
    };
    let place = spec.place.as_ref().unwrap_or(&here);
    let finished = client::run(tests, place, observer)?;
    if let Some(host) = finished.first().and_then(|first| first.host.as_ref()) {
        spec.server_host.get_or_init(|| host.clone());
    }
    Ok(finished)
}
