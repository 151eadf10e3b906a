use super::*;
use crate::fixtures;
use crate::model::{Fact, Scheduler};

/// A report of one host by one program.
fn report(program: &str, host: &str) -> Report {
    let mut report = fixtures::report(&[("rr", 1000.0)]);
    report.program.name = program.to_owned();
    report.hosts[0].name = host.to_owned();
    report
}

/// One of all hosts, under a launcher.
fn together(program: &str, hosts: &[&str], launched: u32) -> Report {
    let mut report = report(program, hosts[0]);
    for host in &hosts[1..] {
        let mut more = report.hosts[0].clone();
        more.name = (*host).to_owned();
        report.hosts.push(more);
    }
    report.cases[0].benchmark =
        crate::model::Benchmark::new("test/pairs", "a fixture", serde_json::Map::new());
    report.run.scheduler = Fact::Known(Scheduler {
        kind: "open-mpi".to_owned(),
        job_id: Fact::Known("17".to_owned()),
        nodes: Fact::Known(launched),
        ranks: Fact::Known(launched),
    });
    report
}

fn named(cluster: &Cluster) -> Vec<(Kind, Vec<&str>)> {
    let faults = cluster.faults.iter();
    faults
        .map(|fault| (fault.kind, fault.nodes.iter().map(String::as_str).collect()))
        .collect()
}

#[test]
fn a_whole_cluster_has_no_fault_and_its_nodes_are_in_order() {
    let mut reports = vec![together("mpi", &["n1", "n2", "n10"], 3)];
    reports.extend(["n10", "n2", "n1"].map(|host| report("storage", host)));
    let cluster = Cluster::of(&reports, &Expected::AsReported);
    assert_eq!(named(&cluster), []);
    let names: Vec<_> = cluster
        .nodes
        .iter()
        .map(|node| node.name.as_str())
        .collect();
    assert_eq!(names, ["n1", "n2", "n10"]);
    assert_eq!(cluster.nodes[0].reports, 2);
    assert_eq!(cluster.nodes[0].programs.len(), 2);
}

#[test]
fn a_node_that_is_missing_is_named_and_makes_the_results_invalid() {
    let all = ["n1", "n2", "n3"];
    let mut reports = vec![together("mpi", &all, 3)];
    reports.extend(["n1", "n2"].map(|host| report("storage", host)));
    let cluster = Cluster::of(&reports, &Expected::AsReported);
    assert_eq!(named(&cluster), [(Kind::MissingNode, vec!["n3"])]);
    cluster.flag(&mut reports);
    cluster.flag(&mut reports);
    let flags = |report: &Report| {
        let measured = report.cases[0].outcome.measurement();
        measured.map(|m| {
            m.validity
                .flags
                .iter()
                .map(|f| f.code.clone())
                .collect::<Vec<_>>()
        })
    };
    let before = flags(&reports[0]).expect("measured");
    let after = flags(&reports[1]).expect("measured");
    assert!(!before.contains(&"missing_node".to_owned()));
    assert_eq!(
        after.iter().filter(|code| *code == "missing_node").count(),
        1
    );
    assert!(
        crate::model::check(&reports[1]).is_ok(),
        "its status follows"
    );
}

#[test]
fn lists_numbers_and_launchers_say_who_ought_to_be_there() {
    let reports = ["n1", "n2.cluster.local"].map(|host| report("storage", host));
    let hosts = |names: &[&str]| Expected::Hosts(names.iter().map(|n| (*n).to_owned()).collect());
    let cluster = Cluster::of(&reports, &hosts(&["n1", "N2", "n3"]));
    assert_eq!(cluster.absent, ["n3"]);
    assert_eq!(named(&cluster), [(Kind::MissingNode, vec!["n3"])]);
    let cluster = Cluster::of(&reports, &hosts(&["n1"]));
    let stranger = vec!["n2.cluster.local"];
    assert_eq!(named(&cluster), [(Kind::UnexpectedNode, stranger)]);
    assert_eq!(Cluster::of(&reports, &Expected::Count(4)).absent.len(), 2);
    assert!(Cluster::of(&reports, &Expected::Count(4)).is_invalid());
    assert!(!Cluster::of(&reports, &Expected::Count(2)).is_invalid());
    let short = [together("mpi", &["n1", "n2"], 3)];
    let cluster = Cluster::of(&short, &Expected::AsReported);
    assert_eq!(cluster.faults[0].kind, Kind::MissingNode);
    assert!(cluster.faults[0].evidence.contains("started 3 nodes"));
}

