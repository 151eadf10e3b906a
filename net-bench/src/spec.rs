//! The options of the cases, and the one struct that they become.

mod options;
mod params;
mod rdma;
mod requests;
mod streams;

pub use options::DEFAULT_PORT;
pub use rdma::{
    FabricAtomicArgs, FabricPingpongArgs, FabricRmaArgs, FabricStreamArgs, VerbsAtomicArgs,
    VerbsReadArgs, VerbsSendArgs, VerbsWriteArgs,
};
pub use requests::{
    CrrArgs, IncastArgs, NullArgs, TcpRrArgs, UdpRrArgs, UnderLoadArgs, UnixRrArgs,
};
pub use streams::{PpsArgs, StreamArgs, UdpStreamArgs};

use crate::client::Place;
use crate::place::Placement;
use crate::rdma::test::RdmaTest;
use crate::test::{Arrival, Engine, MAX_THREADS, Receive, Shape, SocketOptions, Test, Transport};
use options::LoadArgs;
use reports::host::Host;
use reports::program::{OutputArgs, Usage};
use serde::{Deserialize, Serialize};
use std::sync::OnceLock;

/// Warm-up of a timed run where none is asked for, in seconds.
const DEFAULT_OMIT_S: f64 = 1.0;

/// A case's options, checked and complete.
#[derive(Debug)]
pub struct Spec {
    /// What both sides do.
    pub test: Tested,
    /// Where the server is; `None` for the case that needs none.
    pub place: Option<Place>,
    /// Where the report goes.
    pub output: OutputArgs,
    /// Whether slices were asked to be shown.
    pub show_intervals: bool,
    /// The server's machine, once the case has met it.
    pub server_host: OnceLock<Host>,
}

/// What both sides of a case do.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Tested {
    /// Flows of sockets.
    Sockets(Test),
    /// Operations of an RDMA device.
    Rdma(RdmaTest),
}

impl Spec {
    /// The test of a case over sockets.
    ///
    /// # Errors
    /// It is none.
    pub fn sockets(&self) -> anyhow::Result<&Test> {
        match &self.test {
            Tested::Sockets(test) => Ok(test),
            Tested::Rdma(test) => anyhow::bail!("{} is no case of sockets", test.name()),
        }
    }

    /// The test of a case over an RDMA device.
    ///
    /// # Errors
    /// It is none.
    pub fn rdma(&self) -> anyhow::Result<&RdmaTest> {
        match &self.test {
            Tested::Rdma(test) => Ok(test),
            Tested::Sockets(test) => anyhow::bail!("{} is no case of a device", test.name()),
        }
    }
}

/// What is moved and how, before it is known how much.
struct Kind {
    transport: Transport,
    shape: Shape,
    engine: Engine,
    receive: Receive,
    busy_poll: bool,
    socket: SocketOptions,
    arrival: Option<Arrival>,
    placement: Placement,
}

impl Kind {
    /// As most cases have it: blocking calls, sockets as the kernel makes them, no schedule.
    fn new(transport: Transport, shape: Shape) -> Self {
        Self {
            transport,
            shape,
            engine: Engine::Plain,
            receive: Receive::Plain,
            busy_poll: false,
            socket: SocketOptions::default(),
            arrival: None,
            placement: Placement::default(),
        }
    }

    /// Puts the pieces together and checks them as a whole.
    fn spec(
        self,
        load: &LoadArgs,
        (flows, threads): (u32, Option<u32>),
        (place, timeout_s): (Option<Place>, f64),
        output: OutputArgs,
    ) -> anyhow::Result<Spec> {
        let default_omit_s = match load.operations {
            None => DEFAULT_OMIT_S,
            Some(_) => 0.0,
        };
        let default_threads = flows.min(MAX_THREADS);
        let test = Test {
            transport: self.transport,
            shape: self.shape,
            engine: self.engine,
            receive: self.receive,
            busy_poll: self.busy_poll,
            socket: self.socket,
            arrival: self.arrival,
            placement: self.placement,
            flows,
            threads: threads.unwrap_or(default_threads),
            duration_s: load.time,
            operations: load.operations,
            omit_s: load.omit.unwrap_or(default_omit_s),
            interval_s: load.interval.unwrap_or(1.0),
            timeout_s,
        };
        test.check().map_err(Usage)?;
        Ok(Spec {
            test: Tested::Sockets(test),
            place,
            output,
            show_intervals: load.interval.is_some(),
            server_host: OnceLock::new(),
        })
    }
}
