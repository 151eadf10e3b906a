//! `compare` names every single field of an environment that differs, and only it: each leaf of real
//! and of EC2's fingerprints is changed alone, in every way that leaves a well-formed report.

// The metadata service of the fingerprint's own tests.
#[allow(dead_code)]
#[path = "host/server.rs"]
mod server;

use reports::compare::{Class, Options, compare};
use reports::host::{EthtoolSource, Host, MetadataSource, Roots, fingerprint, fingerprint_at};
use reports::model::{self, Fact, Report, Scheduler};
use reports::program::{Session, now};
use serde_json::{Value, json};
use server::{Behaviour, Server};
use std::collections::BTreeMap;
use std::path::Path;

/// Every field that may differ without counting. A new one is a decision, so it is written twice.
const UNCOUNTED: [&str; 12] = [
    "name",
    "cloud.instance_id",
    "cloud.host_id",
    "cloud.availability_zone",
    "cloud.interfaces.*.interface_id",
    "cloud.interfaces.*.subnet_id",
    "block.*.ebs_volume_id",
    "nics.*.bus_address",
    "rdma.*.bus_address",
    "memory.huge_pages.*.free_pages",
    "memory.total_bytes",
    "scheduler.job_id",
];

/// A field that this build does not know.
const UNKNOWN: &str = "of_the_future";

/// What an item of a list goes by.
const IDENTITIES: [&str; 5] = ["name", "node", "port", "page_bytes", "mount_point"];

fn of_fixture(name: &str) -> Host {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/fixtures/hosts")
        .join(name);
    let server = Server::start(Behaviour::Folder(folder.join("metadata")));
    let roots = Roots {
        sys: folder.join("sys"),
        proc: folder.join("proc"),
        etc: folder.join("etc"),
        ethtool: EthtoolSource::Dir(folder.join("ethtool")),
        metadata: MetadataSource::Address(server.address),
    };
    // A loaded machine may miss the budget of 200 ms; that is no fault of the fingerprint.
    for _ in 0..20 {
        let host = fingerprint_at(&roots);
        let text = serde_json::to_string(&host).expect("a host serialises");
        if !text.contains("within 200 ms") {
            return host;
        }
    }
    panic!("twenty conversations on the loopback all took more than 200 ms");
}

fn report(hosts: Vec<Host>) -> Report {
    let mut report = Session::stand_in("net-bench", now()).finish_with_hosts(hosts, Vec::new());
    let environment = [("FI_PROVIDER", "efa"), ("ODD.NAME", "1")];
    report.run.environment = environment
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .into();
    report.run.scheduler = Fact::Known(Scheduler {
        kind: "slurm".to_owned(),
        job_id: "17".to_owned().into(),
        nodes: Fact::unavailable("SLURM_JOB_NUM_NODES is not set"),
        ranks: 4.into(),
    });
    report
}

/// A way to change one place of a report, and the field that must then be named.
struct Change {
    what: String,
    changed: Value,
    field: String,
    /// Whether fields below it may be named too: items that go by their place move.
    moves: bool,
}

/// A segment of a path: in quotes if it holds a dot.
fn segment(name: &str) -> String {
    if name.contains('.') {
        format!("{name:?}")
    } else {
        name.to_owned()
    }
}

fn below(field: &str, name: &str) -> String {
    match field {
        "" => segment(name),
        field => format!("{field}.{}", segment(name)),
    }
}

fn is_unavailable(value: &Value) -> bool {
    value
        .as_object()
        .is_some_and(|map| map.len() == 1 && map.contains_key("unavailable"))
}

/// What the items of a list go by, if they go by anything but their place.
fn identity(items: &[Value]) -> Option<&'static str> {
    let apart = |key: &&&str| {
        let names: Vec<String> = items.iter().map(|item| item[**key].to_string()).collect();
        let scalar = |item: &Value| item[**key].is_string() || item[**key].is_number();
        items.iter().all(scalar) && (1..names.len()).all(|at| !names[..at].contains(&names[at]))
    };
    IDENTITIES.iter().find(apart).copied()
}

