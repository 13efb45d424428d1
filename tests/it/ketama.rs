//! `algorithm = "ketama"` gives every key the owner that a real nginx gives it.
use crate::harness::http::Client;
use crate::harness::nginx::Nginx;
use crate::harness::origin::Origin;
use crate::harness::program::Ringway;
use crate::skip;
use ringway::base::ids::EndpointId;
use ringway::ring::settings::Settings;
use ringway::ring::{Member, Ring};
use std::collections::BTreeMap;

/// URIs of several shapes: short, long, near one another, with queries and escapes.
fn keys(count: usize) -> impl Iterator<Item = String> {
    (0..count).map(|number| match number % 5 {
        0 => format!("/{number}"),
        1 => format!("/img/{number:08}.jpg"),
        2 => format!("/a/b/c/{}/detail?id={number}&lang=en", number * 7919),
        3 => format!("/%C3%A9t%C3%A9/{number}?{}", "x".repeat(number % 300)),
        _ => format!("/users/{}/items/{number}?", number % 17),
    })
}

/// Asks nginx for each key and compares whom it asked with the ring's owner; `servers` are `(name, weight, address shown)`.
fn compare(servers: &[(&str, u32, &str)], count: usize) {
    let listed: Vec<String> = servers.iter().map(|(name, weight, _)| format!("{name} weight={weight}")).collect();
    let Some(nginx) = Nginx::hashing(&listed) else { skip!("nginx is not installed") };
    let member = |(name, weight, _): &(&str, u32, &str)| Member { id: EndpointId::new(name), weight: *weight };
    let members: Vec<Member> = servers.iter().map(member).collect();
    let settings = Settings::ketama();
    let ring = Ring::build(&settings, &members).unwrap();
    let shown: BTreeMap<&str, &str> = servers.iter().map(|(name, _, shown)| (*name, *shown)).collect();
    let mut client = Client::new(nginx.address);
    let mut owned: BTreeMap<&str, usize> = BTreeMap::new();
    for key in keys(count) {
        let asked = client.get(&key).unwrap().header("x-upstream").unwrap().to_string();
        let owner = ring.id(ring.owner(settings.hash.hash(key.as_bytes())).unwrap()).as_str();
        assert_eq!(asked, shown[owner], "{key} of {servers:?}");
        *owned.entry(shown[owner]).or_default() += 1;
    }
    assert_eq!(owned.len(), servers.len(), "everybody owns some keys: {owned:?}");
}

#[test]
fn nginx_and_the_ring_agree_on_every_key_by_weights() {
    compare(
        &[
            ("127.0.0.1:1", 1, "127.0.0.1:1"),
            ("127.0.0.1:2", 2, "127.0.0.1:2"),
            ("127.0.0.2:1", 5, "127.0.0.2:1"),
            ("[::1]:3", 1, "[::1]:3"),
        ],
        4000,
    );
}

#[test]
fn nginx_and_the_ring_agree_on_sockets_and_on_servers_without_a_port() {
    compare(
        &[
            ("unix:/nowhere/a.sock", 1, "unix:/nowhere/a.sock"),
            ("unix:/nowhere/b.sock", 3, "unix:/nowhere/b.sock"),
            ("127.0.0.9", 2, "127.0.0.9:80"),
            ("127.0.0.8:80", 1, "127.0.0.8:80"),
        ],
        3000,
    );
}

#[test]
fn nginx_and_the_ring_agree_on_many_servers() {
    let names: Vec<String> = (1..=60).map(|number| format!("127.0.1.{number}:1")).collect();
    let servers: Vec<(&str, u32, &str)> = names.iter().map(|name| (name.as_str(), 1, name.as_str())).collect();
    compare(&servers, 3000);
}

#[test]
fn a_proxy_in_place_of_nginx_asks_the_same_origin_for_every_key() {
    let origins: Vec<Origin> = ["a", "b", "c"].into_iter().map(Origin::start).collect();
    let weights = [1, 2, 1];
    let servers = || origins.iter().map(|origin| origin.address.to_string()).zip(weights);
    let listed: Vec<String> = servers().map(|(server, weight)| format!("{server} weight={weight}")).collect();
    let Some(nginx) = Nginx::hashing(&listed) else { skip!("nginx is not installed") };
    let endpoints: String = servers()
        .map(|(server, weight)| format!("{{ id = \"{server}\", address = \"{server}\", weight = {weight} }}, "))
        .collect();
    let ringway = Ringway::start(&format!(
        "[[route]]\nupstream = \"u\"\nkey = [\"path_and_query\"]\n[upstream.u]\nendpoints = [{endpoints}]\n\
         ring = {{ algorithm = \"ketama\" }}\n"
    ));
    let (mut by_nginx, mut by_us) = (Client::new(nginx.address), ringway.client());
    for key in keys(600) {
        let origin_of = |client: &mut Client| client.get(&key).unwrap().header("x-origin").unwrap().to_string();
        assert_eq!(origin_of(&mut by_us), origin_of(&mut by_nginx), "{key}");
    }
}
