//! Members from DNS, asked of a real name server.
use crate::harness::dnsmasq::Dnsmasq;
use crate::harness::origin::Origin;
use crate::harness::program::{Ringway, command};
use crate::harness::wait_for;
use crate::hashing::BY_PATH;
use crate::members::{members, upstream_status, wait_for_members};
use crate::skip;

fn config(server: &Dnsmasq, lines: &str) -> String {
    let resolvers = format!("resolvers = [\"{}\"]", server.address);
    format!("{BY_PATH}[upstream.u.discovery]\nprovider = \"dns\"\n{resolvers}\nallow = [\"127.0.0.0/8\"]\n{lines}\n")
}

fn hosts(name: &str, addresses: &[&str]) -> String {
    addresses.iter().map(|address| format!("host-record={name},{address}\n")).collect()
}

/// The problem that `status` tells, once it holds `told`.
#[track_caller]
fn wait_for_problem(ringway: &Ringway, told: &str) {
    wait_for(&format!("a problem: {told}"), || {
        upstream_status(ringway)["discovery"]["problem"].as_str()?.contains(told).then_some(())
    });
}

#[test]
fn every_address_is_an_endpoint_and_a_failure_keeps_the_last() {
    let a = Origin::start_at("a", "127.0.0.1:0");
    let port = a.address.port();
    let b = Origin::start_at("b", &format!("127.0.0.2:{port}"));
    let both = hosts("app.test", &["127.0.0.1", "127.0.0.2"]);
    let Some(mut server) = Dnsmasq::start(&both) else { skip!("no dnsmasq") };
    let ringway = Ringway::start(&config(&server, &format!("name = \"app.test\"\nport = {port}")));
    let [first, second] = [format!("127.0.0.1:{port}"), format!("127.0.0.2:{port}")];
    assert_eq!(members(&ringway), [first.clone(), second.clone()]);
    let mut client = ringway.client();
    (0..40).for_each(|n| assert_eq!(client.get(&format!("/{n}")).unwrap().status, 200));
    assert!(!a.requests().is_empty() && !b.requests().is_empty());

    server.restart(&hosts("app.test", &["127.0.0.2"]));
    wait_for_members(&ringway, &[&second]);
    server.restart(&both);
    wait_for_members(&ringway, &[&first, &second]);

    server.restart("");
    wait_for_problem(&ringway, "there is no name app.test");
    server.stop();
    wait_for_problem(&ringway, "cannot be asked");
    assert_eq!(members(&ringway), [first, second]);
    assert_eq!(client.get("/k").unwrap().status, 200);
    server.restart(&both);
    wait_for("an end of the problem", || upstream_status(&ringway)["discovery"]["problem"].is_null().then_some(()));
}

#[test]
fn a_service_names_its_servers_with_ports_and_weights() {
    let [a, b] = ["a", "b"].map(Origin::start);
    let places = [hosts("one.test", &["127.0.0.1"]), hosts("two.test", &["127.0.0.1"])].concat();
    let srv = |target: &str, port: u16, priority: u16, weight: u16| {
        format!("srv-host=_http._tcp.app.test,{target},{port},{priority},{weight}\n")
    };
    let (one, two) = (a.address.port(), b.address.port());
    let records = [srv("one.test", one, 10, 50), srv("two.test", two, 10, 100), srv("one.test", 9, 20, 100)].concat();
    let Some(mut server) = Dnsmasq::start(&format!("{places}{records}")) else { skip!("no dnsmasq") };
    let ringway = Ringway::start(&config(&server, "name = \"_http._tcp.app.test\"\nrecords = \"srv\""));
    let [first, second] = [format!("one.test:{one}"), format!("two.test:{two}")];
    assert_eq!(members(&ringway), [first.clone(), second.clone()], "only those of the first priority");
    let weight = |index: usize| upstream_status(&ringway)["endpoints"][index]["weight"].as_u64().unwrap();
    assert_eq!((weight(0), weight(1)), (1, 2));
    let mut client = ringway.client();
    (0..40).for_each(|n| assert_eq!(client.get(&format!("/{n}")).unwrap().status, 200));

    // Another address under the same name: the id stays, so no key moves.
    let moved = Origin::start_at("a", &format!("127.0.0.2:{one}"));
    let places = [hosts("one.test", &["127.0.0.2"]), hosts("two.test", &["127.0.0.1"])].concat();
    server.restart(&format!("{places}{records}"));
    wait_for("the new address", || {
        (upstream_status(&ringway)["endpoints"][0]["address"] == moved.address.to_string()).then_some(())
    });
    assert_eq!(ringway.metrics().sum("ringway_ring_moved_share"), 0.0);
    assert_eq!(members(&ringway), [first, second]);
}

#[test]
fn more_addresses_than_fit_into_a_packet_are_asked_for_over_tcp() {
    let addresses: Vec<String> = (1..=150).map(|n| format!("10.1.1.{n}")).collect();
    let addresses: Vec<&str> = addresses.iter().map(String::as_str).collect();
    let Some(server) = Dnsmasq::start(&hosts("many.test", &addresses)) else { skip!("no dnsmasq") };
    let ringway = Ringway::start(&config(&server, "name = \"many.test\"\nport = 80"));
    assert_eq!(members(&ringway).len(), 150);
}

#[test]
fn an_address_near_this_machine_is_left_out_unless_it_is_allowed() {
    let Some(server) = Dnsmasq::start(&hosts("app.test", &["10.0.0.1", "127.0.0.1", "169.254.169.254"])) else {
        skip!("no dnsmasq")
    };
    let ringway = Ringway::start(&config(&server, "name = \"app.test\"\nport = 80"));
    assert_eq!(members(&ringway), ["10.0.0.1:80", "127.0.0.1:80"]);
    wait_for_problem(&ringway, "1 left out: endpoint 169.254.169.254:80");
    let labels = [("upstream", "u"), ("reason", "member")];
    assert_eq!(ringway.metrics().sum_of("ringway_membership_held_back_total", &labels), 1.0);
}

#[test]
fn a_server_that_does_not_answer_is_passed_over() {
    let Some(server) = Dnsmasq::start(&hosts("app.test", &["10.0.0.1"])) else { skip!("no dnsmasq") };
    // It takes packets and says nothing.
    let silent = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    let both = format!("resolvers = [\"{}\", ", silent.local_addr().unwrap());
    let text = config(&server, "name = \"app.test\"\nport = 80").replace("resolvers = [", &both);
    let ringway = Ringway::start(&text);
    wait_for_members(&ringway, &["10.0.0.1:80"]);
}

#[test]
fn checking_a_configuration_asks_nobody() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("ringway.toml");
    let text = format!(
        "[[listener]]\naddress = \"127.0.0.1:0\"\n{BY_PATH}[upstream.u.discovery]\nprovider = \"dns\"\nname = \"app.test\"\nport = 80\n"
    );
    std::fs::write(&file, text).unwrap();
    let output = command(&["check", "-c", file.to_str().unwrap()]);
    let told = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success() && told.contains("members from dns app.test, port 80"), "{told}");
    assert!(!told.contains("warning"), "{told}");
}
