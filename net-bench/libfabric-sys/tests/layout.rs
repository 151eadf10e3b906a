//! What the binding declares, held against the header that is installed: a C program, written from
//! the binding's own tables, prints the size, the offset and the value of everything in them.
#![allow(missing_docs, clippy::unwrap_used)]

use libfabric_sys::raw::{constants::GROUPS, structures::LAYOUTS};
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::process::Command;

/// From this version of the header on, structures may have grown at their ends.
const GROWN_SINCE: u64 = (1 << 16) | 19;

/// Macros that version 2 has dropped; providers of version 1 still use them.
const DROPPED: [&str; 1] = ["FI_BUFFERED_RECV"];

/// What version 2 has and 1.17 lacks.
const NEWER: [&str; 8] = [
    "FI_PROTO_COLL",
    "FI_PROTO_UCX",
    "FI_PROTO_SM2",
    "FI_PROTO_CXI_RNR",
    "FI_PROTO_LPP",
    "FI_PROTO_LNX",
    "FI_ADDR_UCX",
    "FI_PROGRESS_CONTROL_UNIFIED",
];

fn program() -> String {
    let mut text = String::from("#include <stdio.h>\n");
    for header in [
        "fabric",
        "fi_atomic",
        "fi_cm",
        "fi_domain",
        "fi_endpoint",
        "fi_eq",
        "fi_errno",
        "fi_rma",
        "fi_tagged",
    ] {
        let _ = writeln!(text, "#include <rdma/{header}.h>");
    }
    text.push_str(
        "#define SHOW(name, value) printf(\"%s %llu\\n\", name, (unsigned long long)(value))\n",
    );
    text.push_str("int main(void) {\n");
    let mut show = |name: &str, value: &str| {
        let line = format!("SHOW(\"{name}\", {value});");
        let _ = if DROPPED.contains(&name) {
            writeln!(text, "#ifdef {name}\n{line}\n#endif")
        } else if NEWER.contains(&name) {
            writeln!(text, "#if FI_MAJOR_VERSION >= 2\n{line}\n#endif")
        } else {
            writeln!(text, "{line}")
        };
    };
    show("version", "FI_VERSION(FI_MAJOR_VERSION, FI_MINOR_VERSION)");
    for (name, _) in GROUPS.iter().flat_map(|group| group.members) {
        show(name, name);
    }
    for layout in LAYOUTS {
        let of = layout.name;
        show(&format!("sizeof.{of}"), &format!("sizeof(struct {of})"));
        for field in layout.fields {
            let name = field.name.trim_start_matches("r#");
            show(
                &format!("offset.{of}.{name}"),
                &format!("offsetof(struct {of}, {name})"),
            );
            show(
                &format!("sizeof.{of}.{name}"),
                &format!("sizeof(((struct {of} *)0)->{name})"),
            );
        }
    }
    text.push_str("return 0;\n}\n");
    text
}

/// What the header says, or why it cannot be asked.
fn header() -> Result<BTreeMap<String, u64>, String> {
    let folder = tempfile::tempdir().unwrap();
    let (source, binary) = (folder.path().join("layout.c"), folder.path().join("layout"));
    std::fs::write(&source, "#include <rdma/fabric.h>\n").unwrap();
    let compile = |more: &[&str]| {
        let mut cc = Command::new("cc");
        cc.arg(&source).args(more).arg("-o").arg(&binary);
        cc.output().map_err(|error| format!("cc: {error}"))
    };
    if !compile(&["-c"])?.status.success() {
        return Err("no header rdma/fabric.h (scripts/setup --tests)".into());
    }
    std::fs::write(&source, program()).unwrap();
    let output = compile(&[])?;
    assert!(
        output.status.success(),
        "the header lacks what the binding declares: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    let output = Command::new(&binary).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let line = |line: &str| {
        let (name, value) = line.split_once(' ').unwrap();
        (name.to_owned(), value.parse().unwrap())
    };
    Ok(text.lines().map(line).collect())
}

#[test]
fn structures_and_constants_are_the_headers() {
    let header = match header() {
        Ok(header) => header,
        Err(reason) => {
            println!("SKIPPED the layout against the header: {reason}");
            return;
        }
    };
    let mut wrong = Vec::new();
    let mut compared = 0;
    let mut compare = |name: String, ours: u64, may_grow: bool| {
        let theirs = header[&name];
        compared += 1;
        if theirs != ours && !(may_grow && theirs > ours) {
            wrong.push(format!("{name}: {ours} here, {theirs} in the header"));
        }
    };
    for (name, value) in GROUPS.iter().flat_map(|group| group.members) {
        let optional = DROPPED.contains(name) || NEWER.contains(name);
        if !optional || header.contains_key(*name) {
            compare((*name).to_owned(), *value, false);
        }
    }
    let may_grow = header["version"] >= GROWN_SINCE;
    for layout in LAYOUTS {
        let of = layout.name;
        compare(format!("sizeof.{of}"), layout.size as u64, may_grow);
        for field in layout.fields {
            let name = field.name.trim_start_matches("r#");
            compare(format!("offset.{of}.{name}"), field.offset as u64, false);
            compare(format!("sizeof.{of}.{name}"), field.size as u64, false);
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert_eq!(compared + 1, header.len(), "a name stands in two tables");
    println!("{compared} numbers as in the header");
}
