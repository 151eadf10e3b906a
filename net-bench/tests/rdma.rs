//! Tests over RDMA devices as their users run them: on this host's device if it has one, else in the
//! virtual machines of `scripts/lab`, whose kernel has software RDMA.
#![allow(missing_docs, clippy::unwrap_used)]

mod common;

use common::{measurement, value};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use reports::model::{self, Outcome, Report, ValidityStatus};
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs::{self, DirEntry};
use std::path::Path;
use std::process::{Command, Output};
use std::sync::{LazyLock, Mutex, MutexGuard, PoisonError};

const LAB: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../scripts/lab");

const PROGRAM: &str = env!("CARGO_BIN_EXE_net-bench");

/// Operations of each thread; emulated machines make some ten thousand in a second.
const OPERATIONS: &str = "-n 300 --timeout 30";

/// Waits for the others: emulated machines, and providers that poll, miss their deadlines where they
/// share their cores.
fn turn() -> MutexGuard<'static, ()> {
    static TURN: Mutex<()> = Mutex::new(());
    TURN.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The files that a script left in `$LAB_OUT`, by their names.
struct Results(BTreeMap<String, String>);

impl Results {
    /// The text of a file.
    fn text(&self, name: &str) -> &str {
        let text = self.0.get(name);
        text.unwrap_or_else(|| panic!("no {name} among {:?}", self.0.keys()))
    }

    /// The exit code of the command of this number.
    fn code(&self, number: usize) -> i32 {
        let text = self.text(&format!("{number}.rc"));
        text.trim().parse().unwrap()
    }

    /// Its report.
    fn report(&self, number: usize) -> Report {
        let file = format!("{number}.json");
        model::parse(self.text(&file), Path::new(&file)).unwrap_or_else(|error| {
            panic!("{error}: {}", self.text(&format!("{number}.err")));
        })
    }
}

/// Runs scripts one after the other in so many machines. Each writes to a `$LAB_OUT` of its own. Where
/// there are no machines, says why.
fn lab(nodes: u32, scripts: &[String]) -> Result<Vec<Results>, String> {
    let _turn = turn();
    let (temporary, out) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let mut all = String::from("set -u; out=$LAB_OUT\n");
    for (number, script) in scripts.iter().enumerate() {
        let folder = out.path().join(number.to_string());
        fs::create_dir(&folder).unwrap();
        fs::write(
            folder.join("key"),
            "a key of this test alone, and long enough\n",
        )
        .unwrap();
        writeln!(all, "(export LAB_OUT=$out/{number}\n{script}\n)").unwrap();
    }
    let output = Command::new(LAB)
        .args(["run", "--nodes", &nodes.to_string(), "--timeout", "900"])
        .arg("--out")
        .arg(out.path())
        .args(["--", "bash", "-c", &format!("{all}exit 0")])
        .env("TMPDIR", temporary.path())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr) + String::from_utf8_lossy(&output.stdout);
    if output.status.code() == Some(3) {
        return Err(said.trim().to_owned());
    }
    assert_eq!(output.status.code(), Some(0), "{said}");
    let read = |folder: &Path| {
        let files = fs::read_dir(folder).unwrap().map(|file| file.unwrap());
        let text = |path| String::from_utf8_lossy(&fs::read(path).unwrap()).into_owned();
        let name = |file: &DirEntry| file.file_name().into_string().unwrap();
        Results(files.map(|file| (name(&file), text(file.path()))).collect())
    };
    let folders = (0..scripts.len()).map(|number| out.path().join(number.to_string()));
    Ok(folders.map(|folder| read(&folder)).collect())
}

/// What is run in the one machine that its tests share: it boots as long as it works.
#[derive(Debug, Clone, Copy)]
enum Part {
    Verbs,
    Spoilt,
    Refusals,
    LockedMemory,
    Libfabric,
}

