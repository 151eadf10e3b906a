//! The metadata service: asked only where it belongs, and never for longer than its budget.

use crate::server::{Behaviour, Server};
use crate::{fixture, known, reason, roots, round_trips};
use reports::host::{MetadataSource, fingerprint, fingerprint_at};
use reports::model::Fact;
use std::fs;
use std::time::{Duration, Instant};

/// A run that has not ended by then hangs. Far beyond the 200 ms budget: this is no speed test.
const HANGS: Duration = Duration::from_secs(10);

#[test]
fn a_machine_elsewhere_is_not_asked_about_ec2() {
    let folder = tempfile::tempdir().expect("a folder");
    let dmi = folder.path().join("sys/devices/virtual/dmi/id");
    fs::create_dir_all(&dmi).expect("a folder");
    fs::write(dmi.join("sys_vendor"), "QEMU\n").expect("a file");
    let host = fingerprint_at(&roots(folder.path(), MetadataSource::System));
    assert_eq!(
        reason(&host.cloud),
        "not an EC2 machine: its vendor is \"QEMU\""
    );
    fs::remove_file(dmi.join("sys_vendor")).expect("removed");
    let host = fingerprint_at(&roots(folder.path(), MetadataSource::System));
    assert!(
        reason(&host.cloud).starts_with("not an EC2 machine: "),
        "{:?}",
        host.cloud
    );
    assert!(
        reason(&host.cloud).contains("No such file"),
        "{:?}",
        host.cloud
    );
}

/// What a service of this behaviour makes of the instance type and of the interfaces.
fn asked(behaviour: Behaviour) -> (String, String, usize) {
    let server = Server::start(behaviour);
    let folder = tempfile::tempdir().expect("a folder");
    let start = Instant::now();
    let host = fingerprint_at(&roots(
        folder.path(),
        MetadataSource::Address(server.address),
    ));
    assert!(start.elapsed() < HANGS, "{:?}", start.elapsed());
    round_trips(&host);
    let cloud = known(&host.cloud);
    let of = |reason: &str| reason.to_owned();
    (
        of(reason(&cloud.instance_type)),
        of(reason(&cloud.interfaces)),
        server.requests(),
    )
}

#[test]
fn a_service_that_never_ends_an_answer_costs_the_budget_and_no_more() {
    for behaviour in [Behaviour::Silent, Behaviour::Drip] {
        let (kind, interfaces, requests) = asked(behaviour);
        assert!(kind.contains("no answer within 200 ms"), "{kind}");
        assert!(kind.contains("PUT http://127.0.0.1:"), "{kind}");
        assert_eq!(kind, interfaces, "one reason for all");
        assert!(requests <= 1, "asked again after the budget was spent");
    }
}

#[test]
fn a_slow_service_is_believed_as_far_as_it_came() {
    let delay = Duration::from_millis(30);
    let folder = fixture("p4d.24xlarge");
    let server = Server::start(Behaviour::Slow(folder.join("metadata"), delay));
    let host = fingerprint_at(&roots(&folder, MetadataSource::Address(server.address)));
    let cloud = known(&host.cloud);
    // 200 ms are six answers at the most, and the interfaces are asked for last.
    assert!(server.requests() <= 7, "{} requests", server.requests());
    assert!(reason(&cloud.interfaces).contains("no answer within 200 ms"));
    // The order of the requests.
    let items = [
        &cloud.instance_type,
        &cloud.instance_id,
        &cloud.life_cycle,
        &cloud.availability_zone,
        &cloud.az_id,
        &cloud.region,
        &cloud.placement_group,
        &cloud.host_id,
        &cloud.ami,
    ];
    let late = items.map(|item| {
        item.reason()
            .is_some_and(|why| why.contains("within 200 ms"))
    });
    assert!(
        late.is_sorted(),
        "what came after a late one was late too: {late:?}"
    );
    let first = cloud.instance_type.known();
    assert!(first.is_none_or(|kind| kind == "p4d.24xlarge"), "{first:?}");
}

#[test]
fn a_service_that_refuses_is_not_asked_for_items() {
    for status in [401, 403, 404, 302, 500] {
        let (kind, _, requests) = asked(Behaviour::Status(status));
        // On a machine this busy, the refusal itself may come too late.
        let refused = kind.contains(&format!("status {status}"));
        assert!(refused || kind.contains("within 200 ms"), "{kind}");
        assert!(requests <= 1, "{requests} requests");
    }
}

#[test]
fn a_service_that_lies_is_quoted_with_care() {
    for (behaviour, expected) in [
        (Behaviour::Garbage, "PUT http://"),
        (Behaviour::Huge, "larger than 65536 bytes"),
        (Behaviour::Escapes, "not text"),
        (Behaviour::DiesAfterToken, "GET http://"),
    ] {
        let (kind, interfaces, _) = asked(behaviour);
        let late = kind.contains("within 200 ms");
        assert!(late || kind.contains(expected), "{kind}");
        for text in [kind, interfaces] {
            assert!(!text.contains(char::is_control), "{text:?}");
            assert!(text.len() < 400, "{text}");
        }
    }
}

#[test]
fn an_absent_service_is_a_reason() {
    // A port that was free a moment ago.
    let address = Server::start(Behaviour::Silent).address;
    let folder = tempfile::tempdir().expect("a folder");
    let host = fingerprint_at(&roots(folder.path(), MetadataSource::Address(address)));
    let cloud = known(&host.cloud);
    assert!(
        reason(&cloud.region).contains("PUT http://"),
        "{:?}",
        cloud.region
    );
}

#[test]
fn this_machine_says_whether_it_is_on_ec2() {
    // The real look-up, bounded by its own budget wherever this test runs.
    let start = Instant::now();
    let host = fingerprint();
    assert!(start.elapsed() < HANGS);
    match &host.cloud {
        Fact::Known(cloud) => assert_eq!(cloud.provider, "aws"),
        Fact::Unavailable { unavailable } => {
            assert!(
                unavailable.starts_with("not an EC2 machine"),
                "{unavailable}"
            );
        }
    }
}
