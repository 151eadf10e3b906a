//! Rows of a cluster: a report from each node, and what a node must have.

use super::Need;
use crate::cluster::{Kind, natural};
use crate::host;
use crate::model::{self, Fact, LoadError, Outcome, Report, Severity};
use std::path::{Path, PathBuf};

/// Why this machine cannot do without what is needed; `None` if it has it. The machine that starts
/// a launcher is taken for one of the nodes.
pub(super) fn lacks(need: Need) -> Option<String> {
    let Need::Efa = need;
    let devices = match host::fingerprint().rdma {
        Fact::Known(devices) => devices,
        Fact::Unavailable { unavailable } => {
            return Some(format!(
                "unavailable: no EFA on this machine: {unavailable}"
            ));
        }
    };
    let efa = |device: &host::RdmaDevice| device.efa == Fact::Known(true);
    if devices.iter().any(efa) {
        return None;
    }
    let names: Vec<String> = devices.into_iter().map(|device| device.name).collect();
    Some(format!(
        "unavailable: no EFA on this machine, only {}",
        names.join(", ")
    ))
}

/// The reports that the processes of a launcher left in a folder, in the order of their hosts. If
/// they are fewer than the ranks that were started, each says so.
pub(super) fn collect(folder: &Path) -> Result<Vec<Report>, LoadError> {
    let (mut reports, faults) = model::load_all(&[PathBuf::from(folder)]);
    if let Some(fault) = faults.into_iter().next() {
        return Err(fault);
    }
    reports.sort_by_cached_key(|report| report.hosts.first().map(|host| natural(&host.name)));
    let ranks = |report: &Report| {
        let launcher = report.run.scheduler.known();
        launcher
            .and_then(|launcher| launcher.ranks.known())
            .copied()
    };
    let started = reports.iter().filter_map(ranks).max().unwrap_or(0) as usize;
    let written = reports.len();
    if written < started {
        let hosts = reports.iter().flat_map(|report| &report.hosts);
        let hosts: Vec<String> = hosts.map(|host| host.name.clone()).collect();
        let evidence = format!(
            "{written} of {started} ranks left a report: those on {}. Do all nodes see this folder?",
            crate::cluster::some(&hosts)
        );
        for case in reports.iter_mut().flat_map(|report| &mut report.cases) {
            if let Outcome::Measured(measurement) = &mut case.outcome {
                let code = Kind::MissingRank.code();
                measurement
                    .validity
                    .flag(Severity::Invalid, code, &*evidence);
            }
        }
    }
    Ok(reports)
}
