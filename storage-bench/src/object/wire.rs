//! The HTTP below the store's library: one connection pool per job, and every answer counted.
//!
//! The library's own retries are off and its errors hide what the server said, so that answers
//! other than success become [`Fault`]s here: with status, S3's code and S3's words. Whoever asked
//! finds them again in the chain of the error's sources.

use super::place::Endpoint;
use async_trait::async_trait;
use bytes::Bytes;
use http::header::SERVER;
use http::{Method, StatusCode};
use http_body_util::{BodyExt, Full, Limited};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector as TcpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use object_store::ClientOptions;
use object_store::client::{
    HttpClient, HttpConnector, HttpError, HttpErrorKind, HttpRequest, HttpRequestBody,
    HttpResponse, HttpResponseBody, HttpService,
};
use std::collections::BTreeMap;
use std::error::Error;
use std::fmt::{self, Write as _};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// The longest error that is read: S3's are a few hundred bytes.
const MOST_OF_AN_ERROR: usize = 64 << 10;
/// The longest text of a server that is shown.
const SHOWN: usize = 300;

/// What was counted of a client's requests.
#[derive(Debug, Clone, Default)]
pub struct Counts {
    /// Answers by `200` or `503 SlowDown`, and requests without one by their cause.
    pub requests: BTreeMap<String, u64>,
    /// What was tried again, by cause.
    pub retries: BTreeMap<String, u64>,
    /// Operations that failed for good, by cause.
    pub failures: BTreeMap<String, u64>,
    /// What the server calls itself.
    pub server: Option<String>,
}

impl Counts {
    /// Begins anew.
    pub fn forget(&mut self) {
        let server = self.server.take();
        *self = Self {
            server,
            ..Self::default()
        };
    }

    /// Adds another client's.
    pub fn add(&mut self, other: Counts) {
        for (into, from) in [
            (&mut self.requests, other.requests),
            (&mut self.retries, other.retries),
            (&mut self.failures, other.failures),
        ] {
            for (what, count) in from {
                *into.entry(what).or_default() += count;
            }
        }
        self.server = self.server.take().or(other.server);
    }
}

/// Why a request came to nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fault {
    /// The server answered, and not with success.
    Status {
        /// HTTP's status.
        status: u16,
        /// S3's code: `SlowDown`.
        code: String,
        /// S3's words.
        message: String,
    },
    /// There is no connection.
    Connect(String),
    /// The connection was lost before the answer came.
    Lost(String),
    /// The answer ended early.
    CutOff(String),
    /// It took too long.
    TimedOut(Duration),
    /// The service that gives credentials does not.
    Credentials(String),
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Status {
                status,
                code,
                message,
            } => {
                write!(f, "the server answered {status}{}", spaced(code))?;
                match message.as_str() {
                    "" => Ok(()),
                    message => write!(f, ": {message}"),
                }
            }
            Self::Connect(text) => write!(f, "cannot connect: {text}"),
            Self::Lost(text) => write!(f, "the connection was lost: {text}"),
            Self::CutOff(text) => write!(f, "the answer was cut off: {text}"),
            Self::TimedOut(limit) => write!(
                f,
                "no complete answer within --timeout {} s",
                limit.as_secs_f64()
            ),
            Self::Credentials(text) => write!(
                f,
                "no credentials: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or use \
                 --anonymous for a public bucket ({text})"
            ),
        }
    }
}

impl Error for Fault {}

fn spaced(code: &str) -> String {
    match code {
        "" => String::new(),
        code => format!(" {code}"),
    }
}

impl Fault {
    /// The cause in a few words, by which it is counted.
    #[must_use]
    pub fn cause(&self) -> String {
        match self {
            Self::Status { status, code, .. } => format!("{status}{}", spaced(code)),
            Self::Connect(_) => "no connection".to_owned(),
            Self::Lost(_) => "lost connection".to_owned(),
            Self::CutOff(_) => "cut off answer".to_owned(),
            Self::TimedOut(_) => "time-out".to_owned(),
            Self::Credentials(_) => "no credentials".to_owned(),
        }
    }

    /// Whether another try may succeed.
    #[must_use]
    pub fn passing(&self) -> bool {
        match self {
            Self::Status { status, code, .. } => {
                matches!(status, 500 | 502..=504 | 429 | 408)
                    || matches!(
                        code.as_str(),
                        "SlowDown" | "InternalError" | "RequestTimeout"
                    )
            }
            Self::Connect(_) | Self::Lost(_) | Self::CutOff(_) | Self::TimedOut(_) => true,
            Self::Credentials(_) => false,
        }
    }

