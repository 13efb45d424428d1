//! Who wins, who is refused.
use super::action::Action;
use super::action::Forward;
use super::*;
use crate::base::ids::UpstreamName;
use crate::head::Method;

fn route(name: &str, hosts: &[&str], path: PathPattern) -> Route {
    let hosts = hosts.iter().map(|host| HostPattern::parse(host).unwrap()).collect();
    let matcher = Matcher { hosts, path, ..Matcher::any() };
    Route::new(RouteName::new(name), matcher, Action::Forward(Forward::new(UpstreamName::new("u"), None)))
}

fn prefix(text: &str) -> PathPattern {
    PathPattern::prefix(text).unwrap()
}

fn head(method: &str, host: &str, target: &str) -> Head {
    let mut head = Head::default();
    head.set_request(Method::of(method.as_bytes()), method.as_bytes(), target.as_bytes());
    let authority = head.append(host.as_bytes());
    head.set_authority(authority);
    head
}

fn find(table: &RouteTable, host: &str, target: &str) -> Result<String, Miss> {
    let index = table.find(&ListenerName::new("l"), &head("GET", host, target))?;
    Ok(table.get(index).name.to_string())
}

#[test]
fn the_most_specific_route_wins_in_whatever_order() {
    let mut routes = vec![
        route("any", &[], PathPattern::Any),
        route("wild", &["*.example.com"], PathPattern::Any),
        route("wilder", &["*.a.example.com"], PathPattern::Any),
        route("host", &["a.example.com"], PathPattern::Any),
        route("api", &[], prefix("/api")),
        route("api-v1", &[], prefix("/api/v1")),
        route("exact", &[], PathPattern::exact("/api/v1").unwrap()),
        route("regex", &[], PathPattern::regex("^/api.*").unwrap()),
    ];
    for _ in 0..routes.len() {
        routes.rotate_left(1);
        let table = RouteTable::new(routes.clone()).unwrap();
        let check = |host: &str, target: &str, name: &str| {
            assert_eq!(find(&table, host, target), Ok(name.into()), "{host}{target}");
        };
        check("x", "/", "any");
        check("A.Example.com:8080", "/api", "host");
        check("a.example.com.", "/api", "host");
        check("A.EXAMPLE.COM.:80", "/api", "host");
        check("b.example.com", "/", "wild");
        check("x.a.example.com", "/", "wilder");
        check("example.com", "/", "any");
        check("x", "/api/x?y", "api");
        check("x", "/api/v1", "exact");
        check("x", "/api/v1/z", "api-v1");
        check("x", "/apikey", "regex");
    }
}

#[test]
fn regexes_win_in_the_order_of_the_file() {
    let regex = |name, text| route(name, &[], PathPattern::regex(text).unwrap());
    let table = RouteTable::new(vec![regex("one", "a"), regex("two", "ab")]).unwrap();
    assert_eq!(find(&table, "x", "/ab"), Ok("one".into()));
}

#[test]
fn methods_fields_and_listeners_are_conditions() {
    let mut post = route("post", &[], prefix("/p"));
    post.matcher.methods = vec!["POST".into()];
    let mut beta = route("beta", &[], prefix("/b"));
    beta.matcher.headers = vec![HeaderMatch { name: "x-beta".into(), value: Some("1".into()) }];
    let mut inner = route("inner", &[], prefix("/i"));
    inner.matcher.listeners = vec![ListenerName::new("inner")];
    let table = RouteTable::new(vec![post, beta, inner]).unwrap();
    assert_eq!(find(&table, "x", "/p"), Err(Miss::MethodNotAllowed));
    let found = table.find(&ListenerName::new("l"), &head("POST", "x", "/p")).unwrap();
    assert_eq!(table.get(found).name.as_str(), "post");
    assert_eq!(find(&table, "x", "/b"), Err(Miss::NoRoute));
    let mut with_field = head("GET", "x", "/b");
    with_field.push(b"X-Beta", b"1");
    assert!(table.find(&ListenerName::new("l"), &with_field).is_ok());
    assert_eq!(find(&table, "x", "/i"), Err(Miss::NoRoute));
    assert!(table.find(&ListenerName::new("inner"), &head("GET", "x", "/i")).is_ok());
}

#[test]
fn a_path_that_means_another_route_is_refused() {
    let table =
        RouteTable::new(vec![route("any", &[], PathPattern::Any), route("admin", &[], prefix("/admin"))]).unwrap();
    for path in ["/a/../admin", "/%61dmin", "/a/%2e%2e/admin", "/./admin/x", "/admin/..", "/admin/%2E./x"] {
        assert_eq!(find(&table, "x", path), Err(Miss::AmbiguousPath), "{path}");
    }
    for path in [
        "//admin",
        "/admin%2fx",
        "/a%2F..%2fadmin",
        "/%2561dmin",
        "/a/%252e%252e/admin",
        "/a\\..\\admin",
        "/a/..;/admin",
        // Dots first, then slashes; both at once would be `/`.
        "//admin//..",
        // Dots first, then the end at a NUL; the other way round both are of `any`.
        "/x..%00/../admin%00",
        "/x%00%2f..%2fadmin%00",
    ] {
        assert_eq!(find(&table, "x", path), Err(Miss::AmbiguousPath), "{path}");
    }
    for path in ["/ADMIN", "/a//b", "/a%2Fb", "/a;admin", "/100%25", "/a\\b", "/administer", "*"] {
        assert_eq!(find(&table, "x", path), Ok("any".into()), "{path}");
    }
    assert_eq!(find(&table, "x", "/a/./b"), Ok("any".into()));
    assert_eq!(find(&table, "x", "/admin/./b"), Ok("admin".into()));
    assert_eq!(find(&table, "x", "/a?x=/../admin"), Ok("any".into()));
}

#[test]
fn equal_matchers_are_an_error() {
    let routes = vec![
        route("a", &["x", "y"], prefix("/p")),
        route("b", &[], prefix("/p")),
        route("c", &["Y", "x"], prefix("/p")),
    ];
    assert_eq!(RouteTable::new(routes).unwrap_err(), EqualRoutes(0, 2));
}

#[test]
fn a_route_is_named_by_what_it_matches() {
    let mut named = route("x", &["a", "*.b"], prefix("/p"));
    named.matcher.methods = vec!["GET".into()];
    assert_eq!(named.matcher.default_name().as_str(), "a,*.b/p GET");
    assert_eq!(Matcher::any().default_name().as_str(), "/");
}
