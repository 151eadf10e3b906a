//! A suite's plan for a terminal: what would run, and in which order.

use super::terminal::Style;
use super::text::{folded, visible};
use crate::suite::{Plan, Server, Suite, Unit};
use crate::summary::count;
use std::collections::BTreeSet;
use std::fmt::Write as _;

/// The plan: its commands, then its rounds. Writing to a string cannot fail.
#[must_use]
pub fn plan(suite: &Suite, plan: &Plan, seed: u64, style: &Style) -> String {
    let mut text = String::new();
    let wanted: BTreeSet<usize> = plan.order.iter().map(|run| run.unit).collect();
    let rows: BTreeSet<&str> = wanted
        .iter()
        .map(|&unit| plan.units[unit].row.as_str())
        .collect();
    let _ = writeln!(
        text,
        "{}: {} of {} under {}; the order is drawn with seed {seed}",
        style.bold(&visible(&suite.name)),
        count(plan.order.len(), "run"),
        count(rows.len(), "row"),
        count(wanted.len(), "command"),
    );
    let limits = limits(suite);
    if !limits.is_empty() {
        let _ = writeln!(text, "{limits}");
    }
    for &unit in &wanted {
        let unit = &plan.units[unit];
        let _ = writeln!(
            text,
            "  {}  {}",
            style.bold(&visible(&unit.name())),
            command(unit)
        );
    }
    for round in plan
        .order
        .chunk_by(|one, next| one.repetition == next.repetition)
    {
        let names: Vec<String> = round
            .iter()
            .map(|run| plan.units[run.unit].name())
            .collect();
        let number = round[0].repetition;
        let _ = writeln!(text, "round {number}: {}", visible(&names.join(", ")));
    }
    style.finish(folded(&text, style.width))
}

fn limits(suite: &Suite) -> String {
    let width = suite.stop_width.map(|width| {
        let percent = width * 100.0;
        format!("a row ends early once its interval is narrower than {percent} %")
    });
    let budget = suite
        .budget_s
        .map(|budget| format!("no round starts after {budget} s"));
    width
        .into_iter()
        .chain(budget)
        .collect::<Vec<_>>()
        .join("; ")
}

fn command(unit: &Unit) -> String {
    let mut words = Vec::new();
    words.extend(
        unit.env
            .iter()
            .map(|(name, value)| format!("{name}={}", quoted(value))),
    );
    words.extend(unit.command.iter().map(|word| quoted(word)));
    let mut text = words.join(" ");
    if let Some(bin) = &unit.bin {
        text.push_str(&format!("  (programs of {})", bin.display()));
    }
    if let Some(Server { command, port }) = &unit.server {
        let command: Vec<String> = command.iter().map(|word| quoted(word)).collect();
        text.push_str(&format!("  (beside: {}, port {port})", command.join(" ")));
    }
    visible(&text).into_owned()
}

/// A word as a shell takes it.
fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_.,=/:+@%".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        word.to_owned()
    } else {
        format!("'{}'", word.replace('\'', "'\\''"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_and_rounds_are_listed() {
        let text = r#"
            name = "s"
            repetitions = 2
            budget_s = 60
            [env]
            FI_PROVIDER = "tcp"
            [[row]]
            name = "rr"
            command = ["net-bench", "tcp_rr", "-c", "a b"]
            server = { command = ["net-bench", "serve"], port = 5280 }
        "#;
        let suite = Suite::parse(text).expect("well-formed");
        let text = super::plan(&suite, &Plan::new(&suite, 9), 9, &Style::PLAIN);
        for expected in [
            "s: 2 runs of 1 row under 1 command; the order is drawn with seed 9",
            "no round starts after 60 s",
            "rr  FI_PROVIDER=tcp net-bench tcp_rr -c 'a b'  (beside: net-bench serve, port 5280)",
            "round 2: rr",
        ] {
            assert!(text.contains(expected), "{expected:?}:\n{text}");
        }
    }
}
