//! Finding the offer that a test is carried out with.

use super::offer::{Offer, Wish, by_address, caps, core, defect, inject, too_long, types};
use crate::rdma::test::{Fabric, Operation, ProgressModel, RdmaTest};
use crate::side::End;
use anyhow::Context;
use libfabric_sys::raw::constants::{
    CAPS, EP_TYPES, FI_ENODATA, FI_PROGRESS_AUTO, FI_PROGRESS_MANUAL,
};
use libfabric_sys::{Error, Info, Library, Query};
use reports::model::Unavailable;
use std::collections::BTreeSet;
use std::net::IpAddr;

/// An offer, and what it makes of the test.
pub(super) struct Found {
    pub(super) info: Info,
    pub(super) offer: Offer,
    /// Bytes that are sent from the request itself, at most.
    pub(super) inject_bytes: usize,
    /// Receives that are posted on each lane.
    pub(super) receives: u32,
    /// What was asked for and could not be had.
    pub(super) reduced: Vec<String>,
}

/// Providers that hosts may lack; another name is a slip of the pen.
const PROVIDERS: [&str; 16] = [
    "tcp",
    "udp",
    "sockets",
    "net",
    "shm",
    "sm2",
    "verbs",
    "efa",
    "efa-direct",
    "psm",
    "psm2",
    "psm3",
    "opx",
    "cxi",
    "ucx",
    "lnx",
];

/// The offer for one side of a test, whose data leave from `address`.
///
/// # Errors
/// [`Unavailable`]: there is no libfabric, the provider is not here, or does not offer the
/// operation. Messages are too long for it, or nobody knows such a provider: which there are.
pub(super) fn find(
    test: &RdmaTest,
    fabric: &Fabric,
    end: End,
    address: IpAddr,
) -> anyhow::Result<Found> {
    let library = Library::load().map_err(|missing| Unavailable(missing.to_string()))?;
    let asked = Asked::new(test, fabric, end, address);
    let Some((mut info, mut offer)) = asked.best(Sizes::default())? else {
        return Err(asked.nothing());
    };
    if let Some(reason) = defect(&offer.provider, test.operation, library.version) {
        return Err(Unavailable(reason).into());
    }
    // Providers have defaults for the sizes of queues, and more where they are asked for it.
    let sizes = Sizes {
        inject: more(test.inline_bytes.unwrap_or(0), offer.inject_bytes),
        tx: more(test.depth, offer.tx_size),
        rx: more(asked.receives(), offer.rx_size),
    };
    if sizes != Sizes::default() {
        for sizes in sizes.wishes() {
            if let Some(better) = asked.best(sizes)?
                && better.1.provider == offer.provider
                && better.1.endpoint == offer.endpoint
            {
                (info, offer) = better;
                break;
            }
        }
    }
    if let Some(reason) = too_long(&offer, test.length_bytes) {
        anyhow::bail!(reason);
    }
    let (inject_bytes, less) = inject(&offer, test.inline_bytes);
    let mut reduced: Vec<String> = less.into_iter().collect();
    if offer.tx_size < test.depth as usize {
        reduced.push(format!(
            "provider {} queues {} operations of an endpoint, fewer than the {} of --depth: the \
             rest waits for room",
            offer.provider, offer.tx_size, test.depth
        ));
    }
    let receives = asked
        .receives()
        .min(offer.rx_size.try_into().unwrap_or(u32::MAX));
    if receives < asked.receives() {
        reduced.push(format!(
            "provider {} queues {receives} receives of an endpoint, not {}",
            offer.provider,
            asked.receives()
        ));
    }
    Ok(Found {
        info,
        offer,
        inject_bytes,
        receives,
        reduced,
    })
}

/// What has to be asked for because the default is less.
fn more(wanted: u32, default: usize) -> usize {
    let wanted = wanted as usize;
    if wanted > default { wanted } else { 0 }
}

/// Sizes that are asked for; 0 for the provider's default.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Sizes {
    inject: usize,
    tx: usize,
    rx: usize,
}

impl Sizes {
    /// All of it, else what of it alone a provider may have.
    fn wishes(self) -> [Self; 4] {
        let none = Self::default();
        [
            self,
            Self { inject: 0, ..self },
            Self {
                inject: self.inject,
                ..none
            },
            Self {
                rx: self.rx,
                ..none
            },
        ]
    }
}

/// What is asked of libfabric.
struct Asked {
    wish: Wish,
    /// As the user spelled it.
    spelled: Option<String>,
    /// The option by which a domain is asked for.
    domain_option: &'static str,
    operation: Operation,
    types: &'static [u32],
    query: Query,
    receives: u32,
}

impl Asked {
    fn new(test: &RdmaTest, fabric: &Fabric, end: End, address: IpAddr) -> Self {
        let (domain, domain_option) = match end {
            End::Client => (&fabric.domain, "--domain"),
            End::Server => (&fabric.server_domain, "--server-domain"),
        };
        let wish = Wish::new(fabric.provider.as_deref(), domain.as_deref());
        let node = by_address(wish.provider.as_deref(), address).then(|| address.to_string());
        let query = Query {
            provider: wish.provider.clone(),
            fabric: wish.fabric.clone(),
            domain: domain.clone(),
            caps: caps(test.operation),
            local: node.is_some(),
            node,
            progress: match fabric.progress {
                None => 0,
                Some(ProgressModel::Auto) => FI_PROGRESS_AUTO,
                Some(ProgressModel::Manual) => FI_PROGRESS_MANUAL,
            },
            ..Query::default()
        };
        Self {
            wish,
            spelled: fabric.provider.clone(),
            domain_option,
            operation: test.operation,
            types: types(fabric.endpoint),
            query,
            receives: test.receives,
        }
    }

