//! Text on its way to a reader: made harmless, measured in columns, folded, aligned.
//!
//! Reports are files that others wrote, and their strings reach terminals, logs and pages. What
//! would act on a terminal instead of being read there is spelt out here: control characters,
//! escape sequences, and the invisible characters that reorder or hide text.

use std::borrow::Cow;
use std::fmt::Write as _;
use unicode_width::{UnicodeWidthChar, UnicodeWidthStr};

/// The columns that [`beside`] leaves to names, however wide the numbers are.
const SHORTEST_NAME: usize = 8;

/// What every colour code begins with.
const ESCAPE: char = '\u{1b}';

/// The no-break space.
const UNBROKEN: &str = "\u{a0}";

/// Text in one line with nothing hidden in it: a line feed reads `\n`, an escape `\u{1b}`.
#[must_use]
pub fn visible(text: &str) -> Cow<'_, str> {
    spell_out(text, acts)
}

/// As [`visible`], but lines stay lines: for messages that have several.
#[must_use]
pub fn visible_lines(text: &str) -> Cow<'_, str> {
    spell_out(text, |c| c != '\n' && acts(c))
}

fn spell_out(text: &str, hidden: impl Fn(char) -> bool) -> Cow<'_, str> {
    if !text.contains(&hidden) {
        return Cow::Borrowed(text);
    }
    let mut spelt = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        if hidden(c) {
            spelt.extend(c.escape_default());
        } else {
            spelt.push(c);
        }
    }
    Cow::Owned(spelt)
}

/// Whether a character acts on what shows it: controls, line and paragraph separators, marks that
/// reorder text or have no width, tags, and what no XML file may hold.
fn acts(c: char) -> bool {
    c.is_control()
        || matches!(c,
            '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}'
            | '\u{fffe}' | '\u{ffff}' | '\u{e0000}'..='\u{e007f}')
}

/// The columns that text takes on a terminal. Colour codes take none: [`visible`] leaves no other
/// escape sequence in what reports say.
#[must_use]
pub fn columns(text: &str) -> usize {
    let mut width = 0;
    let mut rest = text;
    while let Some(start) = rest.find(ESCAPE) {
        width += rest[..start].width();
        let after = &rest[start..];
        rest = after.find('m').map_or("", |end| &after[end + 1..]);
    }
    width + rest.width()
}

/// Text with spaces after it up to `width` columns.
pub(super) fn pad(text: &str, width: usize) -> String {
    let spaces = width.saturating_sub(columns(text));
    format!("{text}{}", " ".repeat(spaces))
}

/// Text with spaces before it up to `width` columns.
pub(super) fn pad_left(text: &str, width: usize) -> String {
    let spaces = width.saturating_sub(columns(text));
    format!("{}{text}", " ".repeat(spaces))
}

/// Words that [`fold`] keeps on one line: a name with its number, a number with its unit.
pub(super) fn unbroken(text: &str) -> String {
    text.replace(' ', UNBROKEN)
}

/// Text in lines of at most `width` columns, broken between words; a word that is longer than a
/// line is broken where the line ends. Without a width it stays one line.
pub(super) fn fold(text: &str, width: Option<usize>) -> Vec<String> {
    let lines = match width {
        Some(width) => broken(text, width),
        None => vec![text.to_owned()],
    };
    let spaced = lines.into_iter().map(|line| line.replace(UNBROKEN, " "));
    spaced.map(|line| line.trim_end().to_owned()).collect()
}

fn broken(text: &str, width: usize) -> Vec<String> {
    let mut lines = Vec::new();
    let mut line = String::new();
    for word in text.split(' ') {
        if !line.is_empty() {
            if columns(&line) + 1 + columns(word) <= width {
                line.push(' ');
                line.push_str(word);
                continue;
            }
            lines.push(line.trim_end().to_owned());
            line.clear();
        }
        let mut in_code = false;
        for c in word.chars() {
            in_code |= c == ESCAPE;
            let taken = if in_code { 0 } else { c.width().unwrap_or(0) };
            if taken > 0 && columns(&line) + taken > width && !line.is_empty() {
                lines.push(std::mem::take(&mut line));
            }
            in_code &= c != 'm';
            line.push(c);
        }
    }
    lines.push(line);
    lines
}

/// Appends a line folded to the width; it keeps its indent, and goes on `hang` columns further in.
pub(super) fn push_folded(out: &mut String, line: &str, hang: usize, width: Option<usize>) {
    let text = line.trim_start_matches(' ');
    let indent = line.len() - text.len();
    let room = width.map(|width| width.saturating_sub(indent + hang).max(1));
    let mut indent = indent;
    for (index, part) in fold(text, room).iter().enumerate() {
        if index == 1 {
            indent += hang;
        }
        // Writing to a string cannot fail.
        let _ = writeln!(out, "{:indent$}{part}", "");
    }
}

/// Lines of prose within the width, each continued two columns in; lines that fit stay as they are.
pub(super) fn folded(text: &str, width: Option<usize>) -> String {
    let mut out = String::with_capacity(text.len());
    for line in text.lines() {
        // Columns of a table that fits must not be touched.
        if width.is_none_or(|width| columns(line) <= width) {
            out.extend([&*line.replace(UNBROKEN, " "), "\n"]);
        } else {
            push_folded(&mut out, line, 2, width);
        }
    }
    out
}

