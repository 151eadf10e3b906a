//! `net-bench fabric_info`, with the libfabric of this machine, and without one.
#![allow(missing_docs, clippy::unwrap_used)]

mod common;

use common::{net_bench, said, stderr};
use serde_json::Value;
use std::process::{Command, Output};

/// A run without variables from outside.
fn fabric_info(arguments: &[&str], variables: &[(&str, &str)]) -> Output {
    let mut command = net_bench(&["fabric_info"]);
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("FI_") {
            command.env_remove(name);
        }
    }
    let command = command.args(arguments).envs(variables.iter().copied());
    command.output().unwrap()
}

/// Whether there is a libfabric; a line that says why not, otherwise.
fn libfabric(test: &str) -> bool {
    let output = fabric_info(&[], &[]);
    if output.status.code() == Some(3) {
        println!("SKIPPED {test}: {}", stderr(&output).trim());
    } else {
        assert_eq!(output.status.code(), Some(0), "{}", said(&output));
    }
    output.status.success()
}

fn json(output: &Output) -> Value {
    assert_eq!(output.status.code(), Some(0), "{}", said(output));
    serde_json::from_slice(&output.stdout).unwrap()
}

fn texts<'a>(found: &'a Value, name: &str) -> Vec<&'a str> {
    let offers = found["offers"].as_array().unwrap();
    offers
        .iter()
        .map(|offer| offer[name].as_str().unwrap())
        .collect()
}

#[test]
fn tcp_is_there_with_its_limits() {
    if !libfabric("offers of libfabric") {
        return;
    }
    let found = json(&fabric_info(
        &["--json"],
        &[("FI_TCP_PORT_LOW_RANGE", "40000")],
    ));
    assert!(
        found["library"]["path"]
            .as_str()
            .unwrap()
            .contains("libfabric.so.1")
    );
    assert!(found["library"]["version"].as_str().unwrap().contains('.'));
    let set = found["environment"].as_object().unwrap();
    assert_eq!(set.len(), 1, "{set:?}");
    assert_eq!(set["FI_TCP_PORT_LOW_RANGE"], "40000");
    let offers = found["offers"].as_array().unwrap();
    let tcp = offers
        .iter()
        .find(|offer| offer["provider"] == "tcp" && offer["endpoint"] == "msg");
    let tcp = tcp.unwrap_or_else(|| panic!("no tcp in {:?}", texts(&found, "provider")));
    for capability in ["msg", "rma", "send", "recv"] {
        assert!(
            tcp["capabilities"]
                .as_array()
                .unwrap()
                .contains(&capability.into()),
            "{tcp}"
        );
    }
    for size in [
        "/max_message_bytes",
        "/tx/inject_bytes",
        "/tx/operations",
        "/rx/iov_limit",
    ] {
        assert!(
            tcp.pointer(size).unwrap().as_u64().unwrap() > 0,
            "{size}: {tcp}"
        );
    }
    assert!(!tcp["domain"].as_str().unwrap().is_empty());
    assert!(tcp["threading"].is_string() && tcp["progress"]["data"].is_string());
}

#[test]
fn a_provider_alone_as_text() {
    if !libfabric("offers of one provider") {
        return;
    }
    let output = fabric_info(&["-p", "tcp;ofi_rxm"], &[("COLUMNS", "80")]);
    let text = said(&output);
    assert_eq!(output.status.code(), Some(0), "{text}");
    let providers = text.lines().filter(|line| line.contains("  protocol "));
    for line in providers.clone() {
        assert!(line.starts_with("tcp;ofi_rxm  rdm  protocol rxm"), "{line}");
    }
    assert!(providers.count() > 0, "{text}");
    for words in [
        "FI_* set           none",
        "capabilities       msg, rma, tagged",
        "longest message    unlimited",
        "order of sends     rar, ",
        "data manual, threads safe",
        "cases              fabric_pingpong and fabric_stream: in order: injected up to",
        "fabric_rma write: in order",
    ] {
        assert!(text.contains(words), "no {words:?} in {text}");
    }
    let json = json(&fabric_info(&["-p", "tcp;ofi_rxm", "--json"], &[]));
    assert!(
        texts(&json, "provider")
            .iter()
            .all(|name| *name == "tcp;ofi_rxm")
    );
}

#[test]
fn providers_that_do_not_exist() {
    if !libfabric("providers that do not exist") {
        return;
    }
    for (arguments, variables) in [
        (&["-p", "nosuch"][..], &[][..]),
        (&["-p", "tcp"], &[("FI_PROVIDER", "nosuch")]),
        (&[], &[("FI_PROVIDER", "nosuch")]),
    ] {
        let output = fabric_info(arguments, variables);
        let text = stderr(&output);
        assert_eq!(output.status.code(), Some(3), "{text}");
        assert!(output.stdout.is_empty());
        for word in [
            "unavailable: ",
            "nosuch",
            "No data available",
            "FI_PROVIDER",
        ] {
            assert!(text.contains(word), "no {word:?} in {text}");
        }
    }
}

#[test]
fn no_libfabric_is_unavailable_with_the_remedy() {
    if !libfabric("a hidden libfabric") {
        return;
    }
    let found = json(&fabric_info(&["--json"], &[]));
    // In a mount namespace of its own the program finds an empty file in the library's place.
    let script = "mount --bind /dev/null \"$1\" || exit 77; exec \"$2\" fabric_info";
    let output = Command::new("unshare")
        .args(["--mount", "--map-root-user", "sh", "-c", script, "sh"])
        .arg(found["library"]["path"].as_str().unwrap())
        .arg(env!("CARGO_BIN_EXE_net-bench"))
        .output();
    let text = match &output {
        Ok(output) => stderr(output),
        Err(error) => error.to_string(),
    };
    if !text.starts_with("net-bench") {
        println!(
            "SKIPPED a hidden libfabric: no mount namespace here: {}",
            text.trim()
        );
        return;
    }
    assert_eq!(output.unwrap().status.code(), Some(3), "{text}");
    for word in [
        "unavailable: ",
        "libfabric.so.1",
        "file too short",
        "/opt/amazon/efa/lib64/libfabric.so.1",
        "libfabric1",
        "EFA installer",
    ] {
        assert!(text.contains(word), "no {word:?} in {text}");
    }
}
