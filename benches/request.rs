//! The pure steps of a request: head parsed, view taken, route found, key extracted, head encoded.
#![allow(missing_docs, reason = "a benchmark has no readers of its documentation")]
use bytes::BytesMut;
use criterion::{Criterion, criterion_group, criterion_main};
use ringway::base::clock;
use ringway::base::hash::PlacementHash;
use ringway::base::ids::{EndpointId, ListenerName, RouteName, UpstreamName};
use ringway::control::build;
use ringway::control::state::{Desired, State};
use ringway::head::edits::Edits;
use ringway::head::{Client, Head};
use ringway::http1::framing::BodyLength;
use ringway::http1::limits::Limits;
use ringway::http1::{encode, parse};
use ringway::key::KeySpec;
use ringway::route::action::{Action, Forward};
use ringway::route::path::PathPattern;
use ringway::route::{Matcher, Route, RouteTable};
use ringway::snapshot::handle::{SnapshotHandle, ViewCell};
use ringway::snapshot::settings::{Endpoint, Upstream};
use std::hint::black_box;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::Duration;

const REQUEST: &[u8] = b"GET /s/item/7919/detail?lang=en HTTP/1.1\r\nHost: shop.example.com\r\nUser-Agent: bench/1.0\r\n\
    Accept: text/html,application/json;q=0.9\r\nAccept-Encoding: gzip, br\r\nCookie: sid=0123456789abcdef; theme=dark\r\n\r\n";
const RESPONSE: &[u8] = b"HTTP/1.1 200 OK\r\nServer: b\r\nContent-Type: text/plain\r\nContent-Length: 1024\r\n\
    Cache-Control: max-age=60\r\nETag: \"abc\"\r\n\r\n";

fn parsed() -> Head {
    let mut head = Head::default();
    parse::request(REQUEST, &Limits::default(), &mut head).expect("the request is fine");
    head
}

fn heads(c: &mut Criterion) {
    let limits = Limits::default();
    let mut head = Head::default();
    c.bench_function("head_parse/request", |b| {
        b.iter(|| {
            head.clear();
            parse::request(black_box(REQUEST), &limits, &mut head)
        });
    });
    c.bench_function("head_parse/response", |b| {
        b.iter(|| {
            head.clear();
            parse::response(black_box(RESPONSE), &limits, &mut head)
        });
    });
    let (head, edits, mut out) = (parsed(), Edits::default(), BytesMut::with_capacity(4096));
    c.bench_function("head_encode/request", |b| {
        b.iter(|| {
            out.clear();
            encode::request(black_box(&head), &edits, BodyLength::Empty, encode::Connection::Default, &mut out);
        });
    });
}

fn keys(c: &mut Criterion) {
    let (head, client) = (parsed(), Client { ip: IpAddr::V4(Ipv4Addr::LOCALHOST), secure: false });
    let mut scratch = Vec::new();
    for key in ["path", "path_and_query", "header:user-agent", "cookie:sid + path", "client_ip"] {
        let spec = KeySpec::parse(&[key], PlacementHash::default()).expect("the key is fine");
        c.bench_function(&format!("key_extract/{key}"), |b| {
            b.iter(|| spec.extract(black_box(&head), &client, &mut scratch));
        });
    }
}

fn routes(c: &mut Criterion) {
    let route = |path: PathPattern| {
        let matcher = Matcher { path, ..Matcher::any() };
        Route::new(RouteName::new("r"), matcher, Action::Forward(Forward::new(UpstreamName::new("u"), None)))
    };
    let prefixes = (0..20).map(|n| PathPattern::prefix(&format!("/p{n}")).expect("a path"));
    let table = RouteTable::new(prefixes.chain([PathPattern::Any]).map(route).collect()).expect("distinct routes");
    let (head, listener) = (parsed(), ListenerName::new("0.0.0.0:8080"));
    c.bench_function("route_find/21", |b| b.iter(|| table.find(&listener, black_box(&head))));
}

/// The newest snapshot, when nothing was published since the last request.
fn view(c: &mut Criterion) {
    let endpoint =
        Endpoint { id: EndpointId::new("a"), address: "10.0.0.1:80".parse().expect("an address"), weight: 1 };
    let desired = Desired {
        discoveries: Default::default(),
        listeners: Vec::new(),
        routes: Vec::new(),
        upstreams: vec![Upstream::new(UpstreamName::new("u"), vec![endpoint])],
        stores: Default::default(),
        drain_timeout: Duration::from_secs(1),
        debug_token: None,
        guard_config: false,
    };
    let (snapshot, _) =
        build::build(&mut State::new(1), desired, false, clock::now()).expect("these settings are fine");
    let cell = ViewCell::new(Arc::new(SnapshotHandle::new(Arc::new(snapshot))));
    c.bench_function("view", |b| b.iter(|| black_box(&cell).get()));
}

criterion_group!(benches, heads, view, keys, routes);
criterion_main!(benches);
