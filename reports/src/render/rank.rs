//! A ranking for a terminal: who came first in how much, what else differs, a table per case, and
//! a footnote for everything that has no number.

use super::grid::{Alignment, Grid};
use super::table::plain_table;
use super::terminal::Style;
use super::text::{folded, visible};
use super::units::human;
use crate::compare::{Effect, Scale, Verdict};
use crate::model::{Fact, Unit};
use crate::rank::{
    Front, GroupValues, Place, RankedCase, RankedMetric, Ranking, Share, Standing, Standpoint,
};
use crate::stats::MedianInterval;
use crate::summary::count;
use comfy_table::{Cell, CellAlignment, Table};
use std::collections::BTreeMap;
use std::fmt::Write as _;

/// Which cases are shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Listing {
    /// Of a long sweep its ends, and every confounder up to a dozen.
    Short,
    /// All.
    Full,
}

/// The most confounders that a short listing names.
const CONFOUNDERS_SHOWN: usize = 12;
/// The longest sweep that a short listing shows in full.
const LONGEST_IN_FULL: usize = 4;

/// The whole ranking. Writing to a string cannot fail, so results of `writeln!` are dropped.
#[must_use]
pub fn ranking(ranking: &Ranking, listing: Listing, style: &Style) -> String {
    let mut text = format!("ranked by {}\n", visible(&ranking.by));
    if !ranking.groups.is_empty() {
        let _ = writeln!(text, "\n{}\n", groups(ranking, *style).trim_fmt());
    }
    sources(&mut text, ranking);
    confounders(&mut text, ranking, listing, style);
    for blocked in &ranking.blocked {
        let (mark, case) = (style.bad("not comparable:"), visible(&blocked.case));
        let (field, values) = (visible(&blocked.field), values(&blocked.values));
        let _ = writeln!(text, "{mark} {case}: {field}: {values}");
    }
    for sweep in sweeps(ranking) {
        blocks(&mut text, ranking, sweep, listing, style);
    }
    footnotes(&mut text, ranking, style);
    legend(&mut text, ranking, style);
    style.finish(folded(&text, style.width))
}

