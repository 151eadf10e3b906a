//! The harness driven by workloads whose every step is known.

use super::*;
use crate::measure::{Silent, decode_histogram};
use std::sync::atomic::AtomicUsize;

/// Moves ten bytes per operation; fails, ends or stalls where told.
#[derive(Default)]
struct Scripted {
    steps: u64,
    prepare_error: Option<&'static str>,
    fail_at: Option<u64>,
    finish_at: Option<u64>,
    stall_at: Option<(u64, Duration)>,
    checks: Option<u64>,
}

impl Workload for Scripted {
    fn prepare(&mut self) -> anyhow::Result<()> {
        self.prepare_error
            .map_or(Ok(()), |error| Err(anyhow::anyhow!(error)))
    }

    fn step(&mut self, rec: &mut Recorder) -> anyhow::Result<Work> {
        self.steps += 1;
        if self.fail_at == Some(self.steps) {
            anyhow::bail!("step {} failed", self.steps);
        }
        if let Some((step, length)) = self.stall_at
            && step == self.steps
        {
            thread::sleep(length);
        }
        if self.finish_at == Some(self.steps) {
            rec.finish();
        }
        rec.lap();
        Ok(Work::op(10))
    }

    fn verify(&mut self, total: Work) -> anyhow::Result<Verified> {
        anyhow::ensure!(
            total.ops == self.steps,
            "{} of {} steps",
            total.ops,
            self.steps
        );
        let checks = self.checks.unwrap_or(self.steps);
        Ok(Verified {
            checks,
            what: "steps were counted".to_owned(),
        })
    }
}

fn plan(threads: usize, warmup: Limit, run: Limit) -> Plan {
    Plan {
        threads,
        ramp: Duration::ZERO,
        warmup,
        run,
        interval: Duration::from_millis(10),
        slice_histograms: false,
    }
}

fn scripted(
    script: fn(usize) -> Scripted,
) -> impl FnMut(usize) -> anyhow::Result<Box<dyn Workload + Send>> {
    move |thread| Ok(Box::new(script(thread)))
}

#[test]
fn operation_bounds_are_exact_and_the_warm_up_is_not_counted() {
    let plan = plan(3, Limit::Ops(7), Limit::Ops(1000));
    let totals = run(&plan, &Silent, scripted(|_| Scripted::default())).expect("it runs");
    assert_eq!(
        totals.work,
        Work {
            ops: 3000,
            bytes: 30_000
        }
    );
    assert_eq!(totals.latencies.len(), 3000);
    assert_eq!(totals.verified, "3021 steps were counted");
}

/// Does up to seven operations in a step, and no more than the phase still takes.
#[derive(Default)]
struct Batches {
    done: u64,
}

impl Workload for Batches {
    fn prepare(&mut self) -> anyhow::Result<()> {
        Ok(())
    }

    fn step(&mut self, rec: &mut Recorder) -> anyhow::Result<Work> {
        let most = rec.left().min(7);
        for _ in 0..most {
            rec.lap();
        }
        self.done += most;
        Ok(Work {
            ops: most,
            bytes: 0,
        })
    }

    fn verify(&mut self, total: Work) -> anyhow::Result<Verified> {
        anyhow::ensure!(total.ops == self.done, "{} of {}", total.ops, self.done);
        Ok(Verified {
            checks: self.done,
            what: "operations were counted".to_owned(),
        })
    }
}

#[test]
fn steps_of_several_operations_know_how_many_are_left() {
    let plan = plan(2, Limit::Ops(10), Limit::Ops(100));
    let totals = run(&plan, &Silent, |_| Ok(Box::new(Batches::default()))).expect("it runs");
    assert_eq!(totals.work.ops, 200);
    assert_eq!(totals.latencies.len(), 200);
    assert_eq!(totals.verified, "220 operations were counted");
}

