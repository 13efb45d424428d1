//! A JSON Schema of the configuration, from the table of keys: for editors that complete and check while one types. The
//! program's own check says more; what the schema refuses, it refuses too.
use super::keys::KEYS;
use super::keys::Key;
use super::keys::Kind;
use super::keys::of_section;
use serde_json::Map;
use serde_json::Value;
use serde_json::json;

/// A text with `${NAME}` in it may be anything once the environment is known.
const FROM_ENVIRONMENT: &str = r"\$\{";

/// The schema, by draft 2020-12.
pub fn schema() -> Value {
    let Value::Object(mut schema) = table("") else { return Value::Null };
    schema.insert("$schema".into(), json!("https://json-schema.org/draft/2020-12/schema"));
    schema.insert("title".into(), json!("Ringway configuration"));
    // A file that is included by another may leave out what that one says.
    schema.remove("required");
    Value::Object(schema)
}

/// A table whose keys are those of `section`, and no others.
fn table(section: &str) -> Value {
    let properties: Map<String, Value> = of_section(section).map(|key| (key.name.into(), property(key))).collect();
    let required: Vec<&str> = of_section(section).filter(|key| key.required).map(|key| key.name).collect();
    let mut table = json!({ "type": "object", "properties": properties, "additionalProperties": false });
    if !required.is_empty() {
        table["required"] = json!(required);
    }
    table
}

fn property(key: &Key) -> Value {
    let mut property = shape(key);
    property["description"] = json!(key.doc);
    if let Some(default) = value_of(key.default) {
        property["default"] = default;
    }
    if let Some(example) = value_of(key.example) {
        property["examples"] = json!([example]);
    }
    property
}

fn shape(key: &Key) -> Value {
    let number = r"[0-9]+(\.[0-9]+)?";
    match key.kind {
        Kind::Duration(_) => text_like(&format!("^{number}(us|ms|s|m|h|d)$")),
        Kind::Size(..) => text_like(&format!("^{number}(B|KiB|MiB|GiB|TiB|kB|MB|GB)$")),
        Kind::Share(_) => text_like(&format!("^{number}%$")),
        Kind::Integer(min, max) => json!({ "type": "integer", "minimum": min, "maximum": max }),
        Kind::Bool => json!({ "type": "boolean" }),
        Kind::BoolOrText => json!({ "type": ["boolean", "string"] }),
        Kind::Text => json!({ "type": "string" }),
        Kind::Choice(choices) => {
            json!({ "type": "string", "anyOf": [{ "enum": choices }, { "pattern": FROM_ENVIRONMENT }] })
        }
        Kind::Texts => json!({ "type": "array", "items": { "type": "string" } }),
        Kind::Map => json!({ "type": "object", "additionalProperties": named(key) }),
        Kind::Table => table(&below(key)),
        Kind::Tables => json!({ "type": "array", "items": table(&below(key)) }),
    }
}

fn text_like(pattern: &str) -> Value {
    json!({ "type": "string", "pattern": format!("{pattern}|{FROM_ENVIRONMENT}") })
}

/// What a table of names holds: tables with keys of their own where the table of keys has them, else texts.
fn named(key: &Key) -> Value {
    let section = format!("{}.*", below(key));
    if KEYS.iter().any(|key| key.section == section) { table(&section) } else { json!({ "type": "string" }) }
}

fn below(key: &Key) -> String {
    if key.section.is_empty() { key.name.into() } else { format!("{}.{}", key.section, key.name) }
}

/// A default or an example, as JSON.
fn value_of(toml: &str) -> Option<Value> {
    let table: toml::Table = toml::from_str(&format!("value = {toml}")).ok()?;
    serde_json::to_value(&table["value"]).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What the schema has against a value. Knows the words that `schema` writes, and no others.
    fn problems(schema: &Value, value: &Value, path: &str) -> Vec<String> {
        let told = |what: &str| vec![format!("{path}: {what}")];
        let is_of_type = match schema["type"].as_str() {
            Some("object") => value.is_object(),
            Some("array") => value.is_array(),
            Some("string") => value.is_string(),
            Some("integer") => value.is_u64(),
            Some("boolean") => value.is_boolean(),
            None if schema["type"] == json!(["boolean", "string"]) => value.is_boolean() || value.is_string(),
            other => panic!("{path}: type {other:?}"),
        };
        if !is_of_type {
            return told("type");
        }
        match value {
            Value::Object(table) => {
                let missing = schema["required"].as_array().into_iter().flatten();
                let missing = missing.filter_map(|name| name.as_str()).filter(|name| !table.contains_key(*name));
                let mut all: Vec<String> = missing.map(|name| format!("{path}.{name}: missing")).collect();
                for (name, value) in table {
                    let path = format!("{path}.{name}");
                    match schema["properties"].get(name).unwrap_or(&schema["additionalProperties"]) {
                        Value::Bool(false) => all.push(format!("{path}: unknown")),
                        schema => all.extend(problems(schema, value, &path)),
                    }
                }
                all
            }
            Value::Array(items) => items.iter().flat_map(|item| problems(&schema["items"], item, path)).collect(),
            Value::String(text) => {
                let matches = |pattern: &Value| regex::Regex::new(pattern.as_str().unwrap()).unwrap().is_match(text);
                let allowed = |schema: &Value| {
                    schema.get("pattern").is_none_or(matches)
                        && schema["enum"].as_array().is_none_or(|choices| choices.contains(value))
                };
                let any = schema["anyOf"].as_array().is_none_or(|schemas| schemas.iter().any(allowed));
                if allowed(schema) && any { vec![] } else { told("value") }
            }
            Value::Number(_) => {
                let in_range =
                    schema["minimum"].as_u64() <= value.as_u64() && value.as_u64() <= schema["maximum"].as_u64();
                if in_range { vec![] } else { told("range") }
            }
            _ => vec![],
        }
    }

    fn check(toml: &str, expected: &[&str]) {
        let table: toml::Table = toml::from_str(toml).unwrap();
        assert_eq!(problems(&schema(), &serde_json::to_value(table).unwrap(), ""), expected, "{toml}");
    }

    #[test]
    fn the_files_we_ship_are_valid() {
        for name in ["minimal.toml", "full.toml"] {
            check(&std::fs::read_to_string(format!("{}/config/{name}", env!("CARGO_MANIFEST_DIR"))).unwrap(), &[]);
        }
    }

    #[test]
    fn what_is_wrong_is_refused() {
        check("[server]\nworkers = 0\nworker = 1\n", &[".server.worker: unknown", ".server.workers: range"]);
        check("[server]\nreload = \"never\"\n", &[".server.reload: value"]);
        check("[server]\nreload = \"${HOW}\"\ndrain_timeout = \"${T:-5}m\"\n", &[]);
        check("[[listener]]\nbody_timeout = \"5\"\n", &[".listener.address: missing", ".listener.body_timeout: value"]);
        check("[upstream.u]\nendpoints = [{ id = \"a\" }]\n", &[".upstream.u.endpoints.address: missing"]);
    }

    #[test]
    fn every_key_is_in_it_with_its_words_and_its_default() {
        let schema = schema().to_string();
        for key in KEYS {
            assert!(schema.contains(&json!(key.doc).to_string()), "{}.{}", key.section, key.name);
            let default = value_of(key.default);
            assert_eq!(default.is_some(), !key.default.is_empty(), "{} is not TOML", key.default);
        }
    }
}
