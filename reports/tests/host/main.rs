//! The fingerprint of machines that are not here, of this one, and of files that lie.

mod ec2;
mod metadata;
mod server;

use reports::host::{
    BlockKind, EthtoolSource, Host, Limit, MetadataSource, NicKind, Roots, fingerprint_at,
};
use reports::model::Fact;
use serde_json::Value;
use server::{Behaviour, Server};
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/fixtures/hosts")
        .join(name)
}

fn roots(folder: &Path, metadata: MetadataSource) -> Roots {
    Roots {
        sys: folder.join("sys"),
        proc: folder.join("proc"),
        etc: folder.join("etc"),
        ethtool: EthtoolSource::Dir(folder.join("ethtool")),
        metadata,
    }
}

fn off() -> MetadataSource {
    MetadataSource::Off("not asked by this test".to_owned())
}

/// The fingerprint of a fixture, whose metadata a server on the loopback gives.
fn of_fixture(name: &str) -> Host {
    let folder = fixture(name);
    let server = Server::start(Behaviour::Folder(folder.join("metadata")));
    // A loaded test machine may miss the budget of 200 ms; that is no fault of the fingerprint.
    for _ in 0..20 {
        let host = fingerprint_at(&roots(&folder, MetadataSource::Address(server.address)));
        let late = host.cloud.known().is_some_and(|cloud| {
            let text = serde_json::to_string(cloud).expect("a cloud serialises");
            text.contains("within 200 ms")
        });
        if !late {
            return host;
        }
    }
    panic!("twenty conversations on the loopback all took more than 200 ms");
}

fn known<T>(fact: &Fact<T>) -> &T {
    fact.known()
        .unwrap_or_else(|| panic!("{}", fact.reason().unwrap_or_default()))
}

fn text(fact: &Fact<String>) -> &str {
    known(fact).as_str()
}

fn reason<T>(fact: &Fact<T>) -> &str {
    fact.reason().expect("no value")
}

#[test]
fn a_gpu_instance_with_efa_and_local_disks() {
    let host = of_fixture("p4d.24xlarge");
    assert_eq!(host.name, "p4d-dy-gpu-1");
    assert_eq!(text(&host.os), "Ubuntu 22.04.5 LTS");

    let cpu = &host.cpu;
    assert_eq!(
        text(&cpu.model),
        "Intel(R) Xeon(R) Platinum 8275CL CPU @ 3.00GHz"
    );
    assert_eq!(text(&cpu.architecture), "x86_64");
    let counts = [
        &cpu.logical_cpus,
        &cpu.cores,
        &cpu.sockets,
        &cpu.threads_per_core,
    ];
    assert_eq!(counts.map(|count| *known(count)), [96, 48, 2, 2]);
    assert!(*known(&cpu.smt_active) && *known(&cpu.hypervisor));
    assert_eq!(text(&known(&cpu.numa_nodes)[1].cpus), "24-47,72-95");
    assert_eq!(text(&cpu.microcode), "0x5003901");
    assert_eq!(known(&cpu.mitigations)["meltdown"], "Mitigation: PTI");
    assert!(
        reason(&cpu.governor).contains("scaling_governor"),
        "Nitro hides the governor"
    );

    assert_eq!(text(&host.clocksource.current), "tsc");
    assert_eq!(known(&host.clocksource.available).len(), 3);
    assert_eq!(known(&host.memory.total_bytes), &(1_176_328_044 * 1024));
    assert_eq!(text(&host.memory.thp_enabled), "madvise");
    let pools = known(&host.memory.huge_pages);
    assert_eq!(
        (pools[0].page_bytes, known(&pools[0].total_pages)),
        (2 << 20, &5128)
    );
    assert_eq!(known(&host.memory.memlock_soft_bytes), &Limit::UNLIMITED);
    assert_eq!(known(&host.cgroup.cpu_limit_cpus), &Limit::UNLIMITED);
    assert_eq!(text(&host.cgroup.cpuset_cpus), "0-95");
}

