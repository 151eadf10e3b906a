use super::*;
use std::fs;
use std::io::{Read, Write};
use std::net::{IpAddr, TcpListener, TcpStream};
use std::path::{Path as FilePath, PathBuf};
use std::process::{Command, Stdio};
use tempfile::TempDir;

/// A tree in place of `/`, with a port or a network device whose counters can be set.
struct Tree {
    root: TempDir,
    path: Path,
}

impl Tree {
    fn rdma(device: &str, mtu_bytes: u32, counters: &[(&str, u64)]) -> Self {
        let tree = Self {
            root: tempfile::tempdir().expect("a folder"),
            path: Path::Rdma {
                device: device.to_owned(),
                port: 1,
                mtu_bytes,
            },
        };
        tree.set(counters);
        tree
    }

    fn rxe(sent: u64, received: u64) -> Self {
        let counters = [
            ("hw_counters/sent_pkts", sent),
            ("hw_counters/rcvd_pkts", received),
            ("hw_counters/duplicate_request", 0),
            ("hw_counters/send_rnr_err", 7),
            ("hw_counters/lifespan", 12),
        ];
        Self::rdma("rxe0", 1024, &counters)
    }

    fn lo(sent: u64, received: u64) -> Self {
        let tree = Self {
            root: tempfile::tempdir().expect("a folder"),
            path: Path::Sockets {
                address: IpAddr::from([127, 0, 0, 1]),
            },
        };
        tree.set(&[
            ("tx_bytes", sent),
            ("rx_bytes", received),
            ("rx_dropped", 0),
        ]);
        tree
    }

    fn folder(&self) -> PathBuf {
        let root = self.root.path();
        match &self.path {
            Path::Rdma { device, port, .. } => {
                root.join(format!("sys/class/infiniband/{device}/ports/{port}"))
            }
            _ => root.join("sys/class/net/lo/statistics"),
        }
    }

    fn set(&self, counters: &[(&str, u64)]) {
        set(&self.folder(), counters);
    }

    fn read(&self) -> Counters {
        Counters::read(self.root.path(), &self.path)
    }

    /// What is proved if the counters stand at `after` when the test is over.
    fn judge(&self, claim: &Claim, after: &[(&str, u64)]) -> Proof {
        let before = self.read();
        self.set(after);
        let proof = Proof::within(&self.path, &before, self.read(), claim, Duration::ZERO);
        let text = serde_json::to_string(&proof).expect("it is written");
        let read: Proof = serde_json::from_str(&text).expect("it is read");
        assert_eq!(read, proof);
        proof
    }
}

fn set(folder: &FilePath, counters: &[(&str, u64)]) {
    for (name, value) in counters {
        let file = folder.join(name);
        fs::create_dir_all(file.parent().expect("a folder")).expect("writable");
        fs::write(file, format!("{value}\n")).expect("writable");
    }
}

/// So many messages sent, of so many bytes, and none received.
fn sent(operations: u64, bytes: u64) -> Claim {
    Claim {
        sent_bytes: operations * bytes,
        sent_operations: operations,
        ..Claim::default()
    }
}

/// As many there as back.
fn both(operations: u64, bytes: u64) -> Claim {
    Claim {
        received_bytes: operations * bytes,
        received_operations: operations,
        ..sent(operations, bytes)
    }
}

fn proved(proof: &Proof) -> String {
    match &proof.verdict {
        Verdict::Proved { evidence } => evidence.join("; "),
        other => panic!("not proved: {other:?}"),
    }
}

fn contradicted(proof: &Proof) -> String {
    match &proof.verdict {
        Verdict::Contradicted { evidence } => evidence.join("; "),
        other => panic!("not contradicted: {other:?}"),
    }
}

fn unproven(proof: &Proof) -> String {
    match &proof.verdict {
        Verdict::Unproven { reason } => reason.clone(),
        other => panic!("not unproven: {other:?}"),
    }
}

fn flags(proof: &Proof) -> Vec<(String, Severity)> {
    let flags = proof.validity().flags.into_iter();
    flags.map(|flag| (flag.code, flag.severity)).collect()
}

