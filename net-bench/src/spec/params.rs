//! A spec as the report's parameters.

use super::{Spec, Tested};
use crate::client::Place;
use crate::place::pin::Pin;
use crate::place::ports::Queues;
use crate::rdma::test::RdmaTest;
use crate::test::{Direction, Engine, Process, Receive, Shape, Test, Transport};
use serde::ser::Error as _;
use serde::{Serialize, Serializer};
use serde_json::{Value, json};

/// The report's parameters: what shapes the work, and nothing that does not.
#[derive(Serialize)]
struct Params {
    #[serde(flatten)]
    shape: ShapeParams,
    #[serde(skip_serializing_if = "Option::is_none")]
    engine: Option<Engine>,
    #[serde(skip_serializing_if = "Option::is_none")]
    receive: Option<Receive>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    busy_poll: bool,
    #[serde(flatten)]
    socket: SocketParams,
    #[serde(skip_serializing_if = "Option::is_none")]
    rate_per_s: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    arrival: Option<Process>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pin: Option<Pin>,
    #[serde(skip_serializing_if = "Option::is_none")]
    server_pin: Option<Pin>,
    #[serde(skip_serializing_if = "Option::is_none")]
    queues: Option<Queues>,
    flows: u32,
    threads: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    duration_s: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    operations: Option<u64>,
    omit_s: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    server: Option<&'static str>,
}

/// The options that were set; the kernel's defaults are no parameters.
#[derive(Serialize)]
struct SocketParams {
    /// Of streams, whose default it is not.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    no_delay: bool,
    /// Of all others.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    nagle: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    window_bytes: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    congestion: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    dscp: Option<u8>,
    #[serde(skip_serializing_if = "Option::is_none")]
    segment_bytes: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pacing_bytes_per_s: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    device_poll_us: Option<u32>,
}

impl SocketParams {
    fn of(test: &Test, stream: bool) -> Self {
        let options = &test.socket;
        Self {
            no_delay: stream && test.transport == Transport::Tcp && !options.nagle,
            nagle: !stream && options.nagle,
            window_bytes: options.window_bytes,
            congestion: options.congestion.clone(),
            dscp: options.dscp,
            segment_bytes: options.segment_bytes,
            pacing_bytes_per_s: options.pacing_bytes_per_s,
            device_poll_us: options.device_poll_us,
        }
    }
}

/// A placement that was asked for.
fn pinned(pin: &Pin) -> Option<Pin> {
    (*pin != Pin::None).then(|| pin.clone())
}

#[derive(Serialize)]
#[serde(untagged)]
enum ShapeParams {
    Rr {
        request_bytes: u64,
        response_bytes: u64,
    },
    UnderLoad {
        probe: Transport,
        load: Transport,
        request_bytes: u64,
        response_bytes: u64,
        length_bytes: u64,
        direction: Direction,
        #[serde(skip_serializing_if = "Option::is_none")]
        load_rate_per_s: Option<f64>,
    },
    Stream {
        length_bytes: u64,
        direction: Direction,
    },
    Incast {
        length_bytes: u64,
    },
}

impl From<&Test> for ShapeParams {
    fn from(test: &Test) -> Self {
        match &test.shape {
            &Shape::RequestResponse {
                request_bytes,
                response_bytes,
            }
            | &Shape::ConnectRequestResponse {
                request_bytes,
                response_bytes,
            } => Self::Rr {
                request_bytes,
                response_bytes,
            },
            Shape::UnderLoad {
                probe,
                length_bytes,
                direction,
            } => Self::UnderLoad {
                probe: probe.transport,
                load: test.transport,
                request_bytes: probe.request_bytes,
                response_bytes: probe.response_bytes,
                length_bytes: *length_bytes,
                direction: *direction,
                load_rate_per_s: test.arrival.as_ref().map(|arrival| arrival.rate_per_s),
            },
            &Shape::Incast { length_bytes } => Self::Incast { length_bytes },
            &Shape::Stream {
                length_bytes,
                direction,
            } => Self::Stream {
                length_bytes,
                direction,
            },
        }
    }
}

/// Of a test over an RDMA device everything shapes the work but how long may pass without any.
struct RdmaParams<'a> {
    test: &'a RdmaTest,
    server: Option<&'static str>,
}

impl Serialize for RdmaParams<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut params = serde_json::to_value(self.test).map_err(S::Error::custom)?;
        if let Value::Object(params) = &mut params {
            // The device's own options stand beside the others.
            if let Some(Value::Object(device)) = params.remove("device") {
                for (kind, options) in device {
                    if let Value::Object(options) = options {
                        params.extend(options);
                    }
                    params.insert("library".to_owned(), kind.into());
                }
            }
            let placement = &self.test.placement;
            params.remove("placement");
            for (name, pin) in [
                ("pin", &placement.client),
                ("server_pin", &placement.server),
            ] {
                if let Some(pin) = pinned(pin) {
                    params.insert(name.to_owned(), json!(pin));
                }
            }
            for name in ["timeout_s", "interval_s"] {
                params.remove(name);
            }
            if self.test.operations.is_some() {
                params.remove("duration_s");
            }
            params.insert("server".to_owned(), json!(self.server));
            params.retain(|_, value| !value.is_null() && *value != Value::Bool(false));
        }
        params.serialize(serializer)
    }
}

impl Serialize for Spec {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let server = self.place.as_ref().map(|place| match place {
            Place::InProcess { .. } => "in_process",
            Place::OwnProcess { .. } => "own_process",
            Place::Remote { .. } => "remote",
        });
        let test = match &self.test {
            Tested::Sockets(test) => test,
            Tested::Rdma(test) => return RdmaParams { test, server }.serialize(serializer),
        };
        let timed = test.operations.is_none();
        let stream = matches!(test.shape, Shape::Stream { .. } | Shape::UnderLoad { .. });
        let arrival = test.request_arrival().or(test.stream_arrival());
        let params = Params {
            shape: ShapeParams::from(test),
            engine: stream.then_some(test.engine),
            receive: stream.then_some(test.receive),
            busy_poll: test.busy_poll,
            socket: SocketParams::of(test, stream),
            rate_per_s: arrival.map(|arrival| arrival.rate_per_s),
            arrival: arrival.map(|arrival| arrival.process),
            pin: pinned(&test.placement.client),
            server_pin: pinned(&test.placement.server),
            queues: test.placement.queues.clone(),
            flows: test.flows,
            threads: test.threads,
            duration_s: timed.then_some(test.duration_s),
            operations: test.operations,
            omit_s: test.omit_s,
            server,
        };
        params.serialize(serializer)
    }
}
