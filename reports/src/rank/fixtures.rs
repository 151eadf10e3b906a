//! Hosts and runs of instances that are not here, for the tests of rankings.

use crate::fixtures::{measurement_mut, report};
use crate::host::{BlockDevice, BlockKind, Cloud, Host};
use crate::model::{Aggregation, Direction, Fact, Metric, Report, Unit};

/// An instance of this type. Nothing else is known of it.
pub(crate) fn host_of(name: &str, kind: &str, region: &str, capacity: &str) -> Host {
    let unknown = || Fact::unavailable("a fixture");
    let mut host = Host::unknown(name, "a fixture");
    host.cloud = Fact::Known(Cloud {
        provider: "aws".to_owned(),
        instance_type: kind.to_owned().into(),
        instance_id: Fact::Known(format!("i-{name}")),
        life_cycle: capacity.to_owned().into(),
        availability_zone: unknown(),
        az_id: unknown(),
        region: region.to_owned().into(),
        placement_group: unknown(),
        partition: Fact::unavailable("a fixture"),
        host_id: unknown(),
        ami: unknown(),
        interfaces: Fact::unavailable("a fixture"),
    });
    host
}

/// Makes the host know a disk.
pub(crate) fn with_disk(host: &mut Host, name: &str, kind: BlockKind) {
    let unknown = || Fact::unavailable("a fixture");
    let number = || Fact::unavailable("a fixture");
    host.block = Fact::Known(vec![BlockDevice {
        name: name.to_owned(),
        kind,
        model: unknown(),
        ebs_volume_id: unknown(),
        firmware: unknown(),
        size_bytes: number(),
        rotational: Fact::unavailable("a fixture"),
        scheduler: unknown(),
        logical_block_bytes: number(),
        physical_block_bytes: number(),
        nr_requests: number(),
        queue_depth: number(),
        read_ahead_bytes: number(),
        write_cache: unknown(),
        poll_queues: Fact::unavailable("a fixture"),
        file_systems: Fact::unavailable("a fixture"),
    }]);
}

/// Runs of a stream between two instances of this type, with a little spread around a bandwidth.
pub(crate) fn streams(kind: &str, count: u32, bytes_per_s: f64) -> Vec<Report> {
    let one = |run: u32| {
        let noise = 1.0 + 0.001 * f64::from(run * 7 % 11);
        let mut report = report(&[("tcp_stream", 1.0)]);
        let names = [format!("{kind}-a"), format!("{kind}-b")];
        report.hosts = names
            .iter()
            .map(|name| host_of(name, kind, "us-east-1", "on-demand"))
            .collect();
        let benchmark = &mut report.cases[0].benchmark;
        *benchmark = crate::model::Benchmark::new(
            "net-bench/tcp_stream",
            "a fixture",
            serde_json::Map::from_iter([("flows".to_owned(), 8.into())]),
        );
        measurement_mut(&mut report, 0).metrics = vec![
            Metric::new(
                "bandwidth_bytes_per_s",
                Aggregation::Total,
                Unit::BytesPerSecond,
                Direction::HigherIsBetter,
                bytes_per_s * noise,
                1,
            )
            .headline(),
        ];
        measurement_mut(&mut report, 0).validity = crate::model::Validity::default();
        report
    };
    (0..count).map(one).collect()
}

/// The written output of `aws ec2 describe-instance-types`.
pub(crate) fn instance_types() -> super::InstanceTypes {
    let text = include_str!("../../tests/fixtures/instance-types/describe-instance-types.json");
    super::InstanceTypes::parse(text, "types.json").expect("it is well-formed")
}