/// What a part left; `None`, and a line that says why, where there is no machine.
fn part(part: Part) -> Option<&'static Results> {
    static RESULTS: LazyLock<Result<Vec<Results>, String>> = LazyLock::new(|| {
        let refused = REFUSED.iter().map(|(command, _, _)| *command);
        // In the order of `Part`.
        let scripts = [
            script(&with_operations(VERBS.iter().copied())),
            script(&with_operations(SPOILT.iter().copied())),
            script(&with_operations(refused)),
            locked_memory(),
            script(&with_operations(OVER_DEVICE.iter().copied())),
        ];
        lab(1, &scripts)
    });
    match &*RESULTS {
        Ok(results) => Some(&results[part as usize]),
        Err(why) => {
            println!("SKIPPED {part:?}: {why}");
            None
        }
    }
}

fn with_operations<'a>(commands: impl Iterator<Item = &'a str>) -> Vec<String> {
    commands
        .map(|command| format!("{command} {OPERATIONS}"))
        .collect()
}

/// A script that runs each command line with its report in a file by its number, and goes on whatever
/// becomes of it.
fn script(commands: &[String]) -> String {
    let mut script = String::new();
    for (number, command) in commands.iter().enumerate() {
        let file = format!("\"$LAB_OUT/{number}");
        writeln!(
            script,
            "timeout -s KILL 240 {PROGRAM} {command} --json >{file}.json\" 2>{file}.err\"; \
             echo $? >{file}.rc\""
        )
        .unwrap();
    }
    script
}

/// What a command that should have measured something did: nothing that makes it invalid, every
/// operation, and a way that the device's counters prove.
fn assert_proved(results: &Results, number: usize, command: &str) {
    let report = results.report(number);
    let Outcome::Measured(measured) = &report.cases[0].outcome else {
        panic!("{command}: {:?}", report.cases[0].outcome);
    };
    assert_eq!(results.code(number), 0, "{command}");
    let validity = &measured.validity;
    assert_ne!(
        validity.status,
        ValidityStatus::Invalid,
        "{command}: {validity:?}"
    );
    assert!(value(measured, "operations_per_s") > 0.0, "{command}");
    let observed = &measured.facts["observed"];
    for side in ["client", "server"] {
        let verdict = &observed[side]["way"]["proof"]["verdict"];
        assert!(
            verdict["proved"].is_object(),
            "{command}, {side}: {verdict}"
        );
    }
}

/// Every operation of every transport, alone and together with what changes how it is posted.
const VERBS: &[&str] = &[
    "verbs_send",
    "verbs_send --mode compat -s 4K",
    "verbs_send --service uc --verify -s 3000 --mtu 4096",
    "verbs_send --service ud --verify -s 700",
    "verbs_send -m bandwidth --verify -q 4 --mode compat",
    "verbs_send -m bandwidth -b -s 4K",
    "verbs_send -m bandwidth --service ud -s 1K --verify",
    "verbs_send -m rate --post-list 8 -Q 16",
    "verbs_send -m bandwidth --srq -q 3 -s 4K --verify",
    "verbs_send -m bandwidth -T 2 -q 4 -s 4K",
    "verbs_send --events -I 0",
    "verbs_send --rdma-cm --verify -s 100",
    "verbs_send --rdma-cm --service ud --verify -s 100",
    "verbs_write --rdma-cm --service uc --verify -s 100 -q 2",
    "verbs_write --verify -s 300",
    "verbs_write --mode compat",
    "verbs_write --service uc",
    "verbs_write --operation write_data --verify -s 5000",
    "verbs_write -m bandwidth --verify -q 2",
    "verbs_write -m bandwidth --service uc --verify -s 3000",
    "verbs_write -m bandwidth --operation write_data --verify -s 5000",
    "verbs_write -m bandwidth -b -s 4K --verify",
    "verbs_read --verify -s 300",
    "verbs_read -m bandwidth --verify",
    "verbs_atomic",
    "verbs_atomic --operation compare_swap",
    "verbs_atomic -m rate -q 2",
    "verbs_atomic -m rate --operation compare_swap -b",
];

