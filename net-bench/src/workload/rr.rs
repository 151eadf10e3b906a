//! Request and response over one flow: one transaction outstanding, blocking calls only.

use super::Shared;
use super::incast::REQUEST_BYTES;
use crate::test::{Shape, Test};
use crate::transport::Flow;
use reports::measure::{Recorder, Verified, Workload};
use reports::model::Work;

/// How a message carries its transaction's number: as many low bytes as fit, little-endian.
#[inline]
pub(crate) fn put_number(number: u64, message: &mut [u8]) {
    let carried = message.len().min(8);
    message[..carried].copy_from_slice(&number.to_le_bytes()[..carried]);
}

/// Compares a message's number, of which `carried` bytes made the way.
///
/// # Errors
/// What was expected and what came.
#[inline]
pub(crate) fn check_number(number: u64, carried: usize, message: &[u8]) -> anyhow::Result<()> {
    if message[..carried] == number.to_le_bytes()[..carried] {
        return Ok(());
    }
    Err(wrong_number(number, carried, message))
}

#[cold]
fn wrong_number(number: u64, carried: usize, message: &[u8]) -> anyhow::Error {
    anyhow::anyhow!(
        "corrupt data: transaction {number} should carry {:02x?} and carries {:02x?}",
        &number.to_le_bytes()[..carried],
        &message[..carried]
    )
}

/// What an asking end proves.
pub(super) const ANSWERED: &str = "responses matched their requests";
/// What an answering end proves.
pub(super) const ASKED: &str = "requests came in order";

/// Compares what the harness counted with the numbers that the messages carried, one check each.
///
/// # Errors
/// Both counts.
pub(super) fn proven(total: Work, numbered: u64, what: &str) -> anyhow::Result<Verified> {
    anyhow::ensure!(
        total.ops == numbered,
        "{} transactions were counted and {numbered} numbered",
        total.ops
    );
    Ok(Verified {
        checks: numbered,
        what: what.to_owned(),
    })
}

/// The sizes of a transaction's messages.
#[derive(Debug, Clone, Copy)]
pub struct Sizes {
    /// Payload bytes of a request.
    pub request: usize,
    /// Payload bytes of a response.
    pub response: usize,
}

impl Sizes {
    /// Those of a test of one part; zero where it has no transactions.
    #[must_use]
    pub fn of(test: &Test) -> Self {
        let (request, response) = match test.shape {
            Shape::RequestResponse {
                request_bytes,
                response_bytes,
            }
            | Shape::ConnectRequestResponse {
                request_bytes,
                response_bytes,
            } => (request_bytes, response_bytes),
            Shape::Incast { length_bytes } => (REQUEST_BYTES, length_bytes),
            Shape::Stream { .. } | Shape::UnderLoad { .. } => (0, 0),
        };
        // Test::check keeps lengths far below what an address space holds.
        Self {
            request: request as usize,
            response: response as usize,
        }
    }

    /// Bytes that a transaction moves, both ways.
    #[inline]
    pub(super) fn transaction(self) -> u64 {
        (self.request + self.response) as u64
    }

    /// How many bytes of the number a response brings back.
    pub(super) fn echoed(self) -> usize {
        self.request.min(self.response).min(8)
    }
}

/// The asking end of a flow.
pub struct Requester<F> {
    flow: F,
    index: usize,
    shared: Shared,
    request: Vec<u8>,
    response: Vec<u8>,
    sizes: Sizes,
    echoed: usize,
    number: u64,
}

impl<F: Flow> Requester<F> {
    /// For flow `index` of the test.
    pub fn new(flow: F, index: usize, sizes: Sizes, shared: Shared) -> Self {
        Self {
            flow,
            index,
            shared,
            request: vec![0; sizes.request],
            response: vec![0; sizes.response],
            sizes,
            echoed: sizes.echoed(),
            number: 0,
        }
    }
}

impl<F: Flow> Workload for Requester<F> {
    fn prepare(&mut self) -> anyhow::Result<()> {
        Ok(())
    }

    #[inline]
    fn step(&mut self, rec: &mut Recorder) -> anyhow::Result<Work> {
        if self.shared.stopped() {
            rec.finish();
            return Ok(Work::default());
        }
        put_number(self.number, &mut self.request);
        self.flow.send_all(&self.request)?;
        if !self.flow.receive_exact(&mut self.response)? {
            anyhow::bail!(
                "the peer closed the connection after {} transactions",
                self.number
            );
        }
        check_number(self.number, self.echoed, &self.response)?;
        rec.lap();
        self.number += 1;
        self.shared
            .note(self.index, self.number * self.sizes.transaction());
        Ok(Work::op(self.sizes.transaction()))
    }

    fn drain(&mut self) -> anyhow::Result<Work> {
        self.flow.end()?;
        Ok(Work::default())
    }

    fn verify(&mut self, total: Work) -> anyhow::Result<Verified> {
        proven(total, self.number, ANSWERED)
    }
}

/// The answering end of a flow. It works until the other end ends.
pub struct Responder<F> {
    flow: F,
    index: usize,
    shared: Shared,
    request: Vec<u8>,
    response: Vec<u8>,
    sizes: Sizes,
    number: u64,
    ended: bool,
}

impl<F: Flow> Responder<F> {
    /// For flow `index` of the test.
    pub fn new(flow: F, index: usize, sizes: Sizes, shared: Shared) -> Self {
        Self {
            flow,
            index,
            shared,
            request: vec![0; sizes.request],
            response: vec![0; sizes.response],
            sizes,
            number: 0,
            ended: false,
        }
    }

    /// One transaction, or nothing when the requester has ended.
    #[inline]
    fn answer(&mut self) -> anyhow::Result<Work> {
        if !self.flow.receive_exact(&mut self.request)? {
            self.ended = true;
            return Ok(Work::default());
        }
        check_number(self.number, self.sizes.request.min(8), &self.request)?;
        let echoed = self.sizes.echoed();
        self.response[..echoed].copy_from_slice(&self.request[..echoed]);
        self.flow.send_all(&self.response)?;
        self.number += 1;
        self.shared
            .note(self.index, self.number * self.sizes.transaction());
        Ok(Work::op(self.sizes.transaction()))
    }
}

impl<F: Flow> Workload for Responder<F> {
    fn prepare(&mut self) -> anyhow::Result<()> {
        Ok(())
    }

    #[inline]
    fn step(&mut self, rec: &mut Recorder) -> anyhow::Result<Work> {
        let work = self.answer()?;
        if self.ended {
            rec.finish();
        }
        Ok(work)
    }

    /// A window that closed early leaves a requester that still waits for answers.
    fn drain(&mut self) -> anyhow::Result<Work> {
        let mut work = Work::default();
        while !self.ended {
            work += self.answer()?;
        }
        Ok(work)
    }

    fn verify(&mut self, total: Work) -> anyhow::Result<Verified> {
        proven(total, self.number, ASKED)
    }
}