/// Rows of cells as lines with aligned columns, `gap` spaces apart; the first column leans left,
/// the others right.
pub(super) fn align(rows: &[Vec<String>], gap: usize) -> Vec<String> {
    let count = rows.iter().map(Vec::len).max().unwrap_or(0);
    let widest = |column: usize| {
        let cells = rows.iter().filter_map(|row| row.get(column));
        cells.map(|cell| columns(cell)).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..count).map(widest).collect();
    let line = |row: &Vec<String>| {
        let cells = row.iter().zip(&widths).enumerate();
        let cells: Vec<String> = cells
            .map(|(column, (cell, width))| match column {
                0 => pad(cell, *width),
                _ => pad_left(cell, *width),
            })
            .collect();
        cells.join(&" ".repeat(gap)).trim_end().to_owned()
    };
    rows.iter().map(line).collect()
}

/// Names with their numbers in aligned columns beside them, within `width`. A name that leaves no
/// room for its numbers stands on a line above them.
pub(super) fn beside(names: &[String], numbers: &[Vec<String>], width: usize) -> Vec<String> {
    // The empty first column leans left, so that all numbers lean right.
    let rows: Vec<Vec<String>> = numbers
        .iter()
        .map(|cells| [String::new()].iter().chain(cells).cloned().collect())
        .collect();
    let numbers = align(&rows, 2);
    let taken = numbers.iter().map(|line| columns(line)).max().unwrap_or(0);
    let longest = names.iter().map(|name| columns(name)).max().unwrap_or(0);
    let room = longest.min(width.saturating_sub(taken)).max(SHORTEST_NAME);
    let line = |(name, numbers): (&String, &String)| match columns(name) > room {
        true => {
            let mut lines = String::new();
            push_folded(&mut lines, name, 0, Some(width));
            format!("{lines}{:room$}{numbers}", "")
        }
        false => {
            let line = pad(name, room) + numbers;
            line.trim_end().to_owned()
        }
    };
    names.iter().zip(&numbers).map(line).collect()
}

/// Text in ASCII: what the renderers draw with in its likeness, anything else spelt out.
pub(super) fn ascii(text: &str) -> String {
    let mut ascii = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            c if c.is_ascii() => ascii.push(c),
            'µ' => ascii.push('u'),
            'σ' => ascii.push_str("sigma"),
            '±' => ascii.push_str("+-"),
            '–' | '−' | '─' => ascii.push('-'),
            '→' => ascii.push_str("->"),
            '…' => ascii.push_str("..."),
            '×' => ascii.push('x'),
            '≤' => ascii.push_str("<="),
            '≥' => ascii.push_str(">="),
            c => match super::spark::ascii(c) {
                Some(level) => ascii.push(level),
                // Writing to a string cannot fail.
                None => drop(write!(ascii, "{}", c.escape_unicode())),
            },
        }
    }
    ascii
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_acts_on_a_terminal_is_spelt_out() {
        assert_eq!(visible("\u{1b}[2J\r\n\u{7}"), "\\u{1b}[2J\\r\\n\\u{7}");
        assert_eq!(
            visible("\u{9b}31m \u{202e}txt.exe"),
            "\\u{9b}31m \\u{202e}txt.exe"
        );
        assert!(matches!(visible("Größe 日本 3 µs"), Cow::Borrowed(_)));
        assert_eq!(visible_lines("line 1\nline\u{8} 2"), "line 1\nline\\u{8} 2");
    }

    #[test]
    fn lines_break_between_words_and_count_columns() {
        assert_eq!(fold("one two three", Some(8)), ["one two", "three"]);
        assert_eq!(fold("one two three", None), ["one two three"]);
        assert_eq!(fold("abcdefghij", Some(4)), ["abcd", "efgh", "ij"]);
        assert_eq!(fold("a  b  c", Some(5)), ["a  b", "c"]);
        let kept = format!("p50 {} p99", unbroken("1 µs"));
        assert_eq!(fold(&kept, Some(6)), ["p50", "1 µs", "p99"]);
        assert_eq!(fold("日本語 x", Some(5)), ["日本", "語 x"]);
        assert_eq!(fold("", Some(5)), [""]);
        for width in 1..30 {
            let lines = fold("a bb 日本語 cccccccccccccccc \\u{1b}", Some(width));
            let widest = lines.iter().map(|line| columns(line)).max();
            assert!(widest <= Some(width.max(2)), "{width}: {lines:?}");
        }
    }

    #[test]
    fn columns_align_by_what_is_seen() {
        let rows = [
            vec!["日本".to_owned(), "1.0 µs".to_owned()],
            vec!["a".to_owned(), "20.0 µs".to_owned()],
        ];
        assert_eq!(align(&rows, 2), ["日本   1.0 µs", "a     20.0 µs"]);
    }

    #[test]
    fn a_name_without_room_stands_above_its_numbers() {
        let names = ["  short".to_owned(), "  a_rather_long_name".to_owned()];
        let numbers = [vec!["1 µs".to_owned()], vec!["20 µs".to_owned()]];
        assert_eq!(
            beside(&names, &numbers, 40),
            ["  short                1 µs", "  a_rather_long_name  20 µs"]
        );
        assert_eq!(
            beside(&names, &numbers, 20),
            [
                "  short         1 µs",
                "  a_rather_long_name\n               20 µs"
            ]
        );
    }

    #[test]
    fn ascii_keeps_what_was_meant() {
        assert_eq!(
            ascii("15 µs ± 3 µs … 103 µs ▁▄█ ü"),
            "15 us +- 3 us ... 103 us .=@ \\u{fc}"
        );
    }
}
