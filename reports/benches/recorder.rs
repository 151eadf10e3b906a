//! What the harness costs per operation: the floor under everything the suite measures.

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use reports::measure::{Clock, Limit, Plan, Recorder, Silent, Verified, Workload, run};
use reports::model::Work;
use std::hint::black_box;
use std::time::Duration;

/// One operation that does nothing but stamp and record.
struct Null;

impl Workload for Null {
    fn prepare(&mut self) -> anyhow::Result<()> {
        Ok(())
    }
    fn step(&mut self, rec: &mut Recorder) -> anyhow::Result<Work> {
        rec.lap();
        Ok(Work::op(0))
    }
    fn verify(&mut self, total: Work) -> anyhow::Result<Verified> {
        Ok(Verified {
            checks: total.ops,
            what: "empty operations were counted".to_owned(),
        })
    }
}

fn recorder(criterion: &mut Criterion) {
    let clock = Clock::get();
    let mut group = criterion.benchmark_group("recorder");
    group.throughput(Throughput::Elements(1));
    group.bench_function("clock", |bencher| bencher.iter(|| black_box(clock.now())));
    let mut rec = Recorder::new(clock, 0);
    group.bench_function("record", |bencher| {
        let mut ns = 0;
        bencher.iter(|| {
            ns = (ns + 977) & 0xffff;
            rec.record_ns(black_box(ns));
        });
    });
    group.bench_function("lap", |bencher| bencher.iter(|| rec.lap()));
    group.finish();

    // The whole loop: dispatch, stamp, record, bounds. Reported per operation.
    let mut group = criterion.benchmark_group("harness");
    group.throughput(Throughput::Elements(1));
    group.bench_function("null_operation", |bencher| {
        bencher.iter_custom(|operations| {
            let plan = Plan {
                threads: 1,
                ramp: Duration::ZERO,
                warmup: Limit::Ops(1000),
                run: Limit::Ops(operations.max(1)),
                interval: Duration::from_secs(1),
                slice_histograms: false,
            };
            let totals = run(&plan, &Silent, |_| Ok(Box::new(Null))).expect("null cannot fail");
            Duration::from_secs_f64(totals.elapsed_s)
        });
    });
    group.finish();
}

criterion_group!(benches, recorder);
criterion_main!(benches);
