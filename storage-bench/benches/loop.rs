//! What the loop of a job costs per operation: over an engine that does nothing, and over a ring
//! through which nothing is asked. Both are floors under every other result.

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use reports::case::Availability;
use reports::measure::Silent;
use storage_bench::cases::run_jobs;
use storage_bench::engine::{Engine, Nops, Null, Uring, probe_uring};
use storage_bench::spec::{self, EngineName, PatternSpec, Rw, Spec};
use storage_bench::target;

/// Operations under way at a time, in batches as `t/io_uring` has them.
const DEPTH: usize = 128;
const BATCH: usize = 32;

fn asked(engine: EngineName, rw: Rw, operations: u64) -> Spec {
    Spec {
        engine,
        pattern: PatternSpec {
            rw,
            bs: 512,
            ..PatternSpec::default()
        },
        iodepth: DEPTH,
        iodepth_batch: BATCH,
        ramp_time_s: 0.01,
        number_ios: Some(operations.max(1)),
        ..spec::example()
    }
}

/// How long so many operations take.
fn time<E: Engine + 'static>(engine: EngineName, rw: Rw, operations: u64) -> std::time::Duration {
    let spec = asked(engine, rw, operations);
    let target = target::open(&spec, 0).expect("nothing is opened");
    let (totals, _) = run_jobs::<E>(&spec, &target, &Silent).expect("nothing can fail");
    // The last batch is completed, which may be more than was asked for.
    let each = totals.elapsed_s / totals.work.ops as f64;
    std::time::Duration::from_secs_f64(each * operations as f64)
}

fn loops(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("loop");
    group.throughput(Throughput::Elements(1));
    for (name, rw) in [
        ("null_read", Rw::Read),
        ("null_randread", Rw::Randread),
        ("null_randwrite", Rw::Randwrite),
        ("null_randrw", Rw::Randrw),
    ] {
        group.bench_function(name, |bencher| {
            bencher.iter_custom(|operations| time::<Null>(EngineName::Null, rw, operations));
        });
    }
    match probe_uring() {
        Availability::Available => drop(group.bench_function("nop", |bencher| {
            let nops = |operations| time::<Uring<Nops>>(EngineName::Uring, Rw::Read, operations);
            bencher.iter_custom(nops);
        })),
        Availability::Unavailable { reason } => println!("SKIPPED nop: {reason}"),
    }
    group.finish();
}

criterion_group!(benches, loops);
criterion_main!(benches);
