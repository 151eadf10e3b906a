//! A server that keeps objects in memory and spoils the answers that a test names.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// The most keys of a page.
const PAGE: usize = 10;

/// What happens to an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Spoil {
    /// Nothing.
    No,
    /// Another status, with S3's code.
    Status(u16, &'static str),
    /// The length is right, the body ends half-way and the connection with it.
    Truncated,
    /// One bit is another.
    Flipped,
    /// The first object ever put is returned in place of every other.
    Misdirected,
    /// A byte every 100 ms.
    Dripping,
    /// No answer, and the connection ends.
    Closed,
    /// No answer at all.
    Silent,
    /// Puts are acknowledged and forgotten.
    Forgotten,
    /// Success, with an error in the body.
    ErrorInside,
}

/// A request, as far as it matters.
pub struct Request {
    pub method: String,
    /// The key: without the bucket.
    pub key: String,
    pub query: String,
    range: Option<(usize, usize)>,
    body: Vec<u8>,
}

type Judge = dyn Fn(&Request, usize) -> Spoil + Send + Sync;

#[derive(Default)]
struct State {
    objects: BTreeMap<String, Vec<u8>>,
    uploads: BTreeMap<String, (String, BTreeMap<usize, Vec<u8>>)>,
    first: Option<Vec<u8>>,
    begun: usize,
    requests: usize,
}

/// See the module. Its threads end with their connections, its listener with the test.
#[derive(Clone)]
pub struct Hostile {
    pub endpoint: String,
    state: Arc<Mutex<State>>,
}

impl Hostile {
    /// Starts one; `judge` is asked per request, with how many requests came before.
    pub fn start(judge: impl Fn(&Request, usize) -> Spoil + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let port = listener.local_addr().expect("bound").port();
        let server = Self {
            endpoint: format!("http://127.0.0.1:{port}"),
            state: Arc::default(),
        };
        let (shared, judge): (_, Arc<Judge>) = (server.clone(), Arc::new(judge));
        std::thread::spawn(move || {
            for socket in listener.incoming().map_while(Result::ok) {
                let (server, judge) = (shared.clone(), Arc::clone(&judge));
                std::thread::spawn(move || server.serve(&socket, &*judge));
            }
        });
        server
    }

    pub fn keys(&self) -> Vec<String> {
        self.state().objects.keys().cloned().collect()
    }

    pub fn put(&self, key: &str, body: &str) {
        let body = body.as_bytes().to_vec();
        self.state().objects.insert(key.to_owned(), body);
    }

    /// Uploads that are neither complete nor aborted, by their keys.
    pub fn uploads(&self) -> Vec<String> {
        let state = self.state();
        state.uploads.values().map(|(key, _)| key.clone()).collect()
    }

