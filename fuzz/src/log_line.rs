//! Lines of an access log: whatever stands in a file is a line or none; what the JSON of a line says is what a JSON parser reads there.
use ringway::telemetry::log_line::LogLine;
use serde_json::Value;

/// Checks one input.
pub fn check(input: &[u8]) {
    let mut scratch = Vec::new();
    let Some(line) = LogLine::parse(input, &mut scratch) else { return };
    assert!(!line.method.is_empty(), "a line without a method");
    if !line.is_own {
        assert!(line.key_hash.is_none() && line.route.is_none() && line.listener.is_none());
        return;
    }
    // A stricter reader may refuse what we read; where it does not, both must have read the same.
    let Ok(Value::Object(whole)) = serde_json::from_slice::<Value>(input) else { return };
    let has_twins = ["\"method\"", "\"path\"", "\"status\""].iter().any(|name| count(input, name.as_bytes()) != 1);
    let has_rare_escapes = input.windows(2).any(|pair| pair[0] == b'\\' && !b"\"\\/".contains(&pair[1]));
    if has_twins || has_rare_escapes {
        return;
    }
    if let Some(Value::String(path)) = whole.get("path") {
        assert_eq!(line.target, path.as_bytes(), "the path is another");
    }
    if let Some(status) = whole.get("status").and_then(Value::as_u64).filter(|status| *status < 1000) {
        assert_eq!(u64::from(line.status), status);
    }
}

fn count(text: &[u8], word: &[u8]) -> usize {
    text.windows(word.len()).filter(|window| *window == word).count()
}
