//! The nodes of a screening as a list for people: what is wrong comes first.

use super::sheet::Sheet;
use super::style::Style;
use super::text::visible;
use crate::screen::{Finding, NotJudged, Screening, Status, Verdict, names};
use crate::summary::count;

/// What is said of the nodes.
#[must_use]
pub fn screening(screening: &Screening, style: &Style) -> String {
    let nodes = screening.nodes.iter().map(|node| node.node.as_str());
    let labels = nodes.chain(["not judged", "together"]);
    let mut sheet = Sheet::new(*style, labels);
    for status in [Status::Unreachable, Status::Failed, Status::Slow] {
        let of_status = screening.nodes.iter().filter(|node| node.status == status);
        let of_status: Vec<&Verdict> = of_status.collect();
        if !of_status.is_empty() {
            let nodes = count(of_status.len(), "node");
            sheet.title(&format!("{}: {nodes}", capital(status.word())));
            of_status
                .iter()
                .for_each(|node| of_node(&mut sheet, node, style));
        }
    }
    if !screening.together.is_empty() {
        sheet.title("No single node's fault:");
        for one in &screening.together {
            sheet.field("together", &visible(&in_words(one)), |line| style.bad(line));
        }
    }
    for (title, all) in [
        ("Failed:", &screening.failed),
        ("Not judged:", &screening.not_judged),
    ] {
        if !all.is_empty() {
            sheet.title(title);
        }
        for NotJudged { what, why } in all {
            sheet.unlabelled(
                &visible(&format!("{what}: {}", last_lines(why))),
                str::to_owned,
            );
        }
    }
    for note in &screening.notes {
        sheet.field("note", &visible(note), str::to_owned);
    }
    for status in [Status::NotJudged, Status::Good] {
        let number = screening.count(status);
        if number > 0 {
            let word = capital(status.word());
            sheet.title(&format!("{word}: {}", count(number, "node")));
            let paint = |line: &str| match status {
                Status::Good => style.good(line),
                _ => line.to_owned(),
            };
            sheet.unlabelled(&visible(&names(screening, status)), paint);
        }
    }
    sheet.into_text()
}

fn of_node(sheet: &mut Sheet, node: &Verdict, style: &Style) {
    let reasons = node.reasons.iter().map(|reason| last_lines(reason));
    let mut label = visible(&node.node);
    for text in reasons.chain(node.findings.iter().map(in_words)) {
        sheet.field(&label, &visible(&text), |line| style.bad(line));
        label = "".into();
    }
}

fn in_words(finding: &Finding) -> String {
    format!("{}: {} [{}]", finding.rule, finding.evidence, finding.case)
}

/// A text in one line, of a long one the end: what programs print last says why they ended.
fn last_lines(text: &str) -> String {
    const MOST: usize = 300;
    let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
    match text.char_indices().rev().nth(MOST) {
        Some((at, _)) => {
            let head: String = text.chars().take(80).collect();
            format!("{head} … {}", &text[at..])
        }
        None => text,
    }
}

fn capital(word: &str) -> String {
    let mut letters = word.chars();
    let first = letters.next().map(|letter| letter.to_ascii_uppercase());
    first.into_iter().chain(letters).collect()
}