#[test]
fn packets_of_rxe_account_for_messages_that_are_longer_than_its_mtu() {
    let tree = Tree::rxe(10, 10);
    let after = [
        ("hw_counters/sent_pkts", 2010),
        ("hw_counters/rcvd_pkts", 510),
        ("hw_counters/duplicate_request", 3),
    ];
    let proof = tree.judge(&sent(500, 4096), &after);
    assert_eq!(
        proved(&proof),
        "rxe0 port 1 hw_counters/sent_pkts grew by 2000 packets; 2048000 bytes sent in 500 \
         operations take at least 2000 of up to 1024 bytes"
    );
    let troubles: Vec<String> = proof.troubles.iter().map(ToString::to_string).collect();
    assert_eq!(
        troubles,
        ["rxe0 port 1 hw_counters/duplicate_request grew by 3"]
    );
    assert_eq!(flags(&proof), [("path_errors".to_owned(), Severity::Info)]);
    assert_eq!(proof.counters.len(), 3, "{:?}", proof.counters);
    assert_eq!(proof.other_traffic, Vec::<String>::new());
    // An empty message and one of a byte are a packet each, one of 1025 two.
    for (bytes, packets) in [(0, 2000), (1, 2000), (1025, 4000)] {
        let after = [("hw_counters/sent_pkts", 10 + packets)];
        proved(&Tree::rxe(10, 10).judge(&sent(2000, bytes), &after));
        let after = [("hw_counters/sent_pkts", 10 + packets / 2)];
        contradicted(&Tree::rxe(10, 10).judge(&sent(2000, bytes), &after));
    }
}

#[test]
fn counters_that_stand_still_contradict() {
    let tree = Tree::rxe(2010, 2010);
    let proof = tree.judge(&both(1000, 64), &[]);
    let evidence = contradicted(&proof);
    assert!(
        evidence.contains("sent_pkts grew by 0") && evidence.contains("rcvd_pkts grew by 0"),
        "{evidence}"
    );
    assert_eq!(
        flags(&proof),
        [("path_contradicted".to_owned(), Severity::Invalid)]
    );
    // One direction is enough.
    let half = tree.judge(&both(1000, 64), &[("hw_counters/sent_pkts", 4000)]);
    let evidence = contradicted(&half);
    assert!(!evidence.contains("sent_pkts"), "{evidence}");
}

#[test]
fn what_mlx5_counts_is_words() {
    let tree = |data| {
        let counters = [
            ("counters/port_xmit_data", data),
            ("counters/port_rcv_data", data),
            ("counters/port_xmit_packets", 7),
            ("counters/port_xmit_wait", 0),
            ("hw_counters/rnr_nak_retry_err", 0),
            ("hw_counters/resp_cqe_flush_error", 0),
            ("hw_counters/np_ecn_marked_roce_packets", 0),
        ];
        Tree::rdma("mlx5_0", 4096, &counters)
    };
    let claim = sent(1000, 65536);
    let after = [
        ("counters/port_xmit_data", 5 + 16_400_000),
        ("hw_counters/rnr_nak_retry_err", 2),
        ("hw_counters/resp_cqe_flush_error", 128),
        ("hw_counters/np_ecn_marked_roce_packets", 40),
    ];
    let proof = tree(5).judge(&claim, &after);
    assert!(proved(&proof).contains("port_xmit_data grew by 65600000 bytes"));
    let expected = [
        ("path_errors".to_owned(), Severity::Info),
        ("path_congestion".to_owned(), Severity::Info),
    ];
    assert_eq!(flags(&proof), expected);
    let words = [("counters/port_xmit_data", 5 + 65_536_000 / 16)];
    contradicted(&tree(5).judge(&claim, &words));
    // Neither proved nor contradicted.
    let most = [("counters/port_xmit_data", 5 + 65_536_000 / 5)];
    let reason = unproven(&tree(5).judge(&claim, &most));
    assert!(reason.contains("too much to contradict"), "{reason}");
    // Both sides on one device, which may keep from its port what stays in it.
    let own = Claim {
        same_device: true,
        ..claim
    };
    let reason = unproven(&tree(5).judge(&own, &[]));
    assert!(reason.contains("both sides use this device"), "{reason}");
    // rxe is known to count it.
    contradicted(&Tree::rxe(0, 0).judge(&own, &[]));
}

