//! Labelled lines: a column of names, and beside it what is to say of each, folded to the width.

use super::style::Style;
use super::text::{columns, fold, pad};

/// The label column where the width does not matter: wide enough for the metrics' names.
const LABEL: usize = 28;
/// The narrowest label column.
const SHORTEST_LABEL: usize = 12;
/// From this width on the label column has its full width.
const WIDE: usize = 100;
/// Text that would have fewer columns beside its label goes below it.
const LEAST_ROOM: usize = 44;
/// The indent of labels, and of text below its label.
const INDENT: usize = 2;

/// Labelled lines being written.
pub(super) struct Sheet {
    text: String,
    style: Style,
    label: usize,
}

impl Sheet {
    /// A sheet whose label column suits the longest of the labels.
    pub(super) fn new<'a>(style: Style, labels: impl Iterator<Item = &'a str>) -> Self {
        let label = match style.width {
            Some(width) if width < WIDE => labels
                .map(columns)
                .max()
                .unwrap_or(0)
                .clamp(SHORTEST_LABEL, LABEL),
            _ => LABEL,
        };
        Self {
            text: String::new(),
            style,
            label,
        }
    }

    /// What was written.
    pub(super) fn into_text(self) -> String {
        self.text
    }

    /// The columns beside a label.
    fn beside(&self) -> Option<usize> {
        let label = INDENT + self.label + 1;
        self.style.width.map(|width| width.saturating_sub(label))
    }

    /// The columns that lines for [`Self::lines`] may take.
    pub(super) fn room(&self) -> Option<usize> {
        match (self.beside(), self.style.width) {
            (Some(beside), Some(width)) if beside < LEAST_ROOM => Some(width - 2 * INDENT),
            (beside, _) => beside,
        }
    }

    /// A line without a label, in bold.
    pub(super) fn title(&mut self, title: &str) {
        for line in fold(title, self.style.width) {
            self.push(&self.style.bold(&line));
        }
    }

    /// A text below the title, each line of which is painted.
    pub(super) fn unlabelled(&mut self, text: &str, paint: impl Fn(&str) -> String) {
        let width = self.style.width.map(|width| width - INDENT);
        for line in fold(text, width) {
            self.push(&format!("{:INDENT$}{}", "", paint(&line)));
        }
    }

    /// A label and a text, each line of which is painted.
    pub(super) fn field(&mut self, label: &str, text: &str, paint: impl Fn(&str) -> String) {
        let fits = |room| columns(label) <= self.label && columns(text) <= room;
        let width = match self.beside() {
            Some(room) if fits(room) => None,
            _ => self.room(),
        };
        let lines = fold(text, width);
        if width.is_none() && self.beside().is_some() {
            let label = pad(label, self.label);
            self.push(&format!("{:INDENT$}{label} {}", "", paint(&lines[0])));
        } else {
            let painted: Vec<String> = lines.iter().map(|line| paint(line)).collect();
            self.lines(label, &painted);
        }
    }

    /// A label and lines that are laid out in [`Self::room`] columns.
    pub(super) fn lines(&mut self, label: &str, lines: &[String]) {
        let below = self.room() != self.beside();
        let mut label = pad(label, self.label);
        if below || columns(&label) > self.label {
            let width = self.style.width.map(|width| width - INDENT);
            for line in fold(label.trim_end(), width) {
                self.push(&format!("{:INDENT$}{line}", ""));
            }
            label = pad("", self.label);
        }
        for line in lines {
            if below {
                self.push(&format!("{:indent$}{line}", "", indent = 2 * INDENT));
            } else {
                self.push(&format!("{:INDENT$}{label} {line}", ""));
                label = pad("", self.label);
            }
        }
    }

    fn push(&mut self, line: &str) {
        self.text.push_str(line);
        self.text.push('\n');
    }
}