fn right(table: &mut Table, columns: impl IntoIterator<Item = usize>) {
    for column in columns {
        if let Some(column) = table.column_mut(column) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
}

fn groups(ranking: &Ranking, style: Style) -> Table {
    let mut table = plain_table(style);
    table.set_header([
        "group",
        "runs",
        "machines",
        "best in",
        "may be best in",
        "of metrics",
    ]);
    right(&mut table, 1..6);
    for group in &ranking.groups {
        let numbers = [
            group.runs,
            group.machines,
            group.best,
            group.may_be_best,
            group.ranked,
        ];
        let name = std::iter::once(Cell::new(visible(&group.name)));
        table.add_row(name.chain(numbers.map(Cell::new)));
    }
    table
}

fn sources(text: &mut String, ranking: &Ranking) {
    if let Some(prices) = &ranking.prices {
        let [currency, source, as_of, file] = [
            &prices.currency,
            &prices.source,
            &prices.as_of,
            &prices.file,
        ]
        .map(|s| visible(s));
        let _ = writeln!(
            text,
            "prices: {currency}, from {source}, as of {as_of} ({file})"
        );
    }
    if let Some(file) = &ranking.instance_types {
        let _ = writeln!(text, "documented limits: {}", visible(file));
    }
}

fn confounders(text: &mut String, ranking: &Ranking, listing: Listing, style: &Style) {
    let of_cases = ranking.cases.iter().flat_map(|case| &case.confounders);
    let mut all = Vec::new();
    for confounder in ranking.confounders.iter().chain(of_cases) {
        if !all.contains(&confounder) {
            all.push(confounder);
        }
    }
    let shown = match listing {
        Listing::Short => CONFOUNDERS_SHOWN,
        Listing::Full => all.len(),
    };
    for confounder in all.iter().take(shown) {
        let (mark, field) = (style.doubtful("confounder:"), visible(&confounder.field));
        let _ = writeln!(text, "{mark} {field}: {}", values(&confounder.values));
    }
    if let Some(more) = all.len().checked_sub(shown).filter(|more| *more > 0) {
        let mark = style.doubtful("confounders:");
        let _ = writeln!(text, "{mark} {more} more (--all shows them)");
    }
    if !all.is_empty() {
        let line = "the groups differ by this too, so it may be the reason for their order";
        let _ = writeln!(text, "{}", style.faint(line));
    }
}

/// The first values of the first groups.
fn values(groups: &[GroupValues]) -> String {
    const SHOWN: usize = 4;
    let shown = groups.iter().take(SHOWN).map(|group| {
        let values: Vec<String> = group
            .values
            .iter()
            .take(2)
            .map(|value| visible(value).into_owned())
            .collect();
        let more = if group.values.len() > 2 { ", …" } else { "" };
        format!("{} {}{more}", visible(&group.group), values.join(", "))
    });
    let mut text = shown.collect::<Vec<_>>().join("; ");
    if let Some(more) = groups.len().checked_sub(SHOWN).filter(|more| *more > 0) {
        let _ = write!(text, "; and {}", count(more, "more group"));
    }
    text
}

/// Neighbouring cases of one benchmark.
fn sweeps(ranking: &Ranking) -> impl Iterator<Item = &[RankedCase]> {
    let id = |case: &RankedCase| case.case.split(' ').next().map(str::to_owned);
    ranking.cases.chunk_by(move |a, b| id(a) == id(b))
}

/// The cases of one benchmark, each named by what tells it from the others.
fn blocks(
    text: &mut String,
    ranking: &Ranking,
    sweep: &[RankedCase],
    listing: Listing,
    style: &Style,
) {
    let in_full = listing == Listing::Full || sweep.len() <= LONGEST_IN_FULL;
    for (index, case) in sweep.iter().enumerate() {
        if !in_full && index > 0 && index + 1 < sweep.len() {
            if index == 1 {
                let between = count(sweep.len() - 2, "case");
                let line = format!("\n  … {between} between (--all shows them)");
                let _ = writeln!(text, "{}", style.faint(&line));
            }
            continue;
        }
        // What no group has a valid run of stands in the footnotes, with the reason.
        if case.metrics.iter().all(|one| one.standings.is_empty()) {
            continue;
        }
        let nodes = match case.nodes {
            1 => String::new(),
            nodes => format!("  {nodes} nodes"),
        };
        let label = label(case, sweep);
        let label = visible(&label);
        let _ = writeln!(text, "\n{}{}", style.bold(&label), style.faint(&nodes));
        text.push_str(&performance(case, ranking, *style));
        if let Some(table) = per_price(case, ranking, *style) {
            let _ = write!(text, "\n{table}");
        }
    }
}

/// The words of a case that its siblings do not all share.
fn label(case: &RankedCase, siblings: &[RankedCase]) -> String {
    let words = case.case.split(' ');
    let own = words.enumerate().filter(|(index, word)| {
        let shared = |other: &RankedCase| other.case.split(' ').any(|theirs| theirs == *word);
        *index == 0 || !siblings.iter().all(shared)
    });
    own.map(|(_, word)| word).collect::<Vec<_>>().join(" ")
}

/// What the tables have in common, in the order of [`common`].
fn columns<'a>(median: &'a str, ranking: &Ranking) -> Vec<(&'a str, Alignment)> {
    use Alignment::{Left, Right};
    let reference = match &ranking.baseline {
        Some(_) => "to baseline",
        None => "to best",
    };
    vec![
        ("place", Left),
        ("group", Left),
        (median, Right),
        ("95 % interval", Right),
        ("runs", Right),
        (reference, Right),
        ("95 % interval", Right),
    ]
}

/// The columns that a narrow terminal does without: the median's interval, and the number of runs.
const DISPENSABLE: [usize; 2] = [3, 4];

/// A table of metrics with the cells of their groups; where it is too wide, each metric stands on a
/// line above its groups.
fn laid_out(
    columns: &[(&str, Alignment)],
    metrics: &[(String, Vec<Vec<String>>)],
    style: Style,
) -> String {
    let with_metric: Vec<_> = [("metric", Alignment::Left)]
        .into_iter()
        .chain(columns.iter().copied())
        .collect();
    let mut wide = Grid::new(&with_metric);
    let mut narrow = Grid::new(columns);
    for (metric, rows) in metrics {
        narrow.heading(format!("  {metric}"));
        for (index, row) in rows.iter().enumerate() {
            let title = if index == 0 { metric.as_str() } else { "" };
            let title = std::iter::once(title.to_owned());
            wide.row(title.chain(row.iter().cloned()).collect::<Vec<_>>());
            narrow.row(row.clone());
        }
    }
    if style.width.is_none_or(|width| wide.width() <= width) {
        wide.finish(style)
    } else {
        narrow.fitted(style, &DISPENSABLE).finish(style)
    }
}

