//! Everything that a summary's numbers do not say: what failed, what was skipped, what is doubtful.

use super::CaseSummary;
use crate::model::{Flag, Severity};
use std::collections::BTreeMap;

/// What a note is about, what weighs most first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum NoteKind {
    /// It should have run and did not.
    Failed,
    /// It could not run here.
    Skipped,
    /// It ran, and the numbers do not stand.
    Invalid,
    /// It ran, and the numbers stand for less than they seem to.
    Degraded,
}

impl NoteKind {
    /// The word that stands before the note.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Failed => "failed",
            Self::Skipped => "skipped",
            Self::Invalid => "INVALID",
            Self::Degraded => "degraded",
        }
    }
}

/// One reason, with the runs that gave it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Note {
    /// What it is about.
    pub kind: NoteKind,
    /// The case's label; of a flag, which several points of a benchmark may share, its id and arm.
    pub about: String,
    /// How many runs: `1 run`, `2 of 6 runs`.
    pub runs: String,
    /// The error, the reason, or the flag's code and evidence.
    pub text: String,
}

/// Every reason once, failures and skips first. A flag that several points of a benchmark share is
/// one note, with one run's evidence. `labels` are those of [`super::labels`].
#[must_use]
pub fn notes(cases: &[CaseSummary], labels: &[String]) -> Vec<Note> {
    let mut notes = Vec::new();
    for (case, label) in cases.iter().zip(labels) {
        let failed = case.failed.iter().map(|found| (NoteKind::Failed, found));
        let skipped = case.skipped.iter().map(|found| (NoteKind::Skipped, found));
        notes.extend(failed.chain(skipped).map(|(kind, (text, runs))| Note {
            kind,
            about: label.clone(),
            runs: count(*runs, "run"),
            text: text.clone(),
        }));
    }
    notes.extend(flags(cases));
    notes
}

/// A flag and the points that share it.
struct Shared<'a> {
    case: &'a CaseSummary,
    flag: &'a Flag,
    flagged: usize,
    measured: usize,
}

fn flags(cases: &[CaseSummary]) -> Vec<Note> {
    let mut order = Vec::new();
    let mut found: BTreeMap<_, Shared<'_>> = BTreeMap::new();
    for case in cases {
        for (flag, runs) in &case.flags {
            let key = (&case.benchmark.id, &case.arm, &flag.code, flag.severity);
            let shared = found.entry(key).or_insert_with(|| {
                order.push(key);
                Shared {
                    case,
                    flag,
                    flagged: 0,
                    measured: 0,
                }
            });
            shared.flagged += runs;
            shared.measured += case.measured;
        }
    }
    let notes = order.iter().filter_map(|key| {
        let shared = &found[key];
        let kind = match shared.flag.severity {
            Severity::Info => return None,
            Severity::Degraded => NoteKind::Degraded,
            Severity::Invalid => NoteKind::Invalid,
        };
        let arm = shared.case.arm.as_ref().map(|arm| format!(" [{arm}]"));
        Some(Note {
            kind,
            about: format!("{}{}", shared.case.benchmark.id, arm.unwrap_or_default()),
            runs: format!("{} of {}", shared.flagged, count(shared.measured, "run")),
            text: format!("{}: {}", shared.flag.code, shared.flag.evidence),
        })
    });
    notes.collect()
}

/// How many cases were measured, skipped, failed.
#[must_use]
pub fn tally(cases: &[CaseSummary]) -> String {
    let failed = cases.iter().filter(|case| !case.failed.is_empty()).count();
    let skipped = cases
        .iter()
        .filter(|c| c.failed.is_empty() && !c.skipped.is_empty())
        .count();
    let invalid = cases.iter().filter(|case| case.is_invalid()).count();
    let measured = cases.len() - failed - skipped;
    format!(
        "{measured} cases measured ({invalid} of them invalid), {skipped} skipped, {failed} failed"
    )
}

/// `1 run`, `2 runs`.
#[must_use]
pub(crate) fn count(number: usize, what: &str) -> String {
    match number {
        1 => format!("1 {what}"),
        number => format!("{number} {what}s"),
    }
}
