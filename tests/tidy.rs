//! The house rules that no other tool holds: which module may use which, a `//!` on each file, reasons on exceptions,
//! metrics that are documented. Reads the sources as text, line by line; `HOUSE` below is the table of layers.
//!
//! Blind spots: it takes one `use crate::x::Y;` per line and cannot follow re-exports, so both are refused at the root.
use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

/// Modules by layer, lowest first. A module uses lower layers and itself; never its own layer's others.
const HOUSE: &[&[&str]] = &[
    &["base"],
    &["head"],
    &["ring", "key", "hotkeys", "health", "retry", "limit", "http1", "net"],
    &["http2", "route", "telemetry"],
    &["store"],
    &["lock"],
    &["snapshot"],
    &["worker"],
    &["wire"],
    &["pool", "probe"],
    &["discovery", "fleet"],
    &["proxy", "control", "analysis"],
    &["listener", "admin", "lifecycle"],
    &["config"],
    &["app"],
    &["cli"],
    &["main"],
];

/// A file longer than this is listed in `LONG` with its length, and may only shrink.
const LONG_FROM: usize = 600;
const LONG: &[(&str, usize)] = &[];

/// Folders of one person's machine; paths into them have no place in the sources.
const MACHINE_FOLDERS: &[&str] = &["work", "tmp/rw"];

#[test]
fn the_house_is_tidy() {
    let mut problems = Vec::new();
    for (path, text) in files(&["src"], "rs") {
        problems.extend(layering(&path, &text));
        problems.extend(length(&path, text.lines().count(), LONG));
    }
    for (path, text) in files(&["src", "tests", "benches", "fuzz"], "rs") {
        problems.extend(style(&path, &text));
    }
    for (path, text) in
        files(&["src", "tests", "benches", "fuzz", "docs", "docker", "deploy", "scripts", "config", "."], "")
    {
        problems.extend(machine_paths(&path, &text));
    }
    problems.extend(undocumented_metrics());
    let known = metric_names(&read("src/telemetry/metrics.rs"));
    for (path, text) in files(&["docker", "deploy"], "") {
        problems.extend(unknown_metrics(&path, &text, &known));
    }
    assert!(problems.is_empty(), "\n{}\n", problems.join("\n"));
}

/// Who uses whom in one file of `src`.
fn layering(path: &str, text: &str) -> Vec<String> {
    let user = module_of(path);
    let own_layer = layer(user);
    let mut problems = Vec::new();
    if own_layer.is_none() && user != "lib" {
        problems.push(format!("{path}: {user} is in no layer of tests/tidy.rs"));
    }
    let at_root = path.ends_with(&format!("src/{user}.rs")) || path.ends_with(&format!("src/{user}/mod.rs"));
    for (number, line) in text.lines().enumerate().map(|(i, line)| (i + 1, code(line))) {
        let mut report = |what: &str| problems.push(format!("{path}:{number}: {what}"));
        for used in used_modules(line, user) {
            match layer(used) {
                _ if used == user => {}
                None if used.is_empty() => report("write one `use crate::x::Y;` per line, no group at the root"),
                // A macro or item of the root; the root only lists modules, so it is one of a name not known yet.
                None => report(&format!("{used} is in no layer of tests/tidy.rs")),
                Some(used_layer) if own_layer.is_some_and(|own| used_layer < own) => {}
                Some(_) => report(&format!("{user} must not use {used}")),
            }
        }
        if line.contains("super::super::") || (at_root && line.starts_with("use super::")) {
            report("name the other module from `crate::`, so that its layer can be seen");
        }
        if user == "lib" && line.trim_start().starts_with("pub use ") {
            report("the root re-exports nothing");
        }
    }
    problems
}

/// What every source file owes its reader.
fn style(path: &str, text: &str) -> Vec<String> {
    let mut problems = Vec::new();
    if !text.starts_with("//!") {
        problems.push(format!("{path}: begin with `//!`: what this file is for"));
    }
    let lines: Vec<&str> = text.lines().collect();
    for (i, line) in lines.iter().enumerate() {
        let mut report = |what: &str| problems.push(format!("{path}:{}: {what}", i + 1));
        let attribute = line.trim_start();
        if attribute.starts_with("#[ignore]") {
            report("say why: #[ignore = \"...\"]");
        }
        if ["#[allow(", "#[expect(", "#![allow(", "#![expect("].iter().any(|start| attribute.starts_with(start)) {
            let whole = lines[i..].iter().scan(false, |ended, line| {
                let before = *ended;
                *ended |= line.contains(")]");
                (!before).then_some(*line)
            });
            let commented = i > 0 && lines[i - 1].trim_start().starts_with("// ") || attribute.contains(")] // ");
            if !commented && !whole.into_iter().any(|line| line.contains("reason =")) {
                report("say why: reason = \"...\"");
            }
        }
        for unfinished in ["todo", "unimplemented", "dbg"] {
            if words(code(line), &format!("{unfinished}!(")).next().is_some() {
                report(&format!("{unfinished}! is for work in progress"));
            }
        }
    }
    problems
}