    /// The fault at the bottom of a library's error.
    #[must_use]
    pub fn of(error: &(dyn Error + 'static)) -> Option<Self> {
        std::iter::successors(Some(error), |error| (*error).source())
            .find_map(|error| error.downcast_ref::<Self>().cloned())
    }

    fn into_http(self) -> HttpError {
        HttpError::new(HttpErrorKind::Unknown, self)
    }
}

/// Whether a cause, as counted, is the server asking for less.
#[must_use]
pub fn is_throttle(cause: &str) -> bool {
    cause.starts_with("429") || cause.starts_with("503") || cause.ends_with(" SlowDown")
}

/// One client's connections, and what it counted.
#[derive(Debug, Clone)]
pub struct Wire {
    client: Client<HttpsConnector<TcpConnector>, HttpRequestBody>,
    /// Requests to others (for credentials) are not the store's, and not counted.
    authority: String,
    counts: Arc<Mutex<Counts>>,
}

impl Wire {
    /// A client that has not connected yet.
    ///
    /// # Errors
    /// The system has no root certificates, and the server is asked through TLS.
    pub fn new(server: &Endpoint, connect_timeout: Duration) -> anyhow::Result<Self> {
        let mut tcp = TcpConnector::new();
        tcp.enforce_http(false);
        tcp.set_nodelay(true);
        tcp.set_connect_timeout(Some(connect_timeout));
        let builder = HttpsConnectorBuilder::new();
        let tls = match builder.with_native_roots() {
            Ok(roots) => roots.https_or_http(),
            Err(error) if server.tls => {
                return Err(anyhow::Error::new(error).context(
                    "the system has no root certificates; install ca-certificates, or name a file \
                     of them in $SSL_CERT_FILE",
                ));
            }
            Err(_) => HttpsConnectorBuilder::new()
                .with_tls_config(rustls_without_roots())
                .https_or_http(),
        };
        let client = Client::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            // Ours are counted.
            .retry_canceled_requests(false)
            .build(tls.enable_http1().wrap_connector(tcp));
        Ok(Self {
            client,
            authority: server.authority.clone(),
            counts: Arc::default(),
        })
    }

    /// What was counted so far.
    pub fn counts(&self) -> MutexGuard<'_, Counts> {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether this request is the store's.
    fn is_ours(&self, request: &HttpRequest) -> bool {
        let authority = request.uri().authority().map(|found| found.as_str());
        authority.is_some_and(|found| found.ends_with(&self.authority))
    }

    /// Sends a request and counts its answer.
    ///
    /// # Errors
    /// There is no answer, or not one of success.
    pub async fn exchange(&self, request: HttpRequest) -> Result<HttpResponse, Fault> {
        let ours = self.is_ours(&request);
        let completes = request.method() == Method::POST;
        let answer = self.answer(request, completes).await;
        if !ours {
            return answer.map_err(|fault| Fault::Credentials(fault.to_string()));
        }
        let outcome = match &answer {
            Ok(response) => response.status().as_u16().to_string(),
            Err(fault) => fault.cause(),
        };
        *self.counts().requests.entry(outcome).or_default() += 1;
        answer
    }

    async fn answer(&self, request: HttpRequest, completes: bool) -> Result<HttpResponse, Fault> {
        let response = self.client.request(request).await.map_err(|error| {
            let text = causes(&error);
            match error.is_connect() {
                true => Fault::Connect(text),
                false => Fault::Lost(text),
            }
        })?;
        let (parts, body) = response.into_parts();
        if let Some(name) = parts.headers.get(SERVER) {
            let mut counts = self.counts();
            if counts.server.is_none() {
                counts.server = Some(shown(&String::from_utf8_lossy(name.as_bytes())));
            }
        }
        // The end of a multipart upload may fail after a 200 was sent.
        if parts.status.is_success() && !completes {
            let body = body.map_err(|error| Fault::CutOff(causes(&error)).into_http());
            return Ok(HttpResponse::from_parts(parts, HttpResponseBody::new(body)));
        }
        let collected = Limited::new(body, MOST_OF_AN_ERROR).collect().await;
        let bytes = match collected {
            Ok(collected) => collected.to_bytes(),
            Err(error) if parts.status.is_success() => {
                return Err(Fault::CutOff(causes(error.as_ref())));
            }
            Err(_) => Bytes::new(),
        };
        let text = String::from_utf8_lossy(&bytes);
        if parts.status.is_success() && !text.contains("<Error>") {
            let body = Full::new(bytes).map_err(|never| match never {});
            return Ok(HttpResponse::from_parts(parts, HttpResponseBody::new(body)));
        }
        Err(refusal(parts.status, &text))
    }
}

fn rustls_without_roots() -> rustls::ClientConfig {
    rustls::ClientConfig::builder()
        .with_root_certificates(rustls::RootCertStore::empty())
        .with_no_client_auth()
}

/// What a server says that it will not do, from S3's XML where it is that.
fn refusal(status: StatusCode, text: &str) -> Fault {
    let code = element(text, "Code").unwrap_or_default();
    let message = match element(text, "Message") {
        Some(message) => shown(message),
        None if code.is_empty() && !text.trim().is_empty() => shown(text.trim()),
        None => String::new(),
    };
    Fault::Status {
        status: status.as_u16(),
        code: shown(code),
        message,
    }
}

/// The text of the first element of this name.
pub fn element<'a>(xml: &'a str, name: &str) -> Option<&'a str> {
    let (_, rest) = xml.split_once(&format!("<{name}>"))?;
    rest.split_once(&format!("</{name}>")).map(|(text, _)| text)
}

