//! One-sided kernels: memory of another rank, written and read.

use super::{Kind, Row, SizeRule, Timed};
use crate::kernel::Timer;
use crate::kernel::one_sided::{self, OneSided, Operation};
use crate::spec::Choice;

const EPOCH: Choice = Choice::Words {
    name: "epoch",
    help: "What encloses and completes the operations",
    values: &["flush", "lock", "pscw", "fence"],
    default: "flush",
};

const WINDOW_MEMORY: Choice = Choice::Words {
    name: "window-memory",
    help: "Where the window's memory comes from: MPI_Win_allocate, _create or _create_dynamic",
    values: &["allocate", "create", "dynamic"],
    default: "allocate",
};

const MOVES: &[Choice] = &[EPOCH, WINDOW_MEMORY];

const SUMS: &[Choice] = &[
    EPOCH,
    WINDOW_MEMORY,
    Choice::Words {
        name: "type",
        help: "Types of the elements",
        values: &["u8", "i32", "i64", "f32", "f64"],
        default: "f64",
    },
];

const ATOMIC_SUMS: &[Choice] = &[
    EPOCH,
    WINDOW_MEMORY,
    Choice::Words {
        name: "type",
        help: "Types of the element",
        values: &["i32", "i64", "f32", "f64"],
        default: "i64",
    },
];

/// Not allocated memory by default: within a node Open MPI 4.1.4 sends the origin's address of
/// that (osc rdma over btl vader), and the target crashes.
const SWAPS: &[Choice] = &[
    EPOCH,
    Choice::Words {
        name: "window-memory",
        help: "Where the window's memory comes from: MPI_Win_create, _allocate (with which \
               Open MPI 4.1.4 crashes within a node) or _create_dynamic",
        values: &["create", "allocate", "dynamic"],
        default: "create",
    },
    Choice::Words {
        name: "type",
        help: "Types of the element",
        values: &["i32", "i64"],
        default: "i64",
    },
];

const SIZES: Option<SizeRule> = Some(SizeRule {
    default: "1:4M",
    default_min: 1,
    least: 1,
});

const BYTES_COMPARED: &str = "messages compared byte by byte where they arrived, before and after \
    the timed epochs and of the last of these";

const SUMS_COMPARED: &str = "elements compared exactly with the sums of all epochs, before and after \
    the timed ones and after the last of these";

/// How an epoch of each kind is timed.
macro_rules! epochs {
    () => {
        "An epoch is, with flush: the operations and MPI_Win_flush, all within one shared \
         MPI_Win_lock; lock: MPI_Win_lock (shared), operations, MPI_Win_unlock; pscw: \
         MPI_Win_start, operations, MPI_Win_complete, while the target repeats MPI_Win_post and \
         MPI_Win_wait; fence: MPI_Win_fence, operations, MPI_Win_fence. Its time is that between \
         two successive ends of epochs at the origin. With flush and lock the target waits in an \
         MPI_Barrier. Windows are over ranks 0 and 1 alone; further ranks wait in an \
         MPI_Allreduce. Each batch of epochs begins with one that is not timed."
    };
}

/// The definition of a latency.
macro_rules! latency {
    ($call:literal, $osu:literal) => {
        concat!(
            "Rank 0 does one ",
            $call,
            " on memory of rank 1 in each epoch. latency_ns is the time of an epoch. The column \
             of OSU (",
            $osu,
            ") is the mean, with flush and lock; with pscw and fence OSU lets both ranks operate \
             in turn and halves. ",
            epochs!()
        )
    };
}

/// The definition of a bandwidth.
macro_rules! bandwidth {
    ($call:literal, $osu:literal) => {
        concat!(
            "Rank 0 does W ",
            $call,
            " on memory of rank 1 in each epoch, each on a place of its own. \
             bandwidth_bytes_per_s is size * W * n / t over all n epochs",
            $osu,
            "; messages_per_s is W * n / t; window_ns is the time of an epoch. ",
            epochs!()
        )
    };
}

