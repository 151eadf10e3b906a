//! Many datagrams with one system call, over memory that is laid out once.
//!
//! `sendmmsg` and `recvmmsg` want an array of headers that point to vectors that point to buffers.
//! The safe interfaces build these anew for every call, which costs as much as the call saves for
//! small datagrams; here they are built once, and a call is a call.

use crate::calls;
use std::io;
use std::mem::zeroed;
use std::os::fd::{AsRawFd, BorrowedFd};

/// Room for one control message with a number of 32 or 64 bits, aligned as its header is.
const CONTROL_WORDS: usize = 4;

/// Headers for datagrams of a connected socket, and the memory that they point to.
struct Batch {
    buffers: Box<[u8]>,
    stride: usize,
    controls: Box<[u64]>,
    // Pointed to by the headers.
    _vectors: Box<[libc::iovec]>,
    headers: Box<[libc::mmsghdr]>,
}

// SAFETY: every pointer leads into memory that the value owns, and none of it is tied to a thread.
unsafe impl Send for Batch {}

impl Batch {
    /// `count` datagrams of `length` bytes each, with room for a control message if asked.
    fn new(count: usize, length: usize, control: bool) -> Self {
        let stride = length.next_multiple_of(64);
        let mut buffers = vec![0; count * stride].into_boxed_slice();
        let words = if control { CONTROL_WORDS } else { 0 };
        let mut controls = vec![0u64; count * words].into_boxed_slice();
        let base = buffers.as_mut_ptr();
        let mut vectors: Box<[libc::iovec]> = (0..count)
            .map(|index| libc::iovec {
                iov_base: base.wrapping_add(index * stride).cast(),
                iov_len: length,
            })
            .collect();
        let (vector, cell) = (vectors.as_mut_ptr(), controls.as_mut_ptr());
        let headers = (0..count)
            .map(|index| {
                // SAFETY: all zeroes is a valid header: no name, no vectors, no control, no flags.
                let mut header: libc::mmsghdr = unsafe { zeroed() };
                header.msg_hdr.msg_iov = vector.wrapping_add(index);
                header.msg_hdr.msg_iovlen = 1;
                if control {
                    header.msg_hdr.msg_control = cell.wrapping_add(index * words).cast();
                }
                header
            })
            .collect();
        Self {
            buffers,
            stride,
            controls,
            _vectors: vectors,
            headers,
        }
    }
}

/// Datagrams to send.
pub struct SendBatch {
    batch: Batch,
    length: usize,
}

impl SendBatch {
    /// `count` datagrams of `length` bytes each, all zero.
    #[must_use]
    pub fn new(count: usize, length: usize) -> Self {
        Self {
            batch: Batch::new(count, length, false),
            length,
        }
    }

    /// The same with a time for each, at which a queueing discipline that heeds it lets it go
    /// (`SCM_TXTIME`); of sockets that [`crate::sockopt::set_txtime`] has told of it.
    #[must_use]
    pub fn timed(count: usize, length: usize) -> Self {
        let mut batch = Batch::new(count, length, true);
        let header = size_of::<libc::cmsghdr>();
        for (index, header_of) in batch.headers.iter_mut().enumerate() {
            let control = &mut batch.controls[index * CONTROL_WORDS..];
            control[0] = (header + size_of::<u64>()) as u64;
            control[1] = word([libc::SOL_SOCKET, libc::SCM_TXTIME]);
            header_of.msg_hdr.msg_controllen = (header + size_of::<u64>()) as _;
        }
        Self { batch, length }
    }

    /// When a datagram of a timed batch is to go, in nanoseconds of the socket's clock.
    #[inline]
    pub fn set_time(&mut self, index: usize, ns: u64) {
        self.batch.controls[index * CONTROL_WORDS + 2] = ns;
    }

    /// How many datagrams there are.
    #[must_use]
    pub fn count(&self) -> usize {
        self.batch.headers.len()
    }

    /// One datagram's bytes.
    #[inline]
    pub fn datagram_mut(&mut self, index: usize) -> &mut [u8] {
        let start = index * self.batch.stride;
        &mut self.batch.buffers[start..start + self.length]
    }

