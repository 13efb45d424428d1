//! The path an endpoint is asked for: a prefix cut off, then what a regular expression matches replaced. The query stays as it is,
//! so does every byte that is not replaced, and what comes out is a path again: it begins with a slash.
use crate::head::Head;
use crate::route::path;
use crate::route::template::Piece;
use crate::route::template::pieces;
use regex::bytes::Regex;
use std::borrow::Cow;
use thiserror::Error;

/// Changes to a path; none by default.
#[derive(Debug, Clone, Default)]
pub struct PathEdit {
    /// What is cut off, whole segments, if the path begins with it.
    pub strip: Option<String>,
    /// What is replaced then.
    pub rewrite: Option<Rewrite>,
}

/// A part of a path and what takes its place.
#[derive(Debug, Clone)]
pub struct Rewrite {
    regex: Box<Regex>,
    to: Vec<Piece<usize>>,
}

/// The path and its normal form would be changed to different paths: what the endpoint is asked for is not what it seems.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("the path means another one than it says")]
pub struct Ambiguous;

impl Rewrite {
    /// Reads an expression and its replacement, in which `{1}` or `{name}` stand for its groups, `{0}` for the whole match.
    ///
    /// # Errors
    /// What is wrong with them.
    pub fn parse(regex: &str, to: &str) -> Result<Self, String> {
        let regex = Regex::new(regex).map_err(|error| format!("the regex is not one: {error}"))?;
        let group = |name: &str| {
            let by_name = || regex.capture_names().position(|known| known == Some(name));
            let found = name.parse().ok().filter(|number| *number < regex.captures_len()).or_else(by_name);
            found.ok_or_else(|| format!("the regex has no group {{{name}}}"))
        };
        let to_pieces = pieces(to, group)?;
        let is_path = |byte: u8| byte > b' ' && byte < 0x7f && !matches!(byte, b'?' | b'#');
        if !to.bytes().all(is_path) {
            return Err(format!("\"{to}\" is not a path: no \"?\", \"#\" or space; write others as %20"));
        }
        Ok(Self { regex: Box::new(regex), to: to_pieces })
    }

    fn apply<'a>(&self, path: Cow<'a, [u8]>) -> Cow<'a, [u8]> {
        let Some(found) = self.regex.captures(&path) else { return path };
        let whole = found.get(0).expect("a match has its whole");
        let mut changed = path[..whole.start()].to_vec();
        for piece in &self.to {
            match piece {
                Piece::Text(text) => changed.extend_from_slice(text.as_bytes()),
                Piece::Place(group) => {
                    changed.extend_from_slice(found.get(*group).map_or(b"", |group| group.as_bytes()))
                }
            }
        }
        changed.extend_from_slice(&path[whole.end()..]);
        changed.into()
    }
}

impl PathEdit {
    /// The target to ask for; `None` when it is the one that came.
    ///
    /// # Errors
    /// When encoded characters or dot segments hide what the change is about.
    pub fn target(&self, head: &Head) -> Result<Option<Vec<u8>>, Ambiguous> {
        let path = head.path();
        if (self.strip.is_none() && self.rewrite.is_none()) || !path.starts_with(b"/") {
            return Ok(None);
        }
        let mut target = self.apply(path).into_owned();
        if let Some(normal) = path::normalise(path) {
            let meant = self.apply(&normal);
            let is_same = path::normalise(&target).as_deref().unwrap_or(&target)
                == path::normalise(&meant).as_deref().unwrap_or(&meant);
            if !is_same {
                return Err(Ambiguous);
            }
        }
        if let Some(query) = head.query() {
            target.push(b'?');
            target.extend_from_slice(query);
        }
        Ok(Some(target))
    }

