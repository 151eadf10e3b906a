//! What GitHub's runners read: workflow commands that become annotations, and the size of a job
//! summary.
//!
//! A runner obeys every line that begins with `::`, so report text is kept on its command's line:
//! `%`, CR and LF are written as `%25`, `%0D`, `%0A`, in properties also `:` and `,`, as the
//! toolkit's own `command.ts` does.

use super::Cases;
use crate::compare::{Class, Comparison, MetricComparison, Verdict};
use crate::render::compare::{cells, fails};
use crate::render::differences::in_words;
use crate::render::terminal::Style;
use crate::render::text::visible;
use crate::summary::{NoteKind, notes};

/// The most bytes that a step's summary may have; a longer one is not shown at all.
pub const SUMMARY_LIMIT: usize = 1 << 20;
/// The annotations of one level that are shown per step; further ones are dropped silently.
const SHOWN_PER_LEVEL: usize = 10;

/// An annotation, what weighs most first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Level {
    Error,
    Warning,
    Notice,
}

struct Annotation {
    level: Level,
    title: String,
    message: String,
}

impl Annotation {
    fn new(level: Level, title: &str, message: &str) -> Self {
        Self {
            level,
            title: visible(title).into_owned(),
            message: visible(message).into_owned(),
        }
    }
}

/// An annotation per failure, invalid or degraded result, and skip.
pub(super) fn cases(cases: &Cases) -> String {
    let annotation = |note: crate::summary::Note| {
        let level = match note.kind {
            NoteKind::Failed | NoteKind::Invalid => Level::Error,
            NoteKind::Degraded => Level::Warning,
            NoteKind::Skipped => Level::Notice,
        };
        let title = format!("{} {} ({})", note.kind.word(), note.about, note.runs);
        Annotation::new(level, &title, &note.text)
    };
    let notes = notes(&cases.summaries, &cases.labels);
    written(&notes.into_iter().map(annotation).collect::<Vec<_>>())
}

/// An annotation per verdict that is not "no difference", per obstacle, per confounder.
pub(super) fn comparison(comparison: &Comparison) -> String {
    let mut found = Vec::new();
    for blocked in &comparison.blocked {
        let title = format!("not comparable: {}", blocked.case);
        let (a, b) = (blocked.a.join(", "), blocked.b.join(", "));
        let message = format!("{}: A {a}; B {b}", blocked.field);
        found.push(Annotation::new(Level::Error, &title, &message));
    }
    for case in &comparison.cases {
        let label = &case.label;
        let metrics = case.metrics.iter();
        found.extend(metrics.filter_map(|metric| verdict(label, metric)));
        if case.metrics.is_empty() {
            let title = format!("insufficient: {label}");
            found.push(Annotation::new(
                Level::Warning,
                &title,
                "no valid run has a number",
            ));
        }
    }
    let own = comparison.cases.iter().flat_map(|case| &case.confounders);
    let mut confounders: Vec<String> = comparison
        .environment
        .iter()
        .chain(own)
        .filter(|difference| difference.class == Class::Confounder)
        .map(in_words)
        .collect();
    confounders.sort();
    confounders.dedup();
    for confounder in confounders {
        let title = "the environments differ";
        found.push(Annotation::new(Level::Warning, title, &confounder));
    }
    written(&found)
}

fn verdict(label: &str, metric: &MetricComparison) -> Option<Annotation> {
    let level = match metric.verdict {
        _ if fails(metric) => Level::Error,
        Verdict::Worse | Verdict::Confounded | Verdict::Insufficient => Level::Warning,
        Verdict::Better | Verdict::Differs => Level::Notice,
        Verdict::Same => return None,
    };
    let [title, a, b, effect, interval, .., verdict] = cells(metric, &Style::PLAIN);
    let title = format!("{verdict}: {label} {title}");
    let gate = metric.gate.map(|gate| format!(", gate {}", gate.threshold));
    let message = match &metric.reason {
        Some(reason) => reason.clone(),
        None => {
            let gate = gate.unwrap_or_default();
            format!("A {a}, B {b}, B/A {effect}, 95 % interval {interval}{gate}")
        }
    };
    Some(Annotation::new(level, &title, &message))
}