fn length(path: &str, lines: usize, long: &[(&str, usize)]) -> Option<String> {
    let limit = long.iter().find(|(file, _)| *file == path).map_or(LONG_FROM, |(_, lines)| *lines);
    (lines > limit).then(|| format!("{path}: {lines} lines, at most {limit}: split it, or raise it in tests/tidy.rs"))
}

fn machine_paths(path: &str, text: &str) -> Vec<String> {
    let paths = MACHINE_FOLDERS.iter().map(|folder| format!("/{folder}/"));
    paths
        .filter(|needle| text.contains(needle))
        .map(|needle| format!("{path}: names {needle}, a path of one machine"))
        .collect()
}

/// Metrics that `src/telemetry/metrics.rs` declares and neither the README nor docs/METRICS.md names.
fn undocumented_metrics() -> Vec<String> {
    let docs = read("README.md") + &read("docs/METRICS.md");
    let missing = metric_names(&read("src/telemetry/metrics.rs")).into_iter().filter(|name| !docs.contains(name));
    missing.map(|name| format!("src/telemetry/metrics.rs: {name} is not in README.md or docs/METRICS.md")).collect()
}

/// Metrics that a rule, a board or a page names and nobody declares.
fn unknown_metrics(path: &str, text: &str, known: &BTreeSet<String>) -> Vec<String> {
    let is_name = |c: char| c.is_ascii_lowercase() || c == '_';
    let named: BTreeSet<&str> =
        words(text, "ringway_").map(|rest| rest.split(|c| !is_name(c)).next().unwrap_or(rest)).collect();
    let is_known = |name: &str| {
        let parts = ["_bucket", "_sum", "_count"].iter().find_map(|part| name.strip_suffix(part));
        name.ends_with('_') || [Some(name), parts].into_iter().flatten().any(|name| known.contains(name))
    };
    let unknown = named.into_iter().map(|rest| format!("ringway_{rest}")).filter(|name| !is_known(name));
    unknown.map(|name| format!("{path}: {name} is no metric of src/telemetry/metrics.rs")).collect()
}

/// A file of the repository.
fn read(path: &str) -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(path)).unwrap_or_default()
}

/// Every quoted `ringway_...`, and every `name: "..."` with the prefix put before it.
fn metric_names(text: &str) -> BTreeSet<String> {
    let is_name = |name: &&str| !name.is_empty() && name.bytes().all(|b| b.is_ascii_lowercase() || b == b'_');
    let named = text.lines().map(code).filter_map(|line| line.split("name: \"").nth(1)?.split('"').next());
    let quoted = text.lines().map(code).flat_map(|line| line.split('"').skip(1).step_by(2));
    let full = quoted.filter(|name| name.len() > "ringway_".len() && name.starts_with("ringway_"));
    named.chain(full).filter(is_name).map(|name| format!("ringway_{}", name.trim_start_matches("ringway_"))).collect()
}

/// `pool` for `src/pool/http1.rs`, `app` for `src/app.rs`.
fn module_of(path: &str) -> &str {
    let inside = path.split_once("src/").map_or(path, |(_, inside)| inside);
    inside.split('/').next().unwrap_or(inside).trim_end_matches(".rs")
}

fn layer(module: &str) -> Option<usize> {
    HOUSE.iter().position(|layer| layer.contains(&module))
}

/// A line without its comment; a `//` within quotes is text.
fn code(line: &str) -> &str {
    let comment = line.match_indices("//").find(|(at, _)| line[..*at].matches('"').count().is_multiple_of(2));
    &line[..comment.map_or(line.len(), |(at, _)| at)]
}

/// The modules a line names from the crate's root; an empty one for a group. `main` says `ringway::` for `crate::`.
fn used_modules<'a>(line: &'a str, user: &str) -> impl Iterator<Item = &'a str> {
    let root = if user == "main" { "ringway::" } else { "crate::" };
    words(line, root).map(|after| after.split(|c: char| c != '_' && !c.is_alphanumeric()).next().unwrap_or(after))
}

/// What follows each `needle` that begins a word.
fn words<'a>(line: &'a str, needle: &str) -> impl Iterator<Item = &'a str> {
    let starts = |at: usize| !line[..at].ends_with(|c: char| c == '_' || c.is_alphanumeric());
    let found: Vec<&str> =
        line.match_indices(needle).filter(|(at, _)| starts(*at)).map(|(at, n)| &line[at + n.len()..]).collect();
    found.into_iter()
}

/// Text files below the folders, as (path from the repository's root, text); `.` is the root's own files.
fn files(folders: &[&str], extension: &str) -> Vec<(String, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut found = Vec::new();
    let mut open: Vec<_> = folders.iter().map(|folder| (root.join(folder), *folder != ".")).collect();
    while let Some((folder, deep)) = open.pop() {
        for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
            let path = entry.path();
            let name = entry.file_name();
            let skipped =
                [".git", "target", "corpus", "artifacts", "__pycache__"].iter().any(|folder| name == **folder);
            if path.is_dir() && deep && !skipped {
                open.push((path, true));
            } else if path.is_file()
                && !skipped
                && (extension.is_empty() || path.extension().is_some_and(|e| e == extension))
            {
                let text = fs::read_to_string(&path).unwrap_or_default();
                found.push((path.strip_prefix(root).expect("found below it").display().to_string(), text));
            }
        }
    }
    found.sort();
    found
}

