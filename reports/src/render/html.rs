//! One self-contained page: the verdict, the summary, a section per case, the environment, and the
//! reports themselves as data. It needs no network, and no script to be read: the script adds what
//! a pointer asks for, and a filter.

mod banner;
mod cases;
mod cluster;
mod environment;
mod family;
mod forest;
mod heatmap;
mod history;
mod latency_course;
mod latency_map;
mod plots;
mod svg;

use super::differences::of_all_cases as differences;

use crate::cluster::Cluster;
use crate::compare::{Axis, Comparison};
use crate::history::Courses;
use crate::model::Report;
use crate::ratios::RowRatios;
use crate::screen::Screening;
use crate::summary::{CaseSummary, count, summarise};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use cases::Look;
use maud::{DOCTYPE, Markup, PreEscaped, html};
use sha2::{Digest, Sha256};
use std::collections::BTreeSet;

const STYLE: &str = include_str!("html/style.css");
const SCRIPT: &str = include_str!("html/script.js");

/// What the filter offers where the page judges ratios.
const VERDICTS: &[&str] = &[
    "worse",
    "better",
    "differs",
    "confounded",
    "insufficient",
    "same",
];
/// What it offers elsewhere.
const STATES: &[&str] = &["failed", "invalid", "degraded", "skipped"];

/// Reports that take more than this as JSON are not put into the page: it would be no page any
/// more.
const MOST_DATA_BYTES: usize = 1 << 20;

/// What a page shows.
pub struct Page<'a> {
    title: &'a str,
    reports: Vec<&'a Report>,
    cases: Vec<CaseSummary>,
    comparison: Option<&'a Comparison>,
    axes: &'a [Axis],
    ratios: &'a [RowRatios],
    cluster: Option<cluster::Part<'a>>,
    courses: Option<&'a Courses>,
}

impl<'a> Page<'a> {
    /// Runs that are shown together.
    #[must_use]
    pub fn of_runs(title: &'a str, reports: &'a [Report]) -> Self {
        Self {
            title,
            reports: reports.iter().collect(),
            cases: summarise(reports),
            comparison: None,
            axes: &[],
            ratios: &[],
            cluster: None,
            courses: None,
        }
    }

    /// Two groups of runs, with what their comparison came to. `axes` are those under study.
    #[must_use]
    pub fn of_comparison(
        title: &'a str,
        sides: [&'a [Report]; 2],
        comparison: &'a Comparison,
        axes: &'a [Axis],
    ) -> Self {
        // A run on both sides belongs to neither, here as in the comparison.
        let ids = |reports: &'a [Report]| reports.iter().map(|report| report.run.id.as_str());
        let of_a: BTreeSet<&str> = ids(sides[0]).collect();
        let shared: BTreeSet<&str> = ids(sides[1]).filter(|id| of_a.contains(id)).collect();
        let sides = sides.map(|reports| -> Vec<&'a Report> {
            let own = |report: &&Report| !shared.contains(report.run.id.as_str());
            reports.iter().filter(own).collect()
        });
        let of_side = |(name, reports): (&str, &Vec<&Report>)| {
            let mut cases = summarise(reports.iter().copied());
            for case in &mut cases {
                case.side = Some(name.to_owned());
            }
            cases
        };
        Self {
            title,
            cases: ["A", "B"]
                .into_iter()
                .zip(&sides)
                .flat_map(of_side)
                .collect(),
            reports: sides.into_iter().flatten().collect(),
            comparison: Some(comparison),
            axes,
            ratios: &[],
            cluster: None,
            courses: None,
        }
    }

    /// The page with the ratios of a session's arms.
    #[must_use]
    pub fn with_ratios(mut self, ratios: &'a [RowRatios]) -> Self {
        self.ratios = ratios;
        self
    }

    /// The page with the cluster that the runs are of, and the verdicts on its nodes. What many
    /// nodes measured alone is then drawn node by node, and one of them stands for it among the cases.
    #[must_use]
    pub fn with_cluster(mut self, cluster: &'a Cluster, screening: Option<&'a Screening>) -> Self {
        self.cluster = Some(cluster::Part::of(cluster, screening, &mut self.cases));
        self
    }

    /// The page with the courses of its cases over the runs of a history.
    #[must_use]
    pub fn with_history(mut self, courses: &'a Courses) -> Self {
        self.courses = Some(courses);
        self
    }

