//! What the output can take: colours, columns, and which characters.

use super::text;
use std::io::IsTerminal;

/// How text for people is dressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Style {
    /// Whether to colour; otherwise the text is plain.
    pub color: bool,
    /// Columns to keep within; without a number lines are as long as what they say.
    pub width: Option<usize>,
    /// Whether characters beyond ASCII can be shown.
    pub unicode: bool,
}

/// Fewer columns than these are not honoured: nothing could be laid out in them.
const NARROWEST: usize = 50;

impl Style {
    /// Plain text, as wide as it comes.
    pub const PLAIN: Self = Self {
        color: false,
        width: None,
        unicode: true,
    };

    /// What standard output and the environment ask for.
    ///
    /// Colours if it is a terminal, unless NO_COLOR, CLICOLOR=0 or TERM=dumb refuse them, or always
    /// with CLICOLOR_FORCE. The width is COLUMNS, else the terminal's; what is piped is as wide as
    /// it comes. ASCII alone if the locale names another encoding than UTF-8; without any locale, as
    /// in a container, UTF-8.
    #[must_use]
    pub fn of_stdout() -> Self {
        let stdout = std::io::stdout();
        let terminal = stdout.is_terminal().then(|| {
            let size = terminal_size::terminal_size_of(&stdout);
            size.map(|(width, _)| usize::from(width.0))
        });
        Self::of(|name| std::env::var(name).ok(), terminal)
    }

    /// `terminal` is the terminal, if it is one, with its width, if it tells.
    fn of(variable: impl Fn(&str) -> Option<String>, terminal: Option<Option<usize>>) -> Self {
        let variable = |name: &str| variable(name).filter(|value| !value.is_empty());
        // Open MPI's launcher gives every rank a terminal of its own, whatever its own output is:
        // that one does not count.
        let terminal = terminal.filter(|_| variable("OMPI_COMM_WORLD_RANK").is_none());
        let is = |name: &str, value: &str| variable(name).as_deref() == Some(value);
        let forced = variable("CLICOLOR_FORCE").is_some() && !is("CLICOLOR_FORCE", "0");
        let wanted = terminal.is_some() && !is("TERM", "dumb") && !is("CLICOLOR", "0");
        let columns = variable("COLUMNS").and_then(|columns| columns.parse().ok());
        let locale = ["LC_ALL", "LC_CTYPE", "LANG"]
            .into_iter()
            .find_map(variable);
        let utf8 = |locale: &str| {
            let locale = locale.to_ascii_lowercase();
            locale.contains("utf-8") || locale.contains("utf8")
        };
        Self {
            color: variable("NO_COLOR").is_none() && (forced || wanted),
            width: columns
                .filter(|columns| *columns > 0)
                .or(terminal.flatten())
                .map(|columns: usize| columns.max(NARROWEST)),
            unicode: locale.is_none_or(|locale| utf8(&locale)),
        }
    }

    /// `text` in bold.
    #[must_use]
    pub fn bold(self, text: &str) -> String {
        self.paint("1", text)
    }

    /// `text` in green: good.
    #[must_use]
    pub fn good(self, text: &str) -> String {
        self.paint("32", text)
    }

    /// `text` in yellow: doubtful.
    #[must_use]
    pub fn doubtful(self, text: &str) -> String {
        self.paint("33", text)
    }

    /// `text` in red: bad.
    #[must_use]
    pub fn bad(self, text: &str) -> String {
        self.paint("31", text)
    }

    /// `text` in grey: secondary.
    #[must_use]
    pub fn faint(self, text: &str) -> String {
        self.paint("2", text)
    }

    /// Finished text in the characters that can be shown. Every renderer ends with it.
    #[must_use]
    pub fn finish(self, text: String) -> String {
        if self.unicode {
            text
        } else {
            text::ascii(&text)
        }
    }

    fn paint(self, code: &str, text: &str) -> String {
        if self.color && !text.is_empty() {
            format!("\u{1b}[{code}m{text}\u{1b}[0m")
        } else {
            text.to_owned()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The style under some variables; `width` is a terminal's, if there is one.
    fn style(variables: &[(&str, &str)], width: Option<usize>) -> Style {
        let find = |name: &str| {
            let found = variables.iter().find(|(known, _)| *known == name);
            found.map(|(_, value)| (*value).to_owned())
        };
        Style::of(find, width.map(Some))
    }

    #[test]
    fn colours_are_for_terminals_that_want_them() {
        assert!(style(&[("TERM", "xterm")], Some(80)).color);
        assert!(!style(&[], None).color);
        assert!(style(&[("NO_COLOR", "")], Some(80)).color, "empty is unset");
        for refusal in [
            ("NO_COLOR", "1"),
            ("TERM", "dumb"),
            ("CLICOLOR", "0"),
            ("OMPI_COMM_WORLD_RANK", "0"),
        ] {
            assert!(!style(&[refusal], Some(80)).color, "{refusal:?}");
        }
        assert!(style(&[("CLICOLOR_FORCE", "1")], None).color);
        assert!(!style(&[("CLICOLOR_FORCE", "0")], None).color);
        assert!(!style(&[("CLICOLOR_FORCE", "1"), ("NO_COLOR", "1")], Some(80)).color);
    }

    #[test]
    fn the_width_is_the_terminals_unless_columns_says_otherwise() {
        assert_eq!(style(&[], Some(120)).width, Some(120));
        assert_eq!(style(&[("COLUMNS", "60")], Some(120)).width, Some(60));
        assert_eq!(style(&[("COLUMNS", "many")], Some(120)).width, Some(120));
        assert_eq!(style(&[("COLUMNS", "0")], None).width, None);
        assert_eq!(style(&[("COLUMNS", "3")], None).width, Some(NARROWEST));
        assert_eq!(style(&[], None).width, None, "a pipe is as wide as it gets");
    }

    #[test]
    fn ascii_is_for_locales_that_name_another_encoding() {
        assert!(
            style(&[], None).unicode,
            "no locale at all, as in a container"
        );
        assert!(style(&[("LANG", "de_DE.UTF-8")], None).unicode);
        assert!(style(&[("LC_ALL", "C.utf8")], None).unicode);
        assert!(!style(&[("LC_ALL", "C"), ("LANG", "de_DE.UTF-8")], None).unicode);
        assert!(!style(&[("LANG", "en_US.ISO-8859-1")], None).unicode);
        let ascii = style(&[("LC_ALL", "C")], None);
        assert_eq!(ascii.finish("3 µs".to_owned()), "3 us");
    }
}