#[test]
fn what_two_hosts_do_between_them_misses_nobody() {
    let mut pair = report("net", "n1");
    pair.hosts.push(report("net", "n2").hosts.remove(0));
    pair.run.scheduler = Fact::unavailable("no launcher");
    let all = together("mpi", &["n1", "n2", "n3"], 3);
    assert_eq!(named(&Cluster::of(&[pair, all], &Expected::AsReported)), []);
}

#[test]
fn instances_are_told_apart_by_their_ids() {
    let with_id = |host: &str, id: Option<&str>| {
        let mut report = report("storage", host);
        let id = id.map_or_else(
            || Fact::unavailable("refused"),
            |id| Fact::Known(id.to_owned()),
        );
        report.hosts[0].cloud = Fact::Known(fixtures::cloud(id));
        report
    };
    let twice = [with_id("ip-10", Some("i-1")), with_id("ip-10", Some("i-2"))];
    let cluster = Cluster::of(&twice, &Expected::AsReported);
    let names: Vec<_> = cluster
        .nodes
        .iter()
        .map(|node| node.name.as_str())
        .collect();
    assert_eq!(names, ["ip-10 (i-1)", "ip-10 (i-2)"]);
    let once = [with_id("a", None), with_id("a", Some("i-1"))];
    let cluster = Cluster::of(&once, &Expected::AsReported);
    assert_eq!((cluster.nodes.len(), cluster.nodes[0].reports), (1, 2));
    assert_eq!(cluster.nodes[0].instance_id, Fact::Known("i-1".to_owned()));
    let unclear = [twice[0].clone(), twice[1].clone(), with_id("ip-10", None)];
    let cluster = Cluster::of(&unclear, &Expected::AsReported);
    assert_eq!(named(&cluster), [(Kind::AmbiguousName, vec!["ip-10"])]);
}

#[test]
fn other_builds_and_clocks_are_named() {
    let mut reports = ["n1", "n2", "n3", "n4"].map(|host| report("storage", host));
    for report in &mut reports {
        report.run.scheduler = together("storage", &["x"], 1).run.scheduler;
        report.run.started = "2026-01-01T10:00:00.000Z".to_owned();
        report.run.ended = "2026-01-01T10:00:05.000Z".to_owned();
    }
    reports[1].program.version = Fact::Known("0.0.9".to_owned());
    reports[2].run.started = "2026-01-01T10:05:00.000Z".to_owned();
    reports[2].run.ended = "2026-01-01T10:05:05.000Z".to_owned();
    let cluster = Cluster::of(&reports, &Expected::AsReported);
    let expected = [
        (Kind::OtherVersion, vec!["n2"]),
        (Kind::ClocksApart, vec!["n3"]),
    ];
    assert_eq!(named(&cluster), expected);
    assert!(cluster.faults[1].evidence.contains("300 s ahead of"));
    assert!(!cluster.is_invalid(), "the numbers of each node stand");
}

#[test]
fn host_files_are_read_as_mpirun_does() {
    let file = tempfile::NamedTempFile::new().expect("a file");
    let read = |text: &str| {
        std::fs::write(file.path(), text).expect("writable");
        read_hostfile(file.path()).map_err(|error| error.to_string())
    };
    let hosts = read("# all\nn1 slots=2\nn2:4\n\nn3.domain # here\nn1\n");
    assert_eq!(
        hosts,
        Ok(vec!["n1".into(), "n2".into(), "n3.domain".into()])
    );
    let hosts = read("10.0.0.1 slots=2\n10.0.0.2:4\nfd00::1:2\n10.0.0.1\n");
    assert_eq!(
        hosts,
        Ok(vec![
            "10.0.0.1".into(),
            "10.0.0.2".into(),
            "fd00::1:2".into()
        ])
    );
    assert!(!same_host("10.0.0.1", "10") && !same_host("10.0.0.1", "10.0.0.2"));
    for (text, told) in [
        ("", "names no host"),
        ("n1\n[fd00::1]:2\n", "line 2: \"[fd00::1]\" is no host name"),
        ("-oProxyCommand=x\n", "is no host name"),
        ("a;b\n", "is no host name"),
    ] {
        let fault = read(text).expect_err(text);
        assert!(fault.contains(told), "{text:?}: {fault}");
    }
}
