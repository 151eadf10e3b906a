//! Reading a journal, which a crash may have cut off and a disk may have damaged: whatever does not
//! fit is the end of what it says.

use super::{
    ENTRY, FRAME_HEADER, Frame, GREETING, Header, MAX_ENTRIES, MAX_HEADER, MAX_UNITS, VERSION,
    frame_checksum,
};
use std::collections::HashMap;
use std::io::{self, Read};

/// What a journal knows of one unit.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Known {
    /// The newest write to it that was handed to the kernel; zero for none.
    pub issued: u64,
    /// The newest that is durable; zero for none, which is the layout.
    pub durable: u64,
}

/// What a journal says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// What it says of the target.
    pub header: Header,
    /// What it says of units; of others nothing was written.
    pub units: HashMap<u64, Known>,
    /// Writes that were handed to the kernel.
    pub issued: u64,
    /// Writes that were noted as durable.
    pub durable: u64,
    /// Bytes at the end that make no sense.
    pub ignored_bytes: u64,
}

/// Reads a journal of so many bytes.
///
/// # Errors
/// Why it says nothing at all: it cannot be read, is no journal, or its beginning is damaged.
pub fn read(mut from: impl Read, length: u64) -> Result<Found, String> {
    let mut greeting = [0; GREETING.len()];
    let greeted = from.read_exact(&mut greeting);
    if greeted.is_err() || greeting != GREETING {
        return Err("it is no journal of storage-bench".to_owned());
    }
    let (kind, payload) = frame(&mut from, 0, MAX_HEADER)
        .map_err(|error| error.to_string())?
        .ok_or("its beginning is damaged")?;
    if kind != Frame::Header as u32 {
        return Err("it does not begin with a description of its target".to_owned());
    }
    let header = header(&payload)?;
    let nonce = header.nonce;
    let mut understood = (GREETING.len() + FRAME_HEADER + payload.len()) as u64;
    let mut found = Found {
        header,
        units: HashMap::new(),
        issued: 0,
        durable: 0,
        ignored_bytes: 0,
    };
    while let Some((kind, payload)) =
        frame(&mut from, nonce, MAX_ENTRIES * ENTRY).map_err(|error| error.to_string())?
    {
        if !found.take(kind, &payload) {
            break;
        }
        understood += (FRAME_HEADER + payload.len()) as u64;
    }
    found.ignored_bytes = length.saturating_sub(understood);
    Ok(found)
}

/// The next frame's kind and payload; `None` where there is no whole one.
fn frame(from: &mut impl Read, nonce: u64, most: usize) -> io::Result<Option<(u32, Vec<u8>)>> {
    let mut head = [0; FRAME_HEADER];
    if !filled(from, &mut head)? {
        return Ok(None);
    }
    let [length, sum, kind] = [0, 4, 8].map(|at| {
        let bytes = head[at..at + 4].try_into();
        u32::from_le_bytes(bytes.expect("four bytes are four bytes"))
    });
    if length as usize > most {
        return Ok(None);
    }
    let mut payload = vec![0; length as usize];
    let whole = filled(from, &mut payload)? && frame_checksum(nonce, kind, &payload) == sum;
    Ok(whole.then_some((kind, payload)))
}

/// Whether there was enough to fill the bytes.
fn filled(from: &mut impl Read, bytes: &mut [u8]) -> io::Result<bool> {
    match from.read_exact(bytes) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(false),
        Err(error) => Err(error),
    }
}

fn header(payload: &[u8]) -> Result<Header, String> {
    #[derive(serde::Deserialize)]
    struct Versioned {
        version: u32,
    }
    let malformed = |error: serde_json::Error| format!("its beginning is malformed: {error}");
    let Versioned { version } = serde_json::from_slice(payload).map_err(malformed)?;
    if version != VERSION {
        return Err(format!(
            "it has version {version} of the format, and this program knows {VERSION}"
        ));
    }
    let header: Header = serde_json::from_slice(payload).map_err(malformed)?;
    let sector = crate::spec::SECTOR;
    let units = header.size.checked_div(header.unit_bytes);
    let sizes_fit = header.unit_bytes.is_multiple_of(sector)
        && header.unit_bytes <= 1 << 30
        && units.is_some_and(|units| (1..=MAX_UNITS).contains(&units))
        && u64::from(header.units_per_operation)
            .checked_mul(header.unit_bytes)
            .is_some_and(|bytes| (1..=1 << 30).contains(&bytes));
    if !sizes_fit {
        return Err("the sizes in its beginning make no sense".to_owned());
    }
    Ok(header)
}

impl Found {
    /// Takes a frame in. Whether it makes sense.
    fn take(&mut self, kind: u32, payload: &[u8]) -> bool {
        let units = self.header.size / self.header.unit_bytes;
        let (entries, rest) = payload.as_chunks::<ENTRY>();
        let words = |entry: &[u8; ENTRY]| -> [u64; 3] {
            std::array::from_fn(|at| {
                let bytes = entry[8 * at..8 * at + 8].try_into();
                u64::from_le_bytes(bytes.expect("eight bytes are eight bytes"))
            })
        };
        let inside = |entry: &[u8; ENTRY]| {
            let [unit, sequence, count] = words(entry);
            let end = unit.checked_add(count);
            (1..=u64::from(self.header.units_per_operation)).contains(&count)
                && end.is_some_and(|end| end <= units)
                && sequence > 0
        };
        if !rest.is_empty() || !entries.iter().all(inside) {
            return false;
        }
        let total = if kind == Frame::Intents as u32 {
            &mut self.issued
        } else if kind == Frame::Durable as u32 {
            &mut self.durable
        } else {
            return false;
        };
        *total += entries.len() as u64;
        for [unit, sequence, count] in entries.iter().map(words) {
            for unit in unit..unit + count {
                let known = self.units.entry(unit).or_default();
                known.issued = known.issued.max(sequence);
                if kind == Frame::Durable as u32 {
                    known.durable = known.durable.max(sequence);
                }
            }
        }
        true
    }
}
