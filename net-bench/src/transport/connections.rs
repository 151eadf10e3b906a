//! The data side of a test: flows that stand from its beginning to its end, or a door through which
//! connections come and go.

use super::socket::SocketFlow;
use crate::attend::Line;
use socket2::{SockAddr, Socket};
use std::net::{IpAddr, Shutdown};

/// Where connections are made during a test.
#[derive(Debug)]
pub enum Door {
    /// The server's end.
    Listener {
        /// What listens: one socket, or one for each of `cpus`.
        sockets: Vec<Socket>,
        /// The CPUs whose connections the kernel hands to these sockets, in their order; empty
        /// where one socket takes them all.
        cpus: Vec<u32>,
        /// From where connections are taken in; from everywhere, where the client's address for
        /// data is not known.
        guest: Option<IpAddr>,
    },
    /// The client's end: the address that it connects to.
    Server(SockAddr),
}

/// All that a side's threads send and receive on.
#[derive(Debug, Default)]
pub struct Connections {
    /// The flows that stand, in the order of their numbers.
    pub flows: Vec<SocketFlow>,
    /// The door, of tests that have one.
    pub door: Option<Door>,
    /// The receive queue of the server's device that each flow was led to; empty where none was.
    pub queues: Vec<u32>,
}

impl Connections {
    /// Adds those of another part of the test, behind the ones that there are.
    pub fn add(&mut self, other: Self) {
        self.flows.extend(other.flows);
        self.door = self.door.take().or(other.door);
        self.queues.extend(other.queues);
    }

    fn close_door(&self) {
        if let Some(Door::Listener { sockets, .. }) = &self.door {
            for socket in sockets {
                // A listener that is shut down wakes whoever waits for connections, with an error.
                let _ = socket.shutdown(Shutdown::Both);
            }
        }
    }
}

impl Line for Connections {
    fn cut(&self) {
        self.flows.iter().for_each(SocketFlow::cut);
        self.close_door();
    }

    /// Receiving of datagrams, and the door. Streams are left alone: their end comes behind their last
    /// byte.
    fn hang_up(&self) {
        let mute = self.flows.iter().filter(|flow| flow.ends_by_word());
        mute.for_each(SocketFlow::hang_up);
        self.close_door();
    }

    fn peer(&self) -> String {
        match (&self.door, self.flows.first()) {
            (Some(Door::Server(address)), _) => super::rendezvous::place(address),
            (Some(Door::Listener { guest, .. }), _) => {
                guest.map_or_else(|| "the client".to_owned(), |guest| guest.to_string())
            }
            (None, Some(flow)) => flow.peer().to_owned(),
            (None, None) => "nobody".to_owned(),
        }
    }
}