/// Collects known values by where they stand, so that an unavailable one can be made known.
fn learn(value: &Value, field: &str, known: &mut BTreeMap<String, Vec<Value>>) {
    match value {
        value if is_unavailable(value) => return,
        Value::Object(map) => {
            for (name, value) in map {
                learn(value, &below(field, name), known);
            }
        }
        Value::Array(items) => items
            .iter()
            .for_each(|item| learn(item, &below(field, "*"), known)),
        _ => {}
    }
    let values = known.entry(field.to_owned()).or_default();
    if !values.contains(value) && values.len() < 8 {
        values.push(value.clone());
    }
}

/// Everything that can be done to what stands at `pointer`. `field` is its name in a comparison,
/// `place` the same with `*` for items of lists.
struct Walk<'a> {
    whole: &'a Value,
    known: &'a BTreeMap<String, Vec<Value>>,
    changes: Vec<Change>,
}

impl Walk<'_> {
    fn put(&mut self, what: &str, pointer: &str, field: &str, value: Value) {
        let mut changed = self.whole.clone();
        *changed.pointer_mut(pointer).expect("it is there") = value;
        self.changes.push(Change {
            what: format!("{pointer} {what}"),
            changed,
            field: field.to_owned(),
            moves: false,
        });
    }

    /// Adds a field that this build does not know to the object at `pointer`.
    fn put_unknown(&mut self, pointer: &str, field: &str) {
        let mut changed = self.whole.clone();
        changed.pointer_mut(pointer).expect("it is there")[UNKNOWN] = json!("blue");
        self.changes.push(Change {
            what: format!("{pointer} gains a field of the future"),
            changed,
            field: below(field, UNKNOWN),
            moves: false,
        });
    }

    fn walk(&mut self, value: &Value, pointer: &str, field: &str, place: &str) {
        if is_unavailable(value) {
            let reason = json!({"unavailable": "for another reason"});
            self.put("for another reason", pointer, field, reason);
            for candidate in self.known.get(place).cloned().unwrap_or_default() {
                self.put("becomes known", pointer, field, candidate);
            }
            return;
        }
        if value.is_object() && place != "environment" {
            self.put_unknown(pointer, field);
        }
        if !["", "environment"].contains(&place) {
            let unavailable = json!({"unavailable": "changed by a test"});
            self.put("becomes unavailable", pointer, field, unavailable);
        }
        match value {
            Value::Object(map) => {
                for (name, value) in map {
                    let escaped = name.replace('~', "~0").replace('/', "~1");
                    let pointer = format!("{pointer}/{escaped}");
                    self.walk(value, &pointer, &below(field, name), &below(place, name));
                }
            }
            Value::Array(items) => self.walk_items(items, pointer, field, place),
            scalar => {
                for other in others(scalar) {
                    self.put("changes", pointer, field, other);
                }
            }
        }
    }

    fn walk_items(&mut self, items: &[Value], pointer: &str, field: &str, place: &str) {
        let first = self.changes.len();
        for at in 0..items.len() {
            let mut fewer = items.to_vec();
            fewer.remove(at);
            self.put("loses an item", pointer, field, fewer.into());
        }
        for item in items
            .iter()
            .chain(self.known.get(&below(place, "*")).into_iter().flatten())
        {
            let mut more = items.to_vec();
            let mut item = item.clone();
            for key in IDENTITIES {
                match item.get_mut(key) {
                    Some(Value::String(name)) => name.push_str("new"),
                    Some(Value::Number(number)) => {
                        *number = (number.as_u64().unwrap_or_default() + 977).into();
                    }
                    _ => {}
                }
            }
            more.push(item);
            self.put("gains an item", pointer, field, more.into());
        }
        let objects = items.iter().any(Value::is_object);
        let by = identity(items);
        for change in &mut self.changes[first..] {
            change.moves = objects && by.is_none();
        }
        for (at, item) in items.iter().enumerate() {
            let pointer = format!("{pointer}/{at}");
            if !objects {
                // A list of words or numbers is one value.
                for other in others(item) {
                    self.put("changes", &pointer, field, other);
                }
                continue;
            }
            let name = by.map_or(at.to_string(), |key| {
                item[key]
                    .as_str()
                    .map_or(item[key].to_string(), str::to_owned)
            });
            let item_field = below(field, &name);
            self.put_unknown(&pointer, &item_field);
            for (key, value) in item.as_object().expect("an object") {
                let pointer = format!("{pointer}/{key}");
                if Some(key.as_str()) == by {
                    // Another name is another item.
                    for other in others(value) {
                        let taken = items.iter().any(|item| item[key] == other);
                        self.put("is named otherwise", &pointer, field, other);
                        // Two items of one name go by their places, both of them.
                        self.changes.last_mut().expect("just put").moves = taken;
                    }
                } else {
                    let place = below(&below(place, "*"), key);
                    self.walk(value, &pointer, &below(&item_field, key), &place);
                }
            }
        }
    }
}

