//! A configuration as one text, to be told to a proxy from afar: that opens no file for it, and has another environment.
use super::diagnostic::Diagnostic;
use super::diagnostic::Diagnostics;
use super::files;
use std::ops::Range;
use std::path::Path;
use toml::de::DeTable;
use toml::de::DeValue;

/// A place in a text, and what comes there.
type Edit = (Range<usize>, String);

/// The text of a file with the files it includes below it, and in place of each `${NAME}` what `environment` has for it; what that
/// lacks stays. One file keeps its lines.
///
/// # Errors
/// When a file cannot be read, or one that is included begins with a key: that would fall into the last table of the file before.
pub fn one_text(path: &Path, environment: &dyn Fn(&str) -> Option<String>) -> Result<String, Diagnostics> {
    let sources = files::read(path)?;
    let mut whole = String::new();
    for (place, file) in sources.files.iter().enumerate() {
        let (table, errors) = DeTable::parse_recoverable(&file.text);
        if !errors.is_empty() {
            // What is wrong is told by whoever reads it.
            whole.push_str(&file.text);
            continue;
        }
        if place > 0 && !begins_with_a_table(&file.text) {
            let message = "begins with a key, not with a [table]: it cannot be put below the file that includes it";
            let file = file.name.clone();
            return Err(Diagnostics(vec![Diagnostic { file, line: 1, column: 1, message: message.into() }]));
        }
        let mut edits = Vec::new();
        for (key, value) in table.get_ref() {
            match key.get_ref().as_ref() {
                "include" if place == 0 => edits.push((key.span().start..value.span().end, String::new())),
                _ => expand(value.span(), value.get_ref(), environment, &mut edits),
            }
        }
        edits.sort_by_key(|(range, _)| range.start);
        let mut text = file.text.clone();
        edits.into_iter().rev().for_each(|(range, with)| text.replace_range(range, &with));
        whole.push_str(&text);
        if !whole.ends_with('\n') {
            whole.push('\n');
        }
    }
    Ok(whole)
}

fn begins_with_a_table(text: &str) -> bool {
    let first = text.lines().map(str::trim).find(|line| !line.is_empty() && !line.starts_with('#'));
    first.is_none_or(|line| line.starts_with('['))
}

/// Notes what texts in a value become.
fn expand(
    span: Range<usize>,
    value: &DeValue<'_>,
    environment: &dyn Fn(&str) -> Option<String>,
    edits: &mut Vec<Edit>,
) {
    match value {
        DeValue::String(text) if text.contains("${") => {
            // A text of JSON is one of TOML.
            edits.push((span, serde_json::Value::from(expanded(text, environment)).to_string()));
        }
        DeValue::Array(items) => items.iter().for_each(|it| expand(it.span(), it.get_ref(), environment, edits)),
        DeValue::Table(table) => {
            table.iter().for_each(|(_, it)| expand(it.span(), it.get_ref(), environment, edits));
        }
        _ => {}
    }
}

/// A text with what the environment has; the rest, `$${` included, as it is.
fn expanded(text: &str, environment: &dyn Fn(&str) -> Option<String>) -> String {
    let (mut whole, mut rest) = (String::new(), text);
    while let Some(at) = rest.find("${") {
        let end = rest[at..].find('}').map(|length| at + length).filter(|_| !rest[..at].ends_with('$'));
        let value = end.and_then(|end| {
            let (name, default) = match rest[at + 2..end].split_once(":-") {
                Some((name, default)) => (name, Some(default)),
                None => (&rest[at + 2..end], None),
            };
            // What comes in from there stands for itself.
            environment(name).or(default.map(str::to_string)).map(|value| (value.replace("${", "$${"), end + 1))
        });
        let (value, next) = value.unwrap_or_else(|| ("${".into(), at + 2));
        whole.push_str(&rest[..at]);
        whole.push_str(&value);
        rest = &rest[next..];
    }
    whole.push_str(rest);
    whole
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config;

    fn environment(name: &str) -> Option<String> {
        match name {
            "HOST" => Some("10.0.0.9".into()),
            "ODD" => Some("a\"b\\${HOST}".into()),
            _ => None,
        }
    }

    fn text_of(files: &[(&str, &str)]) -> Result<String, String> {
        let folder = tempfile::tempdir().unwrap();
        files.iter().for_each(|(name, text)| std::fs::write(folder.path().join(name), text).unwrap());
        one_text(&folder.path().join(files[0].0), &environment).map_err(|problems| problems.to_string())
    }

    #[test]
    fn the_environment_stands_in_texts_and_nowhere_else() {
        for (text, expected) in [
            ("a = \"${HOST}:${PORT:-80}\" # ${HOST}\n", "a = \"10.0.0.9:80\" # ${HOST}\n"),
            ("a = [{ b = '${HOST}' }]\n", "a = [{ b = \"10.0.0.9\" }]\n"),
            ("a = '${ODD}'\n", "a = \"a\\\"b\\\\$${HOST}\"\n"),
            ("a = \"$${HOST} ${NONE} ${HOST\"\n", "a = \"$${HOST} ${NONE} ${HOST\"\n"),
            ("a = ${HOST}\n", "a = ${HOST}\n"),
            ("[t]\nb.c = \"${HOST}\"", "[t]\nb.c = \"10.0.0.9\"\n"),
        ] {
            assert_eq!(text_of(&[("f.toml", text)]).unwrap(), expected, "{text}");
        }
    }

    #[test]
    fn included_files_stand_below_and_mean_the_same() {
        let main = "include = [\"u*.toml\"]\n[[listener]]\naddress = \"127.0.0.1:80\"\n[[route]]\nupstream = \"u\"\n";
        let more = "# of one team\n\n[upstream.u]\nendpoints = [{ id = \"a\", address = \"${HOST}:80\" }]";
        let whole = text_of(&[("f.toml", main), ("u.toml", more)]).unwrap();
        let config = config::parse_sent(&whole).unwrap();
        assert_eq!(config.upstreams[0].endpoints[0].address.to_string(), "10.0.0.9:80");
        let told = text_of(&[("f.toml", main), ("u.toml", "upstream.u.endpoints = []\n")]).unwrap_err();
        assert!(told.contains("u.toml:1:1: begins with a key"), "{told}");
    }
}
