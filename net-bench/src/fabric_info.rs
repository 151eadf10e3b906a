//! `net-bench fabric_info`: what libfabric and its providers offer on this host, in one place: which
//! library it is, which variables change its mind, and every limit that a result depends on.

use anyhow::Context;
use clap::Args;
use libfabric_sys::raw::constants::{
    ADDRESS_FORMATS, AV_TYPES, CAPS, EP_TYPES, FI_ENODATA, Group, LINK_STATES, MODES, MR_MODES,
    ORDERS, PROGRESS, PROTOCOLS, RESOURCE_MANAGEMENT, THREADING,
};
use libfabric_sys::{Error, Info, Library, Query, Version};
use net_bench::rdma::fabric::uses;
use reports::model::{Unavailable, Unit};
use reports::program;
use reports::render::{terminal::Style, text::visible, units::human};
use serde::Serialize;
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::process::ExitCode;

/// Columns that lines of words take where nobody says how wide the terminal is.
const WIDTH: usize = 100;

/// Columns of the names of what is said about an offer.
const NAMES: usize = 17;

/// The capability to reach endpoints of this host.
const LOCAL: &str = "local-comm";

/// The capability to reach other hosts.
const REMOTE: &str = "remote-comm";

/// Options of `fabric_info`.
#[derive(Debug, Args)]
pub struct FabricInfoArgs {
    /// Only what PROVIDER offers, for example tcp, "tcp;ofi_rxm", shm, verbs or efa
    #[arg(short, long, value_name = "PROVIDER")]
    provider: Option<String>,
    /// Print a JSON object instead of text
    #[arg(long)]
    json: bool,
}

/// All that is found.
#[derive(Serialize)]
struct Found {
    library: LoadedLibrary,
    /// Every variable whose name begins with `FI_`.
    environment: BTreeMap<String, String>,
    offers: Vec<Offer>,
}

#[derive(Serialize)]
struct LoadedLibrary {
    path: String,
    version: String,
    /// The version of the interface that is asked for.
    interface_version: String,
}

/// One offer: where it leads, and what it can do.
#[derive(Serialize)]
struct Offer {
    provider: String,
    fabric: String,
    domain: String,
    address_format: String,
    capabilities: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    nic: Option<Card>,
    #[serde(flatten)]
    abilities: Abilities,
}

impl Offer {
    /// Capabilities less those that tell how far the network reaches.
    fn skills(&self) -> impl Iterator<Item = &String> {
        let words = self.capabilities.iter();
        words.filter(|word| !matches!(word.as_str(), LOCAL | REMOTE))
    }

    /// Whether two offers differ in their networks only.
    fn is_like(&self, other: &Self) -> bool {
        self.provider == other.provider
            && self.abilities == other.abilities
            && self.skills().eq(other.skills())
    }

    /// The network: `eth0 (10.0.0.0/8)`.
    fn network(&self) -> String {
        let has = |word: &str| self.capabilities.iter().any(|has| has == word);
        let reach = match (has(LOCAL), has(REMOTE)) {
            (true, false) => ", this host only",
            (false, true) => ", other hosts only",
            _ => "",
        };
        format!("{} ({}{reach})", self.domain, self.fabric)
    }
}

/// A network card, as the provider tells of it.
#[derive(Serialize)]
struct Card {
    name: String,
    driver: String,
    firmware: String,
    pci: String,
    mtu_bytes: usize,
    speed_bits_per_s: usize,
    link: String,
}

/// What offers over several networks have in common.
#[derive(Serialize, PartialEq)]
struct Abilities {
    endpoint: String,
    protocol: String,
    protocol_version: u32,
    provider_version: String,
    modes: Vec<String>,
    max_message_bytes: usize,
    message_prefix_bytes: usize,
    tx: Sending,
    rx: Receiving,
    memory: Memory,
    progress: Progress,
    threading: String,
    resource_management: String,
    address_vector: String,
    /// What the cases of this program would do with it.
    cases: Vec<String>,
    /// How much of something a domain can have.
    limits: Limits,
}