    /// Sends the datagrams from the first on with one call; returns how many the kernel took, which
    /// may be fewer than all.
    ///
    /// # Errors
    /// What the kernel says of the first one.
    #[inline]
    pub fn send(&mut self, socket: BorrowedFd<'_>) -> io::Result<usize> {
        let headers = &mut self.batch.headers;
        calls::count(1);
        // SAFETY: the headers lead to vectors, and these to buffers, that `self` owns and that live
        // through the call, which keeps no pointer; the kernel writes to the headers only, which
        // are borrowed exclusively.
        let sent = unsafe {
            libc::sendmmsg(
                socket.as_raw_fd(),
                headers.as_mut_ptr(),
                headers.len() as libc::c_uint,
                libc::MSG_NOSIGNAL as _,
            )
        };
        usize::try_from(sent).map_err(|_| io::Error::last_os_error())
    }
}

/// Room for datagrams to receive.
pub struct ReceiveBatch {
    batch: Batch,
    control: bool,
}

impl ReceiveBatch {
    /// Room for `count` datagrams of `length` bytes each. With `segments` also for what the kernel
    /// says of datagrams that it has joined (`UDP_GRO`).
    #[must_use]
    pub fn new(count: usize, length: usize, segments: bool) -> Self {
        Self {
            batch: Batch::new(count, length, segments),
            control: segments,
        }
    }

    /// Whether there is room for what the kernel says of joined datagrams.
    #[must_use]
    pub fn joins(&self) -> bool {
        self.control
    }

    /// Receives what is there with one call, up to the room. If nothing is, a blocking socket waits
    /// for the first datagram and for no more.
    ///
    /// # Errors
    /// What the kernel says.
    #[inline]
    pub fn receive(&mut self, socket: BorrowedFd<'_>) -> io::Result<usize> {
        if self.control {
            for header in &mut self.batch.headers {
                header.msg_hdr.msg_controllen = CONTROL_WORDS * size_of::<u64>();
            }
        }
        let headers = &mut self.batch.headers;
        calls::count(1);
        // SAFETY: as for `send`; besides, the kernel writes to the buffers and the control words,
        // at most as much as the vectors and `msg_controllen` say, which is their size. They are
        // initialised memory, so that whatever part of them is written, all can be read.
        let received = unsafe {
            libc::recvmmsg(
                socket.as_raw_fd(),
                headers.as_mut_ptr(),
                headers.len() as libc::c_uint,
                libc::MSG_WAITFORONE as _,
                std::ptr::null_mut(),
            )
        };
        usize::try_from(received).map_err(|_| io::Error::last_os_error())
    }

    /// The bytes of the `index`-th datagram of the last call, as far as there was room for them.
    ///
    /// # Panics
    /// `index` is beyond the room.
    #[inline]
    #[must_use]
    pub fn datagram(&self, index: usize) -> &[u8] {
        let start = index * self.batch.stride;
        // The kernel reports at most the vector's length, unless MSG_TRUNC is asked for.
        let length = (self.batch.headers[index].msg_len as usize).min(self.batch.stride);
        &self.batch.buffers[start..start + length]
    }

    /// Of which length the datagrams are that the kernel joined into the `index`-th of the last
    /// call; `None` where it joined none.
    ///
    /// # Panics
    /// `index` is beyond the room.
    #[inline]
    #[must_use]
    pub fn segment(&self, index: usize) -> Option<usize> {
        let header = &self.batch.headers[index].msg_hdr;
        let least = size_of::<libc::cmsghdr>() + size_of::<libc::c_int>();
        if !self.control || header.msg_controllen < least {
            return None;
        }
        let words = &self.batch.controls[index * CONTROL_WORDS..];
        // struct cmsghdr: the length, then level and type in one word, then the data.
        let [level, kind] = halves(words[1]);
        let [size, _] = halves(words[2]);
        (level == libc::SOL_UDP && kind == libc::UDP_GRO).then_some(size as usize)
    }
}