#[test]
fn verbs_move_what_they_say_and_counters_prove_it() {
    let Some(results) = part(Part::Verbs) else {
        return;
    };
    for (number, command) in VERBS.iter().enumerate() {
        assert_proved(results, number, command);
    }
}

/// What notices a byte that is spoilt on its way, in each operation.
const SPOILT: &[&str] = &[
    "verbs_send --verify -s 300 --spoil 150",
    "verbs_send -m bandwidth --verify -s 5000 --spoil 150",
    "verbs_write --verify -s 300 --spoil 150",
    "verbs_write --operation write_data --verify -s 300 --spoil 150",
    "verbs_write -m bandwidth --verify -s 5000 --spoil 299",
    "verbs_read --verify -s 300 --spoil 3",
    "verbs_atomic --spoil 150",
    "verbs_atomic -m rate --operation compare_swap --spoil 150",
];

/// The report says that it was.
#[test]
fn a_spoilt_byte_is_noticed_over_verbs() {
    let Some(results) = part(Part::Spoilt) else {
        return;
    };
    for (number, command) in SPOILT.iter().enumerate() {
        let report = results.report(number);
        let Outcome::Failed { error } = &report.cases[0].outcome else {
            panic!("{command}: {:?}", report.cases[0].outcome);
        };
        assert!(error.contains("corrupt data"), "{command}: {error}");
        assert_eq!(results.code(number), 1, "{command}");
    }
}

/// What cannot be, the exit code, and a word of what is said.
const REFUSED: &[(&str, i32, &str)] = &[
    ("verbs_send -d mlx5_9", 1, "rxe0"),
    ("verbs_send --server-device nope", 1, "rxe0"),
    ("verbs_send --ib-port 7", 1, "port"),
    ("verbs_send -x 200", 1, "GID"),
    ("verbs_send --service ud -s 60K", 1, "1024"),
];

/// It is told with what there is, and nothing hangs.
#[test]
fn what_a_device_does_not_have_is_said() {
    let Some(results) = part(Part::Refusals) else {
        return;
    };
    for (number, (command, exit_code, word)) in REFUSED.iter().enumerate() {
        let report = results.report(number);
        let said = match &report.cases[0].outcome {
            Outcome::Failed { error } => error,
            Outcome::Skipped { reason } => reason,
            other => panic!("{command}: {other:?}"),
        };
        assert!(said.contains(word), "{command}: {said}");
        assert_eq!(results.code(number), *exit_code, "{command}: {said}");
    }
}

/// Tests by those who may lock too little memory.
fn locked_memory() -> String {
    // Without its privilege even root has a limit. Both sides, then the server alone.
    let limited = "setpriv --bounding-set=-ipc_lock --inh-caps=-ipc_lock prlimit --memlock=65536";
    let (test, key) = (
        format!("verbs_send -m bandwidth -s 64K {OPERATIONS} --json"),
        common::KEY,
    );
    format!(
        "export NET_BENCH_KEY={key}\n\
         {limited} {PROGRAM} {test} >\"$LAB_OUT/0.json\" 2>\"$LAB_OUT/0.err\"\n\
         echo $? >\"$LAB_OUT/0.rc\"\n\
         {limited} {PROGRAM} serve --port 5299 >\"$LAB_OUT/serve.out\" 2>&1 &\n\
         until grep -q listening \"$LAB_OUT/serve.out\"; do sleep 0.2; done\n\
         {PROGRAM} {test} -c 127.0.0.1 --port 5299 >\"$LAB_OUT/1.json\" 2>\"$LAB_OUT/1.err\"\n\
         echo $? >\"$LAB_OUT/1.rc\"\n\
         kill $!\n"
    )
}

