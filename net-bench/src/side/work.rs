//! Which work a role does on its flows, by transport, shape, engine and number of flows.

use crate::control::message::Role;
use crate::test::{Engine, Receive, Shape, Test, Transport};
use crate::transport::socket::SocketFlow;
use crate::workload::incast::Gatherer;
use crate::workload::many_rr::{ManyRequester, ManyResponder};
use crate::workload::many_stream::{ManyReceiver, ManySender};
use crate::workload::open_rr::OpenRequester;
use crate::workload::rr::{Requester, Responder, Sizes};
use crate::workload::stream::{Receiver, Sender};
use crate::workload::udp_rr::{UdpRequester, UdpResponder};
use crate::workload::udp_stream::{UdpReceiver, UdpSender};
use crate::workload::{Shared, inlet, outlet, uring};
use bench_sys::ring::SendKind;
use reports::measure::Workload;

/// The work of a thread on its flows.
pub(super) fn workload(
    test: &Test,
    role: Role,
    mut flows: Vec<(usize, SocketFlow)>,
    sizes: Sizes,
    length: usize,
    shared: &Shared,
) -> anyhow::Result<Box<dyn Workload + Send>> {
    let shared = shared.clone();
    if test.busy_poll {
        let polling = |(index, flow): (usize, SocketFlow)| (index, flow.with_busy_poll());
        flows = flows.into_iter().map(polling).collect();
    }
    if role == Role::Send {
        let sending = |(index, flow): (usize, SocketFlow)| (index, flow.with_engine(test.engine));
        flows = flows.into_iter().map(sending).collect();
    }
    if let (Role::Request, Shape::Incast { .. }) = (role, &test.shape) {
        return Ok(Box::new(Gatherer::new(flows, sizes, shared)));
    }
    if let (Role::Request, Some(arrival)) = (role, &test.arrival) {
        let requester = OpenRequester::new(test, arrival, flows, sizes, shared);
        return Ok(Box::new(requester));
    }
    if test.transport == Transport::Udp {
        return Ok(match role {
            Role::Request => Box::new(UdpRequester::new(flows, sizes, test.busy_poll, shared)),
            Role::Respond => Box::new(UdpResponder::new(flows, sizes, test.busy_poll, shared)),
            Role::Send => Box::new(UdpSender::new(test, flows, length, shared)?),
            Role::Receive => Box::new(UdpReceiver::new(test, flows, length, shared)?),
        });
    }
    if flows.len() == 1 {
        let (index, flow) = flows.remove(0);
        return match role {
            Role::Request => Ok(Box::new(Requester::new(flow, index, sizes, shared))),
            Role::Respond => Ok(Box::new(Responder::new(flow, index, sizes, shared))),
            Role::Send => sender(test.engine, flow, index, length, shared),
            Role::Receive => receiver(test.receive, flow, index, length, shared),
        };
    }
    Ok(match role {
        Role::Request => Box::new(ManyRequester::new(flows, sizes, test.busy_poll, shared)),
        Role::Respond => Box::new(ManyResponder::new(flows, sizes, test.busy_poll, shared)),
        Role::Send => Box::new(ManySender::new(test, flows, length, shared)?),
        Role::Receive => Box::new(ManyReceiver::new(test, flows, length, shared)?),
    })
}

/// The sender of one flow of a stream.
fn sender(
    engine: Engine,
    flow: SocketFlow,
    index: usize,
    length: usize,
    shared: Shared,
) -> anyhow::Result<Box<dyn Workload + Send>> {
    Ok(match engine {
        Engine::Zerocopy => {
            let outlet = outlet::Uncopied::new(length)?;
            Box::new(Sender::new(flow, index, length, outlet, shared))
        }
        Engine::Sendfile => {
            let outlet = outlet::FromFile::new(length)?;
            Box::new(Sender::new(flow, index, length, outlet, shared))
        }
        Engine::Splice => {
            let outlet = outlet::Spliced::new(length)?;
            Box::new(Sender::new(flow, index, length, outlet, shared))
        }
        Engine::Uring | Engine::UringZerocopy => {
            let kind = match engine {
                Engine::UringZerocopy => SendKind::Uncopied,
                _ => SendKind::Copied,
            };
            let outlet = uring::stream::Sending::new(length, kind);
            Box::new(Sender::new(flow, index, length, outlet, shared))
        }
        // What sends datagrams never comes here.
        Engine::Plain | Engine::More | Engine::Mmsg | Engine::Txtime | Engine::Gso => {
            let outlet = outlet::Copied::new(length)?;
            Box::new(Sender::new(flow, index, length, outlet, shared))
        }
    })
}

/// The receiver of one flow of a stream.
fn receiver(
    receive: Receive,
    flow: SocketFlow,
    index: usize,
    length: usize,
    shared: Shared,
) -> anyhow::Result<Box<dyn Workload + Send>> {
    Ok(match receive {
        Receive::Discard => {
            let inlet = inlet::Discarded::new(length);
            Box::new(Receiver::new(flow, index, inlet, shared))
        }
        Receive::Splice => {
            let inlet = inlet::Spliced::new(length)?;
            Box::new(Receiver::new(flow, index, inlet, shared))
        }
        Receive::Uring => {
            let inlet = uring::stream::Receiving::new(length)?;
            Box::new(Receiver::new(flow, index, inlet, shared))
        }
        // What receives datagrams never comes here.
        Receive::Plain | Receive::Mmsg | Receive::Gro => {
            let inlet = inlet::Copied::new(length)?;
            Box::new(Receiver::new(flow, index, inlet, shared))
        }
    })
}
