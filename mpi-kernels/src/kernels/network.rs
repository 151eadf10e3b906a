//! Kernels that show the network and the nodes: pairs, rings, neighbours, contention.

use super::{Kind, Row, SizeRule, Timed, Whole};
use crate::kernel::Timer;
use crate::kernel::network::{
    bisection, congestion, halo, pairmatrix, random_access, rings, triad,
};
use crate::spec::{Choice, MAX_MESSAGE_BYTES};

const SEED: Choice = Choice::Count {
    name: "seed",
    help: "Where the random choices begin; the same seed draws the same",
    least: 0,
    most: u64::MAX,
    default: "1",
};

/// In the order in which users see them.
pub const ROWS: &[Row] = &[
    PAIRMATRIX,
    RINGS,
    BISECTION,
    CONGESTION,
    HALO,
    RANDOM_ACCESS,
    STREAM,
];

const PAIRMATRIX: Row = Row {
    name: "pairmatrix",
    summary: "bandwidth and latency between every two nodes, and which of them is slow",
    definition: "One rank of each node takes part, or every rank. They meet in a round-robin \
        tournament: rounds of disjoint pairs, n - 1 of them for n nodes (n if n is odd), in each \
        round one direction after the other, the whole tournament --passes times. In a visit the \
        receiver first times --pings ping-pongs of 8 bytes; latency_ns is half a round trip. When \
        all pairs are done with that, it times the windows: it sends their length in 4 bytes, the \
        sender answers with W MPI_Isend, and the receiver takes them with W MPI_Irecv into one \
        buffer and MPI_Waitall; bandwidth_bytes_per_s of a window is size * W / t. A window of one \
        message comes first: where it says that all would take longer than --visit-ms, windows get \
        smaller and then fewer. matrix[from][to] is the \
        median over all windows of a pair, its 95 % interval beside it; the metrics are median, \
        minimum and maximum over pairs. Slow nodes and pairs: the logarithms are fitted as overall \
        + egress(from) + ingress(to) by median polish; what falls short by 25 % (latency: twice as \
        long) and by 6 robust standard \
        deviations (more where few nodes tell little of these) is named, or a node all of whose \
        pairs are clearly apart from all others; a node only if 3 of 4 of its pairs are slow and \
        there are at least 4 nodes. Unlike mpiGraph, where everybody sends and receives \
        at a time with different partners.",
    sizes: Some(SizeRule {
        default: "1M:1M",
        default_min: 1 << 20,
        least: 1,
    }),
    iterations: "5:5",
    warmup: "1:1",
    window: Some("8"),
    choices: &[
        Choice::Words {
            name: "per",
            help: "Who takes part: a rank of each node, every rank, or auto, nodes where there are \
                several",
            values: &["auto", "node", "rank"],
            default: "auto",
        },
        Choice::Count {
            name: "passes",
            help: "How often the tournament is held: a disturbance of a moment then hits one of \
                several visits of a pair",
            least: 1,
            most: 1000,
            default: "3",
        },
        Choice::Count {
            name: "pings",
            help: "Timed ping-pongs of each visit",
            least: 1,
            most: 100_000,
            default: "20",
        },
        Choice::Count {
            name: "visit-ms",
            help: "The windows of a visit take some so many milliseconds: of a slow pair fewer \
                messages are timed",
            least: 1,
            most: 3_600_000,
            default: "1000",
        },
        Choice::Count {
            name: "time-limit",
            help: "No round begins after so many seconds: what was measured by then is reported",
            least: 1,
            most: 86_400,
            default: "3600",
        },
    ],
    synchronised: false,
    min_ranks: 2,
    pairs: false,
    kind: Kind::Whole(Whole {
        memory: pairmatrix::memory,
        run: pairmatrix::run,
    }),
};

const RINGS: Row = Row {
    name: "rings",
    summary: "every rank to both its neighbours in a ring, natural and random, as in HPCC",
    definition: "Every rank sends one message to each neighbour of a ring and receives one from \
        each. An iteration runs the pattern with two MPI_Sendrecv (to the right, to the left), and \
        after that with two MPI_Irecv, two MPI_Isend and MPI_Waitall; each after an MPI_Barrier \
        and one untimed run, 8 times for 8-byte messages (latency_ns) and 3 times for large ones. \
        A rank's value is the better of both, divided by the messages it sent; the iteration's is \
        the maximum over ranks. Ours is the median over iterations and then over rings; \
        rank_bandwidth_bytes_per_s is the size divided by it. The column of HPCC (bench_lat_bw \
        1.5.2) takes the minimum over iterations and the geometric mean over rings; HPCC draws 30 \
        random rings for latency and 10 for bandwidth, here --rings are drawn for both.",
    sizes: None,
    iterations: "10:10",
    warmup: "1:1",
    window: None,
    choices: &[
        Choice::Words {
            name: "order",
            help: "The order of ranks in the ring",
            values: &["natural", "random"],
            default: "natural,random",
        },
        Choice::Count {
            name: "rings",
            help: "How many random rings",
            least: 1,
            most: 10_000,
            default: "10",
        },
        Choice::Count {
            name: "bandwidth-size",
            help: "The large messages, in bytes",
            least: 1,
            most: MAX_MESSAGE_BYTES as u64,
            default: "2000000",
        },
        SEED,
    ],
    synchronised: false,
    min_ranks: 2,
    pairs: false,
    kind: Kind::Whole(Whole {
        memory: rings::memory,
        run: rings::run,
    }),
};