/// They are told how much that is and how to get more.
#[test]
fn too_little_locked_memory_is_said_with_the_remedy() {
    let Some(results) = part(Part::LockedMemory) else {
        return;
    };
    for number in [0, 1] {
        let report = results.report(number);
        let Outcome::Failed { error } = &report.cases[0].outcome else {
            panic!("{number}: {:?}", report.cases[0].outcome);
        };
        for word in ["ibv_reg_mr", "65536 bytes", "RLIMIT_MEMLOCK", "ulimit -l"] {
            assert!(error.contains(word), "{number}, {word}: {error}");
        }
        assert_eq!(results.code(number), 1, "{number}");
    }
}

/// Every operation over every provider that needs no device.
const FABRIC: &[&str] = &[
    "fabric_pingpong -p tcp",
    "fabric_pingpong -p tcp;ofi_rxm --mode compat --verify -s 4K",
    "fabric_pingpong -p tcp;ofi_rxm --tagged --verify -s 1M",
    "fabric_pingpong -p shm --verify -s 100K",
    "fabric_pingpong -p shm --tagged -T 2 -q 2",
    "fabric_pingpong -p udp;ofi_rxd --tagged --verify -s 2K",
    "fabric_pingpong -p tcp --events",
    "fabric_pingpong -p tcp;ofi_rxm --inject 0 --register --progress manual",
    "fabric_stream -p tcp --verify",
    "fabric_stream -p tcp;ofi_rxm -b --verify",
    "fabric_stream -p tcp;ofi_rxm --tagged -T 2 -q 4 -s 4K --verify",
    "fabric_stream -p shm -q 2 --verify --window 16 --poll-batch 4",
    "fabric_stream -p shm --mode compat -s 8",
    "fabric_rma -p tcp;ofi_rxm --verify -s 300",
    "fabric_rma -p tcp;ofi_rxm --operation read -m bandwidth --verify",
    "fabric_rma -p tcp;ofi_rxm -m bandwidth --verify -q 2",
    "fabric_rma -p shm --operation write_data --verify -s 3000",
    "fabric_rma -p shm --operation write_data -m bandwidth --verify -s 3000",
    "fabric_rma -p shm --operation read --verify -s 300",
    "fabric_atomic -p tcp;ofi_rxm",
    "fabric_atomic -p shm -m rate",
    "fabric_atomic -p tcp;ofi_rxm --operation compare_swap -m rate -q 2",
];

/// A command line with this provider's name kept together, and what becomes of it here.
fn fabric(command: &str) -> Output {
    let mut words: Vec<&str> = command.split(' ').collect();
    words.push("--json");
    common::run(&words)
}

/// Whether there is a library to test with.
fn no_libfabric(test: &str) -> bool {
    let missing = common::run(&["fabric_info"]).status.code() == Some(3);
    if missing {
        println!("SKIPPED {test}: no libfabric");
    }
    missing
}

#[test]
fn libfabric_moves_what_it_says_over_every_provider() {
    if no_libfabric("providers") {
        return;
    }
    let _turn = turn();
    for command in FABRIC {
        let output = fabric(&format!("{command} -n 500 --timeout 60"));
        assert_eq!(
            output.status.code(),
            Some(0),
            "{command}: {}",
            common::said(&output)
        );
        let report = common::report(&output);
        let measured = measurement(&report);
        assert!(!measured.verified.is_empty(), "{command}");
        let validity = &measured.validity;
        assert_ne!(
            validity.status,
            ValidityStatus::Invalid,
            "{command}: {validity:?}"
        );
        for side in ["client", "server"] {
            let verdict = &measured.facts["observed"][side]["way"]["proof"]["verdict"];
            let expected = if command.contains("shm") {
                "unproven"
            } else {
                "proved"
            };
            assert!(
                verdict[expected].is_object(),
                "{command}, {side}: {verdict}"
            );
        }
    }
}