/// A word as the two 32-bit numbers that stand in it, in the order of memory.
fn halves(word: u64) -> [i32; 2] {
    let bytes = word.to_ne_bytes();
    let half = |at: usize| {
        let mut half = [0; 4];
        half.copy_from_slice(&bytes[at..at + 4]);
        i32::from_ne_bytes(half)
    };
    [half(0), half(4)]
}

/// Two 32-bit numbers as the word in whose memory they stand.
fn word([first, second]: [i32; 2]) -> u64 {
    let mut bytes = [0; 8];
    bytes[..4].copy_from_slice(&first.to_ne_bytes());
    bytes[4..].copy_from_slice(&second.to_ne_bytes());
    u64::from_ne_bytes(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sockopt::{set_txtime, set_udp_gro, set_udp_segment};
    use std::net::UdpSocket;
    use std::os::fd::AsFd;

    // The layout that `segment` reads control messages by.
    const _: () = assert!(size_of::<libc::cmsghdr>() == 16 && align_of::<libc::cmsghdr>() == 8);

    fn pair() -> (UdpSocket, UdpSocket) {
        let ours = UdpSocket::bind("127.0.0.1:0").expect("loopback");
        let theirs = UdpSocket::bind("127.0.0.1:0").expect("loopback");
        ours.connect(theirs.local_addr().expect("bound"))
            .expect("connected");
        theirs
            .connect(ours.local_addr().expect("bound"))
            .expect("connected");
        (ours, theirs)
    }

    #[test]
    fn a_batch_arrives_in_order_and_whole() {
        let (ours, theirs) = pair();
        let mut send = SendBatch::new(5, 100);
        for index in 0..5 {
            send.datagram_mut(index).fill(index as u8 + 1);
        }
        assert_eq!(send.send(ours.as_fd()).expect("sent"), 5);
        let mut receive = ReceiveBatch::new(3, 200, true);
        for expected in [[1, 2, 3].as_slice(), &[4, 5]] {
            assert_eq!(
                receive.receive(theirs.as_fd()).expect("came"),
                expected.len()
            );
            for (index, byte) in expected.iter().enumerate() {
                assert_eq!(receive.datagram(index), [*byte; 100]);
            }
        }
        theirs.set_nonblocking(true).expect("set");
        let error = receive.receive(theirs.as_fd()).expect_err("empty");
        assert_eq!(error.kind(), io::ErrorKind::WouldBlock);
    }

    /// Where no queueing discipline heeds the time, as on loopback, the datagrams go at once. A socket
    /// that was not told refuses them, which shows that the kernel reads the times.
    #[test]
    fn a_timed_batch_is_taken_by_a_socket_that_knows_of_times() {
        let (ours, theirs) = pair();
        let mut send = SendBatch::timed(3, 50);
        for index in 0..3 {
            send.datagram_mut(index).fill(index as u8 + 1);
            send.set_time(index, 1000 + index as u64);
        }
        let error = send.send(ours.as_fd()).expect_err("not told of times");
        assert_eq!(error.raw_os_error(), Some(libc::EINVAL), "{error}");
        set_txtime(ours.as_fd()).expect("a clock that everybody may use");
        assert_eq!(send.send(ours.as_fd()).expect("sent"), 3);
        let mut receive = ReceiveBatch::new(3, 100, false);
        assert_eq!(receive.receive(theirs.as_fd()).expect("came"), 3);
        assert_eq!(receive.datagram(2), [3; 50]);
        assert_eq!(halves(word([-1, 7])), [-1, 7]);
    }

    #[test]
    fn joined_datagrams_say_their_length() {
        let (ours, theirs) = pair();
        if let Err(error) =
            set_udp_segment(ours.as_fd(), 100).and(set_udp_gro(theirs.as_fd(), true))
        {
            println!("SKIPPED: this kernel has no UDP GSO and GRO: {error}");
            return;
        }
        ours.send(&[7; 1000]).expect("ten segments");
        let mut receive = ReceiveBatch::new(4, 65_536, true);
        let count = receive.receive(theirs.as_fd()).expect("came");
        let total: usize = (0..count).map(|index| receive.datagram(index).len()).sum();
        assert_eq!(total, 1000);
        if count == 1 {
            assert_eq!(receive.segment(0), Some(100));
        }
    }
}
