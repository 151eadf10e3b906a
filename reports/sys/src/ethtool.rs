//! What only the driver knows of a network card: its version, firmware, offloads, rings, channels,
//! interrupt moderation, statistics, and how it spreads flows over its queues, asked through the
//! ethtool ioctls.
//!
//! Everything here reads; nothing changes a setting. The kernel writes into buffers that this
//! module owns, so each buffer is at least as large as the most the kernel writes for its command,
//! and no length that comes back is believed beyond [`MAX_FEATURES`], [`MAX_STATISTICS`] and
//! [`MAX_RSS`].

use nix::sys::socket::{AddressFamily, SockFlag, SockType, socket};
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};

/// The most features that are read of one interface. Linux 6.18 has 64.
pub const MAX_FEATURES: usize = 512;

/// The most statistics that are read of one interface; the largest cards have some ten thousand.
pub const MAX_STATISTICS: usize = 32_768;

/// The most entries of an indirection table, and bytes of a hash key, that are read.
pub const MAX_RSS: usize = 65_536;

const SIOCETHTOOL: libc::c_ulong = 0x8946;
const GDRVINFO: u32 = 0x03;
const GCOALESCE: u32 = 0x0e;
const GRINGPARAM: u32 = 0x10;
const GSTRINGS: u32 = 0x1b;
const GSTATS: u32 = 0x1d;
const GSSET_INFO: u32 = 0x37;
const GFEATURES: u32 = 0x3a;
const GCHANNELS: u32 = 0x3c;
const GRSSH: u32 = 0x46;
/// The string set that names the statistics.
const SS_STATS: u32 = 1;
/// The string set that names the features.
const SS_FEATURES: u32 = 4;
/// Bytes of one string of a string set.
const STRING_BYTES: usize = 32;
/// Features in one block of the feature bit map.
const BLOCK_BITS: usize = 32;

/// The driver of an interface, in its own words. A driver leaves empty what it does not know.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Driver {
    /// The driver's name.
    pub name: String,
    /// Its version; for drivers in the kernel tree this is the kernel's release.
    pub version: String,
    /// The card's firmware.
    pub firmware: String,
    /// Where the card is, for example a PCI address.
    pub bus: String,
}

/// Descriptors in the receive and transmit rings, and the most the card takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rings {
    /// Receive descriptors in use.
    pub rx: u32,
    /// Most receive descriptors.
    pub rx_max: u32,
    /// Transmit descriptors in use.
    pub tx: u32,
    /// Most transmit descriptors.
    pub tx_max: u32,
}

/// Queues in use by kind. A combined channel is one receive and one transmit queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Channels {
    /// Receive-only channels.
    pub rx: u32,
    /// Transmit-only channels.
    pub tx: u32,
    /// Channels that do both.
    pub combined: u32,
    /// Most channels that do both.
    pub combined_max: u32,
}

/// How long the card gathers packets before it interrupts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Coalescing {
    /// Microseconds after a receive.
    pub rx_us: u32,
    /// Microseconds after a transmit.
    pub tx_us: u32,
    /// Whether the driver adapts the receive delay to the traffic.
    pub adaptive_rx: bool,
    /// Whether the driver adapts the transmit delay to the traffic.
    pub adaptive_tx: bool,
}

/// How a card spreads flows over its receive queues.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rss {
    /// The hash function.
    pub function: HashFunction,
    /// The receive queue of each value of the hash's low bits. Empty where there is no table.
    pub table: Vec<u32>,
    /// The hash's key, as the driver tells it.
    pub key: Vec<u8>,
}

/// A hash over addresses and ports.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HashFunction {
    /// Toeplitz, as in Microsoft's receive side scaling.
    Toeplitz,
    /// Exclusive or of all bytes.
    Xor,
    /// A cyclic redundancy check.
    Crc32,
    /// One that the driver does not name, by the kernel's bit for it.
    Other(u8),
}

