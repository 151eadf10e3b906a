//! What a port over libfabric really uses.

use super::offer::{core, ip_of};
use super::plan::Plan;
use crate::rdma::port::{Facts, Path};
use crate::rdma::test::RdmaTest;
use libfabric_sys::raw::constants::{
    EP_TYPES, FI_ORDER_DATA, MODES, MR_MODES, ORDERS, PROGRESS, PROTOCOLS, THREADING,
};
use libfabric_sys::{Endpoints, Info, Library, UNIVERSE, Universe, universe};
use nix::ifaddrs::getifaddrs;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::net::IpAddr;

/// Everything, of endpoints that are connected.
///
/// # Errors
/// The provider's reason for not telling its address.
pub(super) fn facts(
    endpoints: &Endpoints,
    plan: &Plan,
    reduced: Vec<String>,
    inject_bytes: usize,
    address: IpAddr,
) -> anyhow::Result<Facts> {
    let info = endpoints.domain().info();
    let path = path(info, &endpoints.address(0)?, address);
    Ok(Facts {
        device: info.domain_name(),
        netdevs: netdevs(&path),
        used: used(endpoints, plan, inject_bytes),
        reduced,
        path,
    })
}

/// What was asked for and could not be had, as the endpoints turned out.
pub(super) fn reduced(endpoints: &Endpoints, plan: &Plan, test: &RdmaTest) -> Vec<String> {
    let provider = endpoints.domain().info().provider();
    let mut reduced = Vec::new();
    if let (Some(asked), has) = (plan.shape.completions, endpoints.completion_entries())
        && has < asked
    {
        reduced.push(format!(
            "provider {provider} has a completion queue of {has} entries, not {asked}: more \
             operations at once overrun it"
        ));
    }
    if test.events && !endpoints.waits() {
        reduced.push(format!(
            "provider {provider} has nothing to wait on: completions were polled for"
        ));
    }
    if provider == "verbs;ofi_rxm"
        && let Some(Universe::Set(value)) = universe()
    {
        reduced.push(format!(
            "{UNIVERSE}={value} was set, because ofi_rxm needs 256 completion queue entries for each \
             of so many peers, 65536 by default, and some devices have fewer"
        ));
    }
    reduced
}

fn used(endpoints: &Endpoints, plan: &Plan, inject_bytes: usize) -> BTreeMap<String, Value> {
    let info = endpoints.domain().info();
    let (ep, domain, tx, rx) = (info.endpoint(), info.domain(), info.tx(), info.rx());
    let mut used: BTreeMap<String, Value> = [
        ("provider", json!(info.provider())),
        ("fabric", json!(info.fabric_name())),
        ("domain", json!(info.domain_name())),
        ("endpoint", json!(EP_TYPES.word(ep.r#type.into()))),
        ("protocol", json!(PROTOCOLS.word(ep.protocol.into()))),
        ("max_message_bytes", json!(ep.max_msg_size)),
        ("inject_bytes", json!(inject_bytes)),
        ("injected", json!(plan.inject)),
        (
            "signalled",
            json!(if endpoints.selective() { "some" } else { "all" }),
        ),
        ("cq_entries", json!(endpoints.completion_entries())),
        ("cq_data_bytes", json!(domain.cq_data_size)),
        ("tx_operations", json!(tx.size)),
        ("rx_operations", json!(rx.size)),
        ("receives", json!(plan.receives)),
        ("mode", json!(MODES.words(info.mode()))),
        (
            "mr_mode",
            json!(MR_MODES.words(domain.mr_mode.cast_unsigned().into())),
        ),
        (
            "control_progress",
            json!(PROGRESS.word(domain.control_progress.into())),
        ),
        (
            "data_progress",
            json!(PROGRESS.word(domain.data_progress.into())),
        ),
        ("threading", json!(THREADING.word(domain.threading.into()))),
        ("msg_order", json!(ORDERS.words(tx.msg_order))),
        // Whether a message's last byte is written last, which a wait for that byte relies on.
        ("data_order", json!(rx.comp_order & FI_ORDER_DATA != 0)),
        ("environment", json!(environment())),
    ]
    .into_iter()
    .map(|(name, value)| (name.to_owned(), value))
    .collect();
    if let Some(efa) = efa(info) {
        used.insert("efa".to_owned(), efa);
    }
    if let Ok(library) = Library::load() {
        used.insert("libfabric".to_owned(), json!(library.version.to_string()));
        let interface = library.interface.to_string();
        used.insert("libfabric_interface".to_owned(), json!(interface));
    }
    used
}

/// What an EFA below the provider can: the offer does not tell what libfabric does in its place.
fn efa(info: &Info) -> Option<Value> {
    if core(&info.provider()) != "efa" {
        return None;
    }
    let name = info.nic()?.name;
    match verbs::Context::open(&name) {
        Ok(context) => crate::rdma::verbs::efa(&context),
        Err(error) => Some(json!({ "unavailable": error.to_string() })),
    }
}

/// Every variable whose name begins with `FI_`.
fn environment() -> BTreeMap<String, String> {
    let text = |part: std::ffi::OsString| part.to_string_lossy().into_owned();
    std::env::vars_os()
        .map(|(name, value)| (text(name), text(value)))
        .filter(|(name, _)| name.starts_with("FI_"))
        .collect()
}

fn path(info: &Info, own: &[u8], address: IpAddr) -> Path {
    let provider = info.provider();
    match core(&provider) {
        "tcp" | "udp" | "sockets" | "net" => {
            let own = ip_of(own).filter(|own| !own.is_unspecified());
            Path::Sockets {
                address: own.unwrap_or(address),
            }
        }
        "verbs" | "efa" => {
            let nic = info.nic().unwrap_or_default();
            let device = if nic.name.is_empty() {
                info.domain_name()
            } else {
                nic.name
            };
            Path::Rdma {
                device,
                // Neither provider uses another, nor tells.
                port: 1,
                mtu_bytes: u32::try_from(nic.mtu_bytes).unwrap_or(0),
            }
        }
        "shm" | "sm2" => Path::SharedMemory,
        _ => Path::Unknown,
    }
}

/// Interfaces whose counters see the bytes.
fn netdevs(path: &Path) -> Vec<String> {
    match path {
        Path::Sockets { address } => interface_of(*address).into_iter().collect(),
        Path::Rdma { device, port, .. } => {
            let file = format!("/sys/class/infiniband/{device}/ports/{port}/gid_attrs/ndevs/0");
            let name = std::fs::read_to_string(file).unwrap_or_default();
            let name = name.trim();
            if name.is_empty() {
                Vec::new()
            } else {
                vec![name.to_owned()]
            }
        }
        Path::SharedMemory | Path::Unknown => Vec::new(),
    }
}

fn interface_of(address: IpAddr) -> Option<String> {
    let mut interfaces = getifaddrs().ok()?;
    let found = interfaces.find(|interface| {
        let has = interface.address.as_ref().and_then(|has| {
            let v4 = has.as_sockaddr_in().map(|v4| IpAddr::V4(v4.ip()));
            v4.or_else(|| has.as_sockaddr_in6().map(|v6| IpAddr::V6(v6.ip())))
        });
        has == Some(address)
    })?;
    Some(found.interface_name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_loopback_interface_is_found() {
        let name = interface_of(IpAddr::from([127, 0, 0, 1]));
        assert_eq!(name.as_deref(), Some("lo"));
        assert_eq!(interface_of(IpAddr::from([192, 0, 2, 77])), None);
    }
}