/// In the order in which users see them.
pub const ROWS: &[Row] = &[
    Row {
        name: "put_latency",
        summary: "time of an MPI_Put with its completion",
        definition: latency!("MPI_Put (MPI_UINT8_T)", "osu_put_latency"),
        sizes: SIZES,
        iterations: "10000:1000",
        warmup: "100:10",
        window: None,
        choices: MOVES,
        synchronised: false,
        min_ranks: 2,
        pairs: false,
        kind: Kind::Timed(Timed {
            timer: Timer::RankZero { divisor: 1 },
            // Their number depends on the window: the kernel sees to it.
            buffers: 0,
            histogram: "latency_ns",
            verified: BYTES_COMPARED,
            build: |setting| OneSided::build(setting, Operation::Put),
            metrics: one_sided::latency,
            work: one_sided::work,
        }),
    },
    Row {
        name: "put_bw",
        summary: "bandwidth of windows of MPI_Put",
        definition: bandwidth!("MPI_Put (MPI_UINT8_T)", ", as in OSU (osu_put_bw)"),
        sizes: SIZES,
        iterations: "100:20",
        warmup: "10:2",
        window: Some("64"),
        choices: MOVES,
        synchronised: false,
        min_ranks: 2,
        pairs: false,
        kind: Kind::Timed(Timed {
            timer: Timer::RankZero { divisor: 1 },
            // Their number depends on the window: the kernel sees to it.
            buffers: 0,
            histogram: "window_ns",
            verified: BYTES_COMPARED,
            build: |setting| OneSided::build(setting, Operation::Put),
            metrics: one_sided::bandwidth,
            work: one_sided::work,
        }),
    },
    Row {
        name: "get_latency",
        summary: "time of an MPI_Get with its completion",
        definition: latency!("MPI_Get (MPI_UINT8_T)", "osu_get_latency"),
        sizes: SIZES,
        iterations: "10000:1000",
        warmup: "100:10",
        window: None,
        choices: MOVES,
        synchronised: false,
        min_ranks: 2,
        pairs: false,
        kind: Kind::Timed(Timed {
            timer: Timer::RankZero { divisor: 1 },
            // Their number depends on the window: the kernel sees to it.
            buffers: 0,
            histogram: "latency_ns",
            verified: BYTES_COMPARED,
            build: |setting| OneSided::build(setting, Operation::Get),
            metrics: one_sided::latency,
            work: one_sided::work,
        }),
    },
    Row {
        name: "get_bw",
        summary: "bandwidth of windows of MPI_Get",
        definition: bandwidth!("MPI_Get (MPI_UINT8_T)", ", as in OSU (osu_get_bw)"),
        sizes: SIZES,
        iterations: "100:20",
        warmup: "10:2",
        window: Some("64"),
        choices: MOVES,
        synchronised: false,
        min_ranks: 2,
        pairs: false,
        kind: Kind::Timed(Timed {
            timer: Timer::RankZero { divisor: 1 },
            // Their number depends on the window: the kernel sees to it.
            buffers: 0,
            histogram: "window_ns",
            verified: BYTES_COMPARED,
            build: |setting| OneSided::build(setting, Operation::Get),
            metrics: one_sided::bandwidth,
            work: one_sided::work,
        }),
    },
    Row {
        name: "acc_latency",
        summary: "time of an MPI_Accumulate (sum) with its completion",
        definition: latency!(
            "MPI_Accumulate (MPI_SUM; of u8 the timed summands are 0)",
            "osu_acc_latency, of MPI_CHAR"
        ),
        sizes: SIZES,
        iterations: "10000:1000",
        warmup: "100:10",
        window: None,
        choices: SUMS,
        synchronised: false,
        min_ranks: 2,
        pairs: false,
        kind: Kind::Timed(Timed {
            timer: Timer::RankZero { divisor: 1 },
            // Their number depends on the window: the kernel sees to it.
            buffers: 0,
            histogram: "latency_ns",
            verified: SUMS_COMPARED,
            build: |setting| OneSided::build(setting, Operation::Accumulate),
            metrics: one_sided::latency,
            work: one_sided::work,
        }),
    },
    Row {
        name: "acc_bw",
        summary: "bandwidth of windows of MPI_Accumulate (sum)",
        definition: bandwidth!(
            "MPI_Accumulate (MPI_SUM; of u8 the timed summands are 0)",
            ""
        ),
        sizes: SIZES,
        iterations: "100:20",
        warmup: "10:2",
        window: Some("64"),
        choices: SUMS,
        synchronised: false,
        min_ranks: 2,
        pairs: false,
        kind: Kind::Timed(Timed {
            timer: Timer::RankZero { divisor: 1 },
            // Their number depends on the window: the kernel sees to it.
            buffers: 0,
            histogram: "window_ns",
            verified: SUMS_COMPARED,
            build: |setting| OneSided::build(setting, Operation::Accumulate),
            metrics: one_sided::bandwidth_of_ours,
            work: one_sided::work,
        }),
    },
    Row {
        name: "get_acc_latency",
        summary: "time of an MPI_Get_accumulate (sum) with its completion",
        definition: latency!(
            "MPI_Get_accumulate (MPI_SUM; of u8 the timed summands are 0)",
            "osu_get_acc_latency, of MPI_CHAR"
        ),
        sizes: SIZES,
        iterations: "10000:1000",
        warmup: "100:10",
        window: None,
        choices: SUMS,
        synchronised: false,
        min_ranks: 2,
        pairs: false,
        kind: Kind::Timed(Timed {
            timer: Timer::RankZero { divisor: 1 },
            // Their number depends on the window: the kernel sees to it.
            buffers: 0,
            histogram: "latency_ns",
            verified: SUMS_COMPARED,
            build: |setting| OneSided::build(setting, Operation::GetAccumulate),
            metrics: one_sided::latency,
            work: one_sided::work,
        }),
    },
    Row {
        name: "fop_latency",
        summary: "time of an MPI_Fetch_and_op (sum) with its completion",
        definition: latency!("MPI_Fetch_and_op (MPI_SUM)", "osu_fop_latency, of MPI_CHAR"),
        sizes: None,
        iterations: "10000:10000",
        warmup: "100:100",
        window: None,
        choices: ATOMIC_SUMS,
        synchronised: false,
        min_ranks: 2,
        pairs: false,
        kind: Kind::Timed(Timed {
            timer: Timer::RankZero { divisor: 1 },
            // Their number depends on the window: the kernel sees to it.
            buffers: 0,
            histogram: "latency_ns",
            verified: SUMS_COMPARED,
            build: |setting| OneSided::build(setting, Operation::FetchAndOp),
            metrics: one_sided::latency,
            work: one_sided::work,
        }),
    },
    Row {
        name: "fop_rate",
        summary: "rate of windows of MPI_Fetch_and_op (sum)",
        definition: concat!(
            "Rank 0 does W MPI_Fetch_and_op (MPI_SUM) on memory of rank 1 in each epoch, each on an \
             element of its own. operations_per_s is W * n / t over all n epochs; window_ns is the \
             time of an epoch. ",
            epochs!()
        ),
        sizes: None,
        iterations: "1000:1000",
        warmup: "100:100",
        window: Some("64"),
        choices: ATOMIC_SUMS,
        synchronised: false,
        min_ranks: 2,
        pairs: false,
        kind: Kind::Timed(Timed {
            timer: Timer::RankZero { divisor: 1 },
            // Their number depends on the window: the kernel sees to it.
            buffers: 0,
            histogram: "window_ns",
            verified: SUMS_COMPARED,
            build: |setting| OneSided::build(setting, Operation::FetchAndOp),
            metrics: one_sided::rate,
            work: one_sided::work,
        }),
    },
    Row {
        name: "cas_latency",
        summary: "time of an MPI_Compare_and_swap with its completion",
        definition: latency!(
            "MPI_Compare_and_swap that succeeds, from k to k + 1,",
            "osu_cas_latency, of MPI_CHAR"
        ),
        sizes: None,
        iterations: "10000:10000",
        warmup: "100:100",
        window: None,
        choices: SWAPS,
        synchronised: false,
        min_ranks: 2,
        pairs: false,
        kind: Kind::Timed(Timed {
            timer: Timer::RankZero { divisor: 1 },
            // Their number depends on the window: the kernel sees to it.
            buffers: 0,
            histogram: "latency_ns",
            verified: SUMS_COMPARED,
            build: |setting| OneSided::build(setting, Operation::CompareAndSwap),
            metrics: one_sided::latency,
            work: one_sided::work,
        }),
    },
];