impl HashFunction {
    fn of_bit(bit: u8) -> Self {
        match bit {
            1 => Self::Toeplitz,
            2 => Self::Xor,
            4 => Self::Crc32,
            other => Self::Other(other),
        }
    }
}

/// A socket through which interfaces of this network namespace can be asked.
#[derive(Debug)]
pub struct Ethtool {
    socket: OwnedFd,
}

impl Ethtool {
    /// Opens the socket. It is never bound or connected: no packet leaves.
    ///
    /// # Errors
    /// Whatever the kernel says, for example that this process has too many open files.
    pub fn open() -> io::Result<Self> {
        let socket = socket(
            AddressFamily::Inet,
            SockType::Datagram,
            SockFlag::SOCK_CLOEXEC,
            None,
        )?;
        Ok(Self { socket })
    }

    /// The driver, its version, and the card's firmware.
    ///
    /// # Errors
    /// `EOPNOTSUPP` where the interface has no driver information, `ENODEV` for an unknown name.
    pub fn driver(&self, interface: &str) -> io::Result<Driver> {
        let mut info = DrvInfo::new();
        self.ask(interface, &mut info)?;
        Ok(Driver {
            name: text(&info.driver),
            version: text(&info.version),
            firmware: text(&info.fw_version),
            bus: text(&info.bus_info),
        })
    }

    /// Ring sizes.
    ///
    /// # Errors
    /// `EOPNOTSUPP` where the interface has no rings.
    pub fn rings(&self, interface: &str) -> io::Result<Rings> {
        let mut ring = Words::<9>::new(GRINGPARAM);
        self.ask(interface, &mut ring)?;
        let [_, rx_max, _, _, tx_max, rx, _, _, tx] = ring.0;
        Ok(Rings {
            rx,
            rx_max,
            tx,
            tx_max,
        })
    }

    /// Channel counts.
    ///
    /// # Errors
    /// `EOPNOTSUPP` where the interface has no channels.
    pub fn channels(&self, interface: &str) -> io::Result<Channels> {
        let mut channels = Words::<9>::new(GCHANNELS);
        self.ask(interface, &mut channels)?;
        let [_, _, _, _, combined_max, rx, tx, _, combined] = channels.0;
        Ok(Channels {
            rx,
            tx,
            combined,
            combined_max,
        })
    }

    /// Interrupt moderation.
    ///
    /// # Errors
    /// `EOPNOTSUPP` where the interface has none.
    pub fn coalescing(&self, interface: &str) -> io::Result<Coalescing> {
        let mut coalesce = Words::<23>::new(GCOALESCE);
        self.ask(interface, &mut coalesce)?;
        let words = coalesce.0;
        Ok(Coalescing {
            rx_us: words[1],
            tx_us: words[5],
            adaptive_rx: words[10] != 0,
            adaptive_tx: words[11] != 0,
        })
    }

    /// Every feature the kernel can name, and whether it is active on this interface.
    ///
    /// # Errors
    /// Whatever the kernel says, or `InvalidData` if it claims more than [`MAX_FEATURES`].
    pub fn features(&self, interface: &str) -> io::Result<Vec<(String, bool)>> {
        let count = self.set_count(interface, SS_FEATURES, MAX_FEATURES)?;
        let mut names = Strings::new(count);
        self.ask(interface, &mut *names)?;
        let mut bits = Features::new();
        self.ask(interface, &mut bits)?;
        let active =
            |index: usize| bits.blocks[index / BLOCK_BITS].active >> (index % BLOCK_BITS) & 1 == 1;
        Ok((0..count)
            .map(|index| (text(&names.strings[index]), active(index)))
            .filter(|(name, _)| !name.is_empty())
            .collect())
    }

