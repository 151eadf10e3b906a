//! Where a store is: its bucket, the prefix in it, and the endpoint that serves it.
//!
//! Names and prefixes are held to what every server takes, so that a key is the same text in the
//! report, in the request and in the store. Nothing that carries a secret is accepted, because
//! the command line stands in the report.

use std::fmt;

/// The most characters of a prefix: a key has 1024, and ours stand behind it.
const MAX_PREFIX: usize = 900;

/// A bucket and a prefix in it: `s3://bucket/prefix`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bucket {
    /// The bucket's name.
    pub name: String,
    /// The prefix without slashes at its ends; empty for the bucket's root.
    pub prefix: String,
}

/// A server: `http://host:port` or `https://host`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
    /// Whether it is asked through TLS.
    pub tls: bool,
    /// Host, and port if it is not the scheme's own.
    pub authority: String,
}

impl fmt::Display for Bucket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "s3://{}", self.name)?;
        match self.prefix.as_str() {
            "" => Ok(()),
            prefix => write!(f, "/{prefix}"),
        }
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.tls { "https" } else { "http" };
        write!(f, "{scheme}://{}", self.authority)
    }
}

/// Reads `s3://bucket/prefix`.
///
/// # Errors
/// What is wrong with it.
pub fn bucket(text: &str) -> Result<Bucket, String> {
    let rest = text
        .strip_prefix("s3://")
        .ok_or("a bucket is written s3://bucket or s3://bucket/prefix")?;
    let (name, prefix) = rest.split_once('/').unwrap_or((rest, ""));
    check_name(name)?;
    let prefix = prefix.strip_suffix('/').unwrap_or(prefix);
    check_prefix(prefix)?;
    Ok(Bucket {
        name: name.to_owned(),
        prefix: prefix.to_owned(),
    })
}

/// S3's rules for names of buckets.
fn check_name(name: &str) -> Result<(), String> {
    let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    let fault = if !(3..=63).contains(&name.len()) {
        "it must have 3 to 63 characters"
    } else if !name.chars().all(|c| plain(c) || c == '-' || c == '.') {
        "it may have small letters, digits, dots and hyphens"
    } else if !name.starts_with(plain) || !name.ends_with(plain) {
        "it must begin and end with a letter or digit"
    } else if name.contains("..") {
        "it must not have two dots in a row"
    } else {
        return Ok(());
    };
    Err(format!("{name:?} is no name of a bucket: {fault}"))
}

fn check_prefix(prefix: &str) -> Result<(), String> {
    if prefix.is_empty() {
        return Ok(());
    }
    let plain = |c: char| c.is_ascii_alphanumeric() || "._-=".contains(c);
    let sound = |part: &str| !matches!(part, "" | "." | "..") && part.chars().all(plain);
    if prefix.len() > MAX_PREFIX {
        return Err(format!("the prefix is longer than {MAX_PREFIX} characters"));
    }
    if !prefix.split('/').all(sound) {
        return Err(format!(
            "the prefix {prefix:?} is refused: between its slashes it may have letters, digits, \
             dots, hyphens, underscores and =, and no part may be empty, . or .."
        ));
    }
    Ok(())
}

/// Reads `http://host:port`.
///
/// # Errors
/// What is wrong with it. The text itself is not repeated where it may hold a secret.
pub fn endpoint(text: &str) -> Result<Endpoint, String> {
    let (tls, rest) = match (text.strip_prefix("https://"), text.strip_prefix("http://")) {
        (Some(rest), _) => (true, rest),
        (_, Some(rest)) => (false, rest),
        _ => return Err("it must begin with http:// or https://".to_owned()),
    };
    if rest.contains(['@', '?', '#']) {
        return Err(
            "user names, passwords, queries and presigned addresses are refused, because the \
             command line stands in the report; credentials come from the environment"
                .to_owned(),
        );
    }
    let authority = rest.strip_suffix('/').unwrap_or(rest);
    let plain = |c: char| c.is_ascii_alphanumeric() || ".-:[]".contains(c);
    if authority.is_empty() || !authority.chars().all(plain) {
        return Err("after the scheme it has a host and perhaps a port, and no path".to_owned());
    }
    let port = match authority.rsplit_once(']') {
        Some((_, rest)) => rest.strip_prefix(':'),
        None => authority.split_once(':').map(|(_, port)| port),
    };
    if port.is_some_and(|port| !matches!(port.parse::<u16>(), Ok(1..))) {
        return Err("a port is a number from 1 to 65535".to_owned());
    }
    Ok(Endpoint {
        tls,
        authority: authority.to_ascii_lowercase(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_are_read_and_written_alike() {
        for text in ["s3://abc", "s3://my.bucket-1/a/b_c/run=3", "s3://123/x"] {
            assert_eq!(bucket(text).expect(text).to_string(), text);
        }
        assert_eq!(bucket("s3://abc/d/").expect("a slash").prefix, "d");
    }

    #[test]
    fn what_is_no_bucket_is_named() {
        let faults = [
            ("bucket", "s3://bucket"),
            ("s3://", "3 to 63"),
            ("s3://ab", "3 to 63"),
            ("s3://Bucket", "small letters"),
            ("s3://a_b_c", "small letters"),
            ("s3://-abc", "begin and end"),
            ("s3://a..b", "two dots"),
            ("s3://abc//x", "no part may be empty"),
            ("s3://abc/../x", "no part may be empty"),
            ("s3://abc/x y", "letters, digits"),
            ("s3://abc/x?y", "letters, digits"),
        ];
        for (text, part) in faults {
            let fault = bucket(text).expect_err(text);
            assert!(fault.contains(part), "{text}: {fault}");
        }
    }

    #[test]
    fn endpoints_are_hosts_and_never_secrets() {
        for (text, tls, authority) in [
            ("http://127.0.0.1:9000", false, "127.0.0.1:9000"),
            ("https://S3.example.com/", true, "s3.example.com"),
            ("http://[::1]:80", false, "[::1]:80"),
        ] {
            let authority = authority.to_owned();
            assert_eq!(endpoint(text), Ok(Endpoint { tls, authority }), "{text}");
        }
        for text in [
            "s3.example.com",
            "https://",
            "ftp://x",
            "http://x/path",
            "http://x:0",
            "http://x:70000",
            "http://x:",
            "http://a b",
        ] {
            assert!(endpoint(text).is_err(), "{text}");
        }
        for text in [
            "https://key:secret@host",
            "https://h/?X-Amz-Signature=secret",
        ] {
            let fault = endpoint(text).expect_err("it may hold a secret");
            assert!(!fault.contains("secret"), "{fault}");
        }
    }
}
