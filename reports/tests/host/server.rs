//! A small instance metadata service on the loopback, well-behaved or not.

use std::fs;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

const TOKEN: &str = "AQAEAFixtureToken==";

/// How the service answers.
pub enum Behaviour {
    /// As EC2 does, from the files of a fixture's `metadata` folder.
    Folder(PathBuf),
    /// The same, each answer after so long.
    Slow(PathBuf, Duration),
    /// Every request with this status.
    Status(u16),
    /// Accepts and never says a word: so it looks where the answer may not take enough hops.
    Silent,
    /// One byte of an endless answer every 20 ms.
    Drip,
    /// Bytes that are no HTTP.
    Garbage,
    /// A token, then answers far larger than any item.
    Huge,
    /// A token, then answers with terminal escapes.
    Escapes,
    /// A token, then nothing.
    DiesAfterToken,
}

/// A running service; stops when dropped.
pub struct Server {
    pub address: SocketAddr,
    requests: Arc<AtomicUsize>,
    stop: Arc<AtomicBool>,
    acceptor: Option<JoinHandle<()>>,
}

impl Server {
    pub fn start(behaviour: Behaviour) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a loopback port");
        let address = listener.local_addr().expect("its address");
        let requests = Arc::new(AtomicUsize::new(0));
        let stop = Arc::new(AtomicBool::new(false));
        let behaviour = Arc::new(behaviour);
        let shared = (Arc::clone(&requests), Arc::clone(&stop));
        let acceptor = thread::spawn(move || {
            for stream in listener.incoming() {
                let (requests, stop) = (Arc::clone(&shared.0), Arc::clone(&shared.1));
                if stop.load(Ordering::SeqCst) {
                    break;
                }
                let behaviour = Arc::clone(&behaviour);
                let Ok(stream) = stream else { continue };
                // A client that gives up ends its thread with an error, which is what is tested.
                thread::spawn(move || drop(converse(&stream, &behaviour, &requests, &stop)));
            }
        });
        Self {
            address,
            requests,
            stop,
            acceptor: Some(acceptor),
        }
    }

    /// Requests seen so far.
    pub fn requests(&self) -> usize {
        self.requests.load(Ordering::SeqCst)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::SeqCst);
        // Wakes the acceptor.
        drop(TcpStream::connect(self.address));
        if let Some(acceptor) = self.acceptor.take() {
            drop(acceptor.join());
        }
    }
}

struct Request {
    line: String,
    has_token: bool,
    has_ttl: bool,
}

fn converse(
    mut stream: &TcpStream,
    behaviour: &Behaviour,
    requests: &AtomicUsize,
    stop: &AtomicBool,
) -> io::Result<()> {
    stream.set_read_timeout(Some(Duration::from_secs(5)))?;
    let mut reader = BufReader::new(stream.try_clone()?);
    while let Some(request) = read_request(&mut reader)? {
        requests.fetch_add(1, Ordering::SeqCst);
        let asks_token = request.line == "PUT /latest/api/token HTTP/1.1" && request.has_ttl;
        if let Behaviour::Slow(_, delay) = behaviour {
            thread::sleep(*delay);
        }
        match behaviour {
            Behaviour::Status(status) => answer(stream, *status, b"no")?,
            Behaviour::Silent => drop(stream.read(&mut [0; 16])?),
            Behaviour::Garbage => stream.write_all(b"\x00\xff\x1b[31m garbage\r\n\r\n")?,
            Behaviour::Drip => drip(stream, stop)?,
            _ if asks_token => answer(stream, 200, TOKEN.as_bytes())?,
            _ if !request.has_token => answer(stream, 401, b"Unauthorized")?,
            Behaviour::Folder(folder) | Behaviour::Slow(folder, _) => {
                match item(folder, &request.line) {
                    Some(body) => answer(stream, 200, &body)?,
                    None => answer(stream, 404, b"<html>404 - Not Found</html>")?,
                }
            }
            Behaviour::Huge => answer(stream, 200, &vec![b'x'; 1 << 20])?,
            Behaviour::Escapes => answer(stream, 200, b"evil\x1b]0;title\x07")?,
            Behaviour::DiesAfterToken => return Ok(()),
        }
    }
    Ok(())
}

fn read_request(reader: &mut BufReader<TcpStream>) -> io::Result<Option<Request>> {
    let mut line = String::new();
    if reader.read_line(&mut line)? == 0 {
        return Ok(None);
    }
    let mut request = Request {
        line: line.trim_end().to_owned(),
        has_token: false,
        has_ttl: false,
    };
    loop {
        let mut header = String::new();
        reader.read_line(&mut header)?;
        match header.trim_end().split_once(": ") {
            None => return Ok(Some(request)),
            Some((name, value)) if name.eq_ignore_ascii_case("x-aws-ec2-metadata-token") => {
                request.has_token = value == TOKEN;
            }
            Some((name, value)) => {
                let ttl = name.eq_ignore_ascii_case("x-aws-ec2-metadata-token-ttl-seconds");
                request.has_ttl |= ttl && value.parse::<u32>().is_ok();
            }
        }
    }
}

/// A file is an item, a folder a list; the names of folders end in a slash.
fn item(folder: &Path, line: &str) -> Option<Vec<u8>> {
    let path = line
        .strip_prefix("GET /latest/meta-data/")?
        .strip_suffix(" HTTP/1.1")?;
    let path = folder.join(path);
    if !path.is_dir() {
        return fs::read(path).ok();
    }
    let entries = fs::read_dir(path).ok()?.flatten();
    let names = entries.map(|entry| {
        let slash = if entry.path().is_dir() { "/" } else { "" };
        format!("{}{slash}", entry.file_name().to_string_lossy())
    });
    Some(names.collect::<Vec<_>>().join("\n").into_bytes())
}

/// One write per answer, as the real service does: two would wait for each other's
/// acknowledgement and spend the client's budget.
fn answer(mut stream: &TcpStream, status: u16, body: &[u8]) -> io::Result<()> {
    let length = body.len();
    let head = format!("HTTP/1.1 {status} X\r\nContent-Length: {length}\r\n\r\n");
    stream.write_all(&[head.as_bytes(), body].concat())
}

fn drip(mut stream: &TcpStream, stop: &AtomicBool) -> io::Result<()> {
    write!(stream, "HTTP/1.1 200 OK\r\nContent-Length: 60000\r\n\r\n")?;
    while !stop.load(Ordering::SeqCst) {
        stream.write_all(b"x")?;
        thread::sleep(Duration::from_millis(20));
    }
    Ok(())
}