    /// Every statistic that the driver keeps, by its own name, in its own order.
    ///
    /// # Errors
    /// `EOPNOTSUPP` where the driver keeps none, or `InvalidData` if it claims more than
    /// [`MAX_STATISTICS`].
    pub fn statistics(&self, interface: &str) -> io::Result<Vec<(String, u64)>> {
        let count = self.set_count(interface, SS_STATS, MAX_STATISTICS)?;
        if count == 0 {
            return Err(io::Error::from_raw_os_error(libc::EOPNOTSUPP));
        }
        let mut names = Names::new(SS_STATS, count);
        self.ask_at(interface, &mut names)?;
        let mut values = Values::new(count);
        self.ask_at(interface, &mut values)?;
        let named = names.iter().zip(values.iter());
        Ok(named.filter(|(name, _)| !name.is_empty()).collect())
    }

    /// How received flows are spread over the queues.
    ///
    /// # Errors
    /// `EOPNOTSUPP` where the interface does not spread by a hash, or `InvalidData` if it claims a
    /// table or key larger than [`MAX_RSS`].
    pub fn rss(&self, interface: &str) -> io::Result<Rss> {
        let mut sizes = RssBuffer::new(0, 0);
        self.ask_at(interface, &mut sizes)?;
        let (table, key) = (sizes.0[2] as usize, sizes.0[3] as usize);
        if table > MAX_RSS || key > MAX_RSS {
            return Err(claims(
                table.max(key),
                "table entries or key bytes",
                MAX_RSS,
            ));
        }
        let mut buffer = RssBuffer::new(table, key);
        self.ask_at(interface, &mut buffer)?;
        Ok(buffer.rss(table, key))
    }

    /// How many strings a set has, checked against the buffers that will hold them.
    fn set_count(&self, interface: &str, set: u32, most: usize) -> io::Result<usize> {
        let mut info = SsetInfo {
            cmd: GSSET_INFO,
            reserved: 0,
            sset_mask: 1 << set,
            count: 0,
        };
        self.ask(interface, &mut info)?;
        let count = if info.sset_mask == 0 { 0 } else { info.count };
        let count = usize::try_from(count).unwrap_or(usize::MAX);
        if count > most {
            return Err(claims(count, "strings in a set", most));
        }
        Ok(count)
    }

    /// [`Ethtool::ask`] for a request whose length is known at run time.
    fn ask_at<T: SizedRequest>(&self, interface: &str, request: &mut T) -> io::Result<()> {
        // SAFETY: by that trait's contract the pointer leads to as much as the kernel writes.
        unsafe { self.ask_pointer(interface, request.pointer()) }
    }

    /// Runs one command: the kernel reads its number from the request and fills in the rest.
    fn ask<T: Request>(&self, interface: &str, request: &mut T) -> io::Result<()> {
        // SAFETY: by that trait's contract the request is as large as the most the kernel writes.
        unsafe { self.ask_pointer(interface, std::ptr::from_mut(request).cast()) }
    }

    /// Runs the command whose number `request` starts with.
    ///
    /// # Safety
    /// `request` points to a structure of that command, as large as the kernel reads and writes for
    /// it, that lives beyond this call.
    unsafe fn ask_pointer(&self, interface: &str, request: *mut libc::c_char) -> io::Result<()> {
        let name = interface.as_bytes();
        if name.is_empty() || name.len() >= libc::IFNAMSIZ || name.contains(&0) {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                format!("{interface:?} is no interface name"),
            ));
        }
        let mut ifr_name = [0; libc::IFNAMSIZ];
        for (to, &from) in ifr_name.iter_mut().zip(name) {
            *to = libc::c_char::from_ne_bytes([from]);
        }
        let mut ifreq = libc::ifreq {
            ifr_name,
            ifr_ifru: libc::__c_anonymous_ifr_ifru { ifru_data: request },
        };
        // SAFETY: the socket is open; `ifreq` is a whole ifreq with a terminated name; that its data
        // is large enough and lives is this function's own condition.
        let result =
            unsafe { libc::ioctl(self.socket.as_raw_fd(), SIOCETHTOOL as _, &raw mut ifreq) };
        if result < 0 {
            return Err(io::Error::last_os_error());
        }
        Ok(())
    }
}

