//! Which way the bytes went, as the report tells it: proved by counters, whatever the library says.

mod common;

use common::{PROGRAM, mpirun, output, report};
use reports::model::{Measurement, OBSERVED, Outcome, Severity};
use std::process::Command;

/// A measurement of windows of 1 MiB between two ranks of this machine, with these settings of Open
/// MPI.
fn bandwidth(launcher: &mut Command) -> Measurement {
    let args = [PROGRAM, "bw", "-m", "1M:1M", "-i", "3", "-x", "1", "--json"];
    let output = output(launcher.args(args));
    match report(&output).cases.remove(0).outcome {
        Outcome::Measured(measurement) => *measurement,
        other => panic!("it was not measured: {other:?}"),
    }
}

fn proof(measurement: &Measurement) -> &str {
    let proof = measurement.facts[OBSERVED]["transport_proof"].as_str();
    proof.expect("a sentence")
}

#[test]
fn tcp_on_one_machine_is_proved_by_the_loopback_interface() {
    let tcp = bandwidth(mpirun(2).args(["--mca", "pml", "ob1", "--mca", "btl", "tcp,self"]));
    assert_eq!(tcp.facts["transport"]["within_nodes"], "TCP (btl tcp)");
    let proof = proof(&tcp);
    assert!(proof.starts_with("proved: lo sent "), "{proof}");
    assert!(!tcp.validity.is_invalid(), "{:?}", tcp.validity);
    let counters = &tcp.facts[OBSERVED]["transport_counters"];
    let payload = tcp.work.known().expect("it is counted").bytes;
    let sent = counters["sent_by_sockets_of_the_job_bytes"].as_u64();
    assert!(sent.expect("this kernel tells") >= payload);
}

#[test]
fn shared_memory_is_what_no_interface_carried() {
    let memory = bandwidth(&mut mpirun(2));
    let proof = proof(&memory);
    assert!(proof.starts_with("shared memory: no interface"), "{proof}");
    assert!(!memory.validity.is_invalid(), "{:?}", memory.validity);
    let worst = memory
        .validity
        .flags
        .iter()
        .filter(|flag| flag.code.starts_with("transport") && flag.severity > Severity::Info);
    assert_eq!(worst.count(), 0, "{:?}", memory.validity);
}
