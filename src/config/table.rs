//! Walks spanned TOML by the one table of keys, collecting all problems. What the values mean is not known here.
use super::diagnostic::Diagnostic;
use super::diagnostic::Lines;
use super::diagnostic::did_you_mean;
use super::keys;
use super::keys::Key;
use super::keys::Kind;
use crate::base::units;
use std::cell::OnceCell;
use std::ops::Range;
use std::time::Duration;
use toml::Spanned;
use toml::de::DeTable;
use toml::de::DeValue;

/// One file that was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SourceFile {
    /// Its name, as it is shown.
    pub name: String,
    /// Its text, as written.
    pub text: String,
}

/// A place in one of the files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// The file's number.
    pub file: usize,
    /// Its bytes.
    pub span: Range<usize>,
}

/// Collects problems while files are read.
pub struct Reader<'a> {
    files: &'a [SourceFile],
    /// Where the lines of each begin, once somebody wants to know.
    lines: Vec<OnceCell<Lines>>,
    environment: &'a dyn Fn(&str) -> Option<String>,
    /// Whether the text was sent by somebody: nothing of this machine is looked at for it, no file and no environment.
    pub is_closed: bool,
    /// Problems so far.
    pub problems: Vec<Diagnostic>,
    /// Warnings so far.
    pub warnings: Vec<Diagnostic>,
}

/// A value and where it stands.
#[derive(Debug, Clone, PartialEq)]
pub struct Found<T> {
    /// The value.
    pub value: T,
    /// Where it stands; for a default, where the table begins.
    pub place: Place,
}

/// What a key takes that is either.
#[derive(Debug, Clone, PartialEq)]
pub enum BoolOrText {
    /// `true` or `false`.
    Bool(Found<bool>),
    /// A text.
    Text(Found<String>),
}

/// One table of a file. An absent table reads as one without keys.
#[derive(Debug, Clone)]
pub struct Section<'a> {
    table: Option<&'a DeTable<'a>>,
    name: &'static str,
    /// Where it stands.
    pub place: Place,
}

impl<'a> Reader<'a> {
    /// A reader of these files.
    pub fn new(files: &'a [SourceFile], environment: &'a dyn Fn(&str) -> Option<String>) -> Self {
        let lines = vec![OnceCell::new(); files.len()];
        Self { files, lines, environment, is_closed: false, problems: Vec::new(), warnings: Vec::new() }
    }

    /// Notes a problem.
    pub fn problem(&mut self, place: &Place, message: impl Into<String>) {
        let diagnostic = self.diagnostic(place, message.into());
        self.problems.push(diagnostic);
    }

    /// Notes what works but is hardly wanted.
    pub fn warn(&mut self, place: &Place, message: impl Into<String>) {
        let diagnostic = self.diagnostic(place, message.into());
        self.warnings.push(diagnostic);
    }

    /// A place as people read it.
    pub fn describe(&self, place: &Place) -> String {
        let (file, line, column) = self.position(place);
        format!("{file}:{line}:{column}")
    }

    /// The file's name, line and column.
    fn position(&self, place: &Place) -> (&'a str, usize, usize) {
        let file = &self.files[place.file];
        let lines = self.lines[place.file].get_or_init(|| Lines::of(&file.text));
        let (line, column) = lines.position(&file.text, place.span.start);
        (&file.name, line, column)
    }

    fn diagnostic(&self, place: &Place, message: String) -> Diagnostic {
        let (file, line, column) = self.position(place);
        Diagnostic { file: file.into(), line, column, message }
    }

    /// Replaces `${NAME}` and `${NAME:-default}`; `$${` stands for `${`.
    fn expand(&mut self, text: &str, place: &Place) -> String {
        let mut expanded = String::new();
        let mut rest = text;
        while let Some(at) = rest.find("${") {
            if rest[..at].ends_with('$') {
                expanded.push_str(&rest[..at - 1]);
                expanded.push_str("${");
                rest = &rest[at + 2..];
                continue;
            }
            expanded.push_str(&rest[..at]);
            let Some(end) = rest[at..].find('}') else {
                self.problem(place, "\"${\" has no \"}\"; write \"$${\" for the characters themselves");
                return expanded;
            };
            if self.is_closed {
                self.problem(
                    place,
                    "\"${NAME}\" stands for nothing in a configuration that is sent; write the value itself",
                );
                return expanded;
            }
            let inner = &rest[at + 2..at + end];
            let (name, default) = match inner.split_once(":-") {
                Some((name, default)) => (name, Some(default)),
                None => (inner, None),
            };
            match (self.environment)(name).or(default.map(str::to_string)) {
                Some(value) => expanded.push_str(&value),
                None => self.problem(
                    place,
                    format!("the environment has no {name}; set it, or write \"${{{name}:-default}}\""),
                ),
            }
            rest = &rest[at + end + 1..];
        }
        expanded.push_str(rest);
        expanded
    }
}