    /// The page as text.
    #[must_use]
    pub fn render(&self) -> String {
        let judged = self.comparison.is_some() || !self.ratios.is_empty();
        let look = Look::of(&self.cases, !judged);
        let families = family::families(&self.cases, self.axes);
        let sweeps = family::sweeps(&families);
        let swept = |family: &family::Family<'_>| {
            sweeps
                .iter()
                .flatten()
                .any(|one| std::ptr::eq(*one, family))
        };
        let matrices = self.cases.iter().any(|case| !case.matrices.is_empty());
        let markup = html! {
            (DOCTYPE)
            html lang="en" {
                (head(self.title))
                body {
                    a .skip href="#main" { "Skip to the results" }
                    header {
                        h1 { (self.title) }
                        p .faint { (self.subtitle()) }
                        (banner::banner(self))
                    }
                    (filter(if judged { VERDICTS } else { STATES }))
                    main id="main" {
                        @if let Some(comparison) = self.comparison { (forest::comparison(comparison)) }
                        @if !self.ratios.is_empty() { (forest::ratios(self.ratios)) }
                        @if let Some(cluster) = &self.cluster { (cluster.draw(&self.cases)) }
                        (cases::summary(&families, &self.cases, &look))
                        @if !sweeps.is_empty() {
                            h2 { "Sweeps" }
                            div .plots { @for sweep in &sweeps { (plots::sweep(sweep)) } }
                        }
                        @if matrices {
                            h2 { "Between nodes" }
                            @for family in &families { @for member in &family.members {
                                (heatmap::heatmaps(&member.label(&family.label), member.case))
                            } }
                        }
                        @if let Some(courses) = self.courses {
                            @let faulty = self.cluster.as_ref().map(cluster::Part::faulty);
                            (history::history(courses, &faulty.unwrap_or_default()))
                        }
                        h2 { "Cases" }
                        (cases::sections(&families, swept, &look))
                        (environment::environment(self))
                    }
                    (data(&self.reports))
                    script { (PreEscaped(SCRIPT)) }
                }
            }
        };
        markup.into_string()
    }

    fn subtitle(&self) -> String {
        let hosts = self.reports.iter().flat_map(|report| &report.hosts);
        let hosts: BTreeSet<&str> = hosts.map(|host| host.name.as_str()).collect();
        let runs = count(self.reports.len(), "run");
        let started = self.reports.iter().map(|report| &report.run.started).min();
        let hosts = match hosts.first() {
            Some(host) if hosts.len() == 1 => (*host).to_owned(),
            _ => format!("{} hosts", hosts.len()),
        };
        match started {
            Some(started) => format!("{runs} on {hosts}, started {started}"),
            None => "no runs".to_owned(),
        }
    }
}

/// The policy allows this page's own style and script by their hashes, and nothing else: whatever
/// a report might smuggle in would not run.
fn head(title: &str) -> Markup {
    let hash = |text: &str| format!("'sha256-{}'", STANDARD.encode(Sha256::digest(text)));
    let policy = format!(
        "default-src 'none'; style-src {}; script-src {}; base-uri 'none'; form-action 'none'",
        hash(STYLE),
        hash(SCRIPT)
    );
    html! {
        head {
            meta charset="utf-8";
            meta name="viewport" content="width=device-width, initial-scale=1";
            meta http-equiv="Content-Security-Policy" content=(policy);
            title { (title) }
            style { (PreEscaped(STYLE)) }
        }
    }
}

/// The filter, which the script brings out: without it there would be nothing behind it.
fn filter(states: &[&str]) -> Markup {
    html! {
        form #filter role="search" hidden {
            label { "Filter " input type="search" name="words" autocomplete="off"
                placeholder="words that a case or metric must have"; }
            label { "Show " select name="state" {
                option value="" { "everything" }
                @for state in states { option value=(state) { (state) } }
            } }
            output name="shown" aria-live="polite" {}
        }
    }
}