#[test]
fn network_cards_of_two_kinds() {
    let host = of_fixture("p4d.24xlarge");
    let nics = known(&host.nics);
    let names: Vec<_> = nics.iter().map(|nic| nic.name.as_str()).collect();
    assert_eq!(names, ["ens32", "ens65", "lo"]);
    let ena = &nics[0];
    assert_eq!(
        (ena.kind, nics[2].kind),
        (NicKind::Physical, NicKind::Virtual)
    );
    assert_eq!(text(&ena.driver), "ena");
    assert_eq!(text(&ena.driver_version), "6.8.0-1044-aws");
    assert!(reason(&ena.firmware).contains("leaves the firmware version empty"));
    assert_eq!(text(&ena.bus_address), "0000:10:1b.0");
    assert_eq!((known(&ena.mtu_bytes), known(&ena.rx_queues)), (&9001, &8));
    assert_eq!(known(&ena.numa_node), &0);
    assert!(reason(&ena.speed_bits_per_s).contains("reports no speed"));
    let offloads = known(&ena.offloads);
    assert!(offloads["rx-gro"] && offloads["tx-checksum-ipv4"]);
    assert!(!offloads["tx-tcp-segmentation"] && !offloads.contains_key("scatter-gather"));

    let rdma = known(&host.rdma);
    assert_eq!(rdma.len(), 2);
    assert_eq!(
        (known(&rdma[0].efa), text(&rdma[0].pci_id)),
        (&true, "1d0f:efa1")
    );
    assert_eq!(text(&rdma[0].driver), "efa");
    assert_eq!(text(&rdma[0].node_type), "unspecified");
    assert!(rdma[0].board_id.known().is_none());
    let port = &known(&rdma[0].ports)[0];
    assert_eq!(
        (text(&port.state), text(&port.link_layer)),
        ("ACTIVE", "Unknown")
    );
    assert_eq!(known(&port.gids), &1);
    assert!(port.netdev.known().is_none(), "EFA carries no interface");
}

#[test]
fn disks_of_two_kinds_and_what_is_mounted() {
    let host = of_fixture("p4d.24xlarge");
    let block = known(&host.block);
    let kinds: Vec<_> = block
        .iter()
        .map(|disk| (disk.name.as_str(), disk.kind))
        .collect();
    let expected = [
        ("nvme0n1", BlockKind::AwsEbs),
        ("nvme1n1", BlockKind::AwsInstanceStore),
    ];
    assert_eq!(
        kinds, expected,
        "the unbound loop and the RAM disk are left out"
    );
    let (ebs, local) = (&block[0], &block[1]);
    assert_eq!(text(&ebs.model), "Amazon Elastic Block Store");
    assert_eq!(text(&ebs.ebs_volume_id), "vol-0123456789abcdef0");
    assert!(reason(&local.ebs_volume_id).contains("private"));
    assert_eq!(known(&ebs.size_bytes), &(100 << 30));
    assert_eq!(
        (text(&ebs.scheduler), known(&ebs.rotational)),
        ("none", &false)
    );
    assert_eq!(
        (known(&local.nr_requests), known(&local.queue_depth)),
        (&1023, &1024)
    );
    assert_eq!(known(&ebs.poll_queues), &0);
    let mounted = known(&ebs.file_systems);
    assert_eq!(mounted.len(), 2);
    assert_eq!(
        (mounted[0].device.as_str(), mounted[0].mount_point.as_str()),
        ("nvme0n1p1", "/")
    );
    assert_eq!(mounted[0].super_options, "rw,discard,errors=remount-ro");
    assert_eq!(known(&local.file_systems)[0].mount_point, "/local scratch");
}

#[test]
fn the_clouds_own_account() {
    let host = of_fixture("p4d.24xlarge");
    let cloud = known(&host.cloud);
    assert_eq!(text(&cloud.instance_type), "p4d.24xlarge");
    assert_eq!(text(&cloud.az_id), "use1-az6");
    assert_eq!(text(&cloud.placement_group), "hpc-cluster");
    assert_eq!(
        reason(&cloud.partition),
        "404: not in a partition placement group"
    );
    assert_eq!(reason(&cloud.host_id), "404: not on a dedicated host");
    let interfaces = known(&cloud.interfaces);
    let cards: Vec<_> = interfaces
        .iter()
        .map(|i| {
            (
                text(&i.nic),
                *known(&i.network_card),
                *known(&i.device_number),
            )
        })
        .collect();
    assert_eq!(cards, [("ens32", 0, 0), ("ens65", 1, 1)]);
}

