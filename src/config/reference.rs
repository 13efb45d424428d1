//! Writes REFERENCE.md and full.toml from the table of keys; a test keeps the files equal to what is written here.
use super::keys::KEYS;
use super::keys::Key;
use super::keys::Kind;
use crate::base::units::ByteSize;
use crate::base::units::format_duration;
use std::fmt::Write;
use std::time::Duration;

/// `config/REFERENCE.md`.
pub fn markdown() -> String {
    let mut text = String::from(
        "# Configuration reference\n\n\
         Made from the program's own table of keys; `ringway check -c FILE` tells everything that is wrong with a file at once.\n\
         Texts may hold `${NAME}` or `${NAME:-default}` from the environment; `$${` is `${` itself.\n\
         Unless a key says otherwise a change takes effect at the next reload and keeps counters, connections and health.\n",
    );
    for key in KEYS {
        let path = if key.section.is_empty() {
            key.name.to_string()
        } else {
            format!("{}.{}", key.section.replace('*', "<name>"), key.name)
        };
        let default = match (key.required, key.default) {
            (true, _) => ", required".to_string(),
            (false, "") => String::new(),
            (false, default) => format!(", default `{default}`"),
        };
        write!(text, "\n### {path}\n{}{default}. {}\n", kind(key), key.doc).expect("a text takes all that is written");
        if !key.example.is_empty() {
            writeln!(text, "Example: `{} = {}`", key.name, key.example).expect("a text takes all that is written");
        }
    }
    text
}

fn kind(key: &Key) -> String {
    match key.kind {
        Kind::Duration(0) => "Duration".into(),
        Kind::Duration(min) => format!("Duration, at least `\"{}\"`", format_duration(Duration::from_millis(min))),
        Kind::Size(min, max) => format!("Size, `\"{}\"` to `\"{}\"`", ByteSize(min), ByteSize(max)),
        Kind::Share(max) => format!("Share, at most `\"{max}%\"`"),
        Kind::Integer(min, max) => format!("Whole number, {min} to {max}"),
        Kind::Bool => "`true` or `false`".into(),
        Kind::BoolOrText => "`true`, `false` or text".into(),
        Kind::Text => "Text".into(),
        Kind::Choice(choices) => {
            choices.iter().map(|choice| format!("`\"{choice}\"`")).collect::<Vec<_>>().join(" or ")
        }
        Kind::Texts => "List of texts".into(),
        Kind::Map => "Table".into(),
        Kind::Table => "Table with the keys below".into(),
        Kind::Tables => "List of tables".into(),
    }
}

/// Before the table of an upstream whose members are learned: a route to it.
const FOUND: &str =
    "[[route]]\npath_prefix = \"/found\"\nupstream = \"found\"\nkey = [\"path\"]\n\n[upstream.found.discovery]";

/// `config/full.toml`: every key at its default, those without one as a comment.
pub fn full() -> String {
    let mut text = String::from("# Every key at its default. Keys without a default are shown as comments.\n");
    key_lines(&mut text, "", &["include"]);
    for (header, section) in [
        ("[server]", "server"),
        ("[admin]", "admin"),
        ("[log]", "log"),
        ("[[listener]]", "listener"),
        ("[[route]]", "route"),
        ("[route.retry]", "route.retry"),
        ("[route.serialize]", "route.serialize"),
        ("[route.coalesce]", "route.coalesce"),
        ("[upstream.cache]", "upstream.*"),
        ("[upstream.cache.ring]", "upstream.*.ring"),
        ("[upstream.cache.transition]", "upstream.*.transition"),
        ("[upstream.cache.load]", "upstream.*.load"),
        ("[upstream.cache.outlier]", "upstream.*.outlier"),
        ("[upstream.cache.health_check]", "upstream.*.health_check"),
        (FOUND, "upstream.*.discovery"),
        ("[store.etcd]", "store.*"),
        ("[fleet]", "fleet"),
    ] {
        write!(text, "\n{header}\n").expect("a text takes all that is written");
        let names: Vec<&str> = super::keys::of_section(section).map(|key| key.name).collect();
        key_lines(&mut text, section, &names);
    }
    text
}

fn key_lines(text: &mut String, section: &str, names: &[&str]) {
    for name in names {
        let key = super::keys::find(section, name);
        // A table without an example is shown as one of its own.
        if key.kind == Kind::Table && key.example.is_empty() {
            continue;
        }
        let sentence = key.doc.split_inclusive(". ").next().unwrap_or(key.doc).trim_end();
        writeln!(text, "# {sentence}").expect("a text takes all that is written");
        // What a table needs stands there, be it one of several that would do: full.toml is a file that works.
        let shown = match section {
            "route" => matches!(key.name, "upstream" | "key"),
            "upstream.*" => key.name == "endpoints",
            "upstream.*.discovery" => key.name == "path",
            "store.*" => matches!(key.name, "engine" | "endpoints"),
            _ => key.required,
        };
        let line = match (shown, key.default) {
            (true, _) => format!("{} = {}", key.name, key.example),
            (false, "") => format!("# {} = {}", key.name, key.example),
            (false, default) => format!("{} = {default}", key.name),
        };
        writeln!(text, "{line}").expect("a text takes all that is written");
    }
}