#[test]
fn slices_add_up_to_the_whole() {
    let mut plan = plan(
        2,
        Limit::Duration(Duration::from_millis(5)),
        Limit::Duration(Duration::from_millis(55)),
    );
    plan.slice_histograms = true;
    let totals = run(&plan, &Silent, scripted(|_| Scripted::default())).expect("it runs");
    let histograms = totals.intervals.iter();
    let histograms = histograms.filter_map(|interval| interval.hdr_v2_base64.as_deref());
    let counted = histograms.map(|text| decode_histogram(text).expect("well-formed").len());
    let counted: u64 = counted.sum();
    assert!(counted > 0 && counted <= totals.latencies.len());
    let sliced: Work = totals.intervals.iter().map(|interval| interval.work).sum();
    assert_eq!(sliced, totals.work);
    assert_eq!(totals.latencies.len(), totals.work.ops);
    assert!(
        totals.intervals.len() >= 5,
        "{} slices",
        totals.intervals.len()
    );
    assert!(
        totals
            .intervals
            .iter()
            .all(|interval| interval.t1_s > interval.t0_s)
    );
}

#[test]
fn a_stall_leaves_empty_slices_behind_it_and_its_operation_in_the_last() {
    let stalling = |_| Scripted {
        stall_at: Some((5, Duration::from_millis(100))),
        finish_at: Some(5),
        ..Scripted::default()
    };
    let totals = run(
        &plan(1, Limit::Ops(0), Limit::UntilDone),
        &Silent,
        scripted(stalling),
    )
    .expect("it runs");
    assert_eq!(totals.work.ops, 5);
    let ops: Vec<u64> = totals
        .intervals
        .iter()
        .map(|interval| interval.work.ops)
        .collect();
    assert!(ops.len() >= 10, "{ops:?}");
    assert_eq!(ops.first(), Some(&4), "{ops:?}");
    assert_eq!(ops.last(), Some(&1), "{ops:?}");
    assert!(ops[1..ops.len() - 1].iter().all(|&ops| ops == 0), "{ops:?}");
}

#[test]
fn a_workload_ends_the_window_when_it_has_no_more_work() {
    let ending = |_| Scripted {
        finish_at: Some(12),
        ..Scripted::default()
    };
    let totals = run(
        &plan(1, Limit::Ops(2), Limit::UntilDone),
        &Silent,
        scripted(ending),
    )
    .expect("it runs");
    assert_eq!(totals.work.ops, 10);
}

#[test]
fn one_threads_error_stops_the_others_and_is_named() {
    let failing = |thread| Scripted {
        fail_at: (thread == 1).then_some(3),
        ..Scripted::default()
    };
    let forever = Limit::Duration(Duration::from_secs(3600));
    let error = run(&plan(3, Limit::Ops(0), forever), &Silent, scripted(failing))
        .expect_err("thread 1 fails");
    assert_eq!(format!("{error:#}"), "thread 1: step 3 failed");
}

#[test]
fn one_threads_failed_preparation_releases_the_others() {
    let failing = |thread| Scripted {
        prepare_error: (thread == 2).then_some("no such device"),
        ..Scripted::default()
    };
    let forever = Limit::Duration(Duration::from_secs(3600));
    let error = run(&plan(3, Limit::Ops(0), forever), &Silent, scripted(failing))
        .expect_err("thread 2 fails");
    assert_eq!(format!("{error:#}"), "thread 2: no such device");
}

#[test]
fn verifying_nothing_is_a_failure() {
    let lazy = |_| Scripted {
        checks: Some(0),
        ..Scripted::default()
    };
    let error = run(
        &plan(1, Limit::Ops(0), Limit::Ops(3)),
        &Silent,
        scripted(lazy),
    )
    .expect_err("nothing was checked");
    assert!(
        error.to_string().contains("nothing was verified"),
        "{error}"
    );
}

#[test]
fn the_observer_hears_every_slice() {
    struct Counting(AtomicUsize);
    impl Observer for Counting {
        fn event(&self, event: &Event<'_>) {
            if let Event::Interval(_) = event {
                self.0.fetch_add(1, Ordering::Relaxed);
            }
        }
    }
    let counting = Counting(AtomicUsize::new(0));
    let plan = plan(2, Limit::Ops(0), Limit::Duration(Duration::from_millis(50)));
    let totals = run(&plan, &counting, scripted(|_| Scripted::default())).expect("it runs");
    assert_eq!(counting.0.into_inner(), totals.intervals.len());
}

#[test]
fn impossible_plans_are_refused() {
    let mut plan = plan(0, Limit::Ops(0), Limit::Ops(1));
    assert!(run(&plan, &Silent, scripted(|_| Scripted::default())).is_err());
    plan.threads = 1;
    plan.interval = Duration::from_millis(9);
    assert!(run(&plan, &Silent, scripted(|_| Scripted::default())).is_err());
}
