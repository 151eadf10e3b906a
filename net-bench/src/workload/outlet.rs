//! Ways to hand a stream to the kernel, each the same bytes at the same positions.
//!
//! The pattern of a stream is never written to once it is made. So whatever reads it late, a card
//! that was given the memory itself or a page that a pipe refers to, reads the right bytes.

use super::pattern::{PERIOD, Pattern};
use super::uring::RingUse;
use crate::transport::Flow;
use crate::transport::socket::SocketFlow;
use anyhow::Context;
use bench_sys::calls;
use bench_sys::sockopt::set_zerocopy;
use bench_sys::transfer::{sendfile, splice};
use nix::errno::Errno;
use nix::fcntl::{FcntlArg, fcntl};
use nix::libc;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::sys::socket::{ControlMessageOwned, MsgFlags, recvmsg};
use reports::model::Unavailable;
use serde::{Deserialize, Serialize};
use std::fs::File;
use std::io::{self, PipeReader, PipeWriter, Write};
use std::os::fd::{AsFd, AsRawFd};
use std::time::{Duration, Instant};

/// A way to send.
pub trait Outlet: Send {
    /// What has to be done before the first send.
    ///
    /// # Errors
    /// What the kernel refuses, and the remedy.
    fn prepare(&mut self, flow: &SocketFlow) -> anyhow::Result<()>;

    /// Sends the `length` bytes at `position` of the stream, and maybe as many again behind them, so
    /// many times. Returns how many sends the kernel took.
    ///
    /// # Errors
    /// The peer is gone.
    fn send(
        &mut self,
        flow: &mut SocketFlow,
        position: u64,
        length: usize,
    ) -> anyhow::Result<usize>;

    /// What has to be done after the last send; returns what there is to tell.
    ///
    /// # Errors
    /// The kernel does not finish.
    fn finish(&mut self, _flow: &SocketFlow) -> anyhow::Result<Told> {
        Ok(Told::default())
    }
}

/// What a way to send has to tell at its end.
#[derive(Debug, Default)]
pub struct Told {
    /// What became of sends without a copy, where there are any.
    pub zerocopy: Option<ZeroCopy>,
    /// How its ring fared, where it has one.
    pub ring: Option<RingUse>,
}

/// Sends from memory that the kernel copies.
pub struct Copied(Pattern);

impl Copied {
    /// For sends of `length` bytes.
    ///
    /// # Errors
    /// The kernel has no memory for the pattern.
    pub fn new(length: usize) -> anyhow::Result<Self> {
        Pattern::new(length).map(Self)
    }
}

impl Outlet for Copied {
    fn prepare(&mut self, _flow: &SocketFlow) -> anyhow::Result<()> {
        Ok(())
    }

    #[inline]
    fn send(
        &mut self,
        flow: &mut SocketFlow,
        position: u64,
        length: usize,
    ) -> anyhow::Result<usize> {
        flow.send_all(self.0.at(position, length))?;
        Ok(1)
    }
}

/// What became of sends without a copy, warm-up included.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ZeroCopy {
    /// Calls that were taken.
    pub sends: u64,
    /// Calls of which the kernel said that it needs the memory no more.
    pub completed: u64,
    /// Of those, the ones that it copied after all.
    pub copied: u64,
}

impl std::ops::AddAssign for ZeroCopy {
    fn add_assign(&mut self, other: Self) {
        self.sends += other.sends;
        self.completed += other.completed;
        self.copied += other.copied;
    }
}

impl ZeroCopy {
    /// All counts, to be checked.
    #[must_use]
    pub fn counts(&self) -> [u64; 3] {
        [self.sends, self.completed, self.copied]
    }
}

/// The origin of a completion in a socket's error queue (linux/errqueue.h).
const ORIGIN_ZEROCOPY: u8 = 5;
/// Set in a completion's code when the kernel copied (linux/errqueue.h).
const CODE_COPIED: u8 = 1;

/// After how many sends the kernel's messages about them are read.
const REAP_EVERY: u64 = 32;

/// For how long no send may be completed, of those that are outstanding at the end. What was lost on
/// the way is sent again after time-outs that double, so the last one may come late.
pub(super) const LAST_COMPLETIONS: Duration = Duration::from_secs(5);