/// Other values of the same kind; of words also those of enumerations.
fn others(value: &Value) -> Vec<Value> {
    match value {
        Value::String(text) => {
            let words = [
                "physical",
                "virtual",
                "nvme",
                "ebs",
                "instance_store",
                "other",
            ];
            let longer = format!("{text}x");
            let words = words.into_iter().chain([longer.as_str()]);
            words.filter(|word| word != text).map(Value::from).collect()
        }
        Value::Bool(value) => vec![json!(!value)],
        Value::Number(number) => match number.as_u64() {
            Some(number) => vec![json!(number + 1), json!(number * 2 + 5)],
            None => vec![json!(number.as_f64().unwrap_or_default() * 2.0 + 1.0)],
        },
        other => panic!("not a scalar: {other}"),
    }
}

fn matches(field: &str, pattern: &str) -> bool {
    let (field, pattern): (Vec<_>, Vec<_>) =
        (field.split('.').collect(), pattern.split('.').collect());
    field.len() == pattern.len()
        && field
            .iter()
            .zip(&pattern)
            .all(|(have, wanted)| *wanted == "*" || have == wanted)
}

/// Applies every change to a report of these hosts and counts those that leave a report.
fn check(hosts: Vec<Host>, at: usize, known: &BTreeMap<String, Vec<Value>>) -> usize {
    let original = report(hosts);
    let whole = serde_json::to_value(&original).expect("a report serialises");
    let mut walk = Walk {
        whole: &whole,
        known,
        changes: Vec::new(),
    };
    let host = format!("/hosts/{at}");
    walk.walk(&whole["hosts"][at], &host, "", "");
    walk.walk(&whole["program"], "/program", "program", "program");
    walk.walk(
        &whole["run"]["environment"],
        "/run/environment",
        "environment",
        "environment",
    );
    walk.walk(
        &whole["run"]["scheduler"],
        "/run/scheduler",
        "scheduler",
        "scheduler",
    );
    // Calibrated anew in each run: never named, whatever they are.
    let mut clock = whole["run"]["clock"].clone();
    if let Some(clock) = clock.as_object_mut() {
        clock.remove("frequency_hz");
        clock.remove("drift_ppm");
    }
    walk.walk(&clock, "/run/clock", "clock", "clock");
    let mut done: BTreeMap<String, usize> = BTreeMap::new();
    for change in walk.changes {
        let Change {
            what,
            mut changed,
            field,
            moves,
        } = change;
        let done = done.entry(field.clone()).or_default();
        changed["run"]["id"] = "another run".into();
        let text = changed.to_string();
        // What is no report any more, such as an unknown word of an enumeration, is no case.
        let Ok(changed) = model::parse(&text, Path::new("changed")) else {
            continue;
        };
        let same = changed.hosts == original.hosts
            && changed.program == original.program
            && changed.run.environment == original.run.environment
            && changed.run.clock == original.run.clock
            && changed.unknown == original.unknown
            && changed.run.scheduler == original.run.scheduler;
        if same {
            continue;
        }
        *done += 1;
        let originals = std::slice::from_ref(&original);
        let comparison = compare(originals, &[changed], &Options::default()).expect("comparable");
        let differences = comparison.environment.iter();
        let named: Vec<_> = differences.map(|d| d.field.as_str()).collect();
        // Of three hosts, two may have what lies below the field.
        if moves || original.hosts.len() > 1 {
            let items = format!("{field}.");
            let below = |named: &&str| *named == field || named.starts_with(&items);
            assert!(
                !named.is_empty() && named.iter().all(below),
                "{what}: {named:?}"
            );
        } else {
            assert_eq!(named, [field.as_str()], "{what}");
        }
        let class = comparison.environment[0].class;
        let unknown = |values: &[String]| values.iter().all(|v| v.starts_with("unavailable: "));
        let difference = &comparison.environment[0];
        let both_unknown = unknown(&difference.a) && unknown(&difference.b);
        match class {
            Class::Confounder => {}
            Class::NotCounted => assert!(
                both_unknown || UNCOUNTED.iter().any(|pattern| matches(&field, pattern)),
                "{what} is not counted: {field}"
            ),
            Class::Declared => panic!("{what}: nothing was declared"),
        }
        let text = reports::render::compare::comparison(
            &comparison,
            &reports::render::terminal::Style::PLAIN,
        );
        let first = &difference.field;
        assert!(text.contains(first), "{what}: {first}:\n{text}");
    }
    // A group of fields that is always there is changed by its fields.
    let has_fields = |field: &str| {
        let fields = format!("{field}.");
        done.keys().any(|other| other.starts_with(&fields))
    };
    let of_the_future = |field: &str| field.ends_with(UNKNOWN);
    let unknown = done.iter().filter(|(field, _)| of_the_future(field));
    let unknown: usize = unknown.map(|(_, count)| count).sum();
    assert!(unknown > 10, "only {unknown} unknown fields were added");
    // A map of numbers, such as offloads by name, takes no word.
    let untouched = done
        .iter()
        .filter(|(field, count)| **count == 0 && !of_the_future(field));
    let untouched: Vec<_> = untouched.filter(|(field, _)| !has_fields(field)).collect();
    assert!(
        untouched.is_empty(),
        "no change of these leaves a report: {untouched:?}"
    );
    done.values().sum()
}

