//! The control channel: how a client and a server agree on a test and exchange what they measured.
//!
//! It is a TCP connection of its own, apart from the data, and it trusts nobody. A handshake of
//! fixed-size binary messages ([`handshake`]) proves to each side that the other holds the same
//! pre-shared key before anything of variable length is read. After that come frames ([`frame`]):
//! capped in length before memory is taken for them, authenticated with a key of this connection
//! and a running number, so that none can be forged, reflected, reordered or replayed. Inside is
//! JSON, decoded into the types of [`message`] and nothing else. Every read and write has a
//! deadline, counted for the whole message: a peer that drips bytes gains nothing.
//!
//! Without a key both sides use the empty one, on the same code path. That keeps strangers' bytes
//! out of the parser but authenticates nobody, so a server without a key stays on loopback.

pub mod frame;
pub mod handshake;
mod key;
pub mod message;
mod wire;

pub use key::{KEY_VARIABLE, Key};

use frame::{Sealer, TAG_BYTES};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::net::{SocketAddr, TcpStream};
use std::os::fd::{AsFd, BorrowedFd};
use std::time::{Duration, Instant};
use wire::Wire;

/// How long the whole handshake may take.
pub const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(5);

/// How long one message may take to be sent, or to arrive once the peer owes it.
pub const MESSAGE_TIMEOUT: Duration = Duration::from_secs(10);

/// What can go wrong on the control channel.
#[derive(Debug, thiserror::Error)]
pub enum ControlError {
    /// The kernel refused to send or receive.
    #[error("control channel: {0}")]
    Io(#[from] std::io::Error),
    /// The peer did not send or take a message in time.
    #[error("control channel: the peer fell silent: it did not {0} in time")]
    Silent(&'static str),
    /// The peer closed the connection where a message was due.
    #[error("control channel: the peer closed the connection; it may have died")]
    Closed,
    /// The peer speaks something else.
    #[error(
        "the other end is not net-bench: it sent \"{}\" where the protocol's name belongs; is this \
         the right port?",
        .0.escape_ascii()
    )]
    Foreign([u8; 8]),
    /// The peer speaks another version.
    #[error(
        "control protocol versions differ: ours is {ours}, the peer's is {theirs}; use the same \
         build of net-bench on both hosts"
    )]
    Version {
        /// The version of this build.
        ours: u32,
        /// The peer's.
        theirs: u32,
    },
    /// The peer's proof does not fit our key, or it says that ours does not fit its key.
    #[error(
        "wrong key: the two sides do not hold the same pre-shared key; give both the same \
         --key-file or NET_BENCH_KEY"
    )]
    WrongKey,
    /// The server has as many clients as it takes.
    #[error("the server is busy: it serves as many clients as it was told to; try again later")]
    Busy,
    /// A frame announces more than the cap.
    #[error("a control frame of {0} bytes is over the cap of {cap}", cap = frame::MAX_PAYLOAD)]
    TooLong(u64),
    /// A frame's tag does not fit its content and place.
    #[error("a control frame is not authentic: it was changed, replayed or forged")]
    Forged,
    /// A frame holds something other than the message that is due.
    #[error("a control message makes no sense: {0}")]
    Malformed(serde_json::Error),
    /// The kernel has no random numbers to give.
    #[error("no random numbers from the kernel: {0}")]
    Random(getrandom::Error),
}

/// An authenticated channel of messages.
#[derive(Debug)]
pub struct Channel {
    stream: TcpStream,
    peer: SocketAddr,
    outgoing: Sealer,
    incoming: Sealer,
    /// Sent and received, the handshake included.
    bytes: u64,
}

impl Channel {
    /// The client's side of the handshake.
    ///
    /// # Errors
    /// [`ControlError`]: what the server sent or failed to send.
    pub fn connect(stream: TcpStream, key: &Key) -> Result<Self, ControlError> {
        let mut wire = Wire::new(&stream, HANDSHAKE_TIMEOUT)?;
        let session = handshake::as_client(&mut wire, key)?;
        Self::new(stream, session, frame::TO_SERVER, frame::TO_CLIENT)
    }

    /// The server's side of the handshake.
    ///
    /// # Errors
    /// [`ControlError`]: what the client sent or failed to send.
    pub fn accept(stream: TcpStream, key: &Key) -> Result<Self, ControlError> {
        let mut wire = Wire::new(&stream, HANDSHAKE_TIMEOUT)?;
        let session = handshake::as_server(&mut wire, key)?;
        Self::new(stream, session, frame::TO_CLIENT, frame::TO_SERVER)
    }

    /// Tells a client that there is no room, as far as it listens.
    pub fn turn_away(stream: &TcpStream) {
        if let Ok(mut wire) = Wire::new(stream, Duration::from_millis(100)) {
            let _ = handshake::turn_away(&mut wire);
        }
    }

    fn new(
        stream: TcpStream,
        session: [u8; 32],
        outgoing: frame::Direction,
        incoming: frame::Direction,
    ) -> Result<Self, ControlError> {
        stream.set_nodelay(true)?;
        Ok(Self {
            peer: stream.peer_addr()?,
            stream,
            outgoing: Sealer::new(session, outgoing),
            incoming: Sealer::new(session, incoming),
            bytes: handshake::TOTAL_BYTES as u64,
        })
    }

    /// How many bytes went over it in both directions, above TCP.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Whether there is something to receive, or the peer is gone.
    #[must_use]
    pub fn has_news(&self) -> bool {
        let mut watched = [PollFd::new(self.stream.as_fd(), PollFlags::POLLIN)];
        matches!(poll(&mut watched, PollTimeout::ZERO), Ok(1..))
    }

    /// The peer's address on this connection.
    #[must_use]
    pub fn peer(&self) -> SocketAddr {
        self.peer
    }

    /// Our address on this connection.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn local(&self) -> Result<SocketAddr, ControlError> {
        Ok(self.stream.local_addr()?)
    }

    /// Sends one message.
    ///
    /// # Errors
    /// [`ControlError`]: the peer does not take it, or it is over the cap.
    pub fn send<M: Serialize>(&mut self, message: &M) -> Result<(), ControlError> {
        let payload = serde_json::to_vec(message).map_err(ControlError::Malformed)?;
        let framed = self.outgoing.seal(&payload)?;
        self.bytes += framed.len() as u64;
        Wire::new(&self.stream, MESSAGE_TIMEOUT)?.write_all(&framed)
    }

    /// Receives one message, all of it within `patience`.
    ///
    /// # Errors
    /// [`ControlError`]: the message does not come, is not authentic, or is none of `M`.
    pub fn receive<M: DeserializeOwned>(&mut self, patience: Duration) -> Result<M, ControlError> {
        let mut wire = Wire::until(&self.stream, Instant::now() + patience);
        let mut header = [0; 4];
        wire.read_exact(&mut header)?;
        let length = frame::payload_length(header)?;
        let mut body = vec![0; length + TAG_BYTES];
        wire.read_exact(&mut body)?;
        self.bytes += (header.len() + body.len()) as u64;
        let payload = self.incoming.open(&body)?;
        serde_json::from_slice(payload).map_err(ControlError::Malformed)
    }
}

impl AsFd for Channel {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.stream.as_fd()
    }
}