/// A buffer for one ethtool command.
///
/// # Safety
/// The type is `repr(C)`, starts with the command's number, is valid for any bytes, and is at
/// least as large as the most the kernel reads or writes for that command.
unsafe trait Request {}

/// A buffer for one ethtool command whose length is known at run time.
///
/// # Safety
/// [`SizedRequest::pointer`] leads to memory of the value itself that starts with the command's
/// number and holds the most that the kernel reads or writes for that command.
unsafe trait SizedRequest {
    fn pointer(&mut self) -> *mut libc::c_char;
}

/// How much larger a buffer for strings and statistics is than the driver's count: some drivers
/// write as many as they have at the moment, and queues may be added between count and reading.
const RESERVE: usize = 2;

/// `struct ethtool_gstrings`: three words, then the strings.
struct Names {
    words: Vec<u32>,
    count: usize,
}

impl Names {
    const HEADER: usize = 3;
    const STRING_WORDS: usize = STRING_BYTES / 4;

    fn new(set: u32, count: usize) -> Self {
        let mut words =
            vec![0; Self::HEADER + (count + MAX_STATISTICS) * RESERVE * Self::STRING_WORDS];
        words[..Self::HEADER].copy_from_slice(&[GSTRINGS, set, count as u32]);
        Self { words, count }
    }

    fn iter(&self) -> impl Iterator<Item = String> {
        let strings = self.words[Self::HEADER..].chunks_exact(Self::STRING_WORDS);
        strings.take(self.count).map(|words| {
            let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_ne_bytes()).collect();
            text(&bytes)
        })
    }
}

// SAFETY: the kernel writes as many strings as the set holds at that moment. The buffer holds twice
// what the set held a moment ago and twice MAX_STATISTICS more, which no set grows by in between.
unsafe impl SizedRequest for Names {
    fn pointer(&mut self) -> *mut libc::c_char {
        self.words.as_mut_ptr().cast()
    }
}

/// `struct ethtool_stats`: two words, which are the first long, then the values.
struct Values {
    longs: Vec<u64>,
    count: usize,
}

impl Values {
    fn new(count: usize) -> Self {
        let mut longs = vec![0; 1 + (count + MAX_STATISTICS) * RESERVE];
        let mut header = [0; 8];
        header[..4].copy_from_slice(&GSTATS.to_ne_bytes());
        header[4..].copy_from_slice(&(count as u32).to_ne_bytes());
        longs[0] = u64::from_ne_bytes(header);
        Self { longs, count }
    }

    fn iter(&self) -> impl Iterator<Item = u64> {
        self.longs[1..].iter().copied().take(self.count)
    }
}

// SAFETY: the kernel writes as many values as the driver keeps at that moment. The buffer holds
// twice what it kept a moment ago and twice MAX_STATISTICS more.
unsafe impl SizedRequest for Values {
    fn pointer(&mut self) -> *mut libc::c_char {
        self.longs.as_mut_ptr().cast()
    }
}

/// `struct ethtool_rxfh`: six words, then the table, then the key's bytes.
struct RssBuffer(Vec<u32>);

impl RssBuffer {
    const HEADER: usize = 6;

    fn new(table: usize, key: usize) -> Self {
        let mut words = vec![0; Self::HEADER + table + key.div_ceil(4)];
        words[..4].copy_from_slice(&[GRSSH, 0, table as u32, key as u32]);
        Self(words)
    }

    fn rss(&self, table: usize, key: usize) -> Rss {
        let (entries, rest) = self.0[Self::HEADER..].split_at(table);
        let bytes = rest.iter().flat_map(|word| word.to_ne_bytes());
        Rss {
            function: HashFunction::of_bit(self.0[4].to_ne_bytes()[0]),
            table: entries.to_vec(),
            key: bytes.take(key).collect(),
        }
    }
}

