//! What only turns by a ZooKeeper have: a session that goes on with another connection.
use crate::harness::locks::LockServer;
use crate::harness::register::Register;
use crate::harness::store::Server;
use crate::harness::tls::{Authority, Relay, server_config, write};
use crate::harness::wait_for;
use crate::harness::zookeeper::Zookeeper;
use crate::members::wait_for_members;
use crate::serialize::check_tokens;
use crate::serialize_stores::{post_later, start_on};
use crate::skip;
use std::net::SocketAddr;
use std::time::Duration;

#[test]
fn a_lock_lasts_over_a_connection_that_breaks() {
    let Some(store) = Zookeeper::start() else { skip!("no ZooKeeper") };
    let register = Register::start(Duration::from_secs(5));
    let authority = Authority::new("ours");
    let folder = tempfile::tempdir().unwrap();
    let ca = write(folder.path(), "ca.pem", &authority.pem());
    let relay = || Relay::server(store.address(), server_config(&authority.issue(&["127.0.0.1"]), None));
    let [first, second] = [relay(), relay()];
    let ringway = start_on(&format!(
        "[[route]]\nupstream = \"u\"\nkey = [\"path\"]\n[route.serialize]\nstore = \"e\"\nlease = \"4s\"\n\
         [store.e]\n{}\ntls = {{ ca = \"{}\" }}\n{}",
        store.lines(&[first.address, second.address]).replace("1s", "4s"),
        ca.display(),
        register.upstream()
    ));
    let asked = post_later(ringway.address, "/n");
    wait_for("the holder", || (register.now("/n") == 1).then_some(()));
    let before = store.locks();
    drop(first);
    wait_for("another connection", || (!second.shakes().is_empty()).then_some(()));
    // Longer than a session without signs of life lasts.
    assert_eq!(asked.join().unwrap().status, 200);
    assert_eq!(ringway.metrics().sum("ringway_lock_lost_total"), 0.0);
    assert_eq!(before.len(), 1);
    wait_for("the store to be empty", || store.locks().is_empty().then_some(()));
    assert_eq!(ringway.client().post("/n", b"").unwrap().status, 200);
    assert_eq!(register.at("/n").value, 2);
}

#[test]
fn a_leader_that_is_killed_takes_neither_members_nor_a_lock() {
    let Some(mut servers) = Zookeeper::ensemble() else { skip!("no ZooKeeper") };
    let register = Register::start(Duration::from_secs(3));
    let [a, b] = ["a", "b"].map(|id| (id, register.address.to_string()));
    let addresses: Vec<SocketAddr> = servers.iter().map(|server| server.address).collect();
    Server::put(&servers[0], a.0, &a.1, 1);
    let ringway = start_on(&format!(
        "[[route]]\nupstream = \"u\"\nkey = [\"path\"]\n[route.serialize]\nstore = \"e\"\nlease = \"9s\"\n\
         [store.e]\n{}\n[upstream.u.discovery]\nprovider = \"store\"\nstore = \"e\"\nallow = [\"127.0.0.0/8\"]\n",
        servers[0].lines(&addresses).replace("1s", "9s"),
    ));
    wait_for_members(&ringway, &["a"]);
    let asked = post_later(ringway.address, "/n");
    wait_for("the holder", || (register.now("/n") == 1).then_some(()));
    let leader = servers.iter().position(Zookeeper::leads).expect("one leads");
    servers.remove(leader).kill();
    assert_eq!(asked.join().unwrap().status, 200);
    assert_eq!(ringway.metrics().sum("ringway_lock_lost_total"), 0.0);
    wait_for("another leader", || servers.iter().any(Zookeeper::leads).then_some(()));
    Server::put(&servers[0], b.0, &b.1, 1);
    wait_for_members(&ringway, &["a", "b"]);
    register.set_pause(Duration::ZERO);
    assert_eq!(ringway.client().post("/n", b"").unwrap().status, 200);
    check_tokens(&register.at("/n").writes);
}
