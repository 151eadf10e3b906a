//! Many flows on one thread: which of them can go on now.

use super::socket::SocketFlow;
use anyhow::Context;
use bench_sys::calls;
use nix::errno::Errno;
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use std::os::fd::{AsFd, BorrowedFd};
use std::time::{Duration, Instant};

/// What a flow waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Interest {
    /// Bytes, or the end.
    Receive,
    /// Room to send.
    Send,
}

impl Interest {
    fn flags(self) -> EpollFlags {
        match self {
            Self::Receive => EpollFlags::EPOLLIN,
            Self::Send => EpollFlags::EPOLLOUT,
        }
    }
}

/// An epoll set whose ready flows are handed out one by one, in the kernel's order.
#[derive(Debug)]
pub struct Poller {
    epoll: Epoll,
    events: Vec<EpollEvent>,
    next: usize,
    ready: usize,
    busy_poll: bool,
}

impl AsFd for Poller {
    /// The set itself, which is readable when a flow can go on.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.epoll.0.as_fd()
    }
}

impl Poller {
    /// Watches `flows`, all with the same interest; a flow's number is its place among them.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn new<'a>(
        flows: impl ExactSizeIterator<Item = &'a SocketFlow>,
        interest: Interest,
    ) -> anyhow::Result<Self> {
        let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC).context("cannot make an epoll")?;
        let events = vec![EpollEvent::empty(); flows.len()];
        for (index, flow) in flows.enumerate() {
            let event = EpollEvent::new(interest.flags(), index as u64);
            epoll
                .add(flow.socket(), event)
                .with_context(|| format!("cannot watch the flow to {}", flow.peer()))?;
        }
        Ok(Self {
            epoll,
            events,
            next: 0,
            ready: 0,
            busy_poll: false,
        })
    }

    /// The same set, which asks again and again instead of sleeping.
    #[must_use]
    pub fn with_busy_poll(mut self, busy_poll: bool) -> Self {
        self.busy_poll = busy_poll;
        self
    }

    /// Changes what a flow waits for.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn watch(&self, flow: &SocketFlow, index: usize, interest: Interest) -> anyhow::Result<()> {
        let mut event = EpollEvent::new(interest.flags(), index as u64);
        calls::count(1);
        self.epoll
            .modify(flow.socket(), &mut event)
            .with_context(|| format!("cannot watch the flow to {}", flow.peer()))
    }

    /// Watches a flow no longer.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn forget(&self, flow: &SocketFlow) -> anyhow::Result<()> {
        self.epoll
            .delete(flow.socket())
            .with_context(|| format!("cannot let go of the flow to {}", flow.peer()))
    }

    /// The next flow that can go on, waiting for one if need be.
    ///
    /// # Errors
    /// What the kernel says.
    #[inline]
    pub fn next_ready(&mut self) -> anyhow::Result<usize> {
        while self.next == self.ready {
            // Without a timeout: the watcher wakes us if nothing moves any more.
            let sleep = if self.busy_poll {
                EpollTimeout::ZERO
            } else {
                EpollTimeout::NONE
            };
            self.wait(sleep)?;
        }
        Ok(self.take())
    }

    /// The next flow that can go on, or `None` if there is none for `patience`, or a signal came.
    ///
    /// # Errors
    /// What the kernel says.
    #[inline]
    pub fn next_ready_within(&mut self, patience: Duration) -> anyhow::Result<Option<usize>> {
        if self.next == self.ready {
            if self.busy_poll {
                self.ask(patience)?;
            } else {
                self.wait(EpollTimeout::try_from(patience).unwrap_or(EpollTimeout::MAX))?;
            }
        }
        Ok((self.next < self.ready).then(|| self.take()))
    }

    /// Asks again and again, for at most `patience`.
    fn ask(&mut self, patience: Duration) -> anyhow::Result<()> {
        let begun = Instant::now();
        loop {
            self.wait(EpollTimeout::ZERO)?;
            if self.ready > 0 || begun.elapsed() >= patience {
                return Ok(());
            }
        }
    }

    #[inline]
    fn take(&mut self) -> usize {
        let index = self.events[self.next].data() as usize;
        self.next += 1;
        index
    }

    fn wait(&mut self, timeout: EpollTimeout) -> anyhow::Result<()> {
        calls::count(1);
        match self.epoll.wait(&mut self.events, timeout) {
            Ok(ready) => (self.next, self.ready) = (0, ready),
            Err(Errno::EINTR) => (self.next, self.ready) = (0, 0),
            Err(error) => return Err(error).context("cannot wait for flows"),
        }
        Ok(())
    }
}