#[test]
fn a_spoilt_byte_is_noticed_over_libfabric() {
    if no_libfabric("spoilt bytes") {
        return;
    }
    let _turn = turn();
    for command in [
        "fabric_pingpong -p tcp;ofi_rxm --verify -s 300",
        "fabric_pingpong -p shm --tagged --verify -s 300",
        "fabric_stream -p tcp --verify -s 5000",
        "fabric_rma -p tcp;ofi_rxm --verify -s 300",
        "fabric_rma -p shm --operation write_data --verify -s 300",
        "fabric_rma -p shm --operation read --verify -s 300 --spoil 3",
        "fabric_rma -p tcp;ofi_rxm -m bandwidth --verify -s 3000 --spoil 499 -O 0",
        "fabric_atomic -p tcp;ofi_rxm",
        "fabric_atomic -p shm -m rate",
    ] {
        let spoil = if command.contains("--spoil") {
            ""
        } else {
            " --spoil 150"
        };
        let error = common::failure(&fabric(&format!("{command}{spoil} -n 500")));
        assert!(error.contains("corrupt data"), "{command}: {error}");
    }
}

#[test]
fn what_libfabric_does_not_have_is_said() {
    if no_libfabric("refusals") {
        return;
    }
    for (command, code, word) in [
        ("fabric_pingpong -p nope", 1, "tcp;ofi_rxm"),
        ("fabric_rma -p udp --endpoint msg", 3, "udp"),
        ("fabric_pingpong -p tcp --domain nope", 1, "lo"),
        ("fabric_pingpong --server-domain nope", 1, "--server-domain"),
        ("fabric_pingpong -p efa", 3, "efa"),
    ] {
        let output = fabric(&format!("{command} -n 10"));
        assert_eq!(
            output.status.code(),
            Some(code),
            "{command}: {}",
            common::said(&output)
        );
        assert!(
            common::said(&output).contains(word),
            "{command}: {}",
            common::said(&output)
        );
    }
    for (command, word) in [
        ("fabric_pingpong -s 0", "--size 0"),
        ("fabric_atomic -s 4", "--size"),
        ("fabric_stream -q 3 -T 2", "--endpoints 3"),
        ("fabric_stream --window 9000", "--depth 9000"),
        ("fabric_pingpong --pin rx-queue", "--pin rx-queue"),
        ("fabric_stream -s 64M --window 64", "--size 67108864"),
    ] {
        let output = fabric(command);
        assert_eq!(
            output.status.code(),
            Some(2),
            "{command}: {}",
            common::said(&output)
        );
        assert!(
            common::said(&output).contains(word),
            "{command}: {}",
            common::said(&output)
        );
    }
}

/// A server that dies in the middle is missed, and what it held is given back.
#[test]
fn a_server_that_is_killed_is_missed() {
    if no_libfabric("a dead server") {
        return;
    }
    let _turn = turn();
    for provider in ["tcp", "shm"] {
        let mut server = common::Server::with_key(common::KEY);
        let port = server.address.port().to_string();
        let mut client = common::net_bench(&["fabric_stream", "-p", provider, "-t", "30"])
            .args([
                "--timeout",
                "5",
                "--json",
                "-c",
                "127.0.0.1",
                "--port",
                &port,
            ])
            .env("NET_BENCH_KEY", common::KEY)
            .stdout(std::process::Stdio::piped())
            .stderr(std::process::Stdio::piped())
            .spawn()
            .unwrap();
        std::thread::sleep(std::time::Duration::from_secs(3));
        assert!(
            client.try_wait().unwrap().is_none(),
            "{provider}: it ended early"
        );
        server.child.kill().unwrap();
        let error = common::failure(&client.wait_with_output().unwrap());
        assert!(error.contains("server"), "{provider}: {error}");
    }
}