    pub fn begin_upload(&self, key: &str) {
        let mut state = self.state();
        let id = format!("left{}", state.uploads.len());
        state.uploads.insert(id, (key.to_owned(), BTreeMap::new()));
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn serve(&self, socket: &TcpStream, judge: &Judge) {
        let mut reader = BufReader::new(socket);
        while let Some(request) = read(&mut reader) {
            let before = {
                let mut state = self.state();
                state.requests += 1;
                state.requests - 1
            };
            let spoil = judge(&request, before);
            let (status, headers, body) = match spoil {
                Spoil::Status(status, code) => (status, String::new(), error(code)),
                Spoil::ErrorInside => (200, String::new(), error("InternalError")),
                Spoil::Forgotten => (200, "ETag: \"0\"\r\n".to_owned(), Vec::new()),
                _ => self.answer(&request, spoil),
            };
            if !write(socket, &request, spoil, (status, &headers, &body)) {
                return;
            }
        }
    }

    fn answer(&self, request: &Request, spoil: Spoil) -> (u16, String, Vec<u8>) {
        let mut state = self.state();
        let part = |name: &str| {
            let pairs = request
                .query
                .split('&')
                .filter_map(|pair| pair.split_once('='));
            let mut values = pairs.filter(|(key, _)| *key == name);
            values.next().map(|(_, value)| value.replace("%2F", "/"))
        };
        let asks = |name: &str| request.query.split(['&', '=']).any(|word| word == name);
        let tag = |body: &[u8]| format!("ETag: \"{:x}\"\r\n", sum(body));
        let key = request.key.clone();
        match (request.method.as_str(), part("uploadId")) {
            ("POST", None) if asks("uploads") => {
                state.begun += 1;
                let id = format!("u{}", state.begun);
                state.uploads.insert(id.clone(), (key, BTreeMap::new()));
                let xml = format!(
                    "<InitiateMultipartUploadResult><Bucket>bucket</Bucket><Key>k</Key>\
                     <UploadId>{id}</UploadId></InitiateMultipartUploadResult>"
                );
                (200, String::new(), xml.into_bytes())
            }
            ("POST", Some(id)) => {
                let Some((key, parts)) = state.uploads.remove(&id) else {
                    return (404, String::new(), error("NoSuchUpload"));
                };
                let whole: Vec<u8> = parts.into_values().flatten().collect();
                let xml = format!(
                    "<CompleteMultipartUploadResult><ETag>&quot;{:x}&quot;</ETag>\
                     </CompleteMultipartUploadResult>",
                    sum(&whole)
                );
                state.objects.insert(key, whole);
                (200, String::new(), xml.into_bytes())
            }
            ("PUT", Some(id)) => {
                let Some((_, parts)) = state.uploads.get_mut(&id) else {
                    return (404, String::new(), error("NoSuchUpload"));
                };
                let number = part("partNumber").expect("S3 demands it");
                let headers = tag(&request.body);
                parts.insert(number.parse().expect("a number"), request.body.clone());
                (200, headers, Vec::new())
            }
            ("DELETE", Some(id)) => match state.uploads.remove(&id) {
                Some(_) => (204, String::new(), Vec::new()),
                None => (404, String::new(), error("NoSuchUpload")),
            },
            ("PUT", None) => {
                if !key.ends_with("/marker") {
                    state.first.get_or_insert_with(|| request.body.clone());
                }
                state.objects.insert(key, request.body.clone());
                (200, tag(&request.body), Vec::new())
            }
            ("DELETE", None) => {
                state.objects.remove(&key);
                (204, String::new(), Vec::new())
            }
            ("GET", _) if asks("uploads") => (200, String::new(), state.list_uploads()),
            ("GET", _) if key.is_empty() => {
                let prefix = part("prefix").unwrap_or_default();
                let xml = state.list(&prefix, part("continuation-token"));
                (200, String::new(), xml)
            }
            _ => match state.objects.get(&key) {
                None => (404, String::new(), error("NoSuchKey")),
                Some(whole) => {
                    let found = match (spoil, &state.first) {
                        (Spoil::Misdirected, Some(first)) if first.len() == whole.len() => first,
                        _ => whole,
                    };
                    let headers = tag(whole) + "Last-Modified: Fri, 27 Nov 2026 00:00:00 GMT\r\n";
                    match request.range {
                        None => (200, headers, found.clone()),
                        Some((from, to)) => {
                            let all = found.len();
                            let headers =
                                format!("{headers}Content-Range: bytes {from}-{to}/{all}\r\n");
                            (206, headers, found[from..=to].to_vec())
                        }
                    }
                }
            },
        }
    }
}

impl State {
    fn list(&self, prefix: &str, after: Option<String>) -> Vec<u8> {
        let after = after.unwrap_or_default();
        let keys = self.objects.iter();
        let mut left = keys.filter(|(key, _)| key.starts_with(prefix) && **key > after);
        let page: Vec<_> = left.by_ref().take(PAGE).collect();
        let more = left.next().is_some();
        let mut xml = format!("<ListBucketResult><IsTruncated>{more}</IsTruncated>");
        if let (true, Some((last, _))) = (more, page.last()) {
            xml += &format!("<NextContinuationToken>{last}</NextContinuationToken>");
        }
        for (key, body) in page {
            xml += &format!(
                "<Contents><Key>{key}</Key><LastModified>2026-11-27T00:00:00.000Z</LastModified>\
                 <ETag>&quot;x&quot;</ETag><Size>{}</Size></Contents>",
                body.len()
            );
        }
        (xml + "</ListBucketResult>").into_bytes()
    }

