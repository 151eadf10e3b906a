//! Kernels between two ranks, or between pairs of them.

use super::{Kind, Row, SizeRule, Timed};
use crate::kernel::Timer;
use crate::kernel::pt2pt::{
    self, BidirectionalStream, MultiPingPong, MultiStream, PingPong, Stream,
};
use crate::spec::Choice;

/// The calls of a ping-pong.
const MESSAGE_CALLS: &[Choice] = &[Choice::Words {
    name: "calls",
    help: "MPI_Send and MPI_Recv, MPI_Isend and MPI_Irecv each with MPI_Wait, or persistent requests \
           (MPI_Start, MPI_Wait)",
    values: &["blocking", "nonblocking", "persistent"],
    default: "blocking",
}];

/// The calls of a window.
const WINDOW_CALLS: &[Choice] = &[Choice::Words {
    name: "calls",
    help: "MPI_Isend and MPI_Irecv, or persistent requests (MPI_Startall)",
    values: &["nonblocking", "persistent"],
    default: "nonblocking",
}];

const PING_PONG_SIZES: Option<SizeRule> = Some(SizeRule {
    default: "1:4M",
    default_min: 1,
    least: 0,
});

const WINDOW_SIZES: Option<SizeRule> = Some(SizeRule {
    default: "1:4M",
    default_min: 1,
    least: 1,
});

const PING_PONGS_COMPARED: &str = "lengths of messages and whole messages compared byte by byte, \
    before and after the timed iterations and of the last of these";

const WINDOWS_COMPARED: &str = "messages checked: the lengths of all in untimed windows and every \
    byte of the last of each window, before and after the timed iterations and of the last of these";

