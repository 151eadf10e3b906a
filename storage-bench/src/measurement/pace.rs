//! What an open loop is judged by: what was offered, what became of it, and whether this program
//! kept its own schedule.

use crate::workload::job::Kept;
use reports::measure::{Totals, percentile};
use reports::model::{Aggregation, Direction, Metric, Severity, Unit, Validity};
use reports::render::units::human;

/// Less than this share of what was offered is an overload.
const ACHIEVED: f64 = 0.98;
/// So few operations may be under way when the window closes.
const FEW: u64 = 5;
/// Beyond this share of the response time, the program's own lateness is no longer noise.
const LATE_SHARE: f64 = 0.1;
/// Lateness below this, in nanoseconds, is what polling costs.
const LATE_NS: f64 = 10_000.0;

/// What was offered and achieved, and how far the device fell behind.
pub(super) fn metrics(totals: &Totals, kept: Kept) -> [Metric; 4] {
    let metric = |name, unit, direction, value| {
        Metric::new(
            name,
            Aggregation::Total,
            unit,
            direction,
            value,
            kept.offered,
        )
    };
    let (offered, done) = (kept.offered as f64, totals.work.ops as f64);
    let lower = Direction::LowerIsBetter;
    [
        metric(
            "offered_iops",
            Unit::PerSecond,
            Direction::Neutral,
            offered / totals.elapsed_s,
        ),
        metric(
            "achieved_ratio",
            Unit::Ratio,
            Direction::HigherIsBetter,
            done / offered,
        )
        .headline(),
        metric("backlog_max", Unit::Count, lower, kept.backlog_max as f64),
        metric("unsent_ios", Unit::Count, lower, kept.unsent as f64),
    ]
}

/// What that says against the numbers.
pub(super) fn flag(totals: &Totals, kept: Kept, validity: &mut Validity) {
    let (offered, done) = (kept.offered, totals.work.ops);
    if (done as f64) < ACHIEVED * offered as f64 && offered - done > FEW {
        let evidence = format!(
            "of {offered} operations that became due in the window {done} ended ({:.1} %), and {} \
             had not begun: the response times are those of a growing queue, and those of the \
             operations that still waited are missing",
            100.0 * done as f64 / offered as f64,
            kept.unsent
        );
        validity.flag(Severity::Degraded, "overload", evidence);
    }
    let mut extra = totals.extra.iter();
    let Some((_, late)) = extra.find(|(name, _)| *name == "late_start_ns") else {
        return;
    };
    let response = percentile(&totals.latencies, 0.99);
    let Some(response) = response.known() else {
        return;
    };
    let p99 = late.value_at_quantile(0.99) as f64;
    if p99 > LATE_NS.max(LATE_SHARE * response) {
        let evidence = format!(
            "operations began {} after they were due (p99), though a slot was free: so much of the \
             response time's p99 of {} is this program's; it needs a CPU of its own, or more \
             --numjobs",
            human(p99, Unit::Nanoseconds),
            human(*response, Unit::Nanoseconds)
        );
        validity.flag(Severity::Degraded, "late_generator", evidence);
    }
}
