//! Older versions of the format, brought to the current one step by step. Each step knows two
//! versions and works on plain JSON, because the types know the newest only.

use super::SCHEMA_VERSION;
use serde_json::{Map, Value};

/// A step from one version to the next.
type Step = fn(&mut Map<String, Value>) -> Result<(), String>;

/// The steps, the first from version 1 to 2.
const STEPS: &[Step] = &[status_of_validity];

/// Brings a report of `version` to [`SCHEMA_VERSION`]. The error names the path of the fault.
pub(super) fn to_current(mut report: Value, version: u32) -> Result<Value, String> {
    let from = version
        .checked_sub(1)
        .ok_or("schema.version: 0, but the first version is 1")?;
    let fields = report
        .as_object_mut()
        .ok_or("a report is an object, and this is none")?;
    for step in STEPS.iter().skip(from as usize) {
        step(fields)?;
    }
    let schema = fields.get_mut("schema").and_then(Value::as_object_mut);
    let schema = schema.ok_or("schema: it is no object")?;
    schema.insert("version".to_owned(), SCHEMA_VERSION.into());
    Ok(report)
}

/// 1 to 2: `validity` says in one word what its flags come to.
fn status_of_validity(report: &mut Map<String, Value>) -> Result<(), String> {
    let cases = report.get_mut("cases").and_then(Value::as_array_mut);
    for (index, case) in cases.ok_or("cases: missing")?.iter_mut().enumerate() {
        let path = format!("cases[{index}].outcome");
        let outcome = case.get_mut("outcome").and_then(Value::as_object_mut);
        let outcome = outcome.ok_or_else(|| format!("{path}: missing"))?;
        if outcome
            .get("status")
            .is_none_or(|status| status != "measured")
        {
            continue;
        }
        let path = format!("{path}.validity");
        let validity = outcome.get_mut("validity").and_then(Value::as_object_mut);
        let validity = validity.ok_or_else(|| format!("{path}: missing"))?;
        let flags = validity.get("flags").and_then(Value::as_array);
        let flags = flags.ok_or_else(|| format!("{path}.flags: missing"))?;
        let has = |severity: &str| flags.iter().any(|flag| flag["severity"] == severity);
        let status = match (has("invalid"), has("degraded")) {
            (true, _) => "invalid",
            (false, true) => "degraded",
            (false, false) => "valid",
        };
        validity.insert("status".to_owned(), status.into());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_is_a_step_from_every_older_version() {
        assert_eq!(STEPS.len() as u32, SCHEMA_VERSION - 1);
    }
}
