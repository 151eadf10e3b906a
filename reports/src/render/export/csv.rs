//! CSV: one number a row, quoted as RFC 4180 says, the lines ended by a line feed.
//!
//! Spreadsheets run what begins with `=`, `+`, `-` or `@` as a formula, so text from reports that
//! does, and is no number, gets an apostrophe before it. Numbers are written as they are.

use super::{Cases, ExportError, flags, outcome, places};
use crate::compare::{Class, Comparison, Difference, MetricComparison};
use crate::model::{Case, Fact, Metric, Outcome, Report, Session, Severity};
use crate::render::text::visible;
use crate::summary::{CaseSummary, MetricSummary};
use serde_json::{Map, Value};
use std::collections::{BTreeMap, BTreeSet};

/// The columns of [`runs`] before the parameters.
const RUN: [&str; 14] = [
    "run",
    "started",
    "suite",
    "row",
    "arm",
    "repetition",
    "pair",
    "order",
    "program",
    "commit",
    "host",
    "instance_type",
    "benchmark",
    "definition_hash",
];

/// The columns that say what a number is.
const METRIC: [&str; 6] = [
    "metric",
    "aggregation",
    "defined_by",
    "unit",
    "direction",
    "headline",
];

/// A row per run, case and metric; a case without numbers has one row, with the reason.
pub(super) fn runs(reports: &[Report]) -> Result<String, ExportError> {
    let cases = reports.iter().flat_map(|report| &report.cases);
    let names = parameters(cases.map(|case| &case.benchmark.params));
    let header = RUN.map(str::to_owned).into_iter();
    let header = header.chain(names.iter().map(|name| column(name)));
    let rest = ["outcome", "flags"].into_iter().chain(METRIC);
    let header = header.chain(rest.chain(["value", "n", "reason"]).map(str::to_owned));
    let mut sheet = Sheet::new(header)?;
    for report in reports {
        let run = run(report);
        for case in &report.cases {
            let mut start = run.clone();
            start.push(cell(&case.benchmark.id));
            start.push(cell(&case.benchmark.definition_hash));
            start.extend(values(&case.benchmark.params, &names));
            start.push(outcome(&case.outcome).to_owned());
            run_rows(&mut sheet, &start, case)?;
        }
    }
    sheet.into_text()
}

fn run_rows(sheet: &mut Sheet, start: &[String], case: &Case) -> Result<(), ExportError> {
    let reason = match &case.outcome {
        Outcome::Measured(measurement) => {
            let flags = flags(measurement);
            for metric in &measurement.metrics {
                let mut row = start.to_vec();
                let [value, reason] = number(&metric.value);
                let [n, _] = number(&metric.n);
                row.push(cell(&flags));
                row.extend(metric_cells(metric));
                row.extend([value, n, reason]);
                sheet.row(&row)?;
            }
            return Ok(());
        }
        Outcome::Skipped { reason } => reason,
        Outcome::Failed { error } => error,
    };
    let mut row = start.to_vec();
    row.resize(row.len() + 1 + METRIC.len() + 2, String::new());
    row.push(cell(reason));
    sheet.row(&row)
}

/// A value and an empty reason, or no value and the reason.
fn number<T: ToString>(fact: &Fact<T>) -> [String; 2] {
    match fact {
        Fact::Known(value) => [value.to_string(), String::new()],
        Fact::Unavailable { unavailable } => [String::new(), cell(unavailable)],
    }
}

fn run(report: &Report) -> Vec<String> {
    let session = report.run.session.as_ref();
    let of_session = |get: fn(&Session) -> String| session.map(get);
    let hosts: Vec<&str> = report.hosts.iter().map(|host| host.name.as_str()).collect();
    let places = places(std::slice::from_ref(report));
    let known = [
        Some(report.run.id.clone()),
        Some(report.run.started.clone()),
        of_session(|session| session.suite.clone()),
        of_session(|session| session.row.clone()),
        session.and_then(|session| session.arm.clone()),
        of_session(|session| session.repetition.to_string()),
        session.and_then(|session| session.pair_id.clone()),
        of_session(|session| session.order_index.to_string()),
        Some(report.program.name.clone()),
        report.program.commit.known().cloned(),
        Some(hosts.join(" ")),
        instance_types(&hosts, &places),
    ];
    let cells = known.map(|text| cell(&text.unwrap_or_default()));
    cells.into()
}

/// The instance types of some hosts, each once; nothing if none is known.
fn instance_types(hosts: &[&str], places: &BTreeMap<String, String>) -> Option<String> {
    let mut types: Vec<&str> = hosts
        .iter()
        .filter_map(|host| places.get(*host).map(String::as_str))
        .collect();
    types.dedup();
    (!types.is_empty()).then(|| types.join(" "))
}

fn metric_cells(metric: &Metric) -> [String; METRIC.len()] {
    [
        cell(&metric.name),
        metric.aggregation.to_string(),
        cell(metric.compat.as_deref().unwrap_or_default()),
        word(&metric.unit),
        word(&metric.direction),
        metric.headline.to_string(),
    ]
}