/// Sends from memory that the card reads itself (MSG_ZEROCOPY).
pub struct Uncopied {
    pattern: Pattern,
    tally: ZeroCopy,
    /// Room for a control message.
    space: Vec<u8>,
}

impl Uncopied {
    /// For sends of `length` bytes.
    ///
    /// # Errors
    /// The kernel has no memory for the pattern.
    pub fn new(length: usize) -> anyhow::Result<Self> {
        Ok(Self {
            pattern: Pattern::new(length)?,
            tally: ZeroCopy::default(),
            space: nix::cmsg_space!(libc::sock_extended_err, libc::sockaddr_in6),
        })
    }

    /// Reads what the kernel says of completed sends, as much as there is.
    fn reap(&mut self, flow: &SocketFlow) -> anyhow::Result<()> {
        loop {
            let flags = MsgFlags::MSG_ERRQUEUE | MsgFlags::MSG_DONTWAIT;
            let fd = flow.as_fd().as_raw_fd();
            calls::count(1);
            let message = match recvmsg::<()>(fd, &mut [], Some(&mut self.space), flags) {
                Ok(message) => message,
                Err(Errno::EAGAIN) => return Ok(()),
                Err(Errno::EINTR) => continue,
                Err(errno) => return Err(errno).context("cannot read completions of sends"),
            };
            for control in message.cmsgs()? {
                let (ControlMessageOwned::Ipv4RecvErr(said, _)
                | ControlMessageOwned::Ipv6RecvErr(said, _)) = control
                else {
                    continue;
                };
                if said.ee_origin != ORIGIN_ZEROCOPY {
                    continue;
                }
                // One message speaks for a range of calls, whose numbers wrap round.
                let calls = u64::from(said.ee_data.wrapping_sub(said.ee_info)) + 1;
                self.tally.completed += calls;
                if said.ee_code & CODE_COPIED != 0 {
                    self.tally.copied += calls;
                }
            }
        }
    }

    /// Waits for completions, of which at least one is outstanding.
    fn wait(&mut self, flow: &SocketFlow) -> anyhow::Result<()> {
        // Completions show as an error, which is always watched for.
        let mut watched = [PollFd::new(flow.as_fd(), PollFlags::empty())];
        calls::count(1);
        match poll(&mut watched, PollTimeout::from(100u8)) {
            Ok(_) | Err(Errno::EINTR) => self.reap(flow),
            Err(errno) => Err(errno).context("cannot wait for completions of sends"),
        }
    }
}

impl Outlet for Uncopied {
    fn prepare(&mut self, flow: &SocketFlow) -> anyhow::Result<()> {
        set_zerocopy(flow.as_fd()).map_err(|error| {
            let refusal = Unavailable(format!(
                "--engine zerocopy: the kernel refuses SO_ZEROCOPY for the flow to {} ({error}); \
                 it takes Linux 4.14 and TCP: use --engine plain",
                flow.peer()
            ));
            refusal.into()
        })
    }

    #[inline]
    fn send(
        &mut self,
        flow: &mut SocketFlow,
        position: u64,
        length: usize,
    ) -> anyhow::Result<usize> {
        let mut sent = 0;
        while sent < length {
            let data = &self.pattern.at(position, length)[sent..];
            let flags = libc::MSG_ZEROCOPY | libc::MSG_NOSIGNAL;
            calls::count(1);
            match flow.socket().send_with_flags(data, flags) {
                Ok(count) => {
                    sent += count;
                    self.tally.sends += 1;
                }
                Err(error) if error.raw_os_error() == Some(libc::ENOBUFS) => {
                    // No room for messages about further sends, or no further memory is pinned.
                    anyhow::ensure!(
                        self.tally.completed < self.tally.sends,
                        "--engine zerocopy: the kernel pins no {length} bytes ({error}); raise \
                         net.core.optmem_max and the limit of locked memory (ulimit -l), or use a \
                         smaller --length"
                    );
                    self.wait(flow)?;
                }
                Err(error) => {
                    flow.explain("sending to", &error)?;
                }
            }
        }
        if self.tally.sends - self.tally.completed >= REAP_EVERY {
            self.reap(flow)?;
        }
        Ok(1)
    }