#[derive(Serialize, PartialEq)]
struct Sending {
    inject_bytes: usize,
    operations: usize,
    iov_limit: usize,
    rma_iov_limit: usize,
    order: Vec<String>,
}

#[derive(Serialize, PartialEq)]
struct Receiving {
    operations: usize,
    iov_limit: usize,
    order: Vec<String>,
}

#[derive(Serialize, PartialEq)]
struct Memory {
    modes: Vec<String>,
    key_bytes: usize,
    iov_limit: usize,
}

#[derive(Serialize, PartialEq)]
struct Progress {
    control: String,
    data: String,
}

#[derive(Serialize, PartialEq)]
struct Limits {
    endpoints: usize,
    completion_queues: usize,
    cq_data_bytes: usize,
}

/// Prints what is found.
pub fn run(args: &FabricInfoArgs) -> anyhow::Result<ExitCode> {
    let found = find(args.provider.clone())?;
    let text = if args.json {
        serde_json::to_string_pretty(&found)? + "\n"
    } else {
        let style = Style::of_stdout();
        described(&found, style.width.unwrap_or(WIDTH))
    };
    program::print(&text)?;
    Ok(ExitCode::SUCCESS)
}

fn find(provider: Option<String>) -> anyhow::Result<Found> {
    let library = Library::load().map_err(|missing| Unavailable(missing.to_string()))?;
    let query = Query {
        provider,
        everything: true,
        ..Query::default()
    };
    let offers = match query.find() {
        Ok(offers) => offers,
        Err(error) if error.is(FI_ENODATA) => return Err(nothing(&error).into()),
        Err(error) => return Err(error).context("cannot ask libfabric for its providers"),
    };
    Ok(Found {
        library: LoadedLibrary {
            path: library.path.display().to_string(),
            version: library.version.to_string(),
            interface_version: library.interface.to_string(),
        },
        environment: environment(),
        offers: offers
            .iter()
            .map(|info| offer(info, library.version))
            .collect(),
    })
}

fn nothing(error: &Error) -> Unavailable {
    Unavailable(format!(
        "{error}; without --provider and without FI_PROVIDER all providers are listed"
    ))
}

fn environment() -> BTreeMap<String, String> {
    std::env::vars_os()
        .map(|(name, value)| {
            let text = |part: std::ffi::OsString| part.to_string_lossy().into_owned();
            (text(name), text(value))
        })
        .filter(|(name, _)| name.starts_with("FI_"))
        .collect()
}

fn offer(info: &Info, library: Version) -> Offer {
    Offer {
        provider: info.provider(),
        fabric: info.fabric_name(),
        domain: info.domain_name(),
        address_format: word(&ADDRESS_FORMATS, info.address_format()),
        capabilities: CAPS.words(info.caps()),
        nic: info.nic().map(|nic| Card {
            name: nic.name,
            driver: nic.driver,
            firmware: nic.firmware,
            pci: nic.pci,
            mtu_bytes: nic.mtu_bytes,
            speed_bits_per_s: nic.speed_bits_per_s,
            link: word(&LINK_STATES, nic.link_state),
        }),
        abilities: abilities(info, library),
    }
}

fn word(group: &Group, value: u32) -> String {
    group.word(u64::from(value))
}