#[test]
fn efa_counts_bytes_by_kinds_of_work() {
    let tree = || {
        let counters = [
            ("hw_counters/tx_pkts", 1),
            ("hw_counters/tx_bytes", 1000),
            ("hw_counters/rx_bytes", 1000),
            ("hw_counters/send_bytes", 1000),
            ("hw_counters/recv_bytes", 1000),
            ("hw_counters/rdma_read_bytes", 0),
            ("hw_counters/rdma_read_resp_bytes", 0),
            ("hw_counters/retrans_bytes", 0),
            ("hw_counters/retrans_timeout_events", 0),
            ("hw_counters/impaired_remote_conn_events", 0),
            ("hw_counters/unresponsive_remote_events", 0),
            ("hw_counters/rx_drops", 0),
        ];
        Tree::rdma("efa_0", 8928, &counters)
    };
    // A read: what comes in is counted as read, whatever the device says of packets.
    let claim = Claim {
        received_bytes: 1 << 20,
        received_operations: 16,
        ..Claim::default()
    };
    let after = [
        ("hw_counters/rdma_read_bytes", 1 << 20),
        ("hw_counters/retrans_bytes", 9000),
        ("hw_counters/impaired_remote_conn_events", 1),
    ];
    let proof = tree().judge(&claim, &after);
    assert!(
        proved(&proof).contains("hw_counters/recv_bytes + hw_counters/rdma_read_bytes"),
        "{proof:?}"
    );
    let expected = [
        ("path_impaired".to_owned(), Severity::Degraded),
        ("path_errors".to_owned(), Severity::Info),
    ];
    assert_eq!(flags(&proof), expected);
    contradicted(&tree().judge(&claim, &[("hw_counters/rx_bytes", 5000)]));
    // All of the device's traffic is in tx_bytes.
    let proof = tree().judge(&sent(16, 65536), &[("hw_counters/tx_bytes", 1_060_000)]);
    assert!(proved(&proof).contains("tx_bytes"));
}

#[test]
fn network_devices_count_what_goes_through_sockets() {
    let proof = Tree::lo(5, 5).judge(
        &both(1000, 100),
        &[("tx_bytes", 300_005), ("rx_bytes", 300_005)],
    );
    assert!(proved(&proof).starts_with("lo tx_bytes grew by 300000 bytes; 100000 were sent"));
    contradicted(&Tree::lo(5, 5).judge(&sent(10_000, 100), &[("tx_bytes", 300_005)]));
    // More than headers and acknowledgements explain.
    let much = [("tx_bytes", 900_000_000)];
    let proof = Tree::lo(5, 5).judge(&sent(1000, 100), &much);
    proved(&proof);
    assert_eq!(flags(&proof), [("path_shared".to_owned(), Severity::Info)]);
    assert!(proof.other_traffic[0].contains("others use it"));
    // An address that no device here has.
    let nowhere = Path::Sockets {
        address: IpAddr::from([203, 0, 113, 77]),
    };
    let none = Counters::read(FilePath::new("/"), &nowhere);
    let proof = Proof::of(&nowhere, &none, none.clone(), &both(1, 1));
    assert!(unproven(&proof).contains("no network device has the address 203.0.113.77"));
}

