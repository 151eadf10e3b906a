//! What the kernel knows of a TCP connection: `TCP_INFO`, read by the length that it returns.
//!
//! The structure has grown with almost every release and keeps growing at its end. The bytes that
//! came are all that is read, at the offsets of include/uapi/linux/tcp.h, so a field that the
//! running kernel does not know is `None` and never a zero that was not measured.

use crate::socket_state::get_bytes;
use std::io;
use std::os::fd::AsFd;

/// Room for what the kernel may tell; Linux 6.18 tells 256 bytes.
const ROOM: usize = 512;

/// A connection's state and history. Counters are since the connection was made and wrap where
/// the kernel's do, at 32 bits where the type has 32.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct TcpInfo {
    /// The state, 1 for established.
    pub state: Option<u8>,
    /// Maximum segment size towards the peer, in bytes.
    pub send_mss_bytes: Option<u32>,
    /// Segments sent and not acknowledged.
    pub unacked_segments: Option<u32>,
    /// Segments taken for lost at the moment.
    pub lost_segments: Option<u32>,
    /// Smoothed round-trip time in microseconds.
    pub rtt_us: Option<u32>,
    /// Its mean deviation in microseconds.
    pub rttvar_us: Option<u32>,
    /// Slow-start threshold in segments; the kernel's "infinite" is `None`.
    pub ssthresh_segments: Option<u32>,
    /// Congestion window in segments.
    pub cwnd_segments: Option<u32>,
    /// Round-trip time as the receiver estimates it, in microseconds.
    pub receive_rtt_us: Option<u32>,
    /// Bytes that the application reads per round trip, as the receiver's buffer tuning sees it.
    pub receive_space_bytes: Option<u32>,
    /// Segments sent again.
    pub retransmits: Option<u32>,
    /// Rate at which the sender paces, in bytes per second.
    pub pacing_bytes_per_s: Option<u64>,
    /// The limit that the application set for it; `None` where it set none.
    pub max_pacing_bytes_per_s: Option<u64>,
    /// Payload bytes that the peer acknowledged.
    pub acked_bytes: Option<u64>,
    /// Payload bytes received.
    pub received_bytes: Option<u64>,
    /// Segments sent, pure acknowledgements included.
    pub segments_out: Option<u32>,
    /// Segments received, likewise.
    pub segments_in: Option<u32>,
    /// Bytes in the send buffer that were never sent.
    pub unsent_bytes: Option<u32>,
    /// The smallest round-trip time seen, in microseconds.
    pub min_rtt_us: Option<u32>,
    /// Segments with payload received.
    pub data_segments_in: Option<u32>,
    /// Segments with payload sent.
    pub data_segments_out: Option<u32>,
    /// The latest rate at which payload was delivered, in bytes per second.
    pub delivery_bytes_per_s: Option<u64>,
    /// Whether that rate was bounded by the application having nothing to send.
    pub delivery_app_limited: Option<bool>,
    /// Time with data to send, in microseconds.
    pub busy_us: Option<u64>,
    /// Part of it in which the peer's window was full, in microseconds.
    pub rwnd_limited_us: Option<u64>,
    /// Part of it in which the send buffer held too little, in microseconds.
    pub sndbuf_limited_us: Option<u64>,
    /// Payload bytes sent, those sent again included.
    pub sent_bytes: Option<u64>,
    /// Payload bytes sent again.
    pub retransmitted_bytes: Option<u64>,
    /// Segments that the peer reported to have had already.
    pub dsack_duplicates: Option<u32>,
    /// How often the path was seen to reorder.
    pub reorderings_seen: Option<u32>,
    /// Segments that arrived out of order.
    pub out_of_order_in: Option<u32>,
    /// The window that the peer granted, in bytes.
    pub send_window_bytes: Option<u32>,
    /// The window that this end granted, in bytes.
    pub receive_window_bytes: Option<u32>,
}

impl TcpInfo {
    /// Asks the kernel.
    ///
    /// # Errors
    /// What the kernel says, for example that the socket is none of TCP's.
    pub fn of(socket: &impl AsFd) -> io::Result<Self> {
        let mut bytes = [0; ROOM];
        let length = get_bytes(socket, libc::IPPROTO_TCP, libc::TCP_INFO, &mut bytes)?;
        Ok(Self::parse(&bytes[..length]))
    }

    /// Reads as many fields as there are bytes for.
    #[must_use]
    pub fn parse(bytes: &[u8]) -> Self {
        let fields = Fields(bytes);
        Self {
            state: fields.byte(0),
            send_mss_bytes: fields.word(16),
            unacked_segments: fields.word(24),
            lost_segments: fields.word(32),
            rtt_us: fields.word(68),
            rttvar_us: fields.word(72),
            // TCP_INFINITE_SSTHRESH.
            ssthresh_segments: fields.word(76).filter(|&segments| segments < 0x7fff_ffff),
            cwnd_segments: fields.word(80),
            receive_rtt_us: fields.word(92),
            receive_space_bytes: fields.word(96),
            retransmits: fields.word(100),
            pacing_bytes_per_s: fields.rate(104),
            max_pacing_bytes_per_s: fields.rate(112),
            acked_bytes: fields.long(120),
            received_bytes: fields.long(128),
            segments_out: fields.word(136),
            segments_in: fields.word(140),
            unsent_bytes: fields.word(144),
            // The kernel's "never measured" is all ones.
            min_rtt_us: fields.word(148).filter(|&us| us != u32::MAX),
            data_segments_in: fields.word(152),
            data_segments_out: fields.word(156),
            delivery_bytes_per_s: fields.long(160),
            // The flag sits in a byte that was padding before the rate came.
            delivery_app_limited: fields
                .long(160)
                .and(fields.byte(7))
                .map(|bits| bits & 1 == 1),
            busy_us: fields.long(168),
            rwnd_limited_us: fields.long(176),
            sndbuf_limited_us: fields.long(184),
            sent_bytes: fields.long(200),
            retransmitted_bytes: fields.long(208),
            dsack_duplicates: fields.word(216),
            reorderings_seen: fields.word(220),
            out_of_order_in: fields.word(224),
            send_window_bytes: fields.word(228),
            receive_window_bytes: fields.word(232),
        }
    }
}