fn performance(case: &RankedCase, ranking: &Ranking, style: Style) -> String {
    use Alignment::{Left, Right};
    let mut columns = columns("median", ranking);
    if ranking.prices.is_some() {
        columns.extend([("cost/h", Right), ("front", Left)]);
    }
    let standings = || case.metrics.iter().flat_map(|metric| &metric.standings);
    let share = |standing: &Standing| standing.share.as_ref().is_some_and(|s| s.known().is_some());
    let has_shares = standings().any(share);
    if has_shares {
        columns.extend([("of baseline", Right), ("of peak", Right)]);
    }
    let metrics = case.metrics.iter().map(|metric| {
        let value = |value: f64| human(value, metric.unit);
        let row = |standing: &Standing| {
            let mut row = Vec::from(common(standing, value, ranking, style));
            if let Some(prices) = &ranking.prices {
                row.push(cost(standing, &prices.currency));
                row.push(front(standing.front.as_ref(), style));
            }
            if has_shares {
                let share = standing.share.as_ref().and_then(Fact::known);
                row.push(percent(share.map(|share| &share.of_baseline)));
                row.push(percent(share.map(|share| &share.of_peak)));
            }
            row
        };
        (
            visible(&metric.metric).into_owned(),
            metric.standings.iter().map(row).collect(),
        )
    });
    laid_out(&columns, &metrics.collect::<Vec<_>>(), style)
}

/// What both tables say of a group: place, name, median, interval, runs, ratio, interval.
fn common(
    standing: &Standing,
    value: impl Fn(f64) -> String,
    ranking: &Ranking,
    style: Style,
) -> [String; 7] {
    let (ratio, ratio_interval) = to_reference(standing, &value, ranking, style);
    [
        place(standing),
        visible(&standing.group).into_owned(),
        standing.median.map_or("n/a".to_owned(), &value),
        interval(standing.interval, &value),
        runs(standing, style),
        ratio,
        ratio_interval,
    ]
}

fn place(standing: &Standing) -> String {
    let Some(Place { first, last }) = standing.place else {
        return "n/a".to_owned();
    };
    let places = match first == last {
        true => first.to_string(),
        false => format!("{first}–{last}"),
    };
    match standing.level_with_above {
        true => format!("{places} ~"),
        false => places,
    }
}

fn interval(interval: Option<MedianInterval>, value: &impl Fn(f64) -> String) -> String {
    interval.map_or("n/a".to_owned(), |interval| {
        format!("{} – {}", value(interval.low), value(interval.high))
    })
}

fn runs(standing: &Standing, style: Style) -> String {
    let mut text = standing.runs.to_string();
    if standing.degraded > 0 {
        let degraded = format!("{} degraded", standing.degraded);
        let _ = write!(text, " ({})", style.doubtful(&degraded));
    }
    if standing.left_out > 0 {
        let _ = write!(text, " +{} left out", standing.left_out);
    }
    text
}

fn to_reference(
    standing: &Standing,
    value: &impl Fn(f64) -> String,
    ranking: &Ranking,
    style: Style,
) -> (String, String) {
    let none = || ("n/a".to_owned(), "n/a".to_owned());
    let show = |effect: &Effect, number: f64| match effect.scale {
        Scale::Ratio => ratio(number),
        Scale::Difference => {
            let sign = if number < 0.0 { "−" } else { "+" };
            format!("{sign}{}", value(number.abs()))
        }
    };
    match (&standing.to_reference, standing.verdict) {
        (Some(effect), verdict) => {
            let text = show(effect, effect.value);
            let text = match verdict {
                Some(Verdict::Better) => style.good(&text),
                Some(Verdict::Worse) if ranking.baseline.is_some() => style.bad(&text),
                Some(Verdict::Worse) => text,
                _ => format!("{text} ~"),
            };
            let interval = format!(
                "{} – {}",
                show(effect, effect.low),
                show(effect, effect.high)
            );
            (text, interval)
        }
        (None, None) if standing.place.is_some() && standing.reason.is_none() => {
            let word = match ranking.baseline {
                Some(_) => "baseline",
                None => "best",
            };
            (style.bold(word), String::new())
        }
        (None, _) => none(),
    }
}