    fn list_uploads(&self) -> Vec<u8> {
        let mut xml = "<ListMultipartUploadsResult>".to_owned();
        for (id, (key, _)) in &self.uploads {
            xml += &format!("<Upload><Key>{key}</Key><UploadId>{id}</UploadId></Upload>");
        }
        (xml + "</ListMultipartUploadsResult>").into_bytes()
    }
}

/// Of the begin alone, where our objects differ: a store that is to be quick cannot hash it all.
fn sum(body: &[u8]) -> u64 {
    let body = &body[..body.len().min(4096)];
    let start = 0xcbf2_9ce4_8422_2325u64;
    body.iter().fold(start, |sum, byte| {
        (sum ^ u64::from(*byte)).wrapping_mul(0x100_0000_01b3)
    })
}

fn error(code: &str) -> Vec<u8> {
    format!("<Error><Code>{code}</Code><Message>as the test wants it</Message></Error>")
        .into_bytes()
}

fn read(reader: &mut BufReader<&TcpStream>) -> Option<Request> {
    let mut line = String::new();
    let mut next = |line: &mut String| {
        line.clear();
        matches!(reader.read_line(line), Ok(1..)).then_some(())
    };
    next(&mut line)?;
    let mut words = line.split(' ');
    let (method, target) = (words.next()?.to_owned(), words.next()?.to_owned());
    let (mut length, mut range) = (0, None);
    loop {
        next(&mut line)?;
        let header = line.trim_end().to_ascii_lowercase();
        if header.is_empty() {
            break;
        }
        if let Some(value) = header.strip_prefix("content-length: ") {
            length = value.parse().ok()?;
        }
        if let Some(value) = header.strip_prefix("range: bytes=") {
            let (from, to) = value.split_once('-')?;
            range = Some((from.parse().ok()?, to.parse().ok()?));
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    let (path, query) = target.split_once('?').unwrap_or((&target, ""));
    let key = path.trim_start_matches("/bucket").trim_start_matches('/');
    Some(Request {
        method,
        key: key.to_owned(),
        query: query.to_owned(),
        range,
        body,
    })
}

/// Sends an answer, as spoilt as it is to be; whether the connection goes on.
fn write(
    mut socket: &TcpStream,
    request: &Request,
    spoil: Spoil,
    (status, headers, body): (u16, &str, &[u8]),
) -> bool {
    match spoil {
        Spoil::Closed => return false,
        Spoil::Silent => {
            std::thread::sleep(Duration::from_secs(20));
            return false;
        }
        _ => {}
    }
    let mut body = body.to_vec();
    if spoil == Spoil::Flipped && !body.is_empty() {
        let middle = body.len() / 2;
        body[middle] ^= 1;
    }
    let length = match status {
        204 => String::new(),
        _ => format!("Content-Length: {}\r\n", body.len()),
    };
    let head = format!("HTTP/1.1 {status} x\r\nServer: hostile\r\n{length}{headers}\r\n");
    if socket.write_all(head.as_bytes()).is_err() {
        return false;
    }
    match (request.method.as_str(), spoil) {
        ("HEAD", _) => true,
        (_, Spoil::Truncated) => {
            let _ = socket.write_all(&body[..body.len() / 2]);
            false
        }
        (_, Spoil::Dripping) => {
            for byte in &body {
                if socket.write_all(&[*byte]).is_err() {
                    return false;
                }
                std::thread::sleep(Duration::from_millis(100));
            }
            true
        }
        _ => socket.write_all(&body).is_ok(),
    }
}