impl<'a> Section<'a> {
    /// The table `name` of the key table, as it stands in a file.
    pub fn new(name: &'static str, table: &'a DeTable<'a>, place: Place) -> Self {
        Self { table: Some(table), name, place }
    }

    /// A table that is not there: all its keys have their defaults.
    pub fn absent(name: &'static str, place: Place) -> Self {
        Self { table: None, name, place }
    }

    /// Whether it stands in a file.
    pub fn is_there(&self) -> bool {
        self.table.is_some()
    }

    /// Notes keys that do not exist and keys that are missing.
    pub fn check_names(&self, reader: &mut Reader<'_>) {
        for (name, value) in self.table.into_iter().flatten() {
            let name_text = name.get_ref().as_ref();
            if keys::of_section(self.name).all(|key| key.name != name_text) {
                let near = did_you_mean(name_text, keys::of_section(self.name).map(|key| key.name));
                let place = self.place_of(if name.span().is_empty() { value.span() } else { name.span() });
                reader.problem(&place, format!("unknown key \"{name_text}\" in {}{near}", self.shown()));
            }
        }
        for key in keys::of_section(self.name).filter(|key| key.required) {
            if self.raw(key.name).is_none() {
                let example = if key.example.is_empty() {
                    String::new()
                } else {
                    format!("; write {} = {}", key.name, key.example)
                };
                reader.problem(&self.place, format!("{} has no \"{}\"{example}", self.shown(), key.name));
            }
        }
    }

    fn shown(&self) -> String {
        match self.name {
            "" => "the file".into(),
            "listener" | "route" => format!("[[{}]]", self.name),
            "admin.tls.certificates" | "listener.tls.certificates" | "upstream.*.endpoints" => {
                format!("an entry of {}", self.name.replace('*', "NAME"))
            }
            name => format!("[{}]", name.replace('*', "NAME")),
        }
    }

    fn place_of(&self, span: Range<usize>) -> Place {
        Place { file: self.place.file, span }
    }

    fn raw(&self, name: &str) -> Option<&'a Spanned<DeValue<'a>>> {
        self.table.and_then(|table| table.get(name))
    }

    /// Whether a key is there.
    pub fn has(&self, name: &str) -> bool {
        self.raw(name).is_some()
    }

    /// Where a key's value stands, or the table if it is not there.
    pub fn place(&self, name: &str) -> Place {
        self.raw(name).map_or_else(|| self.place.clone(), |value| self.place_of(value.span()))
    }

    fn wrong(&self, reader: &mut Reader<'_>, key: &Key, value: &Spanned<DeValue<'_>>) {
        let wanted = match key.kind {
            Kind::Duration(_) => "a duration like \"250ms\" or \"5m\"".into(),
            Kind::Size(..) => "a size like \"64KiB\"".into(),
            Kind::Share(_) => "a share like \"20%\"".into(),
            Kind::Integer(min, max) => format!("a whole number from {min} to {max}"),
            Kind::Bool => "true or false".into(),
            Kind::BoolOrText => "true, false or a text in quotes".into(),
            Kind::Text => "a text in quotes".into(),
            Kind::Choice(choices) => format!("one of {}", quoted(choices)),
            Kind::Texts => "a list of texts".into(),
            Kind::Map => "a table of texts".into(),
            Kind::Table => "a table".into(),
            Kind::Tables => "a list of tables".into(),
        };
        let found = value.get_ref().type_str();
        reader.problem(&self.place_of(value.span()), format!("\"{}\" takes {wanted}, not {found}", key.name));
    }

    /// A text, expanded; `None` when it is absent without a default, or wrong.
    pub fn text(&self, reader: &mut Reader<'_>, name: &str) -> Option<Found<String>> {
        let key = keys::find(self.name, name);
        match self.raw(name) {
            Some(value) => {
                let place = self.place_of(value.span());
                match value.get_ref() {
                    DeValue::String(text) => Some(Found { value: reader.expand(text, &place), place }),
                    _ => {
                        self.wrong(reader, key, value);
                        None
                    }
                }
            }
            None if key.default.is_empty() => None,
            None => Some(Found { value: key.default.trim_matches('"').to_string(), place: self.place.clone() }),
        }
    }

