//! Collective kernels of all ranks: each function of MPI once blocking and once started.

use super::{Kind, Row, SizeRule, Timed};
use crate::kernel::Timer;
use crate::kernel::collective::{
    self, Blocking, functions, overlap, overlap::Overlapped, shape::Shape,
};
use crate::spec::{self, Choice, Point};

const TYPE: Choice = Choice::Words {
    name: "type",
    help: "Types of the elements; OSU reduces u8 (MPI_CHAR), IMB f32",
    values: &["u8", "i32", "i64", "f32", "f64"],
    default: "f32",
};

const OP: Choice = Choice::Words {
    name: "op",
    help: "What is done with the elements",
    values: &["sum", "max"],
    default: "sum",
};

const ROOT: Choice = Choice::Text {
    name: "root",
    help: "The root: a rank, or `rotate` for the next rank in each iteration",
    default: "0",
    check: spec::root,
};

const IN_PLACE: Choice = Choice::Flag {
    name: "in-place",
    help: "Pass MPI_IN_PLACE; contributions are copied anew before each iteration, which is not \
        timed",
};

const COUNTS: Choice = Choice::Words {
    name: "counts",
    help: "Counts of the blocks: all the size, or rising from nothing to twice the size",
    values: &["equal", "unequal"],
    default: "equal",
};

const TESTS: Choice = Choice::Count {
    name: "tests",
    help: "Calls of MPI_Test during the computation, evenly spread, as OSU's -t",
    least: 0,
    most: 1_000_000,
    default: "0",
};

/// The sizes of elements and of bytes alike: OSU's.
const SIZES: Option<SizeRule> = Some(SizeRule {
    default: "1:1M",
    default_min: 1,
    least: 1,
});

/// Both rows of each function: what is timed stands here once, what is moved with the function.
macro_rules! rows {
    ($($name:literal, $started:literal, $function:ident, $call:literal, $start:literal,
        $sizes:expr, [$($choice:expr),*], $verified:ident, $summary:literal, $moved:literal;)*) => {
        /// In the order in which users see them.
        pub const ROWS: &[Row] = &[
            $(Row {
                name: $name,
                summary: concat!($call, ", ", $summary),
                definition: concat!(
                    "Every iteration begins as --sync says, by default with an MPI_Barrier; that is \
                    not timed. Then each rank times its call of ", $call, ". ", $moved, " collective_ns is the largest of the \
                    ranks' times, one value per iteration. The columns of OSU (Avg, Min and Max \
                    Latency; t_avg, t_min and t_max of IMB are the same) are mean, min and max \
                    over ranks of each rank's mean, which hide what differs between iterations."
                ),
                sizes: $sizes,
                iterations: "1000:100",
                warmup: "100:10",
                window: None,
                choices: &[$($choice,)*],
                synchronised: true,
                min_ranks: 2,
                pairs: false,
                kind: Kind::Timed(Timed {
                    timer: Timer::SlowestRank,
                    // The kernel knows itself what it needs.
                    buffers: 0,
                    histogram: "collective_ns",
                    verified: $verified,
                    build: |setting| Blocking::<functions::$function>::build(setting),
                    metrics: collective::metrics,
                    work: collective::work,
                }),
            },)*
            $(Row {
                name: $started,
                summary: concat!($start, ", ", $summary, "; overlap with computation"),
                definition: concat!(
                    "Every iteration has two parts, each of which begins as --sync says, by default \
                    with an MPI_Barrier; that is not timed. In the first each rank times ", $start, " and MPI_Wait: \
                    pure_communication_ns. In the second it times ", $start, ", a computation \
                    without communication and MPI_Wait: overall_ns. ", $moved, " The computation \
                    is a chain of multiplications, as many as last as long as the median of \
                    this rank's 15 calls alone before the warm-up (OSU: the mean of all its calls); --tests calls of MPI_Test divide it \
                    into equal parts. Both are the largest of the ranks' times, one value per \
                    iteration. compute_ns and test_ns are means over ranks and iterations. The \
                    columns of OSU are means over ranks of each rank's mean, \
                    and overlap = max(0, 1 - (overall - compute) / pure) of these, where compute \
                    is without the tests; the column of IMB is overlap = (pure + compute - \
                    overall) / max(pure, compute), at least 0 and at most 1, of the means of the \
                    rank with the largest overall."
                ),
                sizes: $sizes,
                iterations: "1000:100",
                warmup: "100:10",
                window: None,
                choices: &[$($choice,)* TESTS],
                synchronised: true,
                min_ranks: 2,
                pairs: false,
                kind: Kind::Timed(Timed {
                    timer: Timer::SlowestRank,
                    buffers: 0,
                    histogram: "overall_ns",
                    verified: $verified,
                    build: |setting| Overlapped::<functions::$function>::build(setting),
                    metrics: overlap::metrics,
                    work: collective::work,
                }),
            },)*
        ];

        /// The shape of the kernel of that name.
        fn shape(name: &str) -> Option<Shape> {
            match name {
                $($name | $started => Some(<functions::$function as collective::Operation>::SHAPE),)*
                _ => None,
            }
        }
    };
}