/// The reports as data for other tools, unless they are too much for a page. Every `<` is escaped,
/// so that no text in a report can end the element, whatever a host calls itself.
fn data(reports: &[&Report]) -> Markup {
    // Reports are made of maps with string keys.
    let json = serde_json::to_string(reports).unwrap_or_default();
    if json.len() > MOST_DATA_BYTES {
        return html! {
            footer { p .faint {
                "The reports of these " (reports.len()) " runs take " (json.len() / 1_000_000)
                " MB and are not in this page: keep their files."
            } }
        };
    }
    let json = json.replace('<', "\\u003c");
    html! { script type="application/json" id="reports" { (PreEscaped(json)) } }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixtures;
    use crate::summary::summarise;

    #[test]
    fn hostile_names_stay_inert() {
        let mut report = fixtures::report(&[("tcp_rr", 1000.0)]);
        let hostile = "</script><script>alert(1)</script><img src=x onerror=alert(2)>";
        report.hosts[0].name = hostile.to_owned();
        report.cases[0]
            .benchmark
            .params
            .insert("size".to_owned(), hostile.into());
        let other = fixtures::report(&[("tcp_rr", 1000.0)]);
        let reports = [report, other];
        let cluster = Cluster::of(&reports, &crate::cluster::Expected::Count(3));
        let page = Page::of_runs(hostile, &reports).with_cluster(&cluster, None);
        let page = page.render();
        assert!(
            !page.contains("<script>alert") && !page.contains("<img"),
            "{page}"
        );
        assert_eq!(
            page.matches("</script>").count(),
            2,
            "only the data and the page's own script end"
        );
        let data = page
            .split("id=\"reports\">")
            .nth(1)
            .and_then(|rest| rest.split("</script>").next());
        let parsed: Vec<Report> =
            serde_json::from_str(data.expect("the data is there")).expect("and is JSON");
        assert_eq!(parsed, reports);
    }

    #[test]
    fn a_sweep_becomes_one_curve() {
        let reports: Vec<_> = [1u64, 8, 64]
            .into_iter()
            .map(|size| {
                let mut report = fixtures::report(&[("bw", size as f64 * 10.0)]);
                let params = &mut report.cases[0].benchmark.params;
                params.insert("size_bytes".to_owned(), size.into());
                params.insert("iterations".to_owned(), (1000 / size).into());
                report
            })
            .collect();
        let cases = summarise(&reports);
        let families = family::families(&cases, &[]);
        let sweeps = family::sweeps(&families);
        assert_eq!(sweeps.len(), 1);
        assert_eq!(sweeps[0].len(), 3);
        assert!(Page::of_runs("sweep", &reports).render().contains("Sweeps"));
    }

    #[test]
    fn depths_become_a_curve_for_each_block_size() {
        let mut report = fixtures::report(&[("randread", 1000.0); 6]);
        for (index, case) in report.cases.iter_mut().enumerate() {
            let (bs, depth) = ([4096, 65536][index / 3], [1, 8, 64][index % 3]);
            let params = &mut case.benchmark.params;
            params.insert("bs".to_owned(), bs.into());
            params.insert("iodepth".to_owned(), depth.into());
            params.insert("iodepth_batch".to_owned(), depth.min(8).into());
        }
        let reports = [report];
        let cases = summarise(&reports);
        let families = family::families(&cases, &[]);
        let sweeps = family::sweeps(&families);
        assert_eq!(sweeps.iter().map(Vec::len).collect::<Vec<_>>(), [3, 3]);
        let page = Page::of_runs("curve", &reports).render();
        assert!(page.contains("test/randread bs=4096: round_trip_ns p50 by depth"));
        assert!(page.contains("operations in flight"), "the axis is named");
        let without_data = page.split("id=\"reports\">").next().unwrap_or_default();
        let definition = fixtures::report(&[("randread", 1.0)]).cases[0]
            .benchmark
            .definition
            .clone();
        let written = without_data.matches(&format!("{definition}</p>")).count();
        assert_eq!(written, 1, "once for all six points");
        assert_eq!(without_data.matches(">Defined as <a").count(), 5);
    }

    #[test]
    fn a_run_on_both_sides_is_drawn_on_neither() {
        let runs = || (0..6).map(|_| fixtures::report(&[("rr", 1000.0)]));
        let (a, mut b): (Vec<_>, Vec<_>) = (runs().collect(), runs().collect());
        b.push(a[0].clone());
        let options = crate::compare::Options::default();
        let comparison = crate::compare::compare(&a, &b, &options).expect("comparable");
        let page = Page::of_comparison("both", [&a, &b], &comparison, &[]);
        assert_eq!(page.cases.len(), 2);
        let drawn = page
            .cases
            .iter()
            .map(|case| (case.side.as_deref(), case.measured));
        assert_eq!(drawn.collect::<Vec<_>>(), [(Some("A"), 5), (Some("B"), 6)]);
        assert_eq!(page.reports.len(), 11);
    }

    /// Many nodes: what each measured alone, one of them slow, and numbers between all pairs.
    fn many_nodes(count: usize) -> Vec<Report> {
        let mut reports: Vec<Report> = (0..count)
            .map(|node| {
                let latency_ns = if node == 77 { 90_000.0 } else { 10_000.0 };
                let mut report = fixtures::report(&[("rr", latency_ns)]);
                report.hosts[0].name = format!("n{node}");
                report
            })
            .collect();
        let mut together = fixtures::report(&[("pairs", 1.0)]);
        together.hosts = reports
            .iter()
            .map(|report| report.hosts[0].clone())
            .collect();
        let node = |host: usize| crate::model::MatrixNode {
            name: format!("n{host}"),
            host: host as u32,
        };
        let pair = |from: usize, to: usize| match (from, to) {
            (77, 5) => Some(1e6),
            _ => (from != to).then_some(1e9),
        };
        let row = |from: usize| (0..count).map(|to| pair(from, to)).collect();
        let bandwidths = crate::model::Matrix {
            name: "bandwidth_bytes_per_s".to_owned(),
            aggregation: crate::model::Aggregation::P50,
            unit: crate::model::Unit::BytesPerSecond,
            direction: crate::model::Direction::HigherIsBetter,
            nodes: (0..count).map(node).collect(),
            values: (0..count).map(row).collect(),
        };
        let times = |factor: f64, mark: &str| {
            let mut bound = bandwidths.clone();
            bound.name = format!("bandwidth_ci_{mark}_bytes_per_s");
            let values = bound.values.iter_mut().flatten().flatten();
            values.for_each(|value| *value *= factor);
            bound
        };
        let (low, high) = (times(0.9, "low"), times(1.1, "high"));
        fixtures::measurement_mut(&mut together, 0).matrices = vec![bandwidths, low, high];
        reports.push(together);
        reports
    }

    #[test]
    fn a_page_of_many_nodes_lists_the_faulty_and_folds_the_others() {
        let reports = many_nodes(200);
        let cluster = Cluster::of(&reports, &crate::cluster::Expected::AsReported);
        let rule = "[[rule]]\nname = \"r\"\ncase = \"test/rr\"\nmetric = \"round_trip_ns p50\"";
        let rules = crate::screen::Rules::parse(rule).expect("rules");
        let expected = crate::cluster::Expected::AsReported;
        let screening = crate::screen::judge(&reports, &rules, &expected, &[]).expect("judged");
        let page = Page::of_runs("many", &reports).with_cluster(&cluster, Some(&screening));
        assert_eq!(
            page.cases.len(),
            2,
            "one stands for all that measured it alone"
        );
        let page = page.render();
        assert_eq!(page.matches("between 200 nodes").count(), 1);
        let worst = page.split("The worst pairs").nth(1).unwrap_or_default();
        let worst = worst.split("</li>").next().unwrap_or_default();
        assert!(
            worst.ends_with("n77 → n5: 1.00 MB/s [900 kB/s, 1.10 MB/s], 0.00 of the median pair"),
            "{worst}"
        );
        let outliers = page.split("Outliers").nth(1).unwrap_or_default();
        let outliers = outliers.split("</table>").next().unwrap_or_default();
        assert!(
            outliers.contains(">n77<") && !outliers.contains(">n76<"),
            "{outliers}"
        );
        assert_eq!(page.matches("199 nodes without a fault").count(), 2);
        // Four neighbours to a row: the slow pair is the worst of its block, and named.
        assert!(page.contains("n76 – n79"), "blocks are named");
        assert!(
            page.contains("n77 → n5: 1.00 MB/s"),
            "and the worst pair too"
        );
        let cells = page.matches("<td class=\"h").count();
        assert!(cells < 3000, "{cells} cells");
        let few = many_nodes(3);
        let cluster = Cluster::of(&few, &crate::cluster::Expected::AsReported);
        let page = Page::of_runs("few", &few).with_cluster(&cluster, None);
        assert_eq!(page.cases.len(), 4, "few are shown one by one");
    }

    #[test]
    fn nothing_is_fetched() {
        let reports = [fixtures::report(&[("tcp_rr", 1000.0)])];
        let page = Page::of_runs("plain", &reports).render();
        assert!(
            !page.contains("http://") && !page.contains("https://"),
            "no address at all"
        );
        assert!(!page.contains("src=") && !page.contains("@import"));
    }
}