    /// Receives that each lane is to have posted.
    fn receives(&self) -> u32 {
        if self.operation.receives() {
            self.receives
        } else {
            0
        }
    }

    /// The best offer with these sizes, if there is any.
    fn best(&self, sizes: Sizes) -> anyhow::Result<Option<(Info, Offer)>> {
        let query = Query {
            inject_size: sizes.inject,
            tx_size: sizes.tx,
            rx_size: sizes.rx,
            ..self.query.clone()
        };
        let best = self.choose(&query)?;
        if best.is_some() || query.node.is_none() {
            return Ok(best);
        }
        // The address is that of another network than the device's.
        self.choose(&Query {
            node: None,
            local: false,
            ..query
        })
    }

    fn choose(&self, query: &Query) -> anyhow::Result<Option<(Info, Offer)>> {
        let mut infos = Vec::new();
        for &endpoint in self.types {
            infos.extend(offers(&Query {
                endpoint,
                ..query.clone()
            })?);
        }
        let mut summaries: Vec<Offer> = infos.iter().map(Offer::of).collect();
        Ok(self
            .wish
            .choose(&summaries)
            .map(|best| (infos.swap_remove(best), summaries.swap_remove(best))))
    }

    /// Why there is no offer.
    fn nothing(&self) -> anyhow::Error {
        let everything = Query {
            everything: true,
            ..Query::default()
        };
        let all = match offers(&everything) {
            Ok(all) => all,
            Err(error) => return error,
        };
        let names: BTreeSet<String> = all.iter().map(Info::provider).collect();
        let here: Vec<&str> = names.iter().map(String::as_str).collect();
        let here = if here.is_empty() {
            "none".to_owned()
        } else {
            here.join(", ")
        };
        if let Some(domain) = &self.query.domain
            && let Some(error) = self.no_domain(domain, &all)
        {
            return error;
        }
        let Some(spelled) = &self.spelled else {
            return self.lacks("none of libfabric's providers here", &here);
        };
        let asked = self.wish.provider.as_deref().unwrap_or(spelled);
        if names
            .iter()
            .any(|name| name == asked || core(name) == asked)
        {
            return self.lacks(&format!("provider {spelled}"), &here);
        }
        let text = format!("libfabric has no provider {spelled} here; it has: {here}");
        if PROVIDERS.contains(&core(spelled)) {
            Unavailable(text).into()
        } else {
            anyhow::anyhow!(text)
        }
    }

    /// That a domain was asked for which the provider does not have, with those that it has; `None` if
    /// it has it, or if there is no such provider.
    fn no_domain(&self, wanted: &str, all: &[Info]) -> Option<anyhow::Error> {
        let asked = self.wish.provider.as_deref();
        let own = all.iter().filter(|info| {
            let provider = info.provider();
            asked.is_none_or(|asked| provider == asked || core(&provider) == asked)
        });
        let there: BTreeSet<String> = own.map(Info::domain_name).collect();
        if there.is_empty() || there.contains(wanted) {
            return None;
        }
        let who = match &self.spelled {
            Some(spelled) => format!("provider {spelled}"),
            None => "libfabric".to_owned(),
        };
        let there: Vec<String> = there.into_iter().collect();
        Some(anyhow::anyhow!(
            "{}: {who} has no domain {wanted:?} here, but {}",
            self.domain_option,
            there.join(", ")
        ))
    }

    fn lacks(&self, who: &str, here: &str) -> anyhow::Error {
        let types: Vec<String> = self
            .types
            .iter()
            .map(|&kind| EP_TYPES.word(kind.into()))
            .collect();
        let mut wanted = format!(
            "{} with an endpoint of type {}",
            CAPS.words(self.query.caps).join(" and "),
            types.join(" or ")
        );
        for (name, value) in [
            ("domain", &self.query.domain),
            ("fabric", &self.query.fabric),
        ] {
            if let Some(value) = value {
                wanted += &format!(", {name} {value}");
            }
        }
        if self.query.progress != 0 {
            wanted += ", and the progress that was asked for";
        }
        Unavailable(format!(
            "{who} does not offer {wanted} (net-bench fabric_info shows what there is; providers \
             here: {here})"
        ))
        .into()
    }
}

/// What a query finds; nothing is no error.
fn offers(query: &Query) -> anyhow::Result<Vec<Info>> {
    match query.find() {
        Ok(found) => Ok(found),
        Err(error) if error.is(FI_ENODATA) => Ok(Vec::new()),
        Err(Error::Missing(missing)) => Err(Unavailable(missing.to_string()).into()),
        Err(error) => Err(error).context("cannot ask libfabric for what it offers"),
    }
}
