//! The Toeplitz hash of receive side scaling, as Microsoft defines it: over the key slides a window
//! of 32 bits, one bit further for every bit of the input, and wherever the input has a one, the
//! window is added to the hash without carry.

use std::net::{IpAddr, SocketAddr};

/// The hash of `input`, starting from `seed`, which is 0 by the definition. A key shorter than the
/// input and four bytes is continued with zeros.
#[must_use]
pub fn hash(key: &[u8], input: &[u8], seed: u32) -> u32 {
    let byte = |index: usize| key.get(index).copied().unwrap_or(0);
    let mut window = u32::from_be_bytes([byte(0), byte(1), byte(2), byte(3)]);
    let mut hash = seed;
    for (index, &input) in input.iter().enumerate() {
        let next = byte(index + 4);
        for bit in (0..8).rev() {
            if input >> bit & 1 == 1 {
                hash ^= window;
            }
            window = window << 1 | u32::from(next >> bit & 1);
        }
    }
    hash
}

/// The input of a TCP or UDP packet: both addresses, then both ports, the packet's source first.
///
/// # Errors
/// The addresses are of different families, as no packet's are.
pub fn input(source: SocketAddr, destination: SocketAddr) -> Result<Vec<u8>, String> {
    let mut input = match (source.ip().to_canonical(), destination.ip().to_canonical()) {
        (IpAddr::V4(a), IpAddr::V4(b)) => [a.octets(), b.octets()].concat(),
        (IpAddr::V6(a), IpAddr::V6(b)) => [a.octets(), b.octets()].concat(),
        _ => {
            return Err(format!(
                "{source} and {destination} are addresses of different families"
            ));
        }
    };
    input.extend(source.port().to_be_bytes());
    input.extend(destination.port().to_be_bytes());
    Ok(input)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The key of Microsoft's published vectors.
    const KEY: [u8; 40] = [
        0x6d, 0x5a, 0x56, 0xda, 0x25, 0x5b, 0x0e, 0xc2, 0x41, 0x67, 0x25, 0x3d, 0x43, 0xa3, 0x8f,
        0xb0, 0xd0, 0xca, 0x2b, 0xcb, 0xae, 0x7b, 0x30, 0xb4, 0x77, 0xcb, 0x2d, 0xa3, 0x80, 0x30,
        0xf2, 0x0c, 0x6a, 0x42, 0xb7, 0x3b, 0xbe, 0xac, 0x01, 0xfa,
    ];

    /// Destination, source, hash with ports, hash of the addresses alone: "Verifying the RSS hash
    /// calculation" in Microsoft's documentation of receive side scaling.
    const VECTORS: [(&str, &str, u32, u32); 8] = [
        (
            "161.142.100.80:1766",
            "66.9.149.187:2794",
            0x51cc_c178,
            0x323e_8fc2,
        ),
        (
            "65.69.140.83:4739",
            "199.92.111.2:14230",
            0xc626_b0ea,
            0xd718_262a,
        ),
        (
            "12.22.207.184:38024",
            "24.19.198.95:12898",
            0x5c2b_394a,
            0xd2d0_a5de,
        ),
        (
            "209.142.163.6:2217",
            "38.27.205.30:48228",
            0xafc7_327f,
            0x8298_9176,
        ),
        (
            "202.188.127.2:1303",
            "153.39.163.191:44251",
            0x10e8_28a2,
            0x5d18_09c5,
        ),
        (
            "[3ffe:2501:200:3::1]:1766",
            "[3ffe:2501:200:1fff::7]:2794",
            0x4020_7d3d,
            0x2cc1_8cd5,
        ),
        (
            "[ff02::1]:4739",
            "[3ffe:501:8::260:97ff:fe40:efab]:14230",
            0xdde5_1bbf,
            0x0f0c_461c,
        ),
        (
            "[fe80::200:f8ff:fe21:67cf]:38024",
            "[3ffe:1900:4545:3:200:f8ff:fe21:67cf]:44251",
            0x02d1_feef,
            0x4b61_e985,
        ),
    ];

    #[test]
    fn microsofts_vectors_come_out() {
        for (destination, source, with_ports, addresses) in VECTORS {
            let of = |text: &str| text.parse::<SocketAddr>().expect("an address");
            let input = input(of(source), of(destination)).expect("one family");
            let ports = 4;
            let got = hash(&KEY, &input[..input.len() - ports], 0);
            assert_eq!(
                got, addresses,
                "{source} → {destination} without ports: {got:#x}"
            );
            let got = hash(&KEY, &input, 0);
            assert_eq!(got, with_ports, "{source} → {destination}: {got:#x}");
        }
    }

    #[test]
    fn a_packet_has_one_family() {
        let v4 = SocketAddr::from(([127, 0, 0, 1], 1));
        let v6 = SocketAddr::from(([0, 0, 0, 0, 0, 0, 0, 1], 1));
        assert!(input(v4, v6).is_err());
        // An IPv4 connection seen through an IPv6 socket is hashed as what is on the wire.
        let mapped = SocketAddr::from(([0, 0, 0, 0, 0, 0xffff, 0x7f00, 1], 1));
        assert_eq!(input(mapped, v4), input(v4, v4));
    }
}
