//! A configuration's text: never a panic; a refusal says where and why; what is accepted could be run.
use ringway::config;
use ringway::config::diagnostic::Lines;
use std::collections::HashSet;

/// Names of files that never end, or that wait for somebody. A configuration that names one gets what it asks for.
const ENDLESS: [&str; 4] = ["_file", "dev", "proc", "\\u"];

/// Checks one input.
pub fn check(input: &[u8]) {
    let Ok(text) = std::str::from_utf8(input) else { return };
    if ENDLESS.iter().any(|name| text.contains(name)) {
        return;
    }
    let environment = |name: &str| (name == "SET").then(|| "value".to_string());
    match config::parse("fuzz.toml", text, &environment) {
        Err(problems) => {
            assert!(!problems.0.is_empty(), "refused without a reason");
            let (last_line, _) = Lines::of(text).position(text, text.len());
            for problem in &problems.0 {
                assert!(problem.line <= last_line + 1, "line {} of {last_line}", problem.line);
                assert!(!problem.message.is_empty() && !problem.message.contains('\n'), "{:?}", problem.message);
            }
            assert!(problems.0.is_sorted(), "problems come in the order of the file");
        }
        Ok(config) => {
            assert!(!config.listeners.is_empty() && !config.routes.is_empty());
            for upstream in &config.upstreams {
                let ids: HashSet<&str> = upstream.endpoints.iter().map(|endpoint| endpoint.id.as_str()).collect();
                assert_eq!(ids.len(), upstream.endpoints.len(), "an id twice");
            }
        }
    }
}