// SAFETY: the kernel writes no table and key but of the sizes in the header, and refuses sizes that
// are neither zero nor the device's; the buffer has room for those in its header.
unsafe impl SizedRequest for RssBuffer {
    fn pointer(&mut self) -> *mut libc::c_char {
        self.0.as_mut_ptr().cast()
    }
}

/// `struct ethtool_drvinfo`.
#[repr(C)]
struct DrvInfo {
    cmd: u32,
    driver: [u8; 32],
    version: [u8; 32],
    fw_version: [u8; 32],
    bus_info: [u8; 32],
    erom_version: [u8; 32],
    reserved2: [u8; 12],
    counts: [u32; 5],
}

impl DrvInfo {
    fn new() -> Self {
        Self {
            cmd: GDRVINFO,
            driver: [0; 32],
            version: [0; 32],
            fw_version: [0; 32],
            bus_info: [0; 32],
            erom_version: [0; 32],
            reserved2: [0; 12],
            counts: [0; 5],
        }
    }
}

// SAFETY: the layout of ethtool_drvinfo, whose fixed size is all that the kernel writes.
unsafe impl Request for DrvInfo {}

/// The commands whose structures are an array of words: `ethtool_ringparam` and
/// `ethtool_channels` of 9, `ethtool_coalesce` of 23.
#[repr(C)]
struct Words<const N: usize>([u32; N]);

impl<const N: usize> Words<N> {
    fn new(cmd: u32) -> Self {
        let mut words = [0; N];
        words[0] = cmd;
        Self(words)
    }
}

// SAFETY: 36 bytes, the whole of ethtool_ringparam and of ethtool_channels; used for no other.
unsafe impl Request for Words<9> {}
// SAFETY: 92 bytes, the whole of ethtool_coalesce; used for no other command.
unsafe impl Request for Words<23> {}

/// `struct ethtool_sset_info` with room for the one count asked for.
#[repr(C)]
struct SsetInfo {
    cmd: u32,
    reserved: u32,
    sset_mask: u64,
    count: u32,
}

// SAFETY: the kernel writes one count per bit of the mask, and one bit is ever set.
unsafe impl Request for SsetInfo {}

/// `struct ethtool_gstrings` with room for [`MAX_FEATURES`] names.
#[repr(C)]
struct Strings {
    cmd: u32,
    string_set: u32,
    len: u32,
    strings: [[u8; STRING_BYTES]; MAX_FEATURES],
}

impl Strings {
    /// `count` must be the set's own: recent kernels return nothing for any other.
    fn new(count: usize) -> Box<Self> {
        Box::new(Self {
            cmd: GSTRINGS,
            string_set: SS_FEATURES,
            len: count as u32,
            strings: [[0; STRING_BYTES]; MAX_FEATURES],
        })
    }
}

// SAFETY: the kernel writes as many strings as the set holds. That is a constant of the running
// kernel, and `features` asks for it first and goes no further if it exceeds MAX_FEATURES.
unsafe impl Request for Strings {}

/// One block of `struct ethtool_gfeatures`.
#[repr(C)]
#[derive(Clone, Copy, Default)]
struct FeatureBlock {
    available: u32,
    requested: u32,
    active: u32,
    never_changed: u32,
}

/// `struct ethtool_gfeatures` with room for [`MAX_FEATURES`] bits.
#[repr(C)]
struct Features {
    cmd: u32,
    size: u32,
    blocks: [FeatureBlock; MAX_FEATURES / BLOCK_BITS],
}

impl Features {
    fn new() -> Self {
        let blocks = [FeatureBlock::default(); MAX_FEATURES / BLOCK_BITS];
        Self {
            cmd: GFEATURES,
            size: blocks.len() as u32,
            blocks,
        }
    }
}

// SAFETY: the kernel writes no more blocks than `size` says, and that is how many there are.
unsafe impl Request for Features {}

