//! Paths of fields: `kernel.release`, `nics.eth0.mtu_bytes`. A segment that holds a dot itself, such
//! as the name of a VLAN's interface, stands in quotes: `nics."eth0.7".mtu_bytes`.

use std::borrow::Cow;

/// The path of what lies below `path` under `name`.
pub(super) fn below(path: &str, name: &str) -> String {
    let name = if name.is_empty() || name.contains(['.', '"']) {
        Cow::Owned(serde_json::Value::from(name).to_string())
    } else {
        Cow::Borrowed(name)
    };
    match path {
        "" => name.into_owned(),
        path => format!("{path}.{name}"),
    }
}

/// The segments of a path, quotes kept.
pub(super) fn segments(path: &str) -> Vec<&str> {
    let mut segments = Vec::new();
    let (mut start, mut quoted, mut escaped) = (0, false, false);
    for (at, byte) in path.bytes().enumerate() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if quoted => escaped = true,
            b'"' => quoted = !quoted,
            b'.' if !quoted => {
                segments.push(&path[start..at]);
                start = at + 1;
            }
            _ => {}
        }
    }
    segments.push(&path[start..]);
    segments
}

/// Every beginning of a path that is a path itself, longest first, each with the beginning that is
/// one segment longer.
pub(super) fn ancestors(path: &str) -> impl Iterator<Item = (&str, &str)> {
    let mut ends: Vec<usize> = Vec::new();
    let mut end = 0;
    for segment in segments(path) {
        end += segment.len();
        ends.push(end);
        end += 1;
    }
    (1..ends.len())
        .rev()
        .map(move |at| (&path[..ends[at - 1]], &path[..ends[at]]))
}

/// Whether `pattern` (`*` stands for one segment) is the path or a beginning of it.
pub(super) fn lies_below(path: &str, pattern: &str) -> bool {
    let mut have = segments(path).into_iter();
    segments(pattern)
        .into_iter()
        .all(|wanted| have.next().is_some_and(|h| wanted == "*" || wanted == h))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_with_dots_stay_one_segment() {
        let path = below(&below("nics", "eth0.7"), "mtu_bytes");
        assert_eq!(path, "nics.\"eth0.7\".mtu_bytes");
        assert_eq!(segments(&path), ["nics", "\"eth0.7\"", "mtu_bytes"]);
        let hostile = below("environment", "a\\\".b");
        assert_eq!(segments(&below(&hostile, "c")).len(), 3, "{hostile}");
        assert!(lies_below(&path, "nics.*.mtu_bytes"));
        assert!(!lies_below(&path, "nics.eth0"));
        let above: Vec<_> = ancestors("a.b.c").collect();
        assert_eq!(above, [("a.b", "a.b.c"), ("a", "a.b")]);
    }
}
