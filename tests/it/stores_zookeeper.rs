//! What only members in a ZooKeeper have: sessions that end, names of nodes, TLS before the real server.
use crate::harness::origin::Origin;
use crate::harness::program::Ringway;
use crate::harness::store::{RING, Server};
use crate::harness::tls::{Authority, Relay, server_config, write};
use crate::harness::zookeeper::Zookeeper;
use crate::harness::{signal, wait_for};
use crate::members::{members, upstream_status, wait_for_members};
use crate::skip;
use crate::stores::{Registered, config, config_of};

/// Members may go at once, be they all.
const FREE: &str = "settle = \"0s\"\n[upstream.u.transition]\nguard = { max_removed = \"100%\" }";

#[test]
fn who_slept_through_its_session_or_was_deleted_is_registered_anew() {
    let Some(store) = Zookeeper::start() else { skip!("no ZooKeeper") };
    let a = Origin::start("a");
    let ringway = Ringway::spawn(&config(&store, &format!("min_members = 0\n{FREE}"))).until_alive();
    let registered = Registered::start(&ringway, &a);
    wait_for_members(&ringway, &["a"]);
    let node = format!("/ringway/rings/{RING}/a");
    let first = store.owner(&node);
    assert_ne!(first, 0, "it goes with a session");
    signal(registered.0.id(), "STOP");
    wait_for("the end of its session", || (!Server::has(&store, "a")).then_some(()));
    wait_for_members(&ringway, &[]);
    signal(registered.0.id(), "CONT");
    wait_for_members(&ringway, &["a"]);
    let second = store.owner(&node);
    assert!(second != 0 && second != first);
    Server::delete(&store, "a");
    wait_for("it to be there again", || Server::has(&store, "a").then_some(()));
    wait_for_members(&ringway, &["a"]);
}

#[test]
fn who_registers_takes_the_place_of_another_without_a_moment_between() {
    let Some(store) = Zookeeper::start() else { skip!("no ZooKeeper") };
    let [old, new, slash] = ["a", "a", "rack/1"].map(Origin::start);
    Server::put(&store, "a", &old.address.to_string(), 1);
    let ringway = Ringway::start(&config(&store, "settle = \"0s\""));
    wait_for_members(&ringway, &["a"]);
    let generation = ringway.generation();
    let first = Registered::start(&ringway, &new);
    wait_for("the other's address", || {
        (upstream_status(&ringway)["endpoints"][0]["address"] == new.address.to_string()).then_some(())
    });
    assert_eq!(ringway.generation(), generation + 1, "it was never missing");
    // One more of the same id: the last one is the member, and the first does not quarrel.
    let second = Registered::start(&ringway, &old);
    wait_for("the last one's address", || {
        (upstream_status(&ringway)["endpoints"][0]["address"] == old.address.to_string()).then_some(())
    });
    let owner = store.owner(&format!("/ringway/rings/{RING}/a"));
    let third = Registered::start(&ringway, &slash);
    wait_for_members(&ringway, &["a", "rack/1"]);
    assert_eq!(store.owner(&format!("/ringway/rings/{RING}/a")), owner);
    drop((first, second, third));
}

#[test]
fn members_come_over_tls_and_only_from_who_proves_who_it_is() {
    let Some(store) = Zookeeper::start() else { skip!("no ZooKeeper") };
    let [a, b] = ["a", "b"].map(Origin::start);
    Server::put(&store, "a", &a.address.to_string(), 1);
    let folder = tempfile::tempdir().unwrap();
    let [ours, other] = ["ours", "other"].map(Authority::new);
    let relay = Relay::server(store.address(), server_config(&ours.issue(&["127.0.0.1"]), None));
    let with = |authority: &Authority, name| {
        let ca = write(folder.path(), name, &authority.pem());
        config_of(&store, &[relay.address], &format!("tls = {{ ca = \"{}\" }}", ca.display()), "")
    };
    let ringway = Ringway::start(&with(&ours, "ours.pem"));
    wait_for_members(&ringway, &["a"]);
    Server::put(&store, "b", &b.address.to_string(), 1);
    wait_for_members(&ringway, &["a", "b"]);
    let wary = Ringway::spawn(&with(&other, "other.pem")).until_alive();
    wait_for("the refusal", || {
        upstream_status(&wary)["discovery"]["problem"].as_str()?.contains("certificate").then_some(())
    });
    assert_eq!(members(&wary), [""; 0]);
}

#[test]
fn a_ring_that_is_deleted_is_an_empty_list_and_may_come_again() {
    let Some(store) = Zookeeper::start() else { skip!("no ZooKeeper") };
    let [a, b] = ["a", "b"].map(Origin::start);
    Server::put(&store, "a", &a.address.to_string(), 1);
    let ringway = Ringway::start(&config(&store, FREE));
    wait_for_members(&ringway, &["a"]);
    Server::delete(&store, "a");
    Zookeeper::delete(&store, &format!("/ringway/rings/{RING}"));
    wait_for("the empty list", || {
        upstream_status(&ringway)["discovery"]["problem"].as_str()?.contains("min_members").then_some(())
    });
    assert_eq!(members(&ringway), ["a"]);
    Server::put(&store, "b", &b.address.to_string(), 1);
    wait_for_members(&ringway, &["b"]);
}

#[test]
fn what_curator_has_registered_is_read_as_it_is() {
    let Some(store) = Zookeeper::start() else { skip!("no ZooKeeper") };
    let [a, b] = ["a", "b"].map(Origin::start);
    let put = |origin: &Origin, more: &str| {
        let (ip, port) = (origin.address.ip(), origin.address.port());
        let told = format!(
            "{{\"name\":\"{RING}\",\"id\":\"{}\",\"address\":\"{ip}\",\"port\":{port},\"sslPort\":null,{more}\
             \"registrationTimeUTC\":1700000000000,\"serviceType\":\"DYNAMIC\",\"uriSpec\":null}}",
            origin.id
        );
        Zookeeper::put(&store, &format!("/services/{RING}/{}", origin.id), &told);
    };
    put(&a, "\"payload\":null,");
    let config = config(&store, &format!("layout = \"curator\"\n{FREE}"));
    let ringway = Ringway::start(&config.replace("session_timeout", "root = \"/services\"\nsession_timeout"));
    wait_for_members(&ringway, &["a"]);
    put(&b, "\"payload\":{\"metadata\":{\"weight\":\"2\"}},\"enabled\":true,");
    wait_for_members(&ringway, &["a", "b"]);
    assert_eq!(upstream_status(&ringway)["endpoints"][1]["weight"], 2);
    put(&a, "\"payload\":null,\"enabled\":false,");
    wait_for_members(&ringway, &["b"]);
    Zookeeper::put(&store, &format!("/services/{RING}/z"), "127.0.0.1:80");
    wait_for("the problem", || {
        upstream_status(&ringway)["discovery"]["problem"].as_str()?.contains("1 left out: endpoint z").then_some(())
    });
    assert_eq!(members(&ringway), ["b"]);
}
