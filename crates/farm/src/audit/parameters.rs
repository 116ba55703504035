//! What of a request's parameters is kept: no secrets, and not much.

use serde_json::{Map, Value};

/// The longest text that is kept whole, in bytes: a comment, a list of kernel parameters.
const MAX_STRING: usize = 200;
/// The most elements of a list, or fields of an object, that are kept.
const MAX_ELEMENTS: usize = 30;
/// How deep objects may lie in objects.
const MAX_DEPTH: usize = 5;
/// What all of it may take as JSON, in bytes; what is larger is left out.
const MAX_BYTES: usize = 4096;
/// Fields whose name contains one of these are secrets.
const SECRET: [&str; 6] = ["password", "passphrase", "secret", "token", "private", "credential"];

/// The parameters as they are kept: secrets replaced, long texts cut, long lists shortened.
pub fn kept(parameters: Value) -> Value {
    let kept = bounded(parameters, 0);
    match kept.to_string().len() {
        size if size > MAX_BYTES => Value::String(format!("left out: {size} bytes")),
        _ => kept,
    }
}

fn bounded(value: Value, depth: usize) -> Value {
    match value {
        Value::Object(_) | Value::Array(_) if depth >= MAX_DEPTH => Value::String("left out".to_owned()),
        Value::Object(fields) => Value::Object(bounded_fields(fields, depth)),
        Value::Array(elements) => Value::Array(
            elements.into_iter().take(MAX_ELEMENTS).map(|value| bounded(value, depth + 1)).collect(),
        ),
        Value::String(text) if text.len() > MAX_STRING => {
            Value::String(format!("{}...", &text[..text.floor_char_boundary(MAX_STRING)]))
        }
        short => short,
    }
}

fn bounded_fields(fields: Map<String, Value>, depth: usize) -> Map<String, Value> {
    let field = |(name, value): (String, Value)| {
        let value = match is_secret(&name) {
            true => Value::String("(secret)".to_owned()),
            false => bounded(value, depth + 1),
        };
        (name, value)
    };
    fields.into_iter().filter(|(name, _)| name.len() <= MAX_STRING).take(MAX_ELEMENTS).map(field).collect()
}

fn is_secret(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    SECRET.iter().any(|secret| name.contains(secret))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn secrets_are_replaced_at_any_depth() {
        let said = json!({"name": "a", "hook": {"adminPassword": "x", "env": [{"api_token": {"a": 1}}]}});
        let kept = kept(said).to_string();
        assert!(
            kept.contains(r#""name":"a""#) && !kept.contains("\"x\"") && !kept.contains("\"a\":1"),
            "{kept}"
        );
    }

    #[test]
    fn what_is_large_is_bounded() {
        assert!(kept(json!("ü".repeat(100_000))).to_string().len() < 300);
        assert!(kept(json!(vec!["a".repeat(1000); 1000])).to_string().len() <= MAX_BYTES);
        let deep = (0..100).fold(json!(1), |inner, _| json!([inner]));
        assert!(kept(deep).to_string().len() < 100);
        assert!(kept(json!({"a".repeat(10_000): 1})).to_string().len() < 100);
    }
}
