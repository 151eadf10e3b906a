//! How the same thread of both sides tell each other what they need to be connected: addresses,
//! numbers of queue pairs, keys of memory.

use anyhow::Context;
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender};
use std::time::Duration;

/// What a thread says to its counterpart, as it travels on the control channel.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Card {
    /// The thread's number.
    pub thread: u32,
    /// JSON that both threads understand.
    pub text: String,
}

/// One thread's way to its counterpart.
pub struct Meeting {
    thread: u32,
    outbox: Sender<Card>,
    inbox: Receiver<Card>,
    ring: Box<dyn Fn() + Send>,
    patience: Duration,
    address: IpAddr,
}

impl Meeting {
    /// For a thread; `ring` is called when there is something in the outbox. This side's address is
    /// that of the loopback interface until [`Meeting::at`] says another.
    pub fn new(
        thread: u32,
        outbox: Sender<Card>,
        inbox: Receiver<Card>,
        ring: Box<dyn Fn() + Send>,
        patience: Duration,
    ) -> Self {
        Self {
            thread,
            outbox,
            inbox,
            ring,
            patience,
            address: IpAddr::V4(Ipv4Addr::LOCALHOST),
        }
    }

    /// The same, on a side whose data leave from this address.
    #[must_use]
    pub fn at(self, address: IpAddr) -> Self {
        Self { address, ..self }
    }

    /// This side's address for the data: where devices that go by addresses of the network are found.
    #[must_use]
    pub fn address(&self) -> IpAddr {
        self.address
    }

    /// How long a counterpart may take; connections have to stand within it as well.
    #[must_use]
    pub fn patience(&self) -> Duration {
        self.patience
    }

    /// Says `ours` and returns what the counterpart says in turn. Both sides have to call it equally
    /// often; each time it is also a barrier between the two threads.
    ///
    /// # Errors
    /// The counterpart gave up, died, or says something else.
    pub fn swap<C: Serialize + DeserializeOwned>(&self, ours: &C) -> anyhow::Result<C> {
        let text = serde_json::to_string(ours).context("cannot write a card")?;
        let gone = "the other side gave up while the two got connected";
        self.outbox
            .send(Card {
                thread: self.thread,
                text,
            })
            .ok()
            .context(gone)?;
        (self.ring)();
        let theirs = match self.inbox.recv_timeout(self.patience) {
            Ok(card) => card,
            Err(RecvTimeoutError::Disconnected) => anyhow::bail!(gone),
            Err(RecvTimeoutError::Timeout) => anyhow::bail!(
                "the other side did not get ready within {} s",
                self.patience.as_secs_f64()
            ),
        };
        serde_json::from_str(&theirs.text).context("the other side said something else")
    }
}
