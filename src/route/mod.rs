//! Request head to route. Pure: knows no endpoints and no health.
//!
//! The most specific route wins: host (exact before wildcard, longer before shorter), then path (exact, longest prefix, regex in
//! the file's order), then the one that asks for more (methods, fields, listeners), then the first in the file.
pub mod access;
pub mod action;
pub mod coalesce;
pub mod fields;
pub mod host;
pub mod path;
pub mod rate_limit;
pub mod rewrite;
pub mod serialize;
pub mod template;

#[cfg(test)]
mod tests;

use crate::base::ids::ListenerName;
use crate::base::ids::RouteName;
use crate::head::Head;
use access::Access;
use action::Action;
use fields::FieldEdits;
use host::HostPattern;
use path::PathPattern;
use rate_limit::RateLimit;
use thiserror::Error;

/// What is matched, and what is done.
#[derive(Debug, Clone)]
pub struct Route {
    /// Given, or made of what it matches.
    pub name: RouteName,
    /// Which requests.
    pub matcher: Matcher,
    /// Whose.
    pub access: Access,
    /// How often.
    pub rate_limit: Option<RateLimit>,
    /// What happens to them.
    pub action: Action,
    /// What is changed in the fields of answers: an endpoint's, redirects and fixed ones.
    pub response_headers: FieldEdits,
}

impl Route {
    /// A route for everybody.
    pub fn new(name: RouteName, matcher: Matcher, action: Action) -> Self {
        let (access, response_headers) = (Access::default(), FieldEdits::default());
        Self { name, matcher, access, rate_limit: None, action, response_headers }
    }
}

/// Which requests a route is for: all conditions must hold; an empty list holds always.
#[derive(Debug, Clone, PartialEq)]
pub struct Matcher {
    /// Listeners they came in by.
    pub listeners: Vec<ListenerName>,
    /// Hosts they are for.
    pub hosts: Vec<HostPattern>,
    /// Paths they are for.
    pub path: PathPattern,
    /// Methods.
    pub methods: Vec<String>,
    /// Fields they have.
    pub headers: Vec<HeaderMatch>,
}

/// A field that a request must have.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct HeaderMatch {
    /// The field's name, in lower case.
    pub name: String,
    /// Its value, byte for byte; `None` when any will do.
    pub value: Option<String>,
}

/// A place in a [`RouteTable`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RouteIndex(pub u32);

/// Why no route was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Miss {
    /// Nothing matches.
    NoRoute,
    /// Only the method kept a route from matching.
    MethodNotAllowed,
    /// The path means something else than it says, and that would lead elsewhere.
    AmbiguousPath,
}

/// Two routes that match the same requests.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("routes {0} and {1} match the same requests")]
pub struct EqualRoutes(
    /// The first one's place in the file.
    pub usize,
    /// The second one's.
    pub usize,
);

/// All routes, in the order of the file.
#[derive(Debug, Default)]
pub struct RouteTable {
    routes: Vec<Route>,
    coalesces: bool,
}

impl RouteTable {
    /// A table of these routes.
    ///
    /// # Errors
    /// When two have equal matchers: which one would win would be chance.
    pub fn new(routes: Vec<Route>) -> Result<Self, EqualRoutes> {
        let normal: Vec<Matcher> = routes.iter().map(|route| route.matcher.normalised()).collect();
        for (second, matcher) in normal.iter().enumerate() {
            if let Some(first) = normal[..second].iter().position(|other| other == matcher) {
                return Err(EqualRoutes(first, second));
            }
        }
        let coalesces = routes.iter().any(|route| route.action.forward().is_some_and(|to| to.coalesce.is_some()));
        Ok(Self { routes, coalesces })
    }

    /// Whether some route answers several requests by one exchange.
    #[inline]
    pub fn coalesces(&self) -> bool {
        self.coalesces
    }

    /// A route by its place.
    #[inline]
    pub fn get(&self, index: RouteIndex) -> &Route {
        &self.routes[index.0 as usize]
    }

    /// All routes, in the file's order.
    pub fn routes(&self) -> &[Route] {
        &self.routes
    }

