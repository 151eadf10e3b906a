//! The handshake: each side proves that it holds the key, in three messages of fixed size.
//!
//! ```text
//! server → client   name (8)  version (4)  room (1)  nonce (32)
//! client → server   name (8)  version (4)  nonce (32)  proof (32)
//! server → client   verdict (1)  proof (32)
//! ```
//! A proof is HMAC-SHA256 under the pre-shared key over a label and everything said before it. The
//! labels differ per direction, so no proof can be reflected; the nonces are fresh, so none can be
//! replayed. The session's key is made the same way under a third label. The name and the version
//! keep their place in every future version, so that a mismatch can always be told.

use super::wire::Wire;
use super::{ControlError, Key};
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

/// What the protocol calls itself on the wire.
pub const NAME: [u8; 8] = *b"netbench";

/// The version of the control protocol, handshake and messages together.
pub const VERSION: u32 = 6;

const PREFIX_BYTES: usize = 12;
const NONCE_BYTES: usize = 32;
const PROOF_BYTES: usize = 32;
/// Length of the server's first message.
pub const SERVER_HELLO_BYTES: usize = PREFIX_BYTES + 1 + NONCE_BYTES;
/// Length of the client's message.
pub const CLIENT_HELLO_BYTES: usize = PREFIX_BYTES + NONCE_BYTES + PROOF_BYTES;
const VERDICT_BYTES: usize = 1 + PROOF_BYTES;
/// Length of all three together.
pub const TOTAL_BYTES: usize = SERVER_HELLO_BYTES + CLIENT_HELLO_BYTES + VERDICT_BYTES;

const ROOM: u8 = 0;
const FULL: u8 = 1;
const WELCOME: u8 = 0;
const OTHER_VERSION: u8 = 1;
const OTHER_KEY: u8 = 2;

const CLIENT_PROOF: &[u8] = b"net-bench proof of the client";
const SERVER_PROOF: &[u8] = b"net-bench proof of the server";
const SESSION: &[u8] = b"net-bench key of the session";

fn prefix() -> [u8; PREFIX_BYTES] {
    let mut prefix = [0; PREFIX_BYTES];
    prefix[..8].copy_from_slice(&NAME);
    prefix[8..].copy_from_slice(&VERSION.to_be_bytes());
    prefix
}

/// Checks the part of a greeting that all versions share.
///
/// # Errors
/// [`ControlError::Foreign`] or [`ControlError::Version`].
pub fn check_prefix(prefix: &[u8; PREFIX_BYTES]) -> Result<(), ControlError> {
    let [name @ .., v0, v1, v2, v3] = *prefix;
    if name != NAME {
        return Err(ControlError::Foreign(name));
    }
    match u32::from_be_bytes([v0, v1, v2, v3]) {
        VERSION => Ok(()),
        theirs => Err(ControlError::Version {
            ours: VERSION,
            theirs,
        }),
    }
}

fn nonce() -> Result<[u8; NONCE_BYTES], ControlError> {
    let mut nonce = [0; NONCE_BYTES];
    getrandom::fill(&mut nonce).map_err(ControlError::Random)?;
    Ok(nonce)
}

/// HMAC under the pre-shared key over a label and all that both sides said: the greeting of the
/// server, then the client's without its proof.
fn mac(key: &Key, label: &[u8], server_hello: &[u8], client_hello: &[u8]) -> Hmac<Sha256> {
    // HMAC takes keys of any length, the empty one included.
    let mut mac = Hmac::new_from_slice(key.bytes()).expect("any key length is valid");
    mac.update(label);
    mac.update(server_hello);
    mac.update(&client_hello[..PREFIX_BYTES + NONCE_BYTES]);
    mac
}

fn proof(key: &Key, label: &[u8], server: &[u8], client: &[u8]) -> [u8; PROOF_BYTES] {
    mac(key, label, server, client)
        .finalize()
        .into_bytes()
        .into()
}