#[test]
fn counters_that_wrap_stop_or_vanish_prove_what_they_still_show() {
    let claim = sent(1000, 4000);
    let tree = |sent| Tree::rdma("mlx5_0", 4096, &[("counters/port_xmit_data", sent)]);
    let after = |sent| [("counters/port_xmit_data", sent)];
    let top = u64::from(u32::MAX);
    // Reset or wrapped, it counted at least what it shows now.
    let proof = tree(top - 9).judge(&claim, &after(1_000_000));
    assert!(proved(&proof).contains("grew by 4000000 bytes"));
    let reason = unproven(&tree(top - 9).judge(&claim, &after(10)));
    assert!(reason.contains("ran backwards"), "{reason}");
    let reason = unproven(&tree(top - 9).judge(&claim, &after(top)));
    assert!(reason.contains("at its limit of 32 bits"), "{reason}");

    let tree = Tree::rxe(10, 10);
    let before = tree.read();
    fs::remove_file(tree.folder().join("hw_counters/sent_pkts")).expect("there");
    let judge = |claim| Proof::within(&tree.path, &before, tree.read(), &claim, Duration::ZERO);
    let reason = unproven(&judge(sent(5, 5)));
    assert!(reason.contains("sent_pkts vanished"), "{reason}");
    fs::remove_dir_all(tree.folder()).expect("there");
    let reason = unproven(&judge(sent(5, 5)));
    assert!(reason.contains("is no folder"), "{reason}");
    // What came later says nothing of the time before it.
    let late = Tree::rdma("rxe0", 1024, &[("hw_counters/rcvd_pkts", 0)]);
    let reason = unproven(&late.judge(&sent(5, 5), &[("hw_counters/sent_pkts", 9000)]));
    assert!(
        reason.contains("no counter of bytes or packets sent"),
        "{reason}"
    );
}

#[test]
fn late_counters_are_waited_for() {
    let tree = Tree::rxe(10, 10);
    let before = tree.read();
    let folder = tree.folder();
    let firmware = std::thread::spawn(move || {
        std::thread::sleep(Duration::from_millis(300));
        set(&folder, &[("hw_counters/sent_pkts", 2010)]);
    });
    let proof = Proof::of(&tree.path, &before, tree.read(), &sent(500, 4096));
    firmware.join().expect("it ends");
    proved(&proof);
    assert!((0.2..1.5).contains(&proof.waited_s), "{}", proof.waited_s);

    let started = Instant::now();
    let proof = Proof::of(&tree.path, &tree.read(), tree.read(), &sent(500, 4096));
    contradicted(&proof);
    assert!(started.elapsed() >= PATIENCE);
}

#[test]
fn where_nothing_counts_nothing_is_proved_and_nobody_waits() {
    let root = tempfile::tempdir().expect("a folder");
    let rdma = |device: &str| Path::Rdma {
        device: device.to_owned(),
        port: 1,
        mtu_bytes: 1024,
    };
    let cases = [
        (Path::SharedMemory, "through memory", 0),
        (Path::Unknown, "not known", 0),
        (rdma("rxe0"), "is no folder", 1),
        (rdma("../../etc"), "no name of a device", 1),
        (rdma(""), "no name of a device", 1),
    ];
    for (path, wanted, flagged) in cases {
        let none = Counters::read(root.path(), &path);
        let proof = Proof::of(&path, &none, none.clone(), &both(1, 1));
        let reason = unproven(&proof);
        assert!(reason.contains(wanted), "{reason}");
        assert!(proof.waited_s < 1.0);
        assert_eq!(flags(&proof).len(), flagged, "{path:?}");
    }
    let proof = Tree::rxe(1, 1).judge(&Claim::default(), &[]);
    assert!(unproven(&proof).contains("nothing was sent or received"));
    // A port that counts none of it.
    let silent = Tree::rdma("qib0", 1024, &[("hw_counters/other", 1)]);
    let reason = unproven(&silent.judge(&both(1, 1), &[("hw_counters/other", 2)]));
    assert!(
        reason.contains("packets sent") && reason.contains("received"),
        "{reason}"
    );
}

#[test]
fn a_proof_from_elsewhere_has_no_other_fields() {
    let tree = Tree::rxe(0, 0);
    let proof = tree.judge(&sent(1, 1), &[("hw_counters/sent_pkts", 1)]);
    let text = serde_json::to_string(&proof).expect("it is written");
    let more = text.replacen('{', "{\"more\":1,", 1);
    assert!(serde_json::from_str::<Proof>(&more).is_err());
}

