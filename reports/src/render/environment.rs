//! A machine's fingerprint, or any other JSON, as indented lines.

use super::style::Style;
use super::text::{columns, fold, pad, push_folded, visible};
use serde_json::Value;

/// The column at which values begin.
const VALUES: usize = 31;

/// A host's fingerprint, or any other JSON, as indented lines; reasons for unknown values in grey.
#[must_use]
pub fn environment(value: &Value, style: &Style) -> String {
    let mut text = String::new();
    tree(&mut text, value, 0, *style);
    style.finish(text)
}

fn tree(text: &mut String, value: &Value, depth: usize, style: Style) {
    let Value::Object(map) = value else {
        return;
    };
    for (name, value) in map {
        let name = format!("{}{}", "  ".repeat(depth), visible(name));
        if let Some(leaf) = leaf(value) {
            let width = style.width.map(|width| width.saturating_sub(VALUES));
            let mut name = pad(&name, VALUES - 1);
            if style.width.is_some() && columns(&name) >= VALUES {
                push_folded(text, &name, 0, style.width);
                name = pad("", VALUES - 1);
            }
            for line in fold(&leaf, width) {
                let line = match is_unavailable(value) {
                    true => style.faint(&line),
                    false => line,
                };
                text.push_str(&format!("{name} {line}\n"));
                name = pad("", VALUES - 1);
            }
            continue;
        }
        let mut title = String::new();
        push_folded(&mut title, &name, 0, style.width);
        for line in title.lines() {
            text.push_str(&(style.bold(line) + "\n"));
        }
        let items = value
            .as_array()
            .map_or(std::slice::from_ref(value), Vec::as_slice);
        for (index, item) in items.iter().enumerate() {
            if index > 0 {
                text.push('\n');
            }
            tree(text, item, depth + 1, style);
        }
    }
}

fn is_unavailable(value: &Value) -> bool {
    value.as_object().is_some_and(|map| map.len() == 1)
        && value.get("unavailable").is_some_and(Value::is_string)
}

/// A value that stands on its name's line: a scalar, a reason, a list of scalars.
fn leaf(value: &Value) -> Option<String> {
    match value {
        Value::Object(map) if map.is_empty() => Some("none".to_owned()),
        Value::Object(_) if is_unavailable(value) => {
            let reason = value["unavailable"].as_str().unwrap_or_default();
            Some(format!("unavailable: {}", visible(reason)))
        }
        Value::Object(_) => None,
        Value::Array(items) if items.is_empty() => Some("none".to_owned()),
        Value::Array(items) => {
            let leaves: Option<Vec<_>> = items
                .iter()
                .map(|item| if item.is_object() { None } else { leaf(item) })
                .collect();
            leaves.map(|leaves| leaves.join(" "))
        }
        Value::String(text) => Some(visible(text.trim()).into_owned()),
        Value::Null => Some(String::new()),
        other => Some(other.to_string()),
    }
}