/// A ratio at three significant digits or more.
fn ratio(value: f64) -> String {
    let decimals = match value {
        far if !(1e-4..1e6).contains(&far) => return format!("{value:.2e}"),
        small if small < 1e-3 => 6,
        small if small < 1e-2 => 5,
        small if small < 0.1 => 4,
        near if near < 10.0 => 3,
        large if large < 100.0 => 1,
        _ => 0,
    };
    format!("{value:.decimals$}")
}

/// A price with the decimals that it has, two at least and four at most.
fn money(price: f64) -> String {
    let text = format!("{price:.4}");
    let cents = text.len() - 2;
    let (kept, rest) = text.split_at(cents);
    format!("{kept}{}", rest.trim_end_matches('0'))
}

fn cost(standing: &Standing, currency: &str) -> String {
    let price = standing.price_per_hour.as_ref().and_then(Fact::known);
    price.map_or("n/a".to_owned(), |price| {
        format!("{} {currency}", money(*price))
    })
}

fn front(found: Option<&Fact<Front>>, style: Style) -> String {
    let Some(front) = found.and_then(Fact::known) else {
        return "n/a".to_owned();
    };
    match (front.shown, front.by_median) {
        (Standpoint::OnFront, _) => style.good("front"),
        (Standpoint::Beaten, _) => "beaten".to_owned(),
        (Standpoint::Open, true) => "front ~".to_owned(),
        (Standpoint::Open, false) => "beaten ~".to_owned(),
    }
}

fn percent(share: Option<&Fact<f64>>) -> String {
    let share = share.and_then(Fact::known);
    share.map_or("n/a".to_owned(), |share| format!("{:.1} %", share * 100.0))
}

/// What money buys, for the metrics that are rates.
fn per_price(case: &RankedCase, ranking: &Ranking, style: Style) -> Option<String> {
    let prices = ranking.prices.as_ref()?;
    let mut metrics = Vec::new();
    for metric in &case.metrics {
        let Some(per_price) = metric.per_price.as_ref().and_then(Fact::known) else {
            continue;
        };
        let unit = match metric.unit {
            Unit::BytesPerSecond => Unit::Bytes,
            _ => Unit::Count,
        };
        let value = |value| human(value, unit);
        let rows = per_price.standings.iter();
        let rows = rows.map(|standing| Vec::from(common(standing, value, ranking, style)));
        metrics.push((visible(&metric.metric).into_owned(), rows.collect()));
    }
    let per = format!("per {}", prices.currency);
    let table = || laid_out(&columns(&per, ranking), &metrics, style);
    (!metrics.is_empty()).then(table)
}

/// Notes, each once, with the first thing that it is about and how many more.
#[derive(Default)]
struct Notes(
    Vec<(String, String)>,
    BTreeMap<(String, String), (String, usize)>,
);

impl Notes {
    /// Notes `words` under a mark, about a subject.
    fn add(&mut self, mark: &str, subject: String, words: &str) {
        let key = (mark.to_owned(), words.to_owned());
        let order = &mut self.0;
        let about = self.1.entry(key.clone()).or_insert_with(|| {
            order.push(key);
            (subject, 0)
        });
        about.1 += 1;
    }

    fn write(self, text: &mut String, style: &Style) {
        let Self(order, mut about) = self;
        for key in order {
            let Some((subject, times)) = about.remove(&key) else {
                continue;
            };
            let more = match times {
                1 => String::new(),
                times => format!(" (and {} more)", times - 1),
            };
            let (mark, words) = (style.doubtful(&format!("{}:", key.0)), visible(&key.1));
            let _ = writeln!(text, "{mark} {}{more}: {words}", visible(&subject));
        }
    }
}