/// What a client with this key answers to a server's greeting. Public for tests of the protocol.
///
/// # Errors
/// The kernel has no random numbers to give.
pub fn client_hello(
    key: &Key,
    server_hello: &[u8; SERVER_HELLO_BYTES],
) -> Result<[u8; CLIENT_HELLO_BYTES], ControlError> {
    let mut hello = [0; CLIENT_HELLO_BYTES];
    hello[..PREFIX_BYTES].copy_from_slice(&prefix());
    hello[PREFIX_BYTES..PREFIX_BYTES + NONCE_BYTES].copy_from_slice(&nonce()?);
    let proof = proof(key, CLIENT_PROOF, server_hello, &hello);
    hello[PREFIX_BYTES + NONCE_BYTES..].copy_from_slice(&proof);
    Ok(hello)
}

/// The session key that follows from both greetings. Public for tests of the protocol.
#[must_use]
pub fn session_key(
    key: &Key,
    server_hello: &[u8; SERVER_HELLO_BYTES],
    client_hello: &[u8; CLIENT_HELLO_BYTES],
) -> [u8; 32] {
    proof(key, SESSION, server_hello, client_hello)
}

/// The client's part; returns the session's key.
pub(super) fn as_client(wire: &mut Wire<'_>, key: &Key) -> Result<[u8; 32], ControlError> {
    let mut server = [0; SERVER_HELLO_BYTES];
    let (greeting, rest) = server
        .split_first_chunk_mut::<PREFIX_BYTES>()
        .expect("a greeting is longer than its prefix");
    wire.read_exact(greeting)?;
    if let Err(error) = check_prefix(greeting) {
        // The server learns our version too, so that its log explains the refusal.
        let _ = wire.write_all(&prefix());
        return Err(error);
    }
    wire.read_exact(rest)?;
    if server[PREFIX_BYTES] != ROOM {
        return Err(ControlError::Busy);
    }
    let client = client_hello(key, &server)?;
    wire.write_all(&client)?;
    let mut verdict = [0; VERDICT_BYTES];
    wire.read_exact(&mut verdict)?;
    // A refusal carries no proof; a welcome must.
    if verdict[0] != WELCOME {
        return Err(ControlError::WrongKey);
    }
    mac(key, SERVER_PROOF, &server, &client)
        .verify_slice(&verdict[1..])
        .map_err(|_| ControlError::WrongKey)?;
    Ok(session_key(key, &server, &client))
}

fn server_hello(room: u8) -> Result<[u8; SERVER_HELLO_BYTES], ControlError> {
    let mut hello = [0; SERVER_HELLO_BYTES];
    hello[..PREFIX_BYTES].copy_from_slice(&prefix());
    hello[PREFIX_BYTES] = room;
    hello[PREFIX_BYTES + 1..].copy_from_slice(&nonce()?);
    Ok(hello)
}

/// The server's part; returns the session's key.
pub(super) fn as_server(wire: &mut Wire<'_>, key: &Key) -> Result<[u8; 32], ControlError> {
    let server = server_hello(ROOM)?;
    wire.write_all(&server)?;
    let mut client = [0; CLIENT_HELLO_BYTES];
    let (greeting, rest) = client
        .split_first_chunk_mut::<PREFIX_BYTES>()
        .expect("a greeting is longer than its prefix");
    wire.read_exact(greeting)?;
    if let Err(error) = check_prefix(greeting) {
        let _ = wire.write_all(&refusal(OTHER_VERSION));
        return Err(error);
    }
    wire.read_exact(rest)?;
    // The comparison takes the same time wherever the proofs differ.
    if mac(key, CLIENT_PROOF, &server, &client)
        .verify_slice(&client[PREFIX_BYTES + NONCE_BYTES..])
        .is_err()
    {
        let _ = wire.write_all(&refusal(OTHER_KEY));
        return Err(ControlError::WrongKey);
    }
    let mut verdict = [WELCOME; VERDICT_BYTES];
    verdict[1..].copy_from_slice(&proof(key, SERVER_PROOF, &server, &client));
    wire.write_all(&verdict)?;
    Ok(session_key(key, &server, &client))
}

fn refusal(verdict: u8) -> [u8; VERDICT_BYTES] {
    let mut message = [0; VERDICT_BYTES];
    message[0] = verdict;
    message
}

/// The server's greeting when it has no room for this client.
pub(super) fn turn_away(wire: &mut Wire<'_>) -> Result<(), ControlError> {
    wire.write_all(&server_hello(FULL)?)
}
