//! Listeners that share a port, each taking the connections of its own CPU.
//!
//! Without a word from us the kernel spreads connections over the listeners of a port by a hash,
//! so a connection whose packets come in on one CPU is served on another. A few instructions of
//! classic BPF, run by the kernel for each new connection, choose the listener by the CPU instead.

use bench_sys::reuseport::{Instruction, attach};
use socket2::Socket;
use std::io;
use std::net::SocketAddr;

/// The most sockets of one group.
pub const MAX_SOCKETS: usize = 1024;

// Instructions and the ancillary data of include/uapi/linux/{bpf_common,filter}.h.
const LOAD_WORD: u16 = 0x20;
const JUMP_IF_EQUAL: u16 = 0x15;
const MODULO: u16 = 0x94;
const RETURN_CONSTANT: u16 = 0x06;
const RETURN_ACCUMULATOR: u16 = 0x16;
const ANCILLARY_CPU: u32 = 0xffff_f000 + 36;

/// Why there can be no such group.
#[derive(Debug, thiserror::Error)]
pub enum ReuseportError {
    /// Not a socket for each CPU, none, or too many.
    #[error(
        "{sockets} sockets were to share a port for {cpus} CPUs; from 1 to {MAX_SOCKETS} can, one \
         for each CPU"
    )]
    Count {
        /// Sockets that were given.
        sockets: usize,
        /// CPUs that were named.
        cpus: usize,
    },
    /// What the kernel says.
    #[error("socket {number} of {count} on {address}: cannot {what}: {error}")]
    Kernel {
        /// The socket's number, from 1.
        number: usize,
        /// How many there were to be.
        count: usize,
        /// Their address.
        address: SocketAddr,
        /// What was tried.
        what: &'static str,
        /// The kernel's word.
        error: io::Error,
    },
}

/// The program that returns the place in `cpus` of the CPU it runs on. Any other CPU is given to
/// one of them by its number.
fn program(cpus: &[u32]) -> Vec<Instruction> {
    let plain = |code, k| Instruction {
        code,
        jump_true: 0,
        jump_false: 0,
        k,
    };
    let mut program = vec![plain(LOAD_WORD, ANCILLARY_CPU)];
    for (place, &cpu) in cpus.iter().enumerate() {
        program.push(Instruction {
            code: JUMP_IF_EQUAL,
            jump_true: 0,
            jump_false: 1,
            k: cpu,
        });
        program.push(plain(RETURN_CONSTANT, place as u32));
    }
    program.push(plain(MODULO, cpus.len() as u32));
    program.push(plain(RETURN_ACCUMULATOR, 0));
    program
}

/// Has new stream sockets listen on one address, number *i* for the connections whose first packet
/// CPU `cpus[i]` takes in. Port 0 gives all of them the same free one.
///
/// # Errors
/// What cannot be bound or steered, and the kernel's word.
pub fn listen(
    sockets: &[Socket],
    cpus: &[u32],
    address: SocketAddr,
    backlog: i32,
) -> Result<(), ReuseportError> {
    let count = cpus.len();
    if count != sockets.len() || !(1..=MAX_SOCKETS).contains(&count) {
        return Err(ReuseportError::Count {
            sockets: sockets.len(),
            cpus: count,
        });
    }
    let mut bound = address;
    for (socket, number) in sockets.iter().zip(1..) {
        let failed = |what| {
            move |error| ReuseportError::Kernel {
                number,
                count,
                address: bound,
                what,
                error,
            }
        };
        socket
            .set_reuse_port(true)
            .map_err(failed("share its port"))?;
        socket.bind(&bound.into()).map_err(failed("be bound"))?;
        socket.listen(backlog).map_err(failed("listen"))?;
        let local = socket.local_addr().map_err(failed("tell its address"))?;
        bound = local.as_socket().unwrap_or(bound);
    }
    // The program is the group's: it counts for all, in the order in which they joined.
    attach(&sockets[0], &program(cpus)).map_err(|error| ReuseportError::Kernel {
        number: 1,
        count,
        address: bound,
        what: "be steered by CPU",
        error,
    })
}