/// Each rule reports the case it is there for, and only that.
mod rules {
    use super::*;

    fn check(found: impl IntoIterator<Item = String>, expected: &[&str]) {
        assert_eq!(found.into_iter().collect::<Vec<_>>(), expected);
    }

    #[test]
    fn a_use_upward_or_sideways_is_reported_and_one_downward_is_not() {
        let upward = "//! x\nuse crate::base::ids::EndpointId;\nuse crate::control::Event;\n";
        check(layering("src/pool/http1.rs", upward), &["src/pool/http1.rs:3: pool must not use control"]);
        check(layering("src/ring/mod.rs", "use crate::key::Key;"), &["src/ring/mod.rs:1: ring must not use key"]);
        check(layering("src/ring/mod.rs", "let x = crate::key::y();"), &["src/ring/mod.rs:1: ring must not use key"]);
        check(layering("src/ring/mod.rs", "// crate::key, see\nuse crate::ring::b;\nuse mycrate::key;"), &[]);
        check(layering("src/main.rs", "ringway::cli::run()"), &[]);
        check(layering("src/base/x.rs", "fn x() { ringway::cli::run() }"), &[]);
    }

    #[test]
    fn a_way_around_the_table_is_reported() {
        let group = "write one `use crate::x::Y;` per line, no group at the root";
        check(layering("src/cli/a.rs", "use crate::{app, base};"), &[&format!("src/cli/a.rs:1: {group}")]);
        let root = "name the other module from `crate::`, so that its layer can be seen";
        check(layering("src/pool/mod.rs", "use super::control;"), &[&format!("src/pool/mod.rs:1: {root}")]);
        check(layering("src/pool/a.rs", "use super::super::control;"), &[&format!("src/pool/a.rs:1: {root}")]);
        check(layering("src/pool/a.rs", "use super::Pool;"), &[]);
        check(layering("src/lib.rs", "pub use ring::Ring;"), &["src/lib.rs:1: the root re-exports nothing"]);
        check(layering("src/util/mod.rs", ""), &["src/util/mod.rs: util is in no layer of tests/tidy.rs"]);
    }

    #[test]
    fn a_file_without_a_heading_is_reported() {
        check(style("src/a.rs", "fn a() {}\n"), &["src/a.rs: begin with `//!`: what this file is for"]);
    }

    #[test]
    fn an_exception_without_a_reason_is_reported() {
        let ignored = ["//! x\n#[ignore", "]\nfn a() {}\n#[ignore = \"slow\"]\n"].concat();
        check(style("a.rs", &ignored), &["a.rs:2: say why: #[ignore = \"...\"]"]);
        let allowed = ["//! x\n#[all", "ow(dead_code)]\n#[allow(\n    dead_code,\n    reason = \"x\"\n)]\n"].concat();
        check(style("a.rs", &allowed), &["a.rs:2: say why: reason = \"...\""]);
        check(style("a.rs", "//! x\n// Windows only.\n#[expect(dead_code)]\n"), &[]);
        let unfinished = ["//! x\nfn a() { to", "do!() }\n"].concat();
        check(style("a.rs", &unfinished), &["a.rs:2: todo! is for work in progress"]);
    }

    #[test]
    fn a_long_file_may_only_shrink() {
        let told = "a.rs: 601 lines, at most 600: split it, or raise it in tests/tidy.rs";
        check(length("a.rs", 601, &[]), &[told]);
        check(length("a.rs", 700, &[("a.rs", 700)]), &[]);
        assert!(length("a.rs", 701, &[("a.rs", 700)]).is_some());
    }

    #[test]
    fn metrics_are_found_however_they_are_written() {
        let text =
            "opts(\"ringway_pool_total\", \"Help.\");\n// \"ringway_no\"\nMetric { name: \"ring_points\", help };\n";
        let expected = ["ringway_pool_total", "ringway_ring_points"].map(String::from);
        assert_eq!(metric_names(text), BTreeSet::from(expected));
    }

    #[test]
    fn a_metric_that_nobody_declares_is_reported() {
        let known = BTreeSet::from(["ringway_x_total", "ringway_y_seconds"].map(String::from));
        let text = "rate(ringway_x_total[1m]) ringway_y_seconds_bucket ringway_z_total `ringway_*`";
        check(
            unknown_metrics("a.yml", text, &known),
            &["a.yml: ringway_z_total is no metric of src/telemetry/metrics.rs"],
        );
    }

    #[test]
    fn a_machine_path_is_reported() {
        let path = format!("/{}/", MACHINE_FOLDERS[0]);
        let told = format!("README.md: names {path}, a path of one machine");
        check(machine_paths("README.md", &format!("see {path}x")), &[&told]);
    }
}
