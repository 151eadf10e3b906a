//! Columns of numbers below headings that are wider than they: what comparisons and ratios are laid
//! out on.

use super::terminal::Style;
use super::text::{columns, push_folded};

/// Where the text of a column stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Alignment {
    Left,
    Right,
}

enum Line {
    Heading(String),
    Row(Vec<String>),
}

/// Lines whose columns are aligned at the end.
pub(super) struct Grid {
    columns: Vec<(&'static str, Alignment)>,
    lines: Vec<Line>,
}

/// What precedes a row, so that headings stand out.
const INDENT: usize = 2;
/// Spaces between columns.
const GAP: usize = 2;

impl Grid {
    pub(super) fn new(columns: &[(&'static str, Alignment)]) -> Self {
        Self {
            columns: columns.to_vec(),
            lines: Vec::new(),
        }
    }

    /// A line of its own, which takes no part in the columns.
    pub(super) fn heading(&mut self, text: String) {
        self.lines.push(Line::Heading(text));
    }

    /// A row of cells, one per column.
    pub(super) fn row<const N: usize>(&mut self, cells: [String; N]) {
        debug_assert_eq!(N, self.columns.len());
        self.lines.push(Line::Row(cells.into()));
    }

    fn widths(&self) -> Vec<usize> {
        let mut widths: Vec<usize> = self.columns.iter().map(|(name, _)| columns(name)).collect();
        for line in &self.lines {
            if let Line::Row(cells) = line {
                for (width, cell) in widths.iter_mut().zip(cells) {
                    *width = (*width).max(columns(cell));
                }
            }
        }
        widths
    }

    /// The columns of the terminal that the rows take.
    pub(super) fn width(&self) -> usize {
        let widths = self.widths();
        INDENT + widths.iter().sum::<usize>() + GAP * widths.len().saturating_sub(1)
    }

    /// The lines, below the names of the columns and a rule.
    pub(super) fn finish(self, style: Style) -> String {
        let widths = self.widths();
        let mut text = String::new();
        let names: Vec<String> = self
            .columns
            .iter()
            .map(|(name, _)| (*name).to_owned())
            .collect();
        push_row(&mut text, &names, &self.columns, &widths);
        text.push_str(&style.faint(&"─".repeat(self.width())));
        text.push('\n');
        for line in &self.lines {
            match line {
                Line::Heading(heading) => push_folded(&mut text, heading, 2, style.width),
                Line::Row(cells) => push_row(&mut text, cells, &self.columns, &widths),
            }
        }
        text
    }
}

fn push_row(
    text: &mut String,
    cells: &[String],
    alignments: &[(&'static str, Alignment)],
    widths: &[usize],
) {
    let mut line = " ".repeat(INDENT);
    for (at, (cell, ((_, alignment), width))) in
        cells.iter().zip(alignments.iter().zip(widths)).enumerate()
    {
        if at > 0 {
            line.push_str(&" ".repeat(GAP));
        }
        let space = " ".repeat(width.saturating_sub(columns(cell)));
        match alignment {
            Alignment::Left => line.extend([cell.as_str(), &space]),
            Alignment::Right => line.extend([space.as_str(), cell]),
        }
    }
    text.push_str(line.trim_end());
    text.push('\n');
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_their_widest_cell_and_colours_take_no_room() {
        let mut grid = Grid::new(&[("name", Alignment::Left), ("value", Alignment::Right)]);
        grid.heading("a heading that is wider than all rows".to_owned());
        grid.row(["\u{1b}[32mµs\u{1b}[0m".to_owned(), "12.25".to_owned()]);
        grid.row(["longer".to_owned(), "1".to_owned()]);
        assert_eq!(grid.width(), 15);
        let text = grid.finish(Style::PLAIN);
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines[0], "  name    value");
        assert_eq!(lines[1].chars().count(), 15);
        assert_eq!(lines[3], "  \u{1b}[32mµs\u{1b}[0m      12.25");
        assert_eq!(lines[4], "  longer      1");
    }
}
