//! A configuration's text as it may be shown: values of keys that hold secrets, passwords in URLs, and comments about such are
//! replaced by `***`.
use std::ops::Range;
use toml::Spanned;
use toml::de::DeTable;
use toml::de::DeValue;

/// What stands for a secret.
const MASK: &str = "***";
/// A key with one of these in its name holds a secret, unless it names a file.
const SECRETS: &[&str] = &[
    "password",
    "passwd",
    "secret",
    "token",
    "authorization",
    "cookie",
    "credential",
    "api_key",
    "apikey",
    "private_key",
];
/// Endings of keys that name where a secret is.
const PLACES: &[&str] = &["_file", "_path"];

/// The text with its secrets masked. What is no TOML is not shown at all.
pub fn masked(text: &str) -> String {
    let (table, errors) = DeTable::parse_recoverable(text);
    if !errors.is_empty() {
        return format!("# {MASK}\n");
    }
    let mut found = Found { text, masks: Vec::new(), strings: Vec::new() };
    found.table(table.get_ref(), false);
    found.comments();
    let mut masks = found.masks;
    masks.sort_by_key(|(range, _)| range.start);
    let (mut shown, mut at) = (String::new(), 0);
    for (range, mask) in masks {
        if range.start < at {
            continue;
        }
        shown.push_str(&text[at..range.start]);
        shown.push_str(mask);
        at = range.end;
    }
    shown + &text[at..]
}

struct Found<'a> {
    text: &'a str,
    /// What is replaced, and by what.
    masks: Vec<(Range<usize>, &'static str)>,
    /// Where a `#` begins no comment.
    strings: Vec<Range<usize>>,
}

impl Found<'_> {
    fn table(&mut self, table: &DeTable<'_>, is_secret: bool) {
        for (name, value) in table {
            self.strings.push(name.span());
            self.value(value, is_secret || is_secret_name(name.get_ref()));
        }
    }

    fn value(&mut self, value: &Spanned<DeValue<'_>>, is_secret: bool) {
        match value.get_ref() {
            DeValue::Table(table) => self.table(table, is_secret),
            DeValue::Array(array) => array.iter().for_each(|item| self.value(item, is_secret)),
            DeValue::String(_) => {
                self.strings.push(value.span());
                match is_secret {
                    true => self.masks.push((value.span(), "\"***\"")),
                    false => self.userinfo(value.span()),
                }
            }
            _ if is_secret => self.masks.push((value.span(), "\"***\"")),
            _ => {}
        }
    }

    /// `redis://user:password@host`
    fn userinfo(&mut self, span: Range<usize>) {
        let mut at = span.start;
        while let Some(scheme) = self.text[at..span.end].find("://") {
            let start = at + scheme + "://".len();
            let rest = &self.text[start..span.end];
            let end = rest.find(['/', '?', ' ', '"', '\'', ',']).unwrap_or(rest.len());
            if let Some(length) = rest[..end].rfind('@') {
                self.masks.push((start..start + length, MASK));
            }
            at = start;
        }
    }

    /// Comments that speak of secrets: what was commented out may still be in use elsewhere.
    fn comments(&mut self) {
        self.strings.sort_by_key(|range| range.start);
        let mut at = 0;
        let mut strings = std::mem::take(&mut self.strings).into_iter().peekable();
        while let Some(found) = self.text[at..].find('#') {
            let start = at + found;
            while strings.next_if(|range| range.end <= start).is_some() {}
            if let Some(inside) = strings.peek().filter(|range| range.start <= start) {
                at = inside.end;
                continue;
            }
            let end = self.text[start..].find('\n').map_or(self.text.len(), |length| start + length);
            let comment = self.text[start..end].to_lowercase().replace('-', "_");
            if SECRETS.iter().any(|word| comment.contains(word)) || comment.contains("://") && comment.contains('@') {
                self.masks.push((start..end, "# ***"));
            }
            at = end;
        }
    }
}

fn is_secret_name(name: &str) -> bool {
    let name = name.to_lowercase();
    // Fields like X-Api-Key, X-Functions-Key.
    let is_field_with_key = name.contains('-') && name.ends_with("-key");
    let name = name.replace('-', "_");
    let is_place = PLACES.iter().any(|ending| name.ends_with(ending));
    is_field_with_key || (!is_place && SECRETS.iter().any(|word| name.contains(word)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expected: &str) {
        assert_eq!(masked(text), expected);
    }

    #[test]
    fn secrets_are_masked_wherever_they_stand() {
        check("password = \"hunter2\" # x\n", "password = \"***\" # x\n");
        check("[store.s]\nauth-token = '''a\nb'''\nn = 1\n", "[store.s]\nauth-token = \"***\"\nn = 1\n");
        check(
            "headers = { Authorization = \"Bearer x\", x-a = \"b\" }",
            "headers = { Authorization = \"***\", x-a = \"b\" }",
        );
        check(
            "x-api-key = \"a\"\nsecrets = [\"a\", { b = \"c\", d = 5 }]",
            "x-api-key = \"***\"\nsecrets = [\"***\", { b = \"***\", d = \"***\" }]",
        );
        check("password = \"${PW:-hunter2}\"", "password = \"***\"");
        check("url = \"redis://me:pw@h:1/0\"", "url = \"redis://***@h:1/0\"");
        check(
            "urls = [\"http://a/@x\", \"http://u@b, http://p:q@c/\"]",
            "urls = [\"http://a/@x\", \"http://***@b, http://***@c/\"]",
        );
    }

    #[test]
    fn comments_about_secrets_are_masked_and_others_stay() {
        check("a = 1 # the path\n# password = \"x\"\nb = \"# token\"\n", "a = 1 # the path\n# ***\nb = \"# token\"\n");
        check("\"#token\" = 1 # redis://a:b@c\n", "\"#token\" = \"***\" # ***\n");
        check("a = '''\n# token\n''' # secret", "a = '''\n# token\n''' # ***");
    }

    #[test]
    fn what_holds_no_secret_stays_as_it_is() {
        let text = "# Ringway\n[admin]\ntoken_file = \"/etc/t\"\n[[route]]\nkey = [\"cookie:sid\"]\nring = { secret_file = \"/s\" }\n";
        check(text, text);
        let full = crate::config::reference::full();
        assert!(masked(&full).lines().zip(full.lines()).all(|(shown, line)| shown == line || shown == "# ***"));
    }

    #[test]
    fn what_is_no_toml_is_not_shown() {
        check("password = \"x", "# ***\n");
    }
}