    /// The route of a request that came in by `listener`. Cost: one pass over the routes.
    pub fn find(&self, listener: &ListenerName, head: &Head) -> Result<RouteIndex, Miss> {
        let host = host::of(head);
        let path = head.path();
        let found = self.best(listener, &host, head, path);
        if !path.starts_with(b"/") || path::is_plain(path) {
            return found;
        }
        // Whoever reads the path after us may read it otherwise, several of them one after the other as well: it has to lead to the
        // same route then.
        let normal = path::normalise(path);
        let lenient_of_normal = normal.as_deref().and_then(path::lenient);
        let whole = [normal, path::lenient(path), lenient_of_normal];
        let is_other = |reading: &[u8]| self.best(listener, &host, head, reading) != found;
        let mut readings = whole.iter().flatten().map(Vec::as_slice);
        let mut cut = std::iter::once(path).chain(readings.clone()).filter_map(path::cut);
        if readings.any(is_other) || cut.any(|reading| is_other(&reading)) {
            return Err(Miss::AmbiguousPath);
        }
        found
    }

    fn best(&self, listener: &ListenerName, host: &[u8], head: &Head, path: &[u8]) -> Result<RouteIndex, Miss> {
        let mut best = None;
        let mut miss = Miss::NoRoute;
        for (index, route) in self.routes.iter().enumerate() {
            let Some(rank) = route.matcher.rank(listener, host, head, path) else { continue };
            if !route.matcher.allows(head.method_text()) {
                miss = Miss::MethodNotAllowed;
            } else if best.is_none_or(|(other, _)| rank > other) {
                best = Some((rank, index));
            }
        }
        best.map(|(_, index)| RouteIndex(index as u32)).ok_or(miss)
    }
}

/// How specific a match is: host, kind and length of path, number of other conditions.
type Rank = (usize, (u8, usize), usize);

impl Matcher {
    /// Everything.
    pub fn any() -> Self {
        Self { listeners: vec![], hosts: vec![], path: PathPattern::Any, methods: vec![], headers: vec![] }
    }

    /// A name for a route that was given none: the hosts and the path it matches.
    pub fn default_name(&self) -> RouteName {
        let hosts: Vec<String> = self.hosts.iter().map(ToString::to_string).collect();
        let mut name = format!("{}{}", hosts.join(","), self.path);
        if !self.methods.is_empty() {
            name.push_str(&format!(" {}", self.methods.join(",")));
        }
        for header in &self.headers {
            name.push_str(&format!(" {}={}", header.name, header.value.as_deref().unwrap_or("*")));
        }
        RouteName::new(&name)
    }

    fn rank(&self, listener: &ListenerName, host: &[u8], head: &Head, path: &[u8]) -> Option<Rank> {
        if !self.listeners.is_empty() && !self.listeners.contains(listener) {
            return None;
        }
        let path_rank = self.path.rank(path)?;
        let host_rank = match self.hosts.as_slice() {
            [] => 0,
            hosts => hosts.iter().filter_map(|pattern| pattern.rank(host)).max()?,
        };
        if !self.headers.iter().all(|wanted| wanted.matches(head)) {
            return None;
        }
        let conditions =
            usize::from(!self.listeners.is_empty()) + usize::from(!self.methods.is_empty()) + self.headers.len();
        Some((host_rank, path_rank, conditions))
    }

    fn allows(&self, method: &[u8]) -> bool {
        self.methods.is_empty() || self.methods.iter().any(|allowed| allowed.as_bytes() == method)
    }

    /// The same matcher whatever the order its conditions were written in.
    fn normalised(&self) -> Self {
        let mut normal = self.clone();
        normal.listeners.sort();
        normal.hosts.sort();
        normal.methods.sort();
        normal.headers.sort();
        normal
    }
}

impl HeaderMatch {
    fn matches(&self, head: &Head) -> bool {
        let mut values = head.all_named(self.name.as_bytes());
        match &self.value {
            Some(value) => values.any(|found| found == value.as_bytes()),
            None => values.next().is_some(),
        }
    }
}