#[test]
fn an_old_xen_instance_in_a_container() {
    let host = of_fixture("c4.large");
    assert_eq!(
        text(&host.cpu.architecture),
        "x86_64",
        "inferred: no arch file on Linux 4.14"
    );
    let cpu = &host.cpu;
    let counts = [
        &cpu.logical_cpus,
        &cpu.cores,
        &cpu.sockets,
        &cpu.threads_per_core,
    ];
    assert_eq!(
        counts.map(|count| *known(count)),
        [2, 1, 1, 2],
        "from the older file names"
    );
    assert!(known(&cpu.smt_active), "inferred: no smt folder");
    assert_eq!(text(&host.clocksource.current), "xen");
    assert_eq!(known(&host.cgroup.version), &1);
    assert_eq!(known(&host.cgroup.cpu_limit_cpus), &Limit::At(1.5));
    assert_eq!(
        known(&host.cgroup.memory_limit_bytes),
        &Limit::At(2 << 30),
        "the parent's"
    );
    assert_eq!(text(&host.cgroup.cpuset_cpus), "1");
    assert_eq!(known(&host.memory.memlock_soft_bytes), &Limit::At(65536));

    let eth0 = &known(&host.nics)[0];
    assert_eq!(
        (text(&eth0.driver), text(&eth0.driver_version)),
        ("ixgbevf", "4.1.0-k")
    );
    assert_eq!(known(&eth0.speed_bits_per_s), &10_000_000_000);
    assert!(reason(&eth0.numa_node).contains("belongs to no node"));
    let xvda = &known(&host.block)[0];
    assert_eq!((xvda.kind, text(&xvda.scheduler)), (BlockKind::Xen, "noop"));
    assert!(xvda.model.known().is_none());
    let mounted = &known(&xvda.file_systems)[0];
    assert_eq!(
        (mounted.device.as_str(), mounted.file_system.as_str()),
        ("xvda1", "xfs")
    );
    assert!(reason(&host.rdma).contains("no RDMA device"));
    let cloud = known(&host.cloud);
    assert_eq!(text(&cloud.life_cycle), "spot");
    assert_eq!(
        reason(&cloud.placement_group),
        "404: not in a placement group"
    );
    let card = &known(&cloud.interfaces)[0].network_card;
    assert_eq!(reason(card), "404: its type has a single network card");
}

#[test]
fn a_graviton_under_a_batch_scheduler() {
    let host = of_fixture("hpc7g.4xlarge");
    let cpu = &host.cpu;
    assert_eq!(
        (text(&cpu.model), text(&cpu.vendor)),
        ("Neoverse-V1 r1p1", "ARM")
    );
    assert_eq!(text(&cpu.architecture), "aarch64");
    let counts = [
        &cpu.logical_cpus,
        &cpu.cores,
        &cpu.sockets,
        &cpu.threads_per_core,
    ];
    assert_eq!(counts.map(|count| *known(count)), [16, 16, 1, 1]);
    assert!(!known(&cpu.smt_active));
    assert!(reason(&cpu.microcode).contains("aarch64"));
    assert!(reason(&cpu.hypervisor).contains("x86"));
    assert_eq!(
        known(&cpu.mitigations)["spectre_v2"],
        "Mitigation: CSV2, BHB"
    );
    assert!(text(&host.kernel.cmdline).ends_with("quiet ip=(address)"));

    assert_eq!(known(&host.cgroup.version), &2);
    assert_eq!(
        known(&host.cgroup.cpu_limit_cpus),
        &Limit::At(10.0),
        "step below slice"
    );
    assert_eq!(known(&host.cgroup.memory_limit_bytes), &Limit::At(64 << 30));
    assert_eq!(text(&host.cgroup.cpuset_cpus), "0-7");
    let pages: Vec<_> = known(&host.memory.huge_pages)
        .iter()
        .map(|pool| pool.page_bytes >> 10)
        .collect();
    assert_eq!(pages, [64, 2048, 32768, 1_048_576]);
    assert_eq!(text(&known(&host.rdma)[0].pci_id), "1d0f:efa2");
    let ebs = &known(&host.block)[0];
    assert_eq!(
        (known(&ebs.logical_block_bytes), known(&ebs.poll_queues)),
        (&4096, &4)
    );
    let cloud = known(&host.cloud);
    assert_eq!(known(&cloud.partition), &3);
    assert_eq!(text(&cloud.host_id), "h-0123456789abcdef0");
    let efa_only = &known(&cloud.interfaces)[1];
    assert!(
        reason(&efa_only.nic).contains("no interface here"),
        "{efa_only:?}"
    );
}

/// Everything below a JSON value that is null, with its path.
fn nulls(value: &Value, path: &str, found: &mut Vec<String>) {
    match value {
        Value::Null => found.push(path.to_owned()),
        Value::Array(items) => items.iter().for_each(|item| nulls(item, path, found)),
        Value::Object(map) => {
            for (name, value) in map {
                nulls(value, &format!("{path}.{name}"), found);
            }
        }
        _ => {}
    }
}