fn abilities(info: &Info, library: Version) -> Abilities {
    let (endpoint, domain, fabric) = (info.endpoint(), info.domain(), info.fabric());
    let (tx, rx) = (info.tx(), info.rx());
    let version = Version::unpack(fabric.prov_version);
    Abilities {
        endpoint: word(&EP_TYPES, endpoint.r#type),
        protocol: word(&PROTOCOLS, endpoint.protocol),
        protocol_version: endpoint.protocol_version,
        provider_version: version.to_string(),
        modes: MODES.words(info.mode()),
        max_message_bytes: endpoint.max_msg_size,
        message_prefix_bytes: endpoint.msg_prefix_size,
        tx: Sending {
            inject_bytes: tx.inject_size,
            operations: tx.size,
            iov_limit: tx.iov_limit,
            rma_iov_limit: tx.rma_iov_limit,
            order: ORDERS.words(tx.msg_order),
        },
        rx: Receiving {
            operations: rx.size,
            iov_limit: rx.iov_limit,
            order: ORDERS.words(rx.msg_order),
        },
        memory: Memory {
            modes: MR_MODES.words(u64::from(domain.mr_mode.cast_unsigned())),
            key_bytes: domain.mr_key_size,
            iov_limit: domain.mr_iov_limit,
        },
        progress: Progress {
            control: word(&PROGRESS, domain.control_progress),
            data: word(&PROGRESS, domain.data_progress),
        },
        threading: word(&THREADING, domain.threading),
        resource_management: word(&RESOURCE_MANAGEMENT, domain.resource_mgmt),
        address_vector: word(&AV_TYPES, domain.av_type),
        cases: uses(info, library),
        limits: Limits {
            endpoints: domain.ep_cnt,
            completion_queues: domain.cq_cnt,
            cq_data_bytes: domain.cq_data_size,
        },
    }
}

/// The text: the library, the variables, and a block per kind of offer with all its networks.
fn described(found: &Found, width: usize) -> String {
    let library = &found.library;
    let mut text = format!(
        "libfabric {}, interface {}, {}\n",
        library.version,
        library.interface_version,
        visible(&library.path)
    );
    let set: Vec<String> = found
        .environment
        .iter()
        .map(|(name, value)| format!("{name}={value}"))
        .collect();
    line(&mut text, "FI_* set", &or_none(set), width);
    let mut kinds: Vec<Vec<&Offer>> = Vec::new();
    for offer in &found.offers {
        let same = |kind: &&mut Vec<&Offer>| kind[0].is_like(offer);
        match kinds.iter_mut().find(same) {
            Some(kind) => kind.push(offer),
            None => kinds.push(vec![offer]),
        }
    }
    for kind in kinds {
        block(&mut text, &kind, width);
    }
    text
}

fn block(text: &mut String, kind: &[&Offer], width: usize) {
    let abilities = &kind[0].abilities;
    // Writing to a string cannot fail.
    let _ = writeln!(
        text,
        "\n{}  {}  protocol {} version {}  provider version {}",
        visible(&kind[0].provider),
        abilities.endpoint,
        abilities.protocol,
        abilities.protocol_version,
        abilities.provider_version
    );
    let distinct = |words: Vec<String>| {
        let mut seen = Vec::new();
        for word in words {
            if !seen.contains(&word) {
                seen.push(word);
            }
        }
        seen
    };
    let networks = kind.iter().map(|offer| offer.network()).collect();
    line(text, "domains (fabric)", &distinct(networks), width);
    for card in kind.iter().filter_map(|offer| offer.nic.as_ref()) {
        line(text, "card", &card_words(card), width);
    }
    let skills = kind[0].skills().cloned().collect();
    line(text, "capabilities", &or_none(skills), width);
    let formats = kind
        .iter()
        .map(|offer| offer.address_format.clone())
        .collect();
    let addresses = distinct(formats);
    for (name, words) in lines(abilities, addresses) {
        line(text, name, &words, width);
    }
}

fn card_words(card: &Card) -> Vec<String> {
    let mut words = vec![card.name.clone()];
    for (name, value) in [
        ("driver", &card.driver),
        ("firmware", &card.firmware),
        ("PCI", &card.pci),
        ("link", &card.link),
    ] {
        if !value.is_empty() {
            words.push(format!("{name} {value}"));
        }
    }
    if card.mtu_bytes > 0 {
        words.push(format!("MTU {}", card.mtu_bytes));
    }
    if card.speed_bits_per_s > 0 {
        // Exact enough: speeds are round numbers.
        words.push(format!("{} Gbit/s", card.speed_bits_per_s as f64 / 1e9));
    }
    words
}

/// What is said of an offer: a name and words each.
fn lines(abilities: &Abilities, mut addresses: Vec<String>) -> Vec<(&'static str, Vec<String>)> {
    let (tx, rx, memory) = (&abilities.tx, &abilities.rx, &abilities.memory);
    let receives = if rx.order == tx.order {
        vec!["as of sends".to_owned()]
    } else {
        or_none(rx.order.clone())
    };
    addresses.push(format!("vector {}", abilities.address_vector));
    vec![
        ("demands", or_none(abilities.modes.clone())),
        ("longest message", vec![bytes(abilities.max_message_bytes)]),
        (
            "send",
            vec![
                format!("inject {}", bytes(tx.inject_bytes)),
                format!("operations {}", tx.operations),
                format!("iov {}", tx.iov_limit),
                format!("rma-iov {}", tx.rma_iov_limit),
            ],
        ),
        (
            "receive",
            vec![
                format!("operations {}", rx.operations),
                format!("iov {}", rx.iov_limit),
            ],
        ),
        ("order of sends", or_none(tx.order.clone())),
        ("order of receives", receives),
        (
            "memory",
            vec![
                format!("modes {}", or_none(memory.modes.clone()).join(" ")),
                format!("key {}", bytes(memory.key_bytes)),
                format!("iov {}", memory.iov_limit),
            ],
        ),
        (
            "progress",
            vec![
                format!("control {}", abilities.progress.control),
                format!("data {}", abilities.progress.data),
                format!("threads {}", abilities.threading),
            ],
        ),
        (
            "queues",
            vec![
                format!("management {}", abilities.resource_management),
                format!("endpoints {}", abilities.limits.endpoints),
                format!("completion queues {}", abilities.limits.completion_queues),
                format!("data {}", bytes(abilities.limits.cq_data_bytes)),
            ],
        ),
        ("addresses", addresses),
        ("cases", or_none(abilities.cases.clone())),
    ]
}

fn or_none(words: Vec<String>) -> Vec<String> {
    if words.is_empty() {
        vec!["none".to_owned()]
    } else {
        words
    }
}

fn bytes(count: usize) -> String {
    // Providers without a limit say the largest number, or the largest less something of theirs.
    if count > usize::MAX / 2 {
        return "unlimited".to_owned();
    }
    if count < 1_000_000 {
        return format!("{count} B");
    }
    // Three digits are shown, and a f64 holds fifteen.
    human(count as f64, Unit::Bytes)
}

/// A name and words after it, with commas, folded between them.
fn line(text: &mut String, name: &str, words: &[String], width: usize) {
    let indent = NAMES + 3;
    let mut column = indent;
    // Writing to a string cannot fail.
    let _ = write!(text, "  {name:NAMES$} ");
    for (index, word) in words.iter().enumerate() {
        let word = visible(word);
        let comma = if index + 1 < words.len() { "," } else { "" };
        let wide = 1 + word.chars().count() + comma.len();
        if column + wide > width && index > 0 {
            let _ = write!(text, "\n{:indent$}", "");
            column = indent;
        }
        let _ = write!(text, " {word}{comma}");
        column += wide;
    }
    text.push('\n');
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_folded_between_them_and_harmless() {
        let words: Vec<String> = ["alpha", "beta", "g\u{1b}[2J", "delta"]
            .map(str::to_owned)
            .into();
        let mut text = String::new();
        line(&mut text, "name", &words, NAMES + 3 + 13);
        let indent = " ".repeat(NAMES - "name".len());
        let next = " ".repeat(NAMES + 4);
        assert_eq!(
            text,
            format!("  name{indent}  alpha, beta,\n{next}g\\u{{1b}}[2J,\n{next}delta\n")
        );
    }

    #[test]
    fn sizes_are_exact_while_they_are_short() {
        assert_eq!(bytes(16_384), "16384 B");
        assert_eq!(bytes(1 << 30), "1.07 GB");
        assert_eq!(bytes(usize::MAX - 4096), "unlimited");
    }
}
