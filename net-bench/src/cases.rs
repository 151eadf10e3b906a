//! The table of cases: what `net-bench` can measure, in the order in which it is shown. It drives
//! the subcommands, their help, `list`, and the test that runs every case once.

use crate::client::{self, Place};
use crate::control::message::{Leg, Role, Shape};
use crate::metrics;
use crate::observe::report::report;
use crate::side;
use crate::spec::{NullArgs, RrArgs, Spec, StreamArgs};
use crate::transport::null::NullFlow;
use crate::transport::tcp;
use crate::workload::rr::{Requester, Sizes};
use crate::workload::{Shared, Vitals};
use clap::{ArgMatches, Args, Command, FromArgMatches};
use reports::case::{Availability, Entry};
use reports::measure::{self, Observer};
use reports::model::{Fact, Measurement};
use std::net::{Ipv4Addr, TcpListener};

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
                per thread uses blocking calls, several use epoll.",
            probe: probe_tcp,
            run: run_tcp_rr,
        },
        options: RrArgs::augment_args,
        spec: |matches| RrArgs::from_arg_matches(matches)?.spec(),
    },
    Row {
        entry: Entry {
            name: "tcp_stream",
            summary: "Bulk transfer over TCP: goodput at the receiver",
            definition: "The sender sends buffers of --length bytes back to back, the receiver \
                reads up to as many. bandwidth_bytes_per_s is the receiver's: payload bytes that \
                it read in its own window, from the end of its warm-up (counted from the first \
                byte) to the end of the stream, over the length of that window; iperf3's \
                receiver line with -O. With --bidir it is the sum of both directions. \
                sender_bandwidth_bytes_per_s counts what the sender handed to the kernel and may \
                be higher. CPU seconds are those of each side's threads in its window, user and \
                kernel. An operation is one read. One flow per thread uses blocking calls, \
                several use epoll.",
            probe: probe_tcp,
            run: run_tcp_stream,
        },
        options: StreamArgs::augment_args,
        spec: |matches| StreamArgs::from_arg_matches(matches)?.spec(),
    },
];

fn probe_tcp() -> Availability {
    match TcpListener::bind((Ipv4Addr::LOCALHOST, 0)) {
        Ok(_) => Availability::Available,
        Err(error) => Availability::Unavailable {
            reason: format!("no TCP socket on 127.0.0.1: {error}; is the loopback interface up?"),
        },
    }
}

fn run_null(spec: &Spec, observer: &dyn Observer) -> anyhow::Result<Measurement> {
    let Shape::RequestResponse {
        request_bytes,
        response_bytes,
    } = spec.test.shape
    else {
        anyhow::bail!("the null case takes requests and responses");
    };
    let sizes = Sizes {
        request: request_bytes as usize,
        response: response_bytes as usize,
    };
    let count = spec.test.flows as usize;
    let shared = Shared::new(&Vitals::new(count), 0, count);
    let plan = side::plan(&spec.test, Role::Request);
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

fn run_tcp_rr(spec: &Spec, observer: &dyn Observer) -> anyhow::Result<Measurement> {
    let finished = run_with_server(spec, observer)?;
    let measurement = metrics::request_response(&finished)?;
    Ok(with_facts(measurement, &finished))
}

fn run_tcp_stream(spec: &Spec, observer: &dyn Observer) -> anyhow::Result<Measurement> {
    let Shape::Stream { direction, .. } = spec.test.shape else {
        anyhow::bail!("the stream case takes a stream");
    };
    let finished = run_with_server(spec, observer)?;
    let measurement = metrics::stream(&finished, direction)?;
    Ok(with_facts(measurement, &finished))
}

/// Adds what was observed, and what the kernel chose by itself. The latter is not a parameter: machines whose defaults differ may still
/// be compared, and then the difference is shown.
fn with_facts(mut measurement: Measurement, finished: &client::Finished) -> Measurement {
    let ours: Vec<Leg> = finished.parts.iter().map(|part| part.leg()).collect();
    let remote = finished.host.is_some();
    report(&mut measurement, &ours, &finished.legs, remote);
    let chosen = match tcp::default_congestion_control() {
        Fact::Known(name) => name.into(),
        Fact::Unavailable { unavailable } => serde_json::json!({ "unavailable": unavailable }),
    };
    let name = "congestion_control".to_owned();
    measurement.facts.insert(name, chosen);
    measurement
}

fn run_with_server(spec: &Spec, observer: &dyn Observer) -> anyhow::Result<client::Finished> {
    let place = spec.place.as_ref().unwrap_or(&Place::InProcess);
    let finished = client::run(&spec.test, place, observer)?;
    if let Some(host) = &finished.host {
        spec.server_host.get_or_init(|| host.clone());
    }
    Ok(finished)
}