/// In the order in which users see them.
pub const ROWS: &[Row] = &[
    Row {
        name: "latency",
        summary: "half round trip of a ping-pong between ranks 0 and 1",
        definition: "Ranks 0 and 1 exchange messages of one size in turns (standard mode, MPI_UINT8_T, \
            one page-aligned buffer for each direction), with MPI_Send and MPI_Recv, with \
            MPI_Isend and MPI_Irecv each followed by MPI_Wait, or with persistent requests, \
            MPI_Start and MPI_Wait. latency_ns is half the time between two successive returns of \
            rank 0 from a send: half a round trip, one value per iteration, stamped while the \
            message is on its way. Further ranks wait in an MPI_Allreduce. The column of OSU \
            (osu_latency, osu_latency_persistent) and IMB (PingPong) is the mean, the time of the \
            whole loop / 2n. Each batch of iterations begins with one round trip that is not \
            timed.",
        sizes: PING_PONG_SIZES,
        iterations: "10000:1000",
        warmup: "100:10",
        window: None,
        choices: MESSAGE_CALLS,
        synchronised: false,
        min_ranks: 2,
        pairs: false,
        kind: Kind::Timed(Timed {
            timer: Timer::RankZero { divisor: 2 },
            buffers: 2,
            histogram: "latency_ns",
            verified: PING_PONGS_COMPARED,
            build: |setting| PingPong::build(setting),
            metrics: pt2pt::ping_pong_metrics,
            work: pt2pt::ping_pong_work,
        }),
    },
    Row {
        name: "bw",
        summary: "bandwidth of windows of messages from rank 0 to rank 1",
        definition: "Rank 0 posts a window of W sends and waits for all (MPI_Waitall), rank 1 posts as \
            many receives into one buffer and answers with 1 byte when all have arrived; both \
            with MPI_Isend and MPI_Irecv, or with MPI_Startall of persistent requests. \
            bandwidth_bytes_per_s is size * W * n / t over all n windows, as in OSU (osu_bw, \
            osu_bw_persistent); with -W 256 it is IMB's Uniband as well. messages_per_s is W * n \
            / t; window_ns is the time of one window including its answer. Further ranks wait in \
            an MPI_Allreduce.",
        sizes: WINDOW_SIZES,
        iterations: "100:20",
        warmup: "10:2",
        window: Some("64"),
        choices: WINDOW_CALLS,
        synchronised: false,
        min_ranks: 2,
        pairs: false,
        kind: Kind::Timed(Timed {
            timer: Timer::RankZero { divisor: 1 },
            buffers: 2,
            histogram: "window_ns",
            verified: WINDOWS_COMPARED,
            build: |setting| Stream::build(setting),
            metrics: pt2pt::stream_metrics,
            work: pt2pt::stream_work,
        }),
    },
    Row {
        name: "bibw",
        summary: "bandwidth of windows of messages both ways between ranks 0 and 1",
        definition: "Ranks 0 and 1 each post a window of W receives into one buffer, then W sends, and \
            wait for the sends and for the receives (MPI_Waitall each), with MPI_Isend and \
            MPI_Irecv or with MPI_Startall of persistent requests. bandwidth_bytes_per_s is 2 * \
            size * W * n / t over all n windows at rank 0, both directions together, as in OSU \
            (osu_bibw); with -W 256 it is IMB's Biband as well. messages_per_s is 2 * W * n / t; \
            window_ns is the time of one window. Further ranks wait in an MPI_Allreduce. Each \
            batch of windows begins with one that is not timed.",
        sizes: WINDOW_SIZES,
        iterations: "100:20",
        warmup: "10:2",
        window: Some("64"),
        choices: WINDOW_CALLS,
        synchronised: false,
        min_ranks: 2,
        pairs: false,
        kind: Kind::Timed(Timed {
            timer: Timer::RankZero { divisor: 1 },
            buffers: 2,
            histogram: "window_ns",
            verified: WINDOWS_COMPARED,
            build: |setting| BidirectionalStream::build(setting),
            metrics: pt2pt::bidirectional_metrics,
            work: pt2pt::bidirectional_work,
        }),
    },
    Row {
        name: "mbw_mr",
        summary: "bandwidth and message rate of all pairs of ranks i and i + n/2",
        definition: "Rank i of the lower half sends to rank i + n/2, all pairs at a time: every iteration \
            begins with all ranks together (MPI_Barrier, as in OSU, or another way by --sync), \
            then each sender times a window of W messages with its answer of 1 byte, as in bw. \
            bandwidth_bytes_per_s is the bytes of all pairs / the sum over iterations of the \
            slowest pair's time, messages_per_s their messages / the same; window_ns is that \
            time, one value per iteration. The columns of OSU (osu_mbw_mr) divide by the mean of \
            the pairs' times, those of IMB (Multi-Uniband, which has no barriers in between; \
            with -W 256) by the longest of them, pair_bandwidth_bytes_per_s is least, median and \
            largest of the pairs' own.",
        sizes: WINDOW_SIZES,
        iterations: "100:20",
        warmup: "10:2",
        window: Some("64"),
        choices: WINDOW_CALLS,
        synchronised: true,
        min_ranks: 2,
        pairs: true,
        kind: Kind::Timed(Timed {
            timer: Timer::SlowestRank,
            buffers: 2,
            histogram: "window_ns",
            verified: WINDOWS_COMPARED,
            build: |setting| MultiStream::build(setting),
            metrics: pt2pt::multi_stream_metrics,
            work: pt2pt::multi_stream_work,
        }),
    },
    Row {
        name: "multi_lat",
        summary: "half round trips of ping-pongs of all pairs of ranks i and i + n/2",
        definition: "Rank i of the lower half and rank i + n/2 exchange messages, all pairs at a time: \
            every iteration begins with all ranks together (MPI_Barrier, as in OSU, or another \
            way by --sync), then each lower rank times one round trip with the calls of latency. \
            latency_ns is half the slowest pair's round trip, one value per iteration. \
            pair_latency_ns is least, median and largest of the pairs' means. The column of OSU \
            (osu_multi_lat) is the mean over the pairs of these means, that of IMB (Multi- \
            PingPong, which has no barriers in between) the largest.",
        sizes: PING_PONG_SIZES,
        iterations: "10000:1000",
        warmup: "100:10",
        window: None,
        choices: MESSAGE_CALLS,
        synchronised: true,
        min_ranks: 2,
        pairs: true,
        kind: Kind::Timed(Timed {
            timer: Timer::SlowestRank,
            buffers: 2,
            histogram: "latency_ns",
            verified: PING_PONGS_COMPARED,
            build: |setting| MultiPingPong::build(setting),
            metrics: pt2pt::multi_ping_pong_metrics,
            work: pt2pt::multi_ping_pong_work,
        }),
    },
];