const BISECTION: Row = Row {
    name: "bisection",
    summary: "one half of the ranks against the other, all pairs at once",
    definition: "The ranks, in the order of their nodes, are cut in half, and each rank of the \
        first half is paired with the one at its place in the second; or the order is shuffled \
        first, --bisections times (effective bisection bandwidth, as in Netgauge's ebb). An \
        iteration begins with an MPI_Barrier; then all pairs move a window of W messages at once, \
        from the first half to the second or both ways (MPI_Irecv, MPI_Isend, MPI_Waitall). \
        bandwidth_bytes_per_s is the bytes of all pairs / the slowest rank's time, \
        pair_bandwidth_bytes_per_s the bytes that a rank received / its own time, median over \
        iterations; its p50 over all pairs of all bisections is the effective bisection bandwidth \
        of a pair. The column of Netgauge is their mean.",
    sizes: Some(SizeRule {
        default: "1M:1M",
        default_min: 1 << 20,
        least: 1,
    }),
    iterations: "20:20",
    warmup: "2:2",
    window: Some("8"),
    choices: &[
        Choice::Words {
            name: "halves",
            help: "How the ranks are cut in half",
            values: &["natural", "random"],
            default: "natural,random",
        },
        Choice::Words {
            name: "direction",
            help: "From the first half to the second, or both ways at once",
            values: &["one", "both"],
            default: "both",
        },
        Choice::Count {
            name: "bisections",
            help: "How many random cuts",
            least: 1,
            most: 10_000,
            default: "10",
        },
        SEED,
    ],
    synchronised: false,
    min_ranks: 2,
    pairs: true,
    kind: Kind::Whole(Whole {
        memory: bisection::memory,
        run: bisection::run,
    }),
};

const CONGESTION: Row = Row {
    name: "congestion",
    summary: "latency of some ranks, alone and while others load the network, as in GPCNeT",
    definition: "The nodes (--split rank: the ranks) are shuffled; --victims percent of them, \
        rounded up and at least 2, measure, the others load the network in one --pattern at a \
        time: incast, where all send to one (MPI_Irecv of all there, MPI_Isend, MPI_Waitall), \
        broadcast, its reverse, or alltoall, MPI_Sendrecv with each other rank of the aggressors \
        in turn, at step k to the one k places on; messages have the given size. The victims \
        measure --test latency: they are paired anew in each of \
        --pairings, partners on different nodes where that is possible, and all pairs exchange 8 \
        bytes there and back (MPI_Send, MPI_Recv) at once; a value is half a round trip of a pair. \
        Or --test allreduce: after an MPI_Barrier of the victims, which is not timed, each times \
        MPI_Allreduce of one double (MPI_SUM); a value is the largest of the victims' times. Each \
        pairing has slices of at most 1000 iterations: alone (idle_*), then, after 40 ms of the \
        aggressors alone, the same again beside them (loaded_*), begun when all aggressors have \
        done a burst of rounds and ended before any stops; between bursts, 20 ms long, MPI_Bcast \
        tells whether there is another. congestion_impact_ratio is loaded / idle, of the means and \
        of the percentiles over all slices. aggressor_bandwidth_bytes_per_s is what all aggressors \
        together receive beside the victims, median over slices; aggressor_alone_* without these. \
        GPCNeT (network_load_test 1.3) runs its four congestors at once, each on a share of the \
        nodes, takes latency in random rings instead of pairs and has no barrier before an \
        allreduce.",
    sizes: Some(SizeRule {
        default: "4K:4K",
        default_min: 4096,
        least: 1,
    }),
    iterations: "100:100",
    warmup: "10:10",
    window: None,
    choices: &[
        Choice::Words {
            name: "test",
            help: "What the victims measure",
            values: &["latency", "allreduce"],
            default: "latency,allreduce",
        },
        Choice::Words {
            name: "pattern",
            help: "How the aggressors load the network",
            values: &["incast", "broadcast", "alltoall"],
            default: "incast,alltoall",
        },
        Choice::Words {
            name: "split",
            help: "What is drawn to be a victim or an aggressor: nodes, ranks, or auto, nodes where \
                there are at least four",
            values: &["auto", "node", "rank"],
            default: "auto",
        },
        Choice::Count {
            name: "victims",
            help: "The share of nodes or ranks that are victims, in percent",
            least: 1,
            most: 99,
            default: "20",
        },
        Choice::Count {
            name: "pairings",
            help: "How often the victims are paired anew",
            least: 1,
            most: 10_000,
            default: "20",
        },
        SEED,
    ],
    synchronised: false,
    min_ranks: 4,
    pairs: false,
    kind: Kind::Whole(Whole {
        memory: congestion::memory,
        run: congestion::run,
    }),
};