/// A text of somebody else's, short and on one line.
fn shown(text: &str) -> String {
    let plain = text.chars().filter(|c| !c.is_control());
    plain.take(SHOWN).collect()
}

/// An error and what is behind it, and what to do where that is known.
fn causes(error: &(dyn Error + 'static)) -> String {
    let mut text = String::new();
    for cause in std::iter::successors(Some(error), |error| (*error).source()) {
        let cause = cause.to_string();
        // Wrappers repeat what they wrap.
        if !text.contains(&cause) {
            let _ = write!(text, "{}{cause}", if text.is_empty() { "" } else { ": " });
        }
    }
    let hints = [
        (
            "InvalidContentType",
            "; does the endpoint speak https? Try http://",
        ),
        (
            "handshake eof",
            "; does the endpoint speak https? Try http://",
        ),
        (
            "invalid HTTP",
            "; does the endpoint speak plain HTTP? Try https://",
        ),
        (
            "UnknownIssuer",
            "; name a file with its root certificate in $SSL_CERT_FILE",
        ),
    ];
    for (part, hint) in hints {
        if text.contains(part) {
            text.push_str(hint);
        }
    }
    text
}

#[async_trait]
impl HttpService for Wire {
    async fn call(&self, request: HttpRequest) -> Result<HttpResponse, HttpError> {
        self.exchange(request).await.map_err(Fault::into_http)
    }
}

impl HttpConnector for Wire {
    fn connect(&self, _: &ClientOptions) -> object_store::Result<HttpClient> {
        Ok(HttpClient::new(self.clone()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SLOW: &str = "<?xml version=\"1.0\"?>\n<Error><Code>SlowDown</Code><Message>Please \
                        reduce your request rate.</Message></Error>";

    #[test]
    fn a_refusal_keeps_status_code_and_words() {
        let fault = refusal(StatusCode::SERVICE_UNAVAILABLE, SLOW);
        assert_eq!(fault.cause(), "503 SlowDown");
        assert!(fault.passing() && is_throttle(&fault.cause()));
        let text = fault.to_string();
        assert!(
            text.ends_with("503 SlowDown: Please reduce your request rate."),
            "{text}"
        );
        // A 200 with an error inside is one too.
        assert!(refusal(StatusCode::OK, SLOW).passing());
        let plain = refusal(StatusCode::FORBIDDEN, "go\naway");
        assert_eq!(plain.to_string(), "the server answered 403: goaway");
        assert!(!plain.passing() && !is_throttle(&plain.cause()));
    }

    #[test]
    fn a_fault_is_found_below_the_librarys_errors() {
        let fault = Fault::CutOff("early".to_owned());
        let error = object_store::Error::Generic {
            store: "S3",
            source: Box::new(fault.clone().into_http()),
        };
        assert_eq!(Fault::of(&error), Some(fault));
        let other = object_store::Error::NotImplemented {
            operation: "it".to_owned(),
            implementer: "S3".to_owned(),
        };
        assert_eq!(Fault::of(&other), None);
    }

    #[test]
    fn clients_counts_add_up() {
        let one = |cause: &str| Counts {
            requests: BTreeMap::from([(cause.to_owned(), 2)]),
            server: Some("it".to_owned()),
            ..Counts::default()
        };
        let mut sum = Counts::default();
        sum.add(one("200"));
        sum.add(one("200"));
        sum.add(one("404 NoSuchKey"));
        assert_eq!(sum.requests["200"], 4);
        assert_eq!(sum.requests["404 NoSuchKey"], 2);
        assert_eq!(sum.server.as_deref(), Some("it"));
    }
}