    fn apply<'a>(&self, path: &'a [u8]) -> Cow<'a, [u8]> {
        let mut changed = Cow::Borrowed(path);
        if let Some(prefix) = &self.strip {
            let rest = path.strip_prefix(prefix.trim_end_matches('/').as_bytes());
            if let Some(rest) = rest.filter(|rest| matches!(rest.first(), None | Some(b'/'))) {
                changed = Cow::Borrowed(rest);
            }
        }
        if let Some(rewrite) = &self.rewrite {
            changed = rewrite.apply(changed);
        }
        if !changed.starts_with(b"/") {
            changed.to_mut().insert(0, b'/');
        }
        changed
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::head::Method;

    fn target(edit: &PathEdit, target: &str) -> Result<String, Ambiguous> {
        let mut head = Head::default();
        head.set_request(Method::Get, b"GET", target.as_bytes());
        let changed = edit.target(&head)?;
        Ok(changed.map_or_else(|| target.to_string(), |changed| String::from_utf8(changed).unwrap()))
    }

    fn strip(prefix: &str) -> PathEdit {
        PathEdit { strip: Some(prefix.into()), rewrite: None }
    }

    fn rewrite(regex: &str, to: &str) -> PathEdit {
        PathEdit { strip: None, rewrite: Some(Rewrite::parse(regex, to).unwrap()) }
    }

    #[test]
    fn a_prefix_is_cut_off_by_whole_segments() {
        for prefix in ["/api", "/api/"] {
            let check = |path: &str, expected: &str| assert_eq!(target(&strip(prefix), path), Ok(expected.into()));
            check("/api", "/");
            check("/api/", "/");
            check("/api?x=/api", "/?x=/api");
            check("/api/v1/%20a?b", "/v1/%20a?b");
            check("/api//a", "//a");
            check("/apikey", "/apikey");
            check("*", "*");
        }
        assert_eq!(target(&strip("/"), "/a"), Ok("/a".into()));
    }

    #[test]
    fn a_match_is_replaced_and_the_rest_stays() {
        let check = |regex: &str, to: &str, path: &str, expected: &str| {
            assert_eq!(target(&rewrite(regex, to), path), Ok(expected.into()), "{regex} {to} {path}");
        };
        check("^/old/([a-z]+)/([0-9]+)$", "/new/{2}/{1}", "/old/ab/12?q", "/new/12/ab?q");
        check("^/old", "/new", "/old/x%2Fy", "/new/x%2Fy");
        check("^/(?<user>[^/]+)", "/users/{user}", "/ann/x", "/users/ann/x");
        check("^/no", "/yes", "/other", "/other");
        check("^/x", "", "/x", "/");
        check("^/x/", "", "/x/y", "/y");
        check("/(a)?b", "/{1}c{0}", "/b", "/c/b");
        let both = PathEdit { strip: Some("/api".into()), ..rewrite("^/v1", "/v2") };
        assert_eq!(target(&both, "/api/v1/x"), Ok("/v2/x".into()));
    }

    #[test]
    fn what_is_hidden_from_the_change_is_refused() {
        let files = rewrite("^/files/", "/data/");
        assert_eq!(target(&files, "/f%69les/x"), Err(Ambiguous));
        assert_eq!(target(&files, "/a/../files/x"), Err(Ambiguous));
        assert_eq!(target(&files, "/files/%41/./x"), Ok("/data/%41/./x".into()));
        assert_eq!(target(&strip("/api"), "/api/%61"), Ok("/%61".into()));
        assert_eq!(target(&strip("/api"), "/%61pi/x"), Err(Ambiguous));
    }

    #[test]
    fn a_wrong_replacement_is_told() {
        let error = |regex: &str, to: &str| Rewrite::parse(regex, to).unwrap_err();
        assert!(error("(", "/").contains("the regex is not one"));
        assert!(error("^/(a)", "/{2}").contains("no group {2}"));
        assert!(error("^/(a)", "/{b}").contains("no group {b}"));
        assert!(error("^/a", "/b?c").contains("not a path"));
    }
}