/// A row per case and metric: the median over runs and its interval.
pub(super) fn cases(cases: &Cases, reports: &[Report]) -> Result<String, ExportError> {
    let places = places(reports);
    let names = parameters(cases.summaries.iter().map(|case| &case.benchmark.params));
    let first = [
        "row",
        "arm",
        "host",
        "instance_type",
        "benchmark",
        "definition_hash",
    ];
    let counts = ["measured", "skipped", "failed", "validity", "flags"];
    let numbers = ["median", "low", "high", "runs", "reason"];
    let header = first.map(str::to_owned).into_iter();
    let header = header.chain(names.iter().map(|name| column(name)));
    let rest = counts.into_iter().chain(METRIC).chain(numbers);
    let mut sheet = Sheet::new(header.chain(rest.map(str::to_owned)))?;
    for case in &cases.summaries {
        let hosts: Vec<&str> = case.hosts.iter().map(String::as_str).collect();
        let first = [
            case.row.clone(),
            case.arm.clone(),
            Some(hosts.join(" ")),
            instance_types(&hosts, &places),
            Some(case.benchmark.id.clone()),
            Some(case.benchmark.definition_hash.clone()),
        ];
        let first = first.map(|text| cell(&text.unwrap_or_default()));
        let mut start: Vec<String> = first.into();
        start.extend(values(&case.benchmark.params, &names));
        start.extend(counts_of(case));
        for metric in &case.metrics {
            let mut row = start.clone();
            row.extend(summary_cells(metric));
            sheet.row(&row)?;
        }
        if case.metrics.is_empty() {
            let reasons = case.failed.keys().chain(case.skipped.keys());
            let reasons: Vec<&str> = reasons.map(String::as_str).collect();
            start.resize(start.len() + METRIC.len() + 3, String::new());
            start.extend(["0".to_owned(), cell(&reasons.join("; "))]);
            sheet.row(&start)?;
        }
    }
    sheet.into_text()
}

fn counts_of(case: &CaseSummary) -> [String; 5] {
    let worst = case.flags.iter().map(|(flag, _)| flag.severity).max();
    let flags: Vec<String> = case
        .flags
        .iter()
        .map(|(flag, runs)| format!("{}({runs})", flag.code))
        .collect();
    [
        case.measured.to_string(),
        case.skipped.values().sum::<usize>().to_string(),
        case.failed.values().sum::<usize>().to_string(),
        match worst {
            _ if case.measured == 0 => "",
            Some(Severity::Invalid) => "invalid",
            Some(Severity::Degraded) => "degraded",
            Some(Severity::Info) | None => "valid",
        }
        .to_owned(),
        cell(&flags.join(" ")),
    ]
}

fn summary_cells(metric: &MetricSummary) -> Vec<String> {
    let [median, no_median] = number(&metric.median);
    let (low, high, no_interval) = match &metric.interval {
        Ok(interval) => (interval.low.to_string(), interval.high.to_string(), ""),
        Err(reason) => (String::new(), String::new(), reason.as_str()),
    };
    let no_interval = match no_interval {
        "" => String::new(),
        reason => format!("no interval: {reason}"),
    };
    let reason = if no_median.is_empty() {
        no_interval
    } else {
        no_median
    };
    vec![
        cell(&metric.name),
        metric.aggregation.to_string(),
        cell(metric.compat.as_deref().unwrap_or_default()),
        word(&metric.unit),
        word(&metric.direction),
        metric.headline.to_string(),
        median,
        low,
        high,
        metric.values.len().to_string(),
        reason,
    ]
}

/// A row per compared metric, then one per case that cannot be compared.
pub(super) fn comparison(comparison: &Comparison) -> Result<String, ExportError> {
    const COLUMNS: [&str; 24] = [
        "case",
        "metric",
        "aggregation",
        "defined_by",
        "unit",
        "direction",
        "a_runs",
        "a_median",
        "b_runs",
        "b_median",
        "pairs",
        "scale",
        "effect",
        "low",
        "high",
        "p",
        "p_adjusted",
        "detectable",
        "observed",
        "verdict",
        "confounders",
        "gate",
        "gate_failed",
        "reason",
    ];
    let confounder = |difference: &&Difference| difference.class == Class::Confounder;
    let everywhere = comparison.environment.iter().filter(confounder);
    let mut sheet = Sheet::new(COLUMNS.map(str::to_owned).into_iter())?;
    for case in &comparison.cases {
        let own = case.confounders.iter().filter(confounder);
        let fields = everywhere
            .clone()
            .chain(own)
            .map(|found| found.field.as_str());
        let fields = cell(&fields.collect::<Vec<_>>().join(" "));
        for metric in &case.metrics {
            let mut row = vec![cell(&case.case)];
            row.extend(compared_cells(metric, &fields));
            sheet.row(&row)?;
        }
    }
    for blocked in &comparison.blocked {
        let mut row = vec![String::new(); COLUMNS.len()];
        row[0] = cell(&blocked.case);
        row[19] = "incomparable".to_owned();
        let (a, b) = (blocked.a.join(" "), blocked.b.join(" "));
        row[23] = cell(&format!("{}: A {a}; B {b}", blocked.field));
        sheet.row(&row)?;
    }
    sheet.into_text()
}