/// A command per annotation. Beyond what GitHub shows of a level, the last one lists the others.
fn written(annotations: &[Annotation]) -> String {
    let mut text = String::new();
    for (level, command) in [
        (Level::Error, "error"),
        (Level::Warning, "warning"),
        (Level::Notice, "notice"),
    ] {
        let of_level = annotations.iter().filter(|found| found.level == level);
        let of_level: Vec<&Annotation> = of_level.collect();
        let alone = match of_level.len() {
            0..=SHOWN_PER_LEVEL => of_level.len(),
            _ => SHOWN_PER_LEVEL - 1,
        };
        let (alone, rest) = of_level.split_at(alone);
        for Annotation { title, message, .. } in alone {
            text.push_str(&line(command, title, message));
        }
        if !rest.is_empty() {
            let lines = rest
                .iter()
                .map(|found| format!("{}: {}", found.title, found.message));
            let lines: Vec<String> = lines.collect();
            let title = format!("{} more", rest.len());
            text.push_str(&line(command, &title, &lines.join("\n")));
        }
    }
    text
}

fn line(command: &str, title: &str, message: &str) -> String {
    let data = |text: &str| {
        let percent = text.replace('%', "%25");
        percent.replace('\r', "%0D").replace('\n', "%0A")
    };
    let title = data(title).replace(':', "%3A").replace(',', "%2C");
    format!("::{command} title={title}::{}\n", data(message))
}

/// A summary cut after a line so that it fits beside the bytes that a step's summary holds already,
/// saying so; `None` if nothing fits.
pub(super) fn fit_summary(mut text: String, held: usize) -> Option<String> {
    const CUT: &str = "\n*The rest is left out: a job summary holds 1 MiB.*\n";
    let room = SUMMARY_LIMIT.checked_sub(held)?;
    if text.len() <= room {
        return Some(text);
    }
    let kept = text.as_bytes().get(..room.checked_sub(CUT.len())?)?;
    let end = kept.iter().rposition(|byte| *byte == b'\n')? + 1;
    text.truncate(end);
    text.push_str(CUT);
    Some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn annotations(count: usize) -> Vec<Annotation> {
        let each = |index| Annotation::new(Level::Error, &format!("t{index}"), "m");
        (0..count).map(each).collect()
    }

    #[test]
    fn a_command_stays_on_its_line() {
        let hostile = Annotation {
            level: Level::Error,
            title: "a,b: 100 %\r\n::add-mask::x".to_owned(),
            message: "50 %, done:\n::stop-commands::x".to_owned(),
        };
        assert_eq!(
            written(&[hostile]),
            "::error title=a%2Cb%3A 100 %25%0D%0A%3A%3Aadd-mask%3A%3Ax\
             ::50 %25, done:%0A::stop-commands::x\n"
        );
    }

    #[test]
    fn none_is_dropped_silently() {
        assert_eq!(written(&annotations(10)).lines().count(), 10);
        let many = written(&annotations(25));
        assert_eq!(many.lines().count(), 10);
        assert!(
            many.contains("::error title=16 more::t9: m%0At10: m%0A"),
            "{many}"
        );
    }

    #[test]
    fn a_summary_is_cut_after_a_line() {
        let text = "0123456789\n".repeat(200_000);
        let fitted = fit_summary(text.clone(), 100).expect("it fits in part");
        assert!(fitted.len() <= SUMMARY_LIMIT - 100 && fitted.len() > SUMMARY_LIMIT - 200);
        assert!(
            fitted.ends_with("0123456789\n\n*The rest is left out: a job summary holds 1 MiB.*\n")
        );
        assert_eq!(
            fit_summary("short\n".to_owned(), 0).as_deref(),
            Some("short\n")
        );
        assert_eq!(fit_summary(text, SUMMARY_LIMIT + 1), None);
    }
}