/// Serialises, reads back, and agrees with the schema generated from the types.
fn round_trips(host: &Host) {
    let json = serde_json::to_value(host).expect("a host serialises");
    let mut found = Vec::new();
    nulls(&json, "host", &mut found);
    assert!(found.is_empty(), "null instead of a reason: {found:?}");
    let back: Host = serde_json::from_value(json.clone()).expect("a host reads back");
    assert_eq!(&back, host);
    let schema = serde_json::to_value(schemars::schema_for!(Host)).expect("a schema is JSON");
    let schema = jsonschema::validator_for(&schema).expect("the schema is one");
    let errors: Vec<_> = schema.iter_errors(&json).map(|e| e.to_string()).collect();
    assert!(errors.is_empty(), "{errors:?}");
}

#[test]
fn this_machine_and_every_fixture_round_trip() {
    let this = fingerprint_at(&Roots {
        metadata: off(),
        ..Roots::system()
    });
    assert!(this.cpu.logical_cpus.known().is_some_and(|&cpus| cpus > 0));
    assert!(known(&this.nics).iter().any(|nic| nic.name == "lo"));
    assert!(this.memory.total_bytes.known().is_some());
    round_trips(&this);
    for name in ["p4d.24xlarge", "c4.large", "hpc7g.4xlarge"] {
        round_trips(&of_fixture(name));
    }
}

#[test]
fn no_address_enters_a_report() {
    for name in ["p4d.24xlarge", "c4.large", "hpc7g.4xlarge"] {
        let text = serde_json::to_string(&of_fixture(name)).expect("a host serialises");
        for address in [
            "0e:00:",
            "06:00:",
            "0a:00:",
            "10.0.0.",
            "fe80",
            "AWS0123456789",
        ] {
            assert!(!text.contains(address), "{name} holds {address}");
        }
    }
}

#[test]
fn nothing_at_all_is_a_reason_for_everything() {
    let folder = tempfile::tempdir().expect("a folder");
    let host = fingerprint_at(&roots(folder.path(), off()));
    assert_eq!(host.name, "unknown");
    assert!(reason(&host.os).contains("etc/os-release: No such file"));
    assert!(reason(&host.cpu.model).contains("proc/cpuinfo: No such file"));
    assert!(reason(&host.nics).contains("sys/class/net: No such file"));
    assert!(reason(&host.block).contains("sys/block: No such file"));
    round_trips(&host);
}

/// Puts something in a file's place.
type Lie<'a> = &'a dyn Fn(&Path);

/// Copies a tree, each file replaced by what `lie` makes of it.
fn copy_with(from: &Path, to: &Path, lie: Lie) {
    fs::create_dir_all(to).expect("a folder");
    for entry in fs::read_dir(from).expect("a fixture").flatten() {
        let target = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy_with(&entry.path(), &target, lie);
        } else {
            lie(&target);
        }
    }
}

#[test]
fn hostile_files_never_panic() {
    let lies: [(&str, Lie); 7] = [
        ("empty", &|path| fs::write(path, "").expect("a file")),
        ("binary", &|path| {
            fs::write(path, b"\x00\xff\x1b[2J\n").expect("a file")
        }),
        ("words", &|path| {
            fs::write(path, ": = [ ] - , 0-").expect("a file")
        }),
        ("numbers", &|path| {
            fs::write(path, "18446744073709551615 18446744073709551615\n").expect("a file");
        }),
        ("negative", &|path| {
            fs::write(path, "-9223372036854775808\n").expect("a file")
        }),
        ("loops", &|path| symlink(path, path).expect("a link")),
        ("folders", &|path| fs::create_dir(path).expect("a folder")),
    ];
    for (name, lie) in lies {
        let folder = tempfile::tempdir().expect("a folder");
        copy_with(&fixture("hpc7g.4xlarge"), folder.path(), lie);
        let host = fingerprint_at(&roots(folder.path(), off()));
        round_trips(&host);
        assert!(host.memory.total_bytes.known().is_none(), "{name}");
        assert!(host.cpu.logical_cpus.known().is_none(), "{name}");
    }
}

#[test]
fn folders_that_loop_or_are_files_are_reasons() {
    let folder = tempfile::tempdir().expect("a folder");
    let class = folder.path().join("sys/class");
    fs::create_dir_all(&class).expect("a folder");
    symlink("net", class.join("net")).expect("a link");
    fs::write(folder.path().join("sys/block"), "a file").expect("a file");
    fs::create_dir_all(class.join("infiniband/mlx5_0/ports")).expect("a folder");
    symlink("..", class.join("infiniband/mlx5_0/ports/1")).expect("a link");
    let host = fingerprint_at(&roots(folder.path(), off()));
    assert!(
        reason(&host.nics).contains("symbolic links"),
        "{:?}",
        host.nics
    );
    assert!(
        reason(&host.block).contains("Not a directory"),
        "{:?}",
        host.block
    );
    assert_eq!(known(&known(&host.rdma)[0].ports).len(), 1);
    round_trips(&host);
}
