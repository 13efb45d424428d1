//! One problem of a configuration: where, what, why, what to write instead.
use std::fmt;

/// A problem, or a warning.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Diagnostic {
    /// The file, as it was named.
    pub file: String,
    /// The line, from 1; 0 when it is about the whole file.
    pub line: usize,
    /// The column in characters, from 1.
    pub column: usize,
    /// What is wrong, why, and what to write instead.
    pub message: String,
}

impl fmt::Display for Diagnostic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.line {
            0 => write!(f, "{}: {}", self.file, self.message),
            line => write!(f, "{}:{line}:{}: {}", self.file, self.column, self.message),
        }
    }
}

/// All problems of a configuration, in the order of the files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Diagnostics(pub Vec<Diagnostic>);

impl fmt::Display for Diagnostics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, diagnostic) in self.0.iter().enumerate() {
            if index > 0 {
                writeln!(f)?;
            }
            write!(f, "{diagnostic}")?;
        }
        Ok(())
    }
}

impl std::error::Error for Diagnostics {}

/// Where the lines of a text begin: looked through once, however many problems it has.
#[derive(Debug, Clone)]
pub struct Lines(Vec<usize>);

impl Lines {
    /// Those of a text.
    pub fn of(text: &str) -> Self {
        Self(std::iter::once(0).chain(text.match_indices('\n').map(|(at, _)| at + 1)).collect())
    }

    /// Line and column, from 1, of a byte offset in the same text.
    pub fn position(&self, text: &str, offset: usize) -> (usize, usize) {
        let offset = text.floor_char_boundary(offset.min(text.len()));
        let line = self.0.partition_point(|start| *start <= offset);
        (line, text[self.0[line - 1]..offset].chars().count() + 1)
    }
}

/// `; did you mean "x"?` for the name nearest to `wrong`, if one is near enough: a slip or two, or much the same word.
pub fn did_you_mean<'a>(wrong: &str, names: impl IntoIterator<Item = &'a str>) -> String {
    let slips = |name: &str| strsim::osa_distance(wrong, name);
    let is_near =
        |name: &&str| slips(name) <= (wrong.chars().count() / 3).max(1) || strsim::jaro_winkler(wrong, name) > 0.8;
    let nearest = names.into_iter().filter(is_near).min_by_key(|name| slips(name));
    nearest.map(|name| format!("; did you mean \"{name}\"?")).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_and_columns_begin_at_one_and_count_letters() {
        let text = "ab\n\u{e9}c\n\nd";
        let found: Vec<_> = [0, 2, 3, 4, 5, 6, 7, 8, 99].map(|at| Lines::of(text).position(text, at)).to_vec();
        assert_eq!(found, [(1, 1), (1, 3), (2, 1), (2, 1), (2, 2), (2, 3), (3, 1), (4, 1), (4, 2)]);
        assert_eq!(Lines::of("").position("", 0), (1, 1));
    }
}