#[cfg(test)]
mod tests {
    use super::super::pin::{allowed_cpus, pin_this_thread};
    use super::*;
    use socket2::{Domain, Type};
    use std::net::{Ipv4Addr, TcpListener, TcpStream};

    /// Runs the program as the kernel does, on a CPU of our choice.
    fn run(program: &[Instruction], cpu: u32) -> u32 {
        let (mut accumulator, mut at) = (0, 0);
        loop {
            let instruction = program[at];
            at += 1;
            match instruction.code {
                LOAD_WORD => {
                    assert_eq!(instruction.k, ANCILLARY_CPU);
                    accumulator = cpu;
                }
                JUMP_IF_EQUAL if accumulator == instruction.k => {
                    at += usize::from(instruction.jump_true);
                }
                JUMP_IF_EQUAL => at += usize::from(instruction.jump_false),
                MODULO => accumulator %= instruction.k,
                RETURN_CONSTANT => return instruction.k,
                RETURN_ACCUMULATOR => return accumulator,
                other => panic!("{other:#x} is none of ours"),
            }
        }
    }

    #[test]
    fn each_cpu_has_its_place_and_others_share() {
        let program = program(&[4, 0, 9]);
        let places = [4, 0, 9, 1, 2, 3, 5].map(|cpu| run(&program, cpu));
        assert_eq!(places, [0, 1, 2, 1, 2, 0, 2]);
    }

    /// The CPUs from the highest down, so that a place is not its CPU's number by chance.
    fn cpus() -> Vec<u32> {
        let mut cpus = allowed_cpus().expect("some may be used");
        cpus.reverse();
        cpus.truncate(8);
        if cpus.len() < 2 {
            println!("SKIPPED choosing a listener by CPU: this process may use one CPU only");
        }
        cpus
    }

    const ANY: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 0);

    fn sockets(count: usize) -> Vec<Socket> {
        let socket = || Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
        std::iter::repeat_with(socket).take(count).collect()
    }

    #[test]
    fn a_connection_goes_to_the_listener_of_its_cpu() {
        let cpus = cpus();
        let sockets = sockets(cpus.len());
        listen(&sockets, &cpus, ANY, 64).expect("they share a port");
        let listeners: Vec<TcpListener> = sockets.into_iter().map(TcpListener::from).collect();
        let address = listeners[0].local_addr().expect("bound");
        for round in 0..4 {
            for (place, &cpu) in cpus.iter().enumerate() {
                let client = std::thread::spawn(move || {
                    pin_this_thread(cpu).expect("it is allowed");
                    TcpStream::connect(address).expect("a connection")
                });
                let client = client.join().expect("no panic");
                // A connection that stands waits at some listener; it must be this one.
                listeners[place].set_nonblocking(true).expect("it is ours");
                let (_, peer) = listeners[place]
                    .accept()
                    .unwrap_or_else(|error| panic!("round {round}, CPU {cpu}: {error}"));
                assert_eq!(peer, client.local_addr().expect("bound"));
            }
        }
    }

    #[test]
    fn groups_that_cannot_be_are_refused_with_the_reason() {
        for (count, cpus) in [(0, &[][..]), (1, &[0, 1]), (2, &[0])] {
            let refused = listen(&sockets(count), cpus, ANY, 1);
            assert!(matches!(refused, Err(ReuseportError::Count { .. })));
        }
        // The largest group's program is within what the kernel takes.
        assert!(program(&vec![0; MAX_SOCKETS]).len() <= 4096);
        let elsewhere = SocketAddr::from(([192, 0, 2, 1], 0));
        let error =
            listen(&sockets(1), &[0], elsewhere, 1).expect_err("not this machine's address");
        let words = error.to_string();
        assert!(
            words.contains("192.0.2.1") && words.contains("be bound"),
            "{words}"
        );
    }
}
