use super::*;
use nix::sys::stat::makedev;
use std::os::unix::fs::symlink;
use std::path::Path;

/// A machine of two nodes with an NVMe device on the second and a device that hangs on nothing.
fn machine(root: &Path) -> Machine {
    let put = |file: &str, text: &str| {
        let path = root.join(file);
        fs::create_dir_all(path.parent().expect("below the root")).expect("folders");
        fs::write(path, text).expect("a file");
    };
    put("devices/system/node/node0/cpulist", "0-1\n");
    put("devices/system/node/node1/cpulist", "2-3\n");
    put("devices/pci0/0000:00:04.0/numa_node", "1\n");
    put("devices/pci0/0000:00:04.0/nvme/nvme0/nvme0n1/size", "8\n");
    put(
        "devices/pci0/0000:00:04.0/nvme/nvme0/nvme0n1/dev",
        "259:0\n",
    );
    put("devices/virtual/block/zram0/size", "8\n");
    put("devices/virtual/block/zram0/dev", "252:0\n");
    fs::create_dir_all(root.join("dev/block")).expect("folders");
    for (number, folder) in [
        ("259:0", "devices/pci0/0000:00:04.0/nvme/nvme0/nvme0n1"),
        ("252:0", "devices/virtual/block/zram0"),
    ] {
        symlink(root.join(folder), root.join("dev/block").join(number)).expect("a link");
    }
    Machine {
        proc: root.to_owned(),
        sys: root.to_owned(),
    }
}

#[test]
fn the_node_of_a_device_is_that_of_what_it_is_plugged_into() {
    let root = tempfile::tempdir().expect("a folder");
    let machine = machine(root.path());
    assert_eq!(machine.numa_nodes(), [0, 1]);
    assert_eq!(machine.node_of_device(makedev(259, 0)), Ok(1));
    assert_eq!(machine.cpus_of_node(1), Ok(vec![2, 3]));
    let unknown = machine.node_of_device(makedev(252, 0));
    let reason = unknown.expect_err("it hangs on nothing");
    assert!(reason.contains("names no NUMA node of zram0"), "{reason}");
    fs::remove_dir_all(root.path().join("devices/system/node/node1")).expect("there");
    assert_eq!(
        machine.node_of_device(makedev(252, 0)),
        Ok(0),
        "the only one"
    );
}

#[test]
fn cpus_and_nodes_that_are_not_there_are_wrong_usage() {
    let options = EngineOptions {
        cpus_allowed: Some("1023".parse().expect("a list")),
        ..EngineOptions::default()
    };
    let error = check(&options).expect_err("no machine at hand has that many");
    assert!(
        error.to_string().contains("CPU 1023 is not among"),
        "{error}"
    );
    let options = EngineOptions {
        numa_node: Some(NodeChoice::Node(999)),
        ..EngineOptions::default()
    };
    let error = check(&options).expect_err("no machine has that many");
    assert!(error.to_string().contains("--numa-node 999"), "{error}");
}

#[test]
fn a_job_is_put_on_its_cpu_and_its_memory_on_the_node() {
    let file = File::open("/dev/null").expect("it exists");
    let last = *allowed_cpus().expect("known").last().expect("at least one");
    let node = Machine::default().numa_nodes().first().copied();
    let options = EngineOptions {
        cpus_allowed: Some(last.to_string().parse().expect("a list")),
        numa_node: node.map(NodeChoice::Node),
        ..EngineOptions::default()
    };
    // On a thread of its own: it stays where it was put.
    let placed = std::thread::spawn(move || {
        let (_, placed) = settle(&options, 5, &file, (2, 4096)).expect("a CPU at hand");
        assert_eq!(allowed_cpus().expect("known"), [last]);
        placed
    });
    let placed = placed.join().expect("no panic");
    assert_eq!(placed.facts["cpus"], json!([last]));
    match node {
        Some(node) => assert_eq!(placed.facts["numa_node"], json!(node)),
        None => println!("SKIPPED: the kernel names no NUMA nodes"),
    }
}

#[test]
fn a_wish_that_is_not_granted_is_flagged_and_told() {
    let mut placed = Placed::default();
    let root = tempfile::tempdir().expect("a folder");
    let granted = Granted {
        pages: Pages::Default,
        pages_refused: Some("no pool".to_owned()),
        node_refused: Some("mbind: no".to_owned()),
    };
    let wish = Wish {
        huge: true,
        node: Some(0),
    };
    placed.tell(wish, granted, &machine(root.path()));
    let codes: Vec<_> = placed.flags.iter().map(|flag| flag.code.as_str()).collect();
    assert_eq!(codes, ["numa_node_not_granted", "hugepages_not_granted"]);
    assert!(placed.facts["numa_node"]["unavailable"].is_string());
    assert!(placed.facts["pages"]["default"]["unavailable"].is_string());
}
