//! What a well-formed report must also satisfy: the rules that types alone cannot state.

use super::{Matrix, Measurement, Outcome, Report};

/// Checks the rules of the model; the error names the path of the fault.
pub(crate) fn check(report: &Report) -> Result<(), String> {
    if report.hosts.is_empty() {
        return Err("hosts: empty, but some host must have measured".to_owned());
    }
    for (index, case) in report.cases.iter().enumerate() {
        let path = format!("cases[{index}] ({})", case.benchmark.id);
        let expected = super::definition_hash(&case.benchmark.id, &case.benchmark.definition);
        if case.benchmark.definition_hash != expected {
            return Err(format!(
                "{path}.benchmark.definition_hash: {:?} does not belong to id and definition, \
                 which give {expected:?}",
                case.benchmark.definition_hash
            ));
        }
        if let Outcome::Measured(measurement) = &case.outcome {
            check_measurement(measurement, report.hosts.len())
                .map_err(|fault| format!("{path}.outcome.{fault}"))?;
        }
    }
    Ok(())
}

fn check_measurement(measurement: &Measurement, hosts: usize) -> Result<(), String> {
    if let Some(&elapsed_s) = measurement.elapsed_s.known()
        && elapsed_s < 0.0
    {
        return Err(format!("elapsed_s: {elapsed_s} is negative"));
    }
    if measurement.verified.trim().is_empty() {
        return Err("verified: empty, but a measured case verified something".to_owned());
    }
    let validity = &measurement.validity;
    let expected = validity.of_flags();
    if validity.status != expected {
        return Err(format!(
            "validity.status: {:?} stands there, the flags come to {expected:?}",
            validity.status,
        ));
    }
    let mut keys: Vec<String> = measurement.metrics.iter().map(super::Metric::key).collect();
    keys.sort_unstable();
    if let Some(twice) = keys.windows(2).find(|pair| pair[0] == pair[1]) {
        return Err(format!("metrics: {:?} appears twice", twice[0]));
    }
    for (index, record) in measurement.histograms.iter().enumerate() {
        let histogram = crate::measure::decode_histogram(&record.hdr_v2_base64)
            .map_err(|error| format!("histograms[{index}].hdr_v2_base64: {error}"))?;
        if histogram.len() != record.count {
            return Err(format!(
                "histograms[{index}].count: {} stands there, {} values are in the histogram",
                record.count,
                histogram.len()
            ));
        }
    }
    for (index, matrix) in measurement.matrices.iter().enumerate() {
        check_matrix(matrix, hosts).map_err(|fault| format!("matrices[{index}].{fault}"))?;
    }
    for (index, interval) in measurement.intervals.iter().enumerate() {
        if interval.t1_s < interval.t0_s {
            return Err(format!("intervals[{index}]: it ends before it starts"));
        }
    }
    Ok(())
}

fn check_matrix(matrix: &Matrix, hosts: usize) -> Result<(), String> {
    let nodes = matrix.nodes.len();
    if let Some(at) = matrix
        .nodes
        .iter()
        .position(|node| node.host as usize >= hosts)
    {
        return Err(format!(
            "nodes[{at}].host: {} is none of the {hosts} hosts",
            matrix.nodes[at].host
        ));
    }
    if matrix.values.len() != nodes {
        let rows = matrix.values.len();
        return Err(format!("values: {rows} rows for {nodes} nodes"));
    }
    match matrix.values.iter().position(|row| row.len() != nodes) {
        None => Ok(()),
        Some(at) => Err(format!(
            "values[{at}]: {} numbers for {nodes} nodes",
            matrix.values[at].len()
        )),
    }
}