fn compared_cells(metric: &MetricComparison, confounders: &str) -> Vec<String> {
    let number = |value: Option<f64>| value.map(|value| value.to_string()).unwrap_or_default();
    let effect = metric.effect;
    let gate = metric.gate;
    vec![
        cell(&metric.name),
        metric.aggregation.to_string(),
        cell(metric.compat.as_deref().unwrap_or_default()),
        word(&metric.unit),
        word(&metric.direction),
        metric.a.runs.to_string(),
        number(metric.a.median),
        metric.b.runs.to_string(),
        number(metric.b.median),
        metric
            .pairs
            .map(|pairs| pairs.to_string())
            .unwrap_or_default(),
        effect.map(|effect| word(&effect.scale)).unwrap_or_default(),
        number(effect.map(|effect| effect.value)),
        number(effect.map(|effect| effect.low)),
        number(effect.map(|effect| effect.high)),
        number(metric.p_value),
        number(metric.adjusted_p_value),
        number(metric.detectable),
        word(&metric.observed),
        word(&metric.verdict),
        confounders.to_owned(),
        gate.map(|gate| gate.threshold.to_string())
            .unwrap_or_default(),
        gate.map(|gate| gate.failed.to_string()).unwrap_or_default(),
        cell(metric.reason.as_deref().unwrap_or_default()),
    ]
}

/// The names of all parameters, in the order in which they are first met.
fn parameters<'a>(params: impl Iterator<Item = &'a Map<String, Value>>) -> Vec<&'a str> {
    let mut names = Vec::new();
    let mut known = BTreeSet::new();
    for name in params.flat_map(Map::keys) {
        if known.insert(name.as_str()) {
            names.push(name.as_str());
        }
    }
    names
}

fn column(parameter: &str) -> String {
    format!("param_{}", visible(parameter))
}

fn values(params: &Map<String, Value>, names: &[&str]) -> Vec<String> {
    let value = |name: &&str| match params.get(*name) {
        None | Some(Value::Null) => String::new(),
        Some(Value::String(value)) => cell(value),
        Some(Value::Array(_) | Value::Object(_)) => cell(&params[*name].to_string()),
        Some(plain) => plain.to_string(),
    };
    names.iter().map(value).collect()
}

/// Text from a report as a cell: in one line, and never a formula.
fn cell(text: &str) -> String {
    let visible = visible(text);
    let first = visible.trim_start().chars().next();
    // Some programs take the full-width signs of East Asian keyboards as well.
    let formula = matches!(
        first,
        Some('=' | '+' | '-' | '@' | '＝' | '＋' | '－' | '＠')
    );
    if formula && visible.parse::<f64>().is_err() {
        format!("'{visible}")
    } else {
        visible.into_owned()
    }
}

/// The word that stands for an enumeration's value in JSON.
fn word<T: serde::Serialize>(value: &T) -> String {
    match serde_json::to_value(value) {
        Ok(Value::String(word)) => word,
        // Only enumerations without fields are given.
        other => unreachable!("an enumeration is a word, not {other:?}"),
    }
}

/// Rows being written; all have as many cells as the header.
struct Sheet(csv::Writer<Vec<u8>>);

impl Sheet {
    fn new(header: impl Iterator<Item = String>) -> Result<Self, ExportError> {
        let mut sheet = Self(csv::Writer::from_writer(Vec::new()));
        sheet.row(&header.collect::<Vec<_>>())?;
        Ok(sheet)
    }

    fn row(&mut self, cells: &[String]) -> Result<(), ExportError> {
        let written = self.0.write_record(cells);
        written.map_err(|error| ExportError::Csv(error.to_string()))
    }

    fn into_text(self) -> Result<String, ExportError> {
        let bytes = self.0.into_inner();
        let bytes = bytes.map_err(|error| ExportError::Csv(error.to_string()))?;
        String::from_utf8(bytes).map_err(|error| ExportError::Csv(error.to_string()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_text_is_a_formula_and_numbers_stay_numbers() {
        for harmless in ["net-bench/tcp_rr", "-1", "+2.5", "1e9", "", "a=b"] {
            assert_eq!(cell(harmless), harmless);
        }
        for formula in [
            "=cmd|' /C calc'!A0",
            "@SUM(1)",
            "-1+2",
            " =1",
            "＝1",
            "--rw",
        ] {
            assert_eq!(cell(formula), format!("'{formula}"));
        }
        assert_eq!(
            cell("\t=1\r\n"),
            "\\t=1\\r\\n",
            "a tab is spelt out, no cell begins with ="
        );
    }
}