    fn unit<T>(
        &self,
        reader: &mut Reader<'_>,
        name: &str,
        parse: impl Fn(&str) -> Result<T, units::UnitError>,
        check: impl Fn(&T) -> Option<String>,
    ) -> Option<T> {
        let text = self.text(reader, name)?;
        match parse(&text.value) {
            Ok(value) => match check(&value) {
                None => Some(value),
                Some(range) => {
                    reader.problem(&text.place, format!("\"{name}\" is {}, {range}", text.value));
                    None
                }
            },
            Err(error) => {
                reader.problem(&text.place, format!("\"{}\" is not a value of \"{name}\": {error}", text.value));
                None
            }
        }
    }

    /// A duration.
    pub fn duration(&self, reader: &mut Reader<'_>, name: &str) -> Option<Duration> {
        let Kind::Duration(min) = keys::find(self.name, name).kind else { panic!("{name} is no duration") };
        let min = Duration::from_millis(min);
        let check = |value: &Duration| {
            (*value < min).then(|| format!("but at least \"{}\" is needed", units::format_duration(min)))
        };
        self.unit(reader, name, units::parse_duration, check)
    }

    /// A size in bytes.
    pub fn size(&self, reader: &mut Reader<'_>, name: &str) -> Option<u64> {
        let Kind::Size(min, max) = keys::find(self.name, name).kind else { panic!("{name} is no size") };
        let range = format!("but \"{}\" to \"{}\" is allowed", units::ByteSize(min), units::ByteSize(max));
        let check = |value: &units::ByteSize| (!(min..=max).contains(&value.0)).then(|| range.clone());
        self.unit(reader, name, units::parse_size, check).map(|size| size.0)
    }

    /// A share.
    pub fn share(&self, reader: &mut Reader<'_>, name: &str) -> Option<units::Ratio> {
        let Kind::Share(max) = keys::find(self.name, name).kind else { panic!("{name} is no share") };
        let check =
            |value: &units::Ratio| (value.0 > max as f64 / 100.0).then(|| format!("but at most \"{max}%\" is allowed"));
        self.unit(reader, name, units::parse_share, check)
    }

    /// A whole number.
    pub fn integer(&self, reader: &mut Reader<'_>, name: &str) -> Option<u64> {
        let key = keys::find(self.name, name);
        let Kind::Integer(min, max) = key.kind else { panic!("{name} is no number") };
        let Some(value) = self.raw(name) else { return key.default.replace('_', "").parse().ok() };
        let DeValue::Integer(integer) = value.get_ref() else {
            self.wrong(reader, key, value);
            return None;
        };
        match i128::from_str_radix(integer.as_str(), integer.radix()) {
            Ok(number) if (i128::from(min)..=i128::from(max)).contains(&number) => Some(number as u64),
            _ => {
                let place = self.place_of(value.span());
                reader.problem(&place, format!("\"{name}\" is {integer}, but {min} to {max} is allowed"));
                None
            }
        }
    }

    /// `true` or `false`.
    pub fn bool(&self, reader: &mut Reader<'_>, name: &str) -> bool {
        let key = keys::find(self.name, name);
        match self.raw(name) {
            Some(value) => match value.get_ref() {
                DeValue::Boolean(value) => *value,
                _ => {
                    self.wrong(reader, key, value);
                    false
                }
            },
            None => key.default == "true",
        }
    }

    /// `true`, `false` or a text; `None` when it is absent, or wrong.
    pub fn bool_or_text(&self, reader: &mut Reader<'_>, name: &str) -> Option<BoolOrText> {
        let value = self.raw(name)?;
        let place = self.place_of(value.span());
        match value.get_ref() {
            DeValue::Boolean(value) => Some(BoolOrText::Bool(Found { value: *value, place })),
            DeValue::String(text) => Some(BoolOrText::Text(Found { value: reader.expand(text, &place), place })),
            _ => {
                self.wrong(reader, keys::find(self.name, name), value);
                None
            }
        }
    }

