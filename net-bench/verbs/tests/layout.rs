//! What `rdma-sys` and this crate declare by hand rather than from the headers, held against the headers that are
//! installed: a C program prints the size of each structure and the offset of each field.
#![allow(missing_docs, clippy::unwrap_used)]

use rdma_sys::{
    ibv_ah_attr, ibv_async_event, ibv_gid, ibv_global_route, ibv_send_wr, ibv_wc, rdma_cm_event,
    rdma_ud_param,
};
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::mem::offset_of;
use std::process::Command;
use verbs::efa::EfadvDeviceAttr;

/// A field: what C calls it, and where it is here.
type Fields = Vec<(&'static str, usize)>;

/// A structure: what C calls it, its size here, and its fields.
fn layouts() -> Vec<(&'static str, usize, Fields)> {
    macro_rules! layout {
        ($name:literal $type:ident: $($c:literal = $($field:ident).+),*) => {
            ($name, size_of::<$type>(), vec![$(($c, offset_of!($type, $($field).+))),*])
        };
    }
    vec![
        layout!("union ibv_gid" ibv_gid:
            "raw" = raw, "global.subnet_prefix" = global.subnet_prefix,
            "global.interface_id" = global.interface_id),
        layout!("struct ibv_global_route" ibv_global_route:
            "dgid" = dgid, "flow_label" = flow_label, "sgid_index" = sgid_index,
            "hop_limit" = hop_limit, "traffic_class" = traffic_class),
        layout!("struct ibv_ah_attr" ibv_ah_attr:
            "grh" = grh, "dlid" = dlid, "sl" = sl, "src_path_bits" = src_path_bits,
            "static_rate" = static_rate, "is_global" = is_global, "port_num" = port_num),
        layout!("struct ibv_async_event" ibv_async_event:
            "element.cq" = element.cq, "event_type" = event_type),
        layout!("struct ibv_wc" ibv_wc:
            "wr_id" = wr_id, "status" = status, "opcode" = opcode, "vendor_err" = vendor_err,
            "byte_len" = byte_len, "imm_data" = imm_data_invalidated_rkey_union, "qp_num" = qp_num,
            "src_qp" = src_qp, "wc_flags" = wc_flags, "pkey_index" = pkey_index, "slid" = slid,
            "sl" = sl, "dlid_path_bits" = dlid_path_bits),
        layout!("struct ibv_send_wr" ibv_send_wr:
            "wr_id" = wr_id, "next" = next, "sg_list" = sg_list, "num_sge" = num_sge,
            "opcode" = opcode, "send_flags" = send_flags,
            "imm_data" = imm_data_invalidated_rkey_union,
            "wr.rdma.remote_addr" = wr.rdma.remote_addr, "wr.rdma.rkey" = wr.rdma.rkey,
            "wr.atomic.remote_addr" = wr.atomic.remote_addr,
            "wr.atomic.compare_add" = wr.atomic.compare_add, "wr.atomic.swap" = wr.atomic.swap,
            "wr.atomic.rkey" = wr.atomic.rkey, "wr.ud.ah" = wr.ud.ah,
            "wr.ud.remote_qpn" = wr.ud.remote_qpn, "wr.ud.remote_qkey" = wr.ud.remote_qkey,
            "qp_type.xrc.remote_srqn" = qp_type, "bind_mw" = bind_mw_tso_union),
        layout!("struct rdma_ud_param" rdma_ud_param:
            "private_data" = private_data, "private_data_len" = private_data_len,
            "ah_attr" = ah_attr, "qp_num" = qp_num, "qkey" = qkey),
        layout!("struct rdma_cm_event" rdma_cm_event:
            "id" = id, "listen_id" = listen_id, "event" = event, "status" = status,
            "param.conn" = param, "param.ud" = param),
        layout!("struct efadv_device_attr" EfadvDeviceAttr:
            "comp_mask" = comp_mask, "max_sq_wr" = max_sq_wr, "max_rq_wr" = max_rq_wr,
            "max_sq_sge" = max_sq_sge, "max_rq_sge" = max_rq_sge,
            "inline_buf_size" = inline_buf_size, "reserved" = reserved,
            "device_caps" = device_caps, "max_rdma_size" = max_rdma_size),
    ]
}

fn program() -> String {
    let mut text = String::from(
        "#include <stddef.h>\n#include <stdio.h>\n#include <infiniband/verbs.h>\n\
         #include <infiniband/efadv.h>\n#include <rdma/rdma_cma.h>\n\
         #define SHOW(name, value) printf(\"%s=%zu\\n\", name, (size_t)(value))\n\
         int main(void) {\n",
    );
    for (name, _, fields) in layouts() {
        let _ = writeln!(text, "SHOW(\"{name}\", sizeof({name}));");
        for (field, _) in fields {
            let _ = writeln!(text, "SHOW(\"{name} {field}\", offsetof({name}, {field}));");
        }
    }
    text.push_str("return 0;\n}\n");
    text
}

/// What the headers say. They are there, for `rdma-sys` was built from them.
fn header() -> BTreeMap<String, usize> {
    let folder = tempfile::tempdir().unwrap();
    let (source, binary) = (folder.path().join("layout.c"), folder.path().join("layout"));
    std::fs::write(&source, program()).unwrap();
    let output = Command::new("cc")
        .arg(&source)
        .arg("-o")
        .arg(&binary)
        .output();
    let output = output.unwrap();
    let told = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{told}");
    let output = Command::new(&binary).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let line = |line: &str| {
        let (name, value) = line.split_once('=').unwrap();
        (name.to_owned(), value.parse().unwrap())
    };
    text.lines().map(line).collect()
}

#[test]
fn structures_that_are_declared_by_hand_are_the_headers() {
    let header = header();
    let mut wrong = Vec::new();
    let mut compared = 0;
    let mut compare = |name: String, ours: usize| {
        let theirs = header[&name];
        compared += 1;
        if theirs != ours {
            wrong.push(format!("{name}: {ours} here, {theirs} in the header"));
        }
    };
    for (name, size, fields) in layouts() {
        compare(name.to_owned(), size);
        for (field, offset) in fields {
            compare(format!("{name} {field}"), offset);
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert_eq!(compared, header.len(), "a name stands twice");
    println!("{compared} numbers as in the headers");
}