const HALO: Row = Row {
    name: "halo",
    summary: "exchange of the six faces of a three-dimensional stencil",
    definition: "The ranks form a periodic grid of three dimensions, as cubic as the divisors of \
        their number allow, ranks counting up fastest in the last one. Every iteration begins \
        as --sync says, by default with an MPI_Barrier; that is not timed. Then each rank times its exchange with all six neighbours: six MPI_Irecv, six \
        MPI_Isend, MPI_Waitall, faces of the given size in contiguous buffers (32 x 32 doubles are \
        8192 bytes; packing is not part of it). exchange_ns is the largest of the ranks' times, one \
        value per iteration.",
    sizes: Some(SizeRule {
        default: "512:128K",
        default_min: 512,
        least: 8,
    }),
    iterations: "1000:100",
    warmup: "100:10",
    window: None,
    choices: &[Choice::Words {
        name: "type",
        help: "Types of the elements",
        values: &["f64"],
        default: "f64",
    }],
    synchronised: true,
    min_ranks: 2,
    pairs: false,
    kind: Kind::Timed(Timed {
        timer: Timer::SlowestRank,
        buffers: 2 * halo::FACES,
        histogram: "exchange_ns",
        verified: "faces compared byte by byte, before and after the timed iterations and of the \
            last of these",
        build: |setting| halo::Halo::build(setting),
        metrics: halo::metrics,
        work: halo::work,
    }),
};

const RANDOM_ACCESS: Row = Row {
    name: "random_access",
    summary: "updates of random words of a table over all ranks (GUPS), as in HPCC",
    definition: "A table of 64-bit words, the largest power of two that the ranks hold together, \
        is spread over them in blocks. In a pass 4 updates per word are drawn from HPCC's stream \
        (x -> 2x over GF(2), polynomial 7), each rank from its own part of it: the word at the \
        number's low bits becomes its exclusive or with the number. Each rank draws 1024 updates, \
        the most that HPCC lets it hold back, sorts them by owner, tells their counts by \
        MPI_Alltoall and sends them by MPI_Alltoallv; owners then apply what arrived. \
        updates_per_s is the updates of all ranks / the slowest rank's time of the pass, median \
        over passes; 1e9 of it are 1 GUPS. The column of HPCC (MPIRandomAccess) is the rate over \
        all passes. Two passes change nothing: every word is compared, and none may be wrong, \
        where HPCC allows 1 %.",
    sizes: None,
    iterations: "4:4",
    warmup: "0:0",
    window: None,
    choices: &[Choice::Count {
        name: "log2-words",
        help: "The table's words per rank, as a power of two (20: 8 MiB); HPCC takes half the \
            memory",
        least: 10,
        most: 40,
        default: "20",
    }],
    synchronised: false,
    min_ranks: 1,
    pairs: false,
    kind: Kind::Whole(Whole {
        memory: random_access::memory,
        run: random_access::run,
    }),
};

const STREAM: Row = Row {
    name: "stream",
    summary: "memory bandwidth of each rank, to tell a slow node from a slow network",
    definition: "The triad of STREAM, a = b + q * c on arrays of doubles, 24 bytes per element \
        (what a cache reads before it writes is not counted). An iteration begins with an \
        MPI_Allreduce that no rank leaves before all are there and that is not timed; each \
        rank times its own triad. rank_bandwidth_bytes_per_s is a rank's median over iterations; \
        shown are median, minimum and maximum over ranks. bandwidth_bytes_per_s is the sum over \
        ranks; the column of STREAM is the sum of each rank's best iteration. Arrays of a rank \
        are, unless given, 4 times the last-level caches of a node divided by the ranks on it, by \
        STREAM's rule. A node whose median rank is 25 % and 6 robust standard deviations slower \
        than the median node is named, among at least 4 nodes.",
    sizes: None,
    iterations: "10:10",
    warmup: "1:1",
    window: None,
    choices: &[
        Choice::Text {
            name: "array",
            help: "The size of each of a rank's three arrays, in bytes (suffixes K, M, G), or auto",
            default: "auto",
            check: triad::check_array,
        },
        Choice::Flag {
            name: "alone",
            help: "One rank of each node at a time, instead of all at once",
        },
    ],
    synchronised: false,
    min_ranks: 1,
    pairs: false,
    kind: Kind::Whole(Whole {
        memory: triad::memory,
        run: triad::run,
    }),
};