    /// One of the key's choices; the first when it is wrong (the problem is noted).
    pub fn choice(&self, reader: &mut Reader<'_>, name: &str) -> &'static str {
        let Kind::Choice(choices) = keys::find(self.name, name).kind else { panic!("{name} is no choice") };
        let Some(text) = self.text(reader, name) else { return choices[0] };
        choices.iter().copied().find(|choice| *choice == text.value).unwrap_or_else(|| {
            let near = did_you_mean(&text.value, choices.iter().copied());
            reader.problem(
                &text.place,
                format!("\"{name}\" is \"{}\", but one of {} is needed{near}", text.value, quoted(choices)),
            );
            choices[0]
        })
    }

    /// A list of texts, each expanded; empty when absent without a default.
    pub fn texts(&self, reader: &mut Reader<'_>, name: &str) -> Vec<Found<String>> {
        let key = keys::find(self.name, name);
        let Some(value) = self.raw(name) else {
            let default = key.default.trim_matches(['[', ']']).split(", ").filter(|text| !text.is_empty());
            let found = |text: &str| Found { value: text.trim_matches('"').to_string(), place: self.place.clone() };
            return default.map(found).collect();
        };
        let DeValue::Array(array) = value.get_ref() else {
            self.wrong(reader, key, value);
            return Vec::new();
        };
        let mut texts = Vec::new();
        for item in array {
            let place = self.place_of(item.span());
            match item.get_ref() {
                DeValue::String(text) => texts.push(Found { value: reader.expand(text, &place), place }),
                _ => self.wrong(reader, key, item),
            }
        }
        texts
    }

    /// A table of texts.
    pub fn map(&self, reader: &mut Reader<'_>, name: &str) -> Vec<(Found<String>, String)> {
        let key = keys::find(self.name, name);
        let Some(value) = self.raw(name) else { return Vec::new() };
        let DeValue::Table(table) = value.get_ref() else {
            self.wrong(reader, key, value);
            return Vec::new();
        };
        let mut pairs = Vec::new();
        for (field, value) in table {
            let place = self.place_of(field.span());
            match value.get_ref() {
                DeValue::String(text) => {
                    let text = reader.expand(text, &place);
                    pairs.push((Found { value: field.get_ref().to_string(), place }, text));
                }
                _ => self.wrong(reader, key, value),
            }
        }
        pairs
    }

    /// The table under a key, or an absent one.
    pub fn table(&self, reader: &mut Reader<'_>, name: &str, section: &'static str) -> Self {
        let Some(value) = self.raw(name) else { return Self::absent(section, self.place.clone()) };
        let place = self.place_of(value.span());
        match value.get_ref() {
            DeValue::Table(table) => Self::new(section, table, place),
            _ => {
                self.wrong(reader, keys::find(self.name, name), value);
                Self::absent(section, place)
            }
        }
    }

    /// The tables of a list of tables.
    pub fn tables(&self, reader: &mut Reader<'_>, name: &str, section: &'static str) -> Vec<Self> {
        let Some(value) = self.raw(name) else { return Vec::new() };
        let DeValue::Array(array) = value.get_ref() else {
            self.wrong(reader, keys::find(self.name, name), value);
            return Vec::new();
        };
        let mut tables = Vec::new();
        for item in array {
            match item.get_ref() {
                DeValue::Table(table) => tables.push(Self::new(section, table, self.place_of(item.span()))),
                _ => self.wrong(reader, keys::find(self.name, name), item),
            }
        }
        tables
    }

    /// The tables of a table of tables, by name: `[upstream.NAME]`.
    pub fn named_tables(&self, reader: &mut Reader<'_>, name: &str, section: &'static str) -> Vec<(String, Self)> {
        let Some(value) = self.raw(name) else { return Vec::new() };
        let DeValue::Table(table) = value.get_ref() else {
            reader.problem(&self.place_of(value.span()), format!("\"{name}\" takes tables: write [{name}.NAME]"));
            return Vec::new();
        };
        let mut tables = Vec::new();
        for (name, value) in table {
            let place = self.place_of(if name.span().is_empty() { value.span() } else { name.span() });
            match value.get_ref() {
                DeValue::Table(table) => tables.push((name.get_ref().to_string(), Self::new(section, table, place))),
                _ => reader.problem(&place, format!("\"{}\" takes a table", name.get_ref())),
            }
        }
        tables
    }
}

fn quoted(choices: &[&str]) -> String {
    choices.iter().map(|choice| format!("\"{choice}\"")).collect::<Vec<_>>().join(", ")
}