const ELEMENTS: &str = "elements compared with what they must be, exactly, before and after the \
    timed iterations and of the last of these";

const BYTES: &str = "bytes compared with what they must be, before and after the timed iterations \
    and of the last of these";

const ORDER: &str = "times a rank was kept in until the last one, delayed on purpose, had entered, \
    before and after the timed iterations";

rows! {
    "allreduce", "iallreduce", Allreduce, "MPI_Allreduce", "MPI_Iallreduce", SIZES, [TYPE, OP, IN_PLACE],
        ELEMENTS, "reduction over all ranks to all",
        "The size is each rank's vector. Elements of --type are combined by --op (OSU sums \
        MPI_CHAR, IMB MPI_FLOAT).";
    "reduce", "ireduce", Reduce, "MPI_Reduce", "MPI_Ireduce", SIZES, [TYPE, OP, ROOT, IN_PLACE],
        ELEMENTS, "reduction over all ranks to the root",
        "The size is each rank's vector. Elements of --type are combined by --op (OSU sums \
        MPI_CHAR, IMB MPI_FLOAT).";
    "reduce_scatter", "ireduce_scatter", ReduceScatter, "MPI_Reduce_scatter", "MPI_Ireduce_scatter", SIZES, [TYPE, OP, IN_PLACE],
        ELEMENTS, "reduction over all ranks, a part to each",
        "The size is each rank's vector, as in OSU and IMB; the parts differ by one element at \
        most, the first ranks have the larger ones. Elements of --type are combined by --op \
        (OSU sums MPI_CHAR, IMB MPI_FLOAT).";
    "reduce_scatter_block", "ireduce_scatter_block", ReduceScatterBlock, "MPI_Reduce_scatter_block", "MPI_Ireduce_scatter_block", SIZES, [TYPE, OP, IN_PLACE],
        ELEMENTS, "reduction over all ranks, an equal block to each",
        "The size is the block that each rank gets, so each gives as many as there are ranks; \
        osu_reduce_scatter_block divides its size by the ranks instead. \
        Elements of --type are combined by --op (OSU sums MPI_CHAR, IMB MPI_FLOAT).";
    "scan", "iscan", Scan, "MPI_Scan", "MPI_Iscan", SIZES, [TYPE, OP, IN_PLACE],
        ELEMENTS, "reduction over this rank and those before it",
        "The size is each rank's vector. Elements of --type are combined by --op (OSU sums \
        MPI_CHAR, IMB MPI_FLOAT).";
    "exscan", "iexscan", Exscan, "MPI_Exscan", "MPI_Iexscan", SIZES, [TYPE, OP, IN_PLACE],
        ELEMENTS, "reduction over the ranks before this one",
        "The size is each rank's vector; what rank 0 gets is undefined and not compared. \
        Elements of --type are combined by --op (OSU sums MPI_CHAR, IMB MPI_FLOAT).";
    "bcast", "ibcast", Bcast, "MPI_Bcast", "MPI_Ibcast", SIZES, [ROOT],
        BYTES, "a block of the root to all ranks",
        "The size is that block (MPI_UINT8_T); with a rotating root it is copied anew before \
        each iteration, which is not timed.";
    "gather", "igather", Gather, "MPI_Gather", "MPI_Igather", SIZES, [ROOT, IN_PLACE],
        BYTES, "a block of each rank to the root",
        "The size is one block (MPI_UINT8_T).";
    "gatherv", "igatherv", Gatherv, "MPI_Gatherv", "MPI_Igatherv", SIZES, [ROOT, COUNTS, IN_PLACE],
        BYTES, "a block of each rank to the root, of sizes that may differ",
        "The size is one block (MPI_UINT8_T), with --counts unequal their mean.";
    "scatter", "iscatter", Scatter, "MPI_Scatter", "MPI_Iscatter", SIZES, [ROOT, IN_PLACE],
        BYTES, "a block of the root to each rank",
        "The size is one block (MPI_UINT8_T).";
    "scatterv", "iscatterv", Scatterv, "MPI_Scatterv", "MPI_Iscatterv", SIZES, [ROOT, COUNTS, IN_PLACE],
        BYTES, "a block of the root to each rank, of sizes that may differ",
        "The size is one block (MPI_UINT8_T), with --counts unequal their mean.";
    "allgather", "iallgather", Allgather, "MPI_Allgather", "MPI_Iallgather", SIZES, [IN_PLACE],
        BYTES, "a block of each rank to all",
        "The size is one rank's block (MPI_UINT8_T).";
    "allgatherv", "iallgatherv", Allgatherv, "MPI_Allgatherv", "MPI_Iallgatherv", SIZES, [COUNTS, IN_PLACE],
        BYTES, "a block of each rank to all, of sizes that may differ",
        "The size is one rank's block (MPI_UINT8_T), with --counts unequal their mean.";
    "alltoall", "ialltoall", Alltoall, "MPI_Alltoall", "MPI_Ialltoall", SIZES, [IN_PLACE],
        BYTES, "a block of each rank to each",
        "The size is the block for one rank (MPI_UINT8_T).";
    "alltoallv", "ialltoallv", Alltoallv, "MPI_Alltoallv", "MPI_Ialltoallv", SIZES, [COUNTS, IN_PLACE],
        BYTES, "a block of each rank to each, of sizes that may differ",
        "The size is the block for one rank (MPI_UINT8_T), with --counts unequal their mean.";
    "neighbor_allgather", "ineighbor_allgather", NeighborAllgather, "MPI_Neighbor_allgather", "MPI_Ineighbor_allgather", SIZES, [],
        BYTES, "a block of each rank to its neighbours",
        "The neighbours are four, on a periodic grid of two dimensions (MPI_Dims_create, \
        MPI_Cart_create without reordering); the size is the block for each (MPI_UINT8_T).";
    "neighbor_alltoall", "ineighbor_alltoall", NeighborAlltoall, "MPI_Neighbor_alltoall", "MPI_Ineighbor_alltoall", SIZES, [],
        BYTES, "a block of each rank to each of its neighbours",
        "The neighbours are four, on a periodic grid of two dimensions (MPI_Dims_create, \
        MPI_Cart_create without reordering); the size is the block for each (MPI_UINT8_T).";
    "barrier", "ibarrier", Barrier, "MPI_Barrier", "MPI_Ibarrier", None, [],
        ORDER, "all ranks wait for each other",
        "What makes the ranks begin together is not timed.";
}

