//! Columns of numbers below headings that are wider than they: what comparisons, ratios and rankings
//! are laid out on.

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
pub(super) struct Grid<'a> {
    columns: Vec<(&'a str, Alignment)>,
    lines: Vec<Line>,
}

/// What precedes a row, so that headings stand out.
const INDENT: usize = 2;
/// Spaces between columns.
const GAP: usize = 2;

impl<'a> Grid<'a> {
    pub(super) fn new(columns: &[(&'a str, Alignment)]) -> Self {
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
    pub(super) fn row(&mut self, cells: impl Into<Vec<String>>) {
        let cells = cells.into();
        debug_assert_eq!(cells.len(), self.columns.len());
        self.lines.push(Line::Row(cells));
    }

    /// The same without the first of these columns, as many of them as it takes to fit the style's
    /// width.
    pub(super) fn fitted(mut self, style: Style, dispensable: &[usize]) -> Self {
        let mut without: Vec<usize> = Vec::new();
        for &column in dispensable {
            if style.width.is_none_or(|width| self.width() <= width) {
                break;
            }
            // Columns that went already have moved those behind them.
            let before = without.iter().filter(|&&gone| gone < column).count();
            self.drop_column(column - before);
            without.push(column);
        }
        self
    }

    /// Whether there is, or still is, a column of this name.
    pub(super) fn has(&self, name: &str) -> bool {
        self.columns.iter().any(|(column, _)| *column == name)
    }

    fn drop_column(&mut self, column: usize) {
        self.columns.remove(column);
        for line in &mut self.lines {
            if let Line::Row(cells) = line {
                cells.remove(column);
            }
        }
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
    alignments: &[(&str, Alignment)],
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
    fn dispensable_columns_go_until_the_rest_fits() {
        let columns = ["a", "b", "c", "d"].map(|name| (name, Alignment::Left));
        let grid = |width: Option<usize>| {
            let mut grid = Grid::new(&columns);
            grid.row(["11", "22", "33", "44"].map(str::to_owned));
            let style = Style {
                width,
                ..Style::PLAIN
            };
            let text = grid.fitted(style, &[1, 3]).finish(style);
            text.lines().last().unwrap_or_default().to_owned()
        };
        assert_eq!(grid(None), "  11  22  33  44");
        assert_eq!(grid(Some(12)), "  11  33  44");
        assert_eq!(grid(Some(1)), "  11  33");
    }

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