/// The kernel's word for a size that no buffer here is made for.
fn claims(count: usize, what: &str, most: usize) -> io::Error {
    io::Error::new(
        io::ErrorKind::InvalidData,
        format!("the kernel claims {count} {what}, more than {most}"),
    )
}

/// A fixed-size C string, up to its end or its first NUL, without what is not UTF-8.
fn text(bytes: &[u8]) -> String {
    let end = bytes.iter().position(|&b| b == 0).unwrap_or(bytes.len());
    String::from_utf8_lossy(&bytes[..end]).trim().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::mem::{offset_of, size_of};

    /// Sizes and offsets in include/uapi/linux/ethtool.h, the same on every architecture with
    /// 8-byte alignment of u64.
    #[test]
    fn layouts_are_the_kernels() {
        assert_eq!(size_of::<DrvInfo>(), 196);
        assert_eq!(offset_of!(DrvInfo, bus_info), 100);
        assert_eq!(offset_of!(DrvInfo, counts), 176);
        assert_eq!(size_of::<Words<9>>(), 36);
        assert_eq!(size_of::<Words<23>>(), 92);
        assert_eq!(offset_of!(SsetInfo, sset_mask), 8);
        assert_eq!(offset_of!(SsetInfo, count), 16);
        assert_eq!(offset_of!(Strings, strings), 12);
        assert_eq!(size_of::<Strings>(), 12 + MAX_FEATURES * STRING_BYTES);
        assert_eq!(size_of::<FeatureBlock>(), 16);
        assert_eq!(offset_of!(Features, blocks), 8);
    }

    #[test]
    fn the_loopback_has_features_and_an_unknown_interface_has_none() {
        let ethtool = Ethtool::open().expect("a datagram socket");
        let features = ethtool.features("lo").expect("lo has features");
        assert!(
            features.iter().any(|(name, _)| name == "rx-gro"),
            "{features:?}"
        );
        let error = ethtool.features("no-such-nic").expect_err("no interface");
        assert_eq!(error.raw_os_error(), Some(libc::ENODEV));
    }

    #[test]
    fn interfaces_without_statistics_or_hash_say_so() {
        let ethtool = Ethtool::open().expect("a datagram socket");
        let error = ethtool.statistics("lo").expect_err("lo keeps none");
        assert_eq!(error.raw_os_error(), Some(libc::EOPNOTSUPP), "{error}");
        let error = ethtool.rss("lo").expect_err("lo spreads nothing");
        assert_eq!(error.raw_os_error(), Some(libc::EOPNOTSUPP), "{error}");
    }

    #[test]
    fn a_table_and_its_key_are_read_from_where_they_stand() {
        let mut buffer = RssBuffer::new(3, 5);
        assert_eq!(buffer.0.len(), 6 + 3 + 2);
        buffer.0[4] = u32::from_ne_bytes([1, 0, 0, 0]);
        buffer.0[6..9].copy_from_slice(&[4, 5, 6]);
        buffer.0[9] = u32::from_ne_bytes([7, 8, 9, 10]);
        buffer.0[10] = u32::from_ne_bytes([11, 0, 0, 0]);
        let rss = buffer.rss(3, 5);
        assert_eq!(rss.function, HashFunction::Toeplitz);
        assert_eq!((rss.table, rss.key), (vec![4, 5, 6], vec![7, 8, 9, 10, 11]));
    }

    #[test]
    fn names_the_kernel_could_not_hold_are_refused_before_it_is_asked() {
        let ethtool = Ethtool::open().expect("a datagram socket");
        for name in ["", "sixteen-letters!", "a\0b"] {
            let error = ethtool.driver(name).expect_err(name);
            assert_eq!(error.kind(), io::ErrorKind::InvalidInput, "{name:?}");
        }
    }

    #[test]
    fn text_ends_at_the_first_nul_or_at_the_end() {
        assert_eq!(text(b"ena\0garbage"), "ena");
        assert_eq!(text(b"full"), "full");
        assert_eq!(text(b"\xff\0"), "\u{fffd}");
    }
}