    fn finish(&mut self, flow: &SocketFlow) -> anyhow::Result<Told> {
        let (mut seen, mut since) = (self.tally.completed, Instant::now());
        while self.tally.completed < self.tally.sends && since.elapsed() < LAST_COMPLETIONS {
            self.wait(flow)?;
            if self.tally.completed > seen {
                (seen, since) = (self.tally.completed, Instant::now());
            }
        }
        anyhow::ensure!(
            self.tally.completed == self.tally.sends,
            "the kernel completed {} of {} sends to {}",
            self.tally.completed,
            self.tally.sends,
            flow.peer()
        );
        Ok(Told {
            zerocopy: Some(self.tally),
            ring: None,
        })
    }
}

/// A period of the pattern and a send's length more, as a file in memory.
fn file(length: usize) -> anyhow::Result<File> {
    let fd = memfd_create("net-bench-pattern", MFdFlags::MFD_CLOEXEC)
        .context("cannot make a file in memory")?;
    let mut file = File::from(fd);
    file.write_all(Pattern::new(length)?.at(0, length + PERIOD))
        .context("cannot fill a file in memory")?;
    Ok(file)
}

/// Where a position of the stream stands in a period of the pattern and more.
pub(super) fn place(position: u64) -> u64 {
    position % PERIOD as u64
}

/// Sends from a file in memory (sendfile).
pub struct FromFile(File);

impl FromFile {
    /// For sends of `length` bytes.
    ///
    /// # Errors
    /// The file cannot be made.
    pub fn new(length: usize) -> anyhow::Result<Self> {
        file(length).map(Self)
    }
}

impl Outlet for FromFile {
    fn prepare(&mut self, _flow: &SocketFlow) -> anyhow::Result<()> {
        Ok(())
    }

    #[inline]
    fn send(
        &mut self,
        flow: &mut SocketFlow,
        position: u64,
        length: usize,
    ) -> anyhow::Result<usize> {
        let mut sent = 0;
        while sent < length {
            let offset = place(position) + sent as u64;
            match sendfile(flow.as_fd(), self.0.as_fd(), offset, length - sent) {
                Ok(0) => anyhow::bail!("sendfile found the end of its file at byte {offset}"),
                Ok(count) => sent += count,
                Err(error) => {
                    flow.explain("sending to", &error)?;
                }
            }
        }
        Ok(1)
    }
}

/// The most that a pipe of an unprivileged process holds, by default.
const PIPE_BYTES: usize = 1 << 20;

/// A pipe that holds a send or a receive of `length` bytes, if it can.
pub(super) fn pipe(length: usize) -> anyhow::Result<(PipeReader, PipeWriter)> {
    let (from, to) = io::pipe().context("cannot make a pipe")?;
    let size = length.clamp(1 << 16, PIPE_BYTES);
    // A smaller pipe works as well, with more calls.
    let _ = fcntl(to.as_fd(), FcntlArg::F_SETPIPE_SZ(size as libc::c_int));
    Ok((from, to))
}

/// Sends from a file in memory by way of a pipe (splice).
pub struct Spliced {
    file: File,
    from: PipeReader,
    to: PipeWriter,
}

impl Spliced {
    /// For sends of `length` bytes.
    ///
    /// # Errors
    /// The file or the pipe cannot be made.
    pub fn new(length: usize) -> anyhow::Result<Self> {
        let (from, to) = pipe(length)?;
        Ok(Self {
            file: file(length)?,
            from,
            to,
        })
    }
}

impl Outlet for Spliced {
    fn prepare(&mut self, _flow: &SocketFlow) -> anyhow::Result<()> {
        Ok(())
    }

    #[inline]
    fn send(
        &mut self,
        flow: &mut SocketFlow,
        position: u64,
        length: usize,
    ) -> anyhow::Result<usize> {
        let mut sent = 0;
        while sent < length {
            let offset = Some(place(position) + sent as u64);
            let mut held = splice(self.file.as_fd(), offset, self.to.as_fd(), length - sent)
                .context("cannot splice the pattern into a pipe")?;
            anyhow::ensure!(held > 0, "splice found the end of its file");
            sent += held;
            while held > 0 {
                match splice(self.from.as_fd(), None, flow.as_fd(), held) {
                    Ok(count) => held -= count,
                    Err(error) => {
                        flow.explain("sending to", &error)?;
                    }
                }
            }
        }
        Ok(1)
    }
}