fn footnotes(text: &mut String, ranking: &Ranking, style: &Style) {
    text.push('\n');
    let mut notes = Notes::default();
    if let [only] = ranking.groups.as_slice() {
        notes.add(
            "one group",
            only.name.clone(),
            "there is nothing to rank it against",
        );
    }
    if ranking.groups.is_empty() {
        notes.add("no group", ranking.by.clone(), "no run belongs to a group");
    }
    for group in &ranking.groups {
        if let Some(why) = &group.note {
            let words = format!("its instance type is unknown, so it goes by its host: {why}");
            notes.add("grouped by host", group.name.clone(), &words);
        }
    }
    for sweep in sweeps(ranking) {
        for case in sweep {
            of_case(&mut notes, case, &label(case, sweep));
        }
    }
    for only in &ranking.only_in {
        notes.add(
            "not ranked",
            only.case.clone(),
            &format!("only {} has it", only.group),
        );
    }
    for left_out in &ranking.left_out {
        let group = left_out.group.as_ref().map(|group| format!("{group}: "));
        let runs = count(left_out.runs, "run");
        let subject = format!("{}{}: {runs}", group.unwrap_or_default(), left_out.case);
        notes.add("left out", subject, &left_out.why);
    }
    for group in &ranking.groups {
        for (flag, results) in &group.degraded {
            let words = format!("{flag} in {}", count(*results, "result"));
            notes.add("degraded", group.name.clone(), &words);
        }
    }
    notes.write(text, style);
}

fn of_case(notes: &mut Notes, case: &RankedCase, label: &str) {
    if case.metrics.is_empty() {
        notes.add(
            "insufficient",
            label.to_owned(),
            "no valid run has a metric to rank",
        );
    }
    for metric in &case.metrics {
        of_metric(notes, label, metric);
    }
    for group in &case.absent {
        notes.add(
            "absent",
            format!("{group} in {label}"),
            "it has no such case",
        );
    }
}

fn of_metric(notes: &mut Notes, label: &str, metric: &RankedMetric) {
    let about = |standing: &Standing| format!("{} in {label} {}", standing.group, metric.metric);
    for standing in &metric.standings {
        if let Some(reason) = &standing.reason {
            let mark = if standing.place.is_none() {
                "insufficient"
            } else {
                "no ratio"
            };
            notes.add(mark, about(standing), reason);
        }
        if let Some(Fact::Unavailable { unavailable }) = &standing.price_per_hour {
            notes.add("no cost", about(standing), unavailable);
        }
        match &standing.share {
            Some(Fact::Unavailable { unavailable }) => {
                notes.add("no share of a limit", about(standing), unavailable);
            }
            Some(Fact::Known(share)) => of_share(notes, &about(standing), share),
            None => {}
        }
    }
    if let Some(Fact::Unavailable { unavailable }) = &metric.per_price {
        notes.add(
            "not divided",
            format!("{label} {}", metric.metric),
            unavailable,
        );
    }
}

fn of_share(notes: &mut Notes, about: &str, share: &Share) {
    let subject = || format!("{} of {about}", share.limit);
    for (which, part) in [("baseline", &share.of_baseline), ("peak", &share.of_peak)] {
        if let Fact::Unavailable { unavailable } = part {
            notes.add(&format!("no share of the {which}"), subject(), unavailable);
        }
    }
    for note in &share.notes {
        notes.add("limit", subject(), note);
    }
}

/// What the marks mean, where they are used.
fn legend(text: &mut String, ranking: &Ranking, style: &Style) {
    let mut lines = vec![
        "place: the places that a group may have by these runs; ~: not told apart from the one \
         above, or from the reference",
    ];
    if ranking.prices.is_some() {
        lines.push(
            "front: no group at its price or below is as good; beaten: one is shown to be better; \
             ~: so by the medians, and not shown",
        );
    }
    if ranking.cases.is_empty() {
        return;
    }
    for line in lines {
        let _ = writeln!(text, "{}", style.faint(line));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn money_has_two_to_four_decimals() {
        for (price, text) in [
            (3.99, "3.99"),
            (0.0116, "0.0116"),
            (4.0, "4.00"),
            (7.9872, "7.9872"),
        ] {
            assert_eq!(money(price), text);
        }
        assert_eq!(money(0.125), "0.125");
    }

    #[test]
    fn control_characters_are_shown_and_not_sent() {
        assert_eq!(visible("a\u{1b}[31mb\n"), "a\\u{1b}[31mb\\n");
    }

    #[test]
    fn a_note_that_many_share_is_one_line() {
        let mut notes = Notes::default();
        for subject in ["x", "y", "z"] {
            notes.add("no cost", subject.to_owned(), "no price");
        }
        notes.add("left out", "x".to_owned(), "failed");
        let mut text = String::new();
        notes.write(&mut text, &Style::PLAIN);
        assert_eq!(
            text,
            "no cost: x (and 2 more): no price\nleft out: x: failed\n"
        );
    }
}