/// The bytes that came, by offset.
struct Fields<'a>(&'a [u8]);

impl Fields<'_> {
    fn byte(&self, offset: usize) -> Option<u8> {
        self.0.get(offset).copied()
    }

    fn word(&self, offset: usize) -> Option<u32> {
        let bytes = self.0.get(offset..offset + 4)?;
        Some(u32::from_ne_bytes(bytes.try_into().ok()?))
    }

    fn long(&self, offset: usize) -> Option<u64> {
        let bytes = self.0.get(offset..offset + 8)?;
        Some(u64::from_ne_bytes(bytes.try_into().ok()?))
    }

    /// A pacing rate, of which all ones means no limit; kernels that keep 32 bits say so in 32.
    fn rate(&self, offset: usize) -> Option<u64> {
        self.long(offset)
            .filter(|&rate| rate != u64::MAX && rate != u64::from(u32::MAX))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Write};
    use std::net::{TcpListener, TcpStream};

    /// The offsets above against the C library's declaration of the same structure.
    #[cfg(target_env = "gnu")]
    #[test]
    fn offsets_are_the_kernels() {
        use std::mem::offset_of;
        assert_eq!(offset_of!(libc::tcp_info, tcpi_snd_mss), 16);
        assert_eq!(offset_of!(libc::tcp_info, tcpi_unacked), 24);
        assert_eq!(offset_of!(libc::tcp_info, tcpi_lost), 32);
        assert_eq!(offset_of!(libc::tcp_info, tcpi_rtt), 68);
        assert_eq!(offset_of!(libc::tcp_info, tcpi_snd_ssthresh), 76);
        assert_eq!(offset_of!(libc::tcp_info, tcpi_rcv_rtt), 92);
        assert_eq!(offset_of!(libc::tcp_info, tcpi_total_retrans), 100);
        assert_eq!(offset_of!(libc::tcp_info, tcpi_pacing_rate), 104);
        assert_eq!(offset_of!(libc::tcp_info, tcpi_segs_out), 136);
        assert_eq!(offset_of!(libc::tcp_info, tcpi_min_rtt), 148);
        assert_eq!(offset_of!(libc::tcp_info, tcpi_delivery_rate), 160);
        assert_eq!(offset_of!(libc::tcp_info, tcpi_sndbuf_limited), 184);
        assert_eq!(offset_of!(libc::tcp_info, tcpi_bytes_sent), 200);
        assert_eq!(offset_of!(libc::tcp_info, tcpi_rcv_ooopack), 224);
        assert_eq!(offset_of!(libc::tcp_info, tcpi_rcv_wnd), 232);
    }

    #[test]
    fn what_an_older_kernel_does_not_tell_is_none() {
        let whole = TcpInfo::parse(&[1; 256]);
        assert_eq!(whole.retransmits, Some(0x0101_0101));
        assert_eq!(whole.delivery_app_limited, Some(true));
        // Linux 3.x ended with tcpi_total_retrans.
        let old = TcpInfo::parse(&[1; 104]);
        assert_eq!(old.retransmits, whole.retransmits);
        assert_eq!(old.pacing_bytes_per_s, None);
        assert_eq!(old.delivery_app_limited, None, "the byte was padding then");
        // A field cut in half is no field.
        assert_eq!(TcpInfo::parse(&[1; 191]).sndbuf_limited_us, None);
        assert_eq!(TcpInfo::parse(&[]), TcpInfo::default());
        assert_eq!(TcpInfo::parse(&[255; 256]).max_pacing_bytes_per_s, None);
        assert_eq!(TcpInfo::parse(&[255; 256]).min_rtt_us, None);
    }

    #[test]
    fn a_connection_counts_its_bytes() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("loopback");
        let mut client =
            TcpStream::connect(listener.local_addr().expect("bound")).expect("a connection");
        let (mut server, _) = listener.accept().expect("a connection");
        client.write_all(&[7; 1000]).expect("it sends");
        server.read_exact(&mut [0; 1000]).expect("it reads");
        let received = TcpInfo::of(&server).expect("TCP").received_bytes;
        assert_eq!(received, Some(1000));
        let sender = TcpInfo::of(&client).expect("TCP");
        assert_eq!(sender.state, Some(1));
        assert_eq!(sender.sent_bytes, Some(1000));
        assert!(sender.cwnd_segments > Some(0) && sender.send_mss_bytes > Some(0));
        let datagrams = std::net::UdpSocket::bind("127.0.0.1:0").expect("loopback");
        assert!(TcpInfo::of(&datagrams).is_err(), "UDP has no TCP_INFO");
    }
}
