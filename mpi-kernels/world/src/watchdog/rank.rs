//! The watching thread of every rank but 0.

use super::frame::{Frame, Hello};
use super::process::Process;
use super::{Channel, Post, Received, answers_within, beat, leave, receive, send};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use std::net::TcpStream;
use std::os::fd::{AsFd, IntoRawFd};
use std::sync::atomic::Ordering;
use std::thread;
use std::time::{Duration, Instant};

/// How long one address of rank 0 is tried.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);

/// Tells rank 0 how far this rank is, and ends it when rank 0 says so or is gone. Comes back when
/// rank 0 says that all are through.
pub fn watch(post: &Post, channel: &Channel) {
    let Some(mut stream) = connect(post, channel) else {
        return;
    };
    let mut received = Vec::new();
    let mut heard = Instant::now();
    let mut due = Instant::now();
    let (mut welcome, mut through) = (false, false);
    loop {
        if due <= Instant::now() {
            let (steps, doing) = (post.progress.steps(), post.progress.doing());
            send(&mut stream, &Frame::Beat { steps, doing });
            due = Instant::now() + beat(post.deadline);
        }
        wait(post, &stream, due, through);
        if !through && post.is_finished() {
            send(&mut stream, &Frame::Bye);
            through = true;
        }
        let state = receive(&mut stream, &mut received);
        while let Ok(Some(frame)) = Frame::take(&mut received) {
            match frame {
                Frame::Beat { .. } => (heard, welcome) = (Instant::now(), true),
                Frame::Bye => return leave_open(stream),
                Frame::End(processes) => {
                    processes.into_iter().for_each(Process::kill);
                    leave();
                }
            }
        }
        if matches!(state, Received::Closed) {
            // Rank 0 was gone before it took this one in, or it was this one's end it waited for.
            if through || !welcome {
                return;
            }
            return without_root(post, channel, "died");
        }
        if heard.elapsed() > post.deadline.max(answers_within(post.deadline)) {
            let silent = format!(
                "has not answered for {:.1} s: it is stopped, or its node is gone; if it may be \
                 busy for so long, raise --deadline",
                heard.elapsed().as_secs_f64()
            );
            return without_root(post, channel, &silent);
        }
    }
}

/// Leaves the connection to the kernel, which closes it when this process is gone: so long rank 0
/// waits.
fn leave_open(stream: TcpStream) {
    let _ = stream.into_raw_fd();
}

/// A connection to rank 0 over the first of its addresses that answers.
fn connect(post: &Post, channel: &Channel) -> Option<TcpStream> {
    let mut addresses = channel.addresses.iter();
    let mut stream =
        addresses.find_map(|address| TcpStream::connect_timeout(address, CONNECT_TIMEOUT).ok())?;
    if post.shared.settled.swap(true, Ordering::SeqCst) {
        return None;
    }
    let hello = Hello {
        rank: u32::try_from(post.rank).ok()?,
        process: Process::this(),
    };
    std::io::Write::write_all(&mut stream, &hello.to_bytes(&channel.token)).ok()?;
    stream.set_nodelay(true).ok()?;
    stream.set_nonblocking(true).ok()?;
    Some(stream)
}

/// Sleeps until rank 0 says something, the main thread is done, which is news once only, or the next
/// beat is due.
fn wait(post: &Post, stream: &TcpStream, due: Instant, through: bool) {
    let mut watched = vec![PollFd::new(stream.as_fd(), PollFlags::POLLIN)];
    if !through {
        watched.push(PollFd::new(post.wake.as_fd(), PollFlags::POLLIN));
    }
    let left = due.saturating_duration_since(Instant::now());
    let timeout = PollTimeout::try_from(left).unwrap_or(PollTimeout::NONE);
    // An interrupted wait is a short one.
    let _ = poll(&mut watched, timeout);
}

/// Ends this rank: rank 0 writes the report, and nobody else may tell. The lowest of the others says
/// why, and those of its node end it if it is stopped.
fn without_root(post: &Post, channel: &Channel, what: &str) {
    if post.rank == 1 {
        let report = match post.shared.reported.load(Ordering::SeqCst) {
            true => "the report is written",
            false => "there is no report unless rank 0, which writes it, was done with it",
        };
        eprintln!(
            "{}: rank 0 on {} (pid {}) {what}; the job ends, and {report}",
            post.program, post.hosts[0], channel.root.pid
        );
    } else {
        // Silence is noticed by each at another moment; who tells of it must find it unbroken.
        thread::sleep(2 * beat(post.deadline));
    }
    if post.hosts[post.rank] == post.hosts[0] {
        channel.root.kill();
    }
    leave();
}