/// A signal ends the window early, whatever handlers providers would like to have: there is a report of
/// what there was, which says so.
#[test]
fn a_signal_ends_a_test_in_good_order() {
    if no_libfabric("a signal") {
        return;
    }
    let _turn = turn();
    for provider in ["tcp", "shm"] {
        let client = common::net_bench(&["fabric_stream", "-p", provider, "-t", "30", "--json"])
            .stdout(std::process::Stdio::piped())
            .stderr(std::process::Stdio::piped())
            .spawn()
            .unwrap();
        std::thread::sleep(std::time::Duration::from_secs(4));
        kill(Pid::from_raw(client.id().cast_signed()), Signal::SIGINT).unwrap();
        let output = client.wait_with_output().unwrap();
        assert_eq!(
            output.status.code(),
            Some(4),
            "{provider}: {}",
            common::said(&output)
        );
        let report = common::report(&output);
        let flags = &measurement(&report).validity.flags;
        let interrupted = flags.iter().any(|flag| flag.code == "interrupted");
        assert!(interrupted, "{provider}: {flags:?}");
    }
}

/// libfabric over the device, with nothing set by the user.
const OVER_DEVICE: &[&str] = &[
    "fabric_pingpong -p verbs --verify -s 300",
    "fabric_pingpong -p 'verbs;ofi_rxm' --verify -s 4K",
    "fabric_stream -p verbs -s 4K",
    "fabric_stream -p 'verbs;ofi_rxm' --tagged -s 4K --verify",
    "fabric_rma -p 'verbs;ofi_rxm' --verify -s 300",
    "fabric_rma -p 'verbs;ofi_rxm' --operation read -m bandwidth -s 4K --verify",
];

#[test]
fn libfabric_moves_what_it_says_over_a_device() {
    let Some(results) = part(Part::Libfabric) else {
        return;
    };
    for (number, command) in OVER_DEVICE.iter().enumerate() {
        assert_proved(results, number, command);
    }
}

/// Two machines: the bytes cross a network, and a peer that is killed is missed in time.
#[test]
fn two_hosts_measure_and_a_dead_peer_is_noticed() {
    let commands: Vec<String> = [
        "verbs_send --verify -s 300",
        "verbs_send -m bandwidth -s 4K",
        "verbs_write -m bandwidth -s 16K --verify",
        "verbs_read -s 64 --rdma-cm",
        "verbs_atomic -m rate",
        "fabric_pingpong -p verbs -s 300 --verify",
        "fabric_stream -p 'verbs;ofi_rxm' -s 4K",
        "fabric_pingpong -p tcp",
    ]
    .iter()
    .map(|command| format!("{command} {OPERATIONS} -c 10.77.0.2 --key-file \"$LAB_OUT/key\""))
    .collect();
    let script = format!(
        "lab-on 2 {PROGRAM} serve --bind 10.77.0.2 --key-file \"$LAB_OUT/key\" & server=$!
        for try in {{1..80}}; do
            sleep 0.5
            {PROGRAM} tcp_rr -n 1 -c 10.77.0.2 --key-file \"$LAB_OUT/key\" >/dev/null 2>&1 && break
        done
        {}
        (sleep 6; lab-on 2 pkill -KILL net-bench) &
        timeout -s KILL 240 {PROGRAM} verbs_send -m bandwidth -s 4K -t 60 -c 10.77.0.2 --timeout 8 \
            --key-file \"$LAB_OUT/key\" --json >\"$LAB_OUT/dead.json\"; echo $? >\"$LAB_OUT/dead.rc\"
        kill $server; exit 0",
        script(&commands)
    );
    let mut results = match lab(2, &[script]) {
        Ok(results) => results,
        Err(why) => {
            println!("SKIPPED two hosts: {why}");
            return;
        }
    };
    let results = results.remove(0);
    for (number, command) in commands.iter().enumerate() {
        assert_proved(&results, number, command);
        let report = results.report(number);
        assert_eq!(report.hosts.len(), 2, "{command}");
        assert!(!measurement(&report).verified.is_empty());
    }
    let (code, said) = (results.text("dead.rc"), results.text("dead.json"));
    assert_eq!(code.trim(), "1", "{said}");
    assert!(said.contains("server") && said.contains("failed"), "{said}");
}
