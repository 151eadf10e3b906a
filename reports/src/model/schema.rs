//! The JSON Schema of reports, generated from the types, so that neither can lie about the other.

use super::{Report, SCHEMA_NAME, SCHEMA_VERSION};

/// The schema as indented JSON with a final newline.
#[must_use]
pub fn json_schema() -> String {
    let mut schema = schemars::schema_for!(Report);
    schema.insert(
        "title".to_owned(),
        format!("{SCHEMA_NAME} version {SCHEMA_VERSION}").into(),
    );
    // A schema is made of maps with string keys.
    let mut text = serde_json::to_string_pretty(&schema).expect("a schema serialises");
    text.push('\n');
    text
}