/// Refuses a root that is no rank, and buffers with more elements than MPI counts.
pub fn check(row: &Row, point: &Point) -> Result<(), String> {
    let (name, ranks) = (row.name, point.ranks);
    if let Ok(root) = point.word("root").parse::<usize>()
        && root >= ranks
    {
        return Err(format!(
            "--root {root}: there are {ranks} ranks, of which the last is {}",
            ranks - 1
        ));
    }
    let element = spec::element_bytes(point.word("type"));
    let elements = point.size() / element;
    let largest = shape(name).map_or(0, |shape| shape.largest(ranks, elements));
    if largest > spec::MAX_MESSAGE_BYTES {
        return Err(format!(
            "-m {}: {name} over {ranks} ranks needs a buffer of {largest} elements, and MPI counts \
             them in a C int, up to {}: use a smaller -m or fewer ranks",
            point.size(),
            spec::MAX_MESSAGE_BYTES
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn point(size: usize, ranks: usize, choices: &serde_json::Value) -> Point {
        Point {
            size_bytes: Some(size),
            choices: choices.as_object().cloned().unwrap_or_default(),
            iterations: 1,
            warmup: 0,
            window: None,
            synchronisation: None,
            clock: None,
            time_budget_s: None,
            ci_width: None,
            delay: None,
            spoil: false,
            ranks,
            nodes: 1,
        }
    }

    fn row(name: &str) -> &'static Row {
        ROWS.iter().find(|row| row.name == name).expect(name)
    }

    #[test]
    fn buffers_beyond_a_c_int_are_refused() {
        let gib = 1 << 30;
        let plain = json!({});
        for name in [
            "allgather",
            "ialltoallv",
            "gather",
            "scatterv",
            "ineighbor_alltoall",
        ] {
            assert!(check(row(name), &point(gib, 4, &plain)).is_err(), "{name}");
            assert!(
                check(row(name), &point(1 << 20, 4, &plain)).is_ok(),
                "{name}"
            );
        }
        assert!(check(row("bcast"), &point(gib, 4, &plain)).is_ok());
        // Elements are counted, not bytes.
        let wide = json!({"type": "f64"});
        assert!(check(row("reduce_scatter_block"), &point(gib, 4, &wide)).is_ok());
        let narrow = json!({"type": "u8"});
        let error = check(row("reduce_scatter_block"), &point(gib, 4, &narrow));
        assert!(error.expect_err("4 GiB").contains("4294967296 elements"));
    }

    #[test]
    fn roots_are_ranks_of_the_world() {
        let with = |root| check(row("ireduce"), &point(4, 3, &json!({"root": root})));
        assert!(with("2").is_ok() && with("rotate").is_ok());
        assert!(with("3").expect_err("0 to 2").contains("the last is 2"));
    }

    #[test]
    fn every_row_has_a_shape() {
        assert!(ROWS.iter().all(|row| shape(row.name).is_some()));
    }
}
