//! A client of the EC2 instance metadata service, version 2.
//!
//! A link-local address answers in well under a millisecond or not at all: in a container whose
//! packets may take one hop only, or behind a firewall, it never does. So one deadline covers the
//! whole conversation, and a report is never late because of it. Proxies of the environment are
//! ignored: the address means something only on this machine.

use super::tree::{Unreadable, quote};
use std::net::SocketAddr;
use std::time::{Duration, Instant};
use ureq::Agent;
use ureq::http::StatusCode;

/// How long the whole conversation may take.
pub(super) const BUDGET: Duration = Duration::from_millis(200);
/// The longest answer that is read, in bytes.
const MAX_BODY_BYTES: u64 = 64 << 10;
/// How long the token is good for: longer than the conversation.
const TOKEN_TTL_S: &str = "60";

/// Why the service gave no value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Refusal {
    /// It has no such item: what the item describes is not the case here.
    Absent,
    /// Anything else, with the reason.
    Other(Unreadable),
}

/// A conversation with the service.
pub(super) struct Client {
    agent: Agent,
    base: String,
    token: String,
    deadline: Instant,
}

impl Client {
    /// Asks for a token; everything after needs it.
    pub(super) fn open(address: SocketAddr) -> Result<Self, Unreadable> {
        let agent = Agent::config_builder()
            .proxy(None)
            .http_status_as_error(false)
            .max_redirects(0)
            .max_response_header_size(16 << 10)
            .build()
            .new_agent();
        let mut client = Self {
            agent,
            base: format!("http://{address}/latest"),
            token: String::new(),
            deadline: Instant::now() + BUDGET,
        };
        let url = format!("{}/api/token", client.base);
        let request = client
            .agent
            .put(&url)
            .header("X-aws-ec2-metadata-token-ttl-seconds", TOKEN_TTL_S)
            .config()
            .timeout_global(Some(client.left()))
            .build();
        let what = format!("PUT {url}");
        client.token = match client.answer(&what, || request.send_empty()) {
            Ok(token) if token.is_ascii() && !token.contains(char::is_control) => token,
            Ok(_) => return Err(Unreadable(format!("{what}: the answer is no token"))),
            Err(Refusal::Absent) => {
                let problem = "status 404: this is no version 2 metadata service";
                return Err(Unreadable(format!("{what}: {problem}")));
            }
            Err(Refusal::Other(reason)) => return Err(reason),
        };
        Ok(client)
    }

    /// One item below `meta-data`, without surrounding white space.
    pub(super) fn item(&self, path: &str) -> Result<String, Refusal> {
        let url = format!("{}/meta-data/{path}", self.base);
        let request = self
            .agent
            .get(&url)
            .header("X-aws-ec2-metadata-token", &self.token)
            .config()
            .timeout_global(Some(self.left()))
            .build();
        let what = format!("GET {url}");
        let text = self.answer(&what, || request.call())?;
        if text.contains(|c: char| c.is_control() && c != '\n') {
            let reason = format!("{what}: the answer holds bytes that are not text");
            return Err(Refusal::Other(Unreadable(reason)));
        }
        Ok(text)
    }

    fn left(&self) -> Duration {
        self.deadline.saturating_duration_since(Instant::now())
    }

    fn answer(
        &self,
        what: &str,
        send: impl FnOnce() -> Result<ureq::http::Response<ureq::Body>, ureq::Error>,
    ) -> Result<String, Refusal> {
        let other = |problem: String| Refusal::Other(Unreadable(format!("{what}: {problem}")));
        let failed = |error| other(explain(&error));
        // No time left counts as a timeout; ureq takes zero for "now" only at its next wait.
        if self.left().is_zero() {
            return Err(failed(ureq::Error::Timeout(ureq::Timeout::Global)));
        }
        let mut response = send().map_err(failed)?;
        match response.status() {
            StatusCode::OK => {}
            StatusCode::NOT_FOUND => return Err(Refusal::Absent),
            status @ (StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN) => {
                let hint = "the metadata service is switched off for this instance or process";
                return Err(other(format!("status {}: {hint}", status.as_u16())));
            }
            status => return Err(other(format!("status {}", status.as_u16()))),
        }
        let body = response.body_mut().with_config().limit(MAX_BODY_BYTES);
        let text = body.read_to_string().map_err(failed)?;
        match text.trim() {
            "" => Err(other("the answer is empty".to_owned())),
            text => Ok(text.to_owned()),
        }
    }
}

fn explain(error: &ureq::Error) -> String {
    match error {
        ureq::Error::Timeout(_) => timed_out(),
        ureq::Error::Io(error) if error.kind() == std::io::ErrorKind::TimedOut => timed_out(),
        ureq::Error::BodyExceedsLimit(limit) => format!("the answer is larger than {limit} bytes"),
        other => {
            // The text of an error may quote what the other side sent.
            let text = other.to_string();
            if text.contains(char::is_control) {
                quote(&text)
            } else {
                text
            }
        }
    }
}

fn timed_out() -> String {
    format!(
        "no answer within {} ms; in a container, raise the instance's metadata hop limit to 2",
        BUDGET.as_millis()
    )
}