#[test]
fn any_single_changed_field_is_named_alone() {
    let mut machines = vec![("this machine", fingerprint())];
    for name in ["c4.large", "hpc7g.4xlarge", "p4d.24xlarge"] {
        machines.push((name, of_fixture(name)));
    }
    let mut known = BTreeMap::new();
    for (_, host) in &machines {
        learn(
            &serde_json::to_value(host).expect("it serialises"),
            "",
            &mut known,
        );
    }
    learn(&json!({"nodes": 2}), "scheduler", &mut known);
    for (name, host) in &machines {
        let alone = check(vec![host.clone()], 0, &known);
        println!("{name}: {alone} changes, each named alone");
        assert!(alone > 100, "{name}: only {alone} changes");
    }
    let (_, host) = &machines[1];
    let among_three = check(vec![host.clone(), host.clone(), host.clone()], 1, &known);
    assert!(among_three > 100, "only {among_three} changes");
}

#[test]
fn a_field_that_only_some_runs_have_is_named() {
    let host = fingerprint();
    let a: Vec<Report> = (0..3).map(|_| report(vec![host.clone()])).collect();
    let mut b = a.clone();
    for (index, report) in b.iter_mut().enumerate() {
        report.run.id = format!("b{index}");
    }
    b[1].run.environment.remove("FI_PROVIDER");
    let comparison = compare(&a, &b, &Options::default()).expect("comparable");
    let named: Vec<_> = comparison
        .environment
        .iter()
        .map(|d| (&*d.field, &d.b))
        .collect();
    let values = vec!["absent".to_owned(), "efa".to_owned()];
    assert_eq!(named, [("environment.FI_PROVIDER", &values)]);
}