/// The real loopback device, by its own address and by another of this host, if it has one.
#[test]
fn bytes_between_sockets_of_this_host_are_proved_to_go_through_lo() {
    let own = nix::ifaddrs::getifaddrs().expect("addresses");
    let other = own
        .filter_map(|interface| interface.address)
        .filter_map(|address| address.as_sockaddr_in().map(|v4| IpAddr::from(v4.ip())))
        .find(|address| !address.is_loopback());
    for address in other.into_iter().chain([IpAddr::from([127, 0, 0, 1])]) {
        let path = Path::Sockets { address };
        let before = Counters::read(FilePath::new("/"), &path);
        assert_eq!(before.missing, None);
        let bytes = 3 << 20;
        let listener = TcpListener::bind((address, 0)).expect("an address of ours");
        let to = listener.local_addr().expect("bound");
        let sender = std::thread::spawn(move || {
            let mut flow = TcpStream::connect(to).expect("it listens");
            flow.write_all(&vec![7; bytes]).expect("it is read");
        });
        let mut received = Vec::new();
        let mut flow = listener.accept().expect("it connects").0;
        flow.read_to_end(&mut received).expect("it is sent");
        sender.join().expect("it ends");
        assert_eq!(received.len(), bytes);
        let proof = Proof::of(&path, &before, before.again(&path), &both(1, bytes as u64));
        let evidence = proved(&proof);
        assert!(evidence.starts_with("lo tx_bytes grew"), "{evidence}");
        let elsewhere = evidence.contains("both ends are on this host");
        assert_eq!(elsewhere, !address.is_loopback(), "{evidence}");
        println!("{evidence}");
    }
}

/// perftest over a real device is proved, and ten times as much is not. Where there is no device the
/// test runs itself in `scripts/lab`, whose kernel has one.
#[test]
fn what_perftest_does_to_a_real_device_is_proved() {
    const NAME: &str = "rdma::proof::tests::what_perftest_does_to_a_real_device_is_proved";
    const IN_LAB: &str = "NET_BENCH_TEST_IN_LAB";
    let root = FilePath::new("/");
    let path = Path::Rdma {
        device: "rxe0".to_owned(),
        port: 1,
        mtu_bytes: 1024,
    };
    let before = Counters::read(root, &path);
    if before.missing.is_none() {
        return perftest_is_proved(&path, &before);
    }
    assert!(std::env::var_os(IN_LAB).is_none(), "{before:?}");
    let temporary = tempfile::tempdir().expect("a folder");
    let output = Command::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../scripts/lab"))
        .args(["run", "--timeout", "300", "--"])
        .arg(std::env::current_exe().expect("a path"))
        .args(["--exact", NAME, "--nocapture"])
        .env(IN_LAB, "1")
        .env("TMPDIR", temporary.path())
        .output()
        .expect("bash starts");
    let said = String::from_utf8_lossy(&output.stderr);
    if output.status.code() == Some(3) {
        println!("SKIPPED {NAME}: {}", said.trim());
        return;
    }
    let told = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{told}{said}");
    assert!(told.contains("1 passed"), "{told}");
}

fn perftest_is_proved(path: &Path, before: &Counters) {
    let (operations, bytes) = (1000, 4096);
    let run = |peer: Option<&str>| {
        let size = bytes.to_string();
        let mut command = Command::new("ib_send_bw");
        command.args(["-d", "rxe0", "-x", "1", "-s", &size, "-n", "1000"]);
        command.args(peer).stdout(Stdio::null());
        command.stderr(Stdio::null());
        command
    };
    let mut server = run(None).spawn().expect("perftest is installed");
    let deadline = Instant::now() + Duration::from_secs(60);
    let mut client = run(Some("localhost"));
    while !client.status().expect("it starts").success() {
        assert!(Instant::now() < deadline, "no server");
        std::thread::sleep(Duration::from_millis(200));
    }
    assert!(server.wait().expect("a child").success());
    let after = before.again(path);
    let claim = |times: u64| Claim {
        same_device: true,
        ..both(times * operations, bytes)
    };
    let proof = Proof::of(path, before, after.clone(), &claim(1));
    println!("{proof:#?}");
    proved(&proof);
    assert_eq!(proof.other_traffic, Vec::<String>::new());
    let more = Proof::of(path, before, after, &claim(10));
    println!("{:#?}", more.verdict);
    contradicted(&more);
}
