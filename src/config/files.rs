//! The files of a configuration: the one that was named, and those it includes.
use super::diagnostic::Diagnostic;
use super::diagnostic::Diagnostics;
use super::diagnostic::Lines;
use super::table::SourceFile;
use crate::base::files;
use crate::base::hash::PlacementHash;
use crate::discovery::folders;
use std::path::Path;
use std::path::PathBuf;
use toml::de::DeTable;
use toml::de::DeValue;

/// Most of one file of a configuration: tens of thousands of endpoints.
const MAX_CONFIG: u64 = 64 << 20;

/// What a configuration was read from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sources {
    /// The files; the first is the one that was named.
    pub files: Vec<SourceFile>,
    /// A hash of all their names and texts: equal when nothing changed.
    pub hash: u64,
}

impl Sources {
    /// A text that is no file.
    pub fn of_text(name: &str, text: &str) -> Self {
        Self::new(vec![SourceFile { name: name.into(), text: text.into() }])
    }

    fn new(files: Vec<SourceFile>) -> Self {
        let mut all = Vec::new();
        for file in &files {
            for part in [&file.name, &file.text] {
                all.extend_from_slice(&(part.len() as u64).to_le_bytes());
                all.extend_from_slice(part.as_bytes());
            }
        }
        let hash = PlacementHash::Seeded(0).hash(&all);
        Self { files, hash }
    }
}

/// Reads a file and what it includes.
///
/// # Errors
/// When a file cannot be read. An include that matches nothing is fine if it is a pattern.
pub fn read(path: &Path) -> Result<Sources, Diagnostics> {
    let main = read_one(path)?;
    let mut files = vec![main];
    let mut problems = Vec::new();
    for (pattern, offset) in includes(&files[0].text) {
        let (line, column) = Lines::of(&files[0].text).position(&files[0].text, offset);
        let mut problem = |message| {
            problems.push(Diagnostic { file: path.display().to_string(), line, column, message });
        };
        let base = path.parent().unwrap_or(Path::new(""));
        match matching(base, &pattern) {
            Ok(found) if found.is_empty() && !pattern.contains(['*', '?', '[']) => {
                problem(format!("there is no file \"{pattern}\" to include"));
            }
            Ok(found) => {
                for path in found {
                    match read_one(&path) {
                        Ok(file) => files.push(file),
                        Err(error) => problem(error.to_string()),
                    }
                }
            }
            Err(error) => problem(format!("\"{pattern}\" is not a pattern: {error}")),
        }
    }
    if problems.is_empty() { Ok(Sources::new(files)) } else { Err(Diagnostics(problems)) }
}

fn read_one(path: &Path) -> Result<SourceFile, Diagnostics> {
    let name = path.display().to_string();
    match files::read_text_of_any(path, MAX_CONFIG) {
        Ok(text) => Ok(SourceFile { name, text }),
        Err(error) => {
            let message = format!("cannot be read: {error}");
            Err(Diagnostics(vec![Diagnostic { file: name, line: 0, column: 0, message }]))
        }
    }
}

/// The patterns of `include`, with where they stand. What is wrong with them is told when the file is read by its keys.
fn includes(text: &str) -> Vec<(String, usize)> {
    let (table, _) = DeTable::parse_recoverable(text);
    let Some(DeValue::Array(patterns)) = table.get_ref().get("include").map(toml::Spanned::get_ref) else {
        return Vec::new();
    };
    let pattern = |item: &toml::Spanned<DeValue<'_>>| match item.get_ref() {
        DeValue::String(text) => Some((text.to_string(), item.span().start)),
        _ => None,
    };
    patterns.iter().filter_map(pattern).collect()
}

fn matching(base: &Path, pattern: &str) -> Result<Vec<PathBuf>, glob::PatternError> {
    let full = base.join(pattern);
    let mut found: Vec<PathBuf> = glob::glob(&full.to_string_lossy())?.filter_map(Result::ok).collect();
    found.sort();
    Ok(found)
}

/// The folders in which a change may be one of this configuration's.
pub fn folders(path: &Path, sources: Option<&Sources>) -> Vec<PathBuf> {
    let own = path.to_path_buf();
    let included = sources.into_iter().flat_map(|sources| &sources.files).map(|file| PathBuf::from(&file.name));
    let patterns = sources.into_iter().flat_map(|sources| includes(&sources.files[0].text));
    let base = path.parent().unwrap_or(Path::new(""));
    let patterns = patterns.map(|(pattern, _)| base.join(pattern));
    folders::folders_of([own].into_iter().chain(included).chain(patterns))
}
