//! A cache that fetches through Ringway what it has only just come to own gets it from the cache that owned it before.
use crate::harness::http::Client;
use crate::harness::origin::{Body, Origin, Script, Seen};
use crate::harness::program::{Ringway, command};
use crate::harness::varnish::Varnish;
use crate::harness::{free_address, wait_for};
use crate::hashing::{fleet, upstream};
use crate::skip;
use std::net::SocketAddr;

const KEYS: usize = 40;

/// A proxy before caches, which they fetch through.
struct Fleet {
    ringway: Ringway,
    origin: Origin,
    fill: SocketAddr,
}

impl Fleet {
    fn start(caches: &str) -> Self {
        Self::start_with(caches, "0s")
    }

    fn start_with(caches: &str, ramp: &str) -> Self {
        let (origin, fill) = (Origin::start("origin"), free_address());
        let ramped = format!("transition = {{ ramp = \"{ramp}\", ");
        let ringway = Ringway::start(&config(caches, &origin, fill).replacen("transition = { ", &ramped, 1));
        Self { ringway, origin, fill }
    }

    fn change(&self, caches: &str) {
        self.ringway.rewrite_config(&config(caches, &self.origin, self.fill));
    }

    /// Who answers a client's requests for the keys.
    fn owners(&self) -> Vec<String> {
        let mut client = self.ringway.client();
        (0..KEYS).map(|key| who(&mut client, &format!("/{key}"), &[])).collect()
    }

    /// Asks for each key as a client, and gets what the origin has of it.
    fn ask(&self) {
        let mut client = self.ringway.client();
        for key in 0..KEYS {
            let path = format!("/{key}");
            let answer = client.get(&path).unwrap();
            assert_eq!((answer.status, answer.text()), (200, format!("origin {path}\n").as_str()));
        }
    }

    /// Who answers a cache that fetches one.
    fn fetch(&self, path: &str, fields: &[(&str, &str)]) -> String {
        who(&mut Client::new(self.fill), path, fields)
    }

    fn fills(&self, result: &str) -> f64 {
        self.ringway.metrics().get(&format!("ringway_fills_total{{upstream=\"u\",result=\"{result}\"}}"))
    }
}

fn who(client: &mut Client, path: &str, fields: &[(&str, &str)]) -> String {
    client.request("GET", path, fields, None).unwrap().header("x-origin").unwrap().to_string()
}

/// `caches` is `[upstream.u]` and whatever else stands below it.
fn config(caches: &str, origin: &Origin, fill: SocketAddr) -> String {
    // However busy the machine is, whoever owned a key is asked for it, and has the time to answer.
    let patient =
        "[upstream.u]\nresponse_timeout = \"10s\"\nconnect_timeout = \"10s\"\ntransition = { fill_window = \"1h\" }\n";
    let caches = caches.replacen("[upstream.u]\n", patient, 1);
    format!(
        "[[listener]]\nname = \"front\"\naddress = \"LISTEN\"\n[[listener]]\nname = \"fill\"\naddress = \"{fill}\"\n\
         [[route]]\nlisteners = [\"front\"]\nupstream = \"u\"\nkey = [\"path\"]\n\
         [[route]]\nname = \"fill\"\nlisteners = [\"fill\"]\nupstream = \"origin\"\nfill_for = \"u\"\n\
         [upstream.origin]\nendpoints = [{{ id = \"origin\", address = \"{}\" }}]\n{caches}",
        origin.address
    )
}

/// A proxy before the first so many of these caches.
fn of_varnish(caches: &[Varnish], count: usize, fill: SocketAddr) -> Fleet {
    let origin = Origin::start("origin");
    let headers = vec![("Cache-Control", "max-age=3600".to_string())];
    origin.script(Script { headers, ..Script::default() });
    let ringway = Ringway::start(&config(&lines(&caches[..count]), &origin, fill));
    Fleet { ringway, origin, fill }
}

fn lines(caches: &[Varnish]) -> String {
    let lines = caches.iter().map(|it| format!("{{ id = \"{}\", address = \"{}\" }}, ", it.id, it.address));
    format!("[upstream.u]\nendpoints = [{}]\n", lines.collect::<String>())
}

fn marked(seen: &[Seen]) -> Vec<&Seen> {
    seen.iter().filter(|seen| seen.header("ringway-fill").is_some()).collect()
}

#[test]
fn who_owned_a_key_before_is_asked_for_it_and_only_for_what_has_moved() {
    let (caches, two) = fleet(&["a", "b"]);
    let (more, _) = fleet(&["c"]);
    let three = upstream(&caches.iter().chain(&more).collect::<Vec<_>>());
    let fleet = Fleet::start(&two);
    let before = fleet.owners();
    assert_eq!(fleet.fetch("/0", &[]), "origin", "nothing has changed yet");
    fleet.change(&three);
    let after = fleet.owners();
    let moved = before.iter().zip(&after).filter(|(before, after)| before != after).count();
    assert!(moved > 3);
    for (key, (before, after)) in before.iter().zip(&after).enumerate() {
        let expected = if before == after { "origin" } else { before };
        assert_eq!(fleet.fetch(&format!("/{key}"), &[]), expected, "/{key}, which {after} owns now");
    }
    assert_eq!(fleet.fills("hit"), moved as f64);
    let seen: Vec<Seen> = caches.iter().flat_map(Origin::requests).collect();
    let asked = marked(&seen);
    assert_eq!(asked.len(), moved);
    assert!(asked.iter().all(|seen| seen.header("cache-control") == Some("only-if-cached")), "{asked:?}");
    assert!(marked(&fleet.origin.requests()).is_empty() && marked(&more[0].requests()).is_empty());
    let key = (0..KEYS).find(|key| before[*key] != after[*key]).unwrap();
    let told = fleet.ringway.admin_get(&format!("/api/v1/explain?url=/{key}&listener=fill")).unwrap();
    assert!(told.text().contains(&format!("\"fill_from\": \"{}\"", before[key])), "{}", told.text());
}

#[test]
fn whatever_a_previous_owner_says_but_its_answer_the_origin_is_asked() {
    let (mut caches, two) = fleet(&["a", "b"]);
    let (more, _) = fleet(&["c"]);
    let three = upstream(&caches.iter().chain(&more).collect::<Vec<_>>());
    let fleet = Fleet::start(&two);
    let before = fleet.owners();
    fleet.change(&three);
    let after = fleet.owners();
    let moved: Vec<usize> = (0..KEYS).filter(|key| before[*key] != after[*key]).collect();
    let path = format!("/{}", moved[0]);

    let mark = ("Ringway-Fill", "1");
    assert_eq!(fleet.fetch(&path, &[mark]), "origin", "a cache passed our own question on");
    assert_eq!(fleet.fills("returned"), 1.0);
    for fresh in ["no-cache", "max-age=0, no-transform", "no-store"] {
        assert_eq!(fleet.fetch(&path, &[("Cache-Control", fresh)]), "origin");
    }
    let posted = Client::new(fleet.fill).post(&path, b"x").unwrap();
    assert_eq!(posted.header("x-origin"), Some("origin"));
    assert_eq!(fleet.fetch(&path, &[("Cache-Control", "max-age=60")]), before[moved[0]]);
    assert_eq!((fleet.fills("hit"), fleet.fills("miss")), (1.0, 0.0));

    for status in [504, 503, 403, 500] {
        caches.iter().for_each(|cache| cache.script(Script { status, ..Script::default() }));
        for key in &moved {
            assert_eq!(fleet.fetch(&format!("/{key}"), &[]), "origin", "{status}");
        }
    }
    assert_eq!(fleet.fills("miss"), (4 * moved.len()) as f64);
    let status = fleet.ringway.admin_get("/api/v1/status").unwrap();
    assert!(!status.text().contains("ejected"), "to have nothing is no failure: {}", status.text());
    let connections: usize = caches.iter().map(Origin::connections).sum();
    assert!(connections <= 12, "a refusal costs no connection: {connections}");

    caches.iter().for_each(|cache| cache.script(Script { body: Body::Bytes(200_000), ..Script::default() }));
    let whole = Client::new(fleet.fill).get(&path).unwrap();
    assert_eq!((whole.header("x-origin"), whole.body.len()), (Some(before[moved[0]].as_str()), 200_000));
    caches.iter_mut().for_each(Origin::stop);
    assert_eq!(fleet.fetch(&path, &[]), "origin");
    assert_eq!(fleet.fills("failed"), 1.0);
}

#[test]
fn a_client_cannot_pass_for_one_who_fills() {
    let (caches, toml) = fleet(&["a"]);
    let fleet = Fleet::start(&format!("{toml}# one cache\n"));
    who(&mut fleet.ringway.client(), "/x", &[("Ringway-Fill", "1"), ("ringway_fill", "1")]);
    let seen = caches[0].wait_for_requests(1);
    assert!(seen[0].headers.iter().all(|(name, _)| !name.to_ascii_lowercase().starts_with("ringway")), "{seen:?}");
}

#[test]
fn what_a_stand_in_has_gathered_goes_to_the_cache_that_is_back() {
    let (caches, toml) = fleet(&["a", "b", "c"]);
    let check = "[upstream.u.health_check]\ninterval = \"20ms\"\n";
    let fleet = Fleet::start(&format!("{toml}{check}"));
    let before = fleet.owners();
    let is = |state: &str| {
        let status = fleet.ringway.admin_get("/api/v1/status").unwrap();
        let status: serde_json::Value = serde_json::from_str(status.text()).unwrap();
        let upstream = status["upstreams"].as_array().unwrap().iter().find(|upstream| upstream["name"] == "u").unwrap();
        (upstream["endpoints"][2]["state"] == state).then_some(())
    };
    caches[2].script(Script { status: 500, ..Script::default() });
    wait_for("c to be down", || is("down"));
    let stood_in = fleet.owners();
    let key = (0..KEYS).find(|key| before[*key] == "c").unwrap();
    assert_eq!(fleet.fetch(&format!("/{key}"), &[]), "origin", "who owned it before is ill");
    caches[2].script(Script::default());
    wait_for("c to be up", || is("up"));
    assert_eq!(fleet.owners(), before);
    assert_eq!(fleet.fetch(&format!("/{key}"), &[]), stood_in[key]);
}

#[test]
fn what_a_drained_cache_has_goes_to_those_who_own_it_now_while_it_is_well() {
    let (mut caches, toml) = fleet(&["a", "b", "c"]);
    let check = "[upstream.u.health_check]\ninterval = \"20ms\"\n";
    let fleet = Fleet::start_with(&format!("{toml}{check}"), "200ms");
    let before = fleet.owners();
    let admin = format!("http://{}", fleet.ringway.admin);
    let drained = command(&["drain", "u/c", "--wait", "--admin", &admin]);
    assert_eq!(drained.status.code(), Some(0), "{}", String::from_utf8_lossy(&drained.stderr));
    let after = fleet.owners();
    assert!(after.iter().all(|owner| owner != "c"));
    for (key, (before, after)) in before.iter().zip(&after).enumerate() {
        let expected = if before == after { "origin" } else { "c" };
        assert_eq!(fleet.fetch(&format!("/{key}"), &[]), expected, "/{key}, which {after} owns now");
    }
    let key = (0..KEYS).find(|key| before[*key] == "c").unwrap();
    // Once it has ended it is not waited for any more.
    caches[2].stop();
    wait_for("c to be known as gone", || {
        let answer = fleet.fetch(&format!("/{key}"), &[]);
        assert_eq!(answer, "origin");
        let failed = fleet.fills("failed");
        fleet.fetch(&format!("/{key}"), &[]);
        (fleet.fills("failed") == failed).then_some(())
    });
}

#[test]
fn a_cache_that_was_taken_out_is_asked_for_what_it_had_as_long_as_it_is_there() {
    let (mut caches, three) = fleet(&["a", "b", "c"]);
    let two = upstream(&caches.iter().take(2).collect::<Vec<_>>());
    let fleet = Fleet::start(&three);
    let before = fleet.owners();
    fleet.change(&two);
    let after = fleet.owners();
    for (key, (before, after)) in before.iter().zip(&after).enumerate() {
        let expected = if before == after { "origin" } else { "c" };
        assert_eq!(fleet.fetch(&format!("/{key}"), &[]), expected, "/{key}, which {after} owns now");
    }
    let key = (0..KEYS).find(|key| before[*key] == "c").unwrap();
    let path = format!("/{key}");
    let told = fleet.ringway.admin_get(&format!("/api/v1/explain?url={path}&listener=fill")).unwrap();
    assert!(told.text().contains("\"fill_from\": \"c\""), "{}", told.text());
    let connections = caches[2].connections();
    assert!(connections < before.iter().filter(|owner| *owner == "c").count(), "they are kept: {connections}");
    let up = |id: &str| fleet.ringway.metrics().sum_of("ringway_endpoint_up", &[("endpoint", id)]);
    assert_eq!((up("a"), up("c")), (1.0, 0.0), "it is no endpoint");
    // Nobody checks it: requests find out that it has ended, and do not go on trying.
    caches[2].stop();
    for _ in 0..10 {
        assert_eq!(fleet.fetch(&path, &[]), "origin");
    }
    let failed = fleet.fills("failed");
    assert!((1.0..=5.0).contains(&failed), "{failed}");
    fleet.fetch(&path, &[]);
    assert_eq!(fleet.fills("failed"), failed);
    // Who takes it back has an endpoint as any other.
    caches[2].restart();
    fleet.change(&three);
    assert_eq!(fleet.owners(), before);
    assert_eq!(fleet.fetch(&path, &[]), after[key]);
}

#[test]
fn a_varnish_that_was_taken_out_hands_on_what_it_had_and_the_origin_sees_nothing_of_it() {
    let fill = free_address();
    let Some(caches) = Varnish::start_all(&["one", "two", "three"], fill) else { skip!("varnishd is not installed") };
    let fleet = of_varnish(&caches, 3, fill);
    fleet.ask();
    fleet.ask();
    assert_eq!(fleet.origin.requests().len(), KEYS, "each key once");
    fleet.change(&lines(&caches[..2]));
    fleet.ask();
    let filled = fleet.fills("hit");
    assert!(filled > 3.0 && fleet.fills("miss") == 0.0 && fleet.fills("failed") == 0.0, "{filled} filled");
    fleet.ask();
    assert_eq!(fleet.fills("hit"), filled, "what was filled is kept");
    assert_eq!(fleet.origin.requests().len(), KEYS, "the origin was asked for nothing again");
}

#[test]
fn a_varnish_that_joins_fills_from_the_others_and_the_origin_sees_nothing_of_it() {
    let fill = free_address();
    let Some(caches) = Varnish::start_all(&["one", "two", "three"], fill) else { skip!("varnishd is not installed") };
    let fleet = of_varnish(&caches, 2, fill);
    fleet.ask();
    fleet.ask();
    assert_eq!(fleet.origin.requests().len(), KEYS, "each key once");
    fleet.change(&lines(&caches));
    fleet.ask();
    let filled = fleet.fills("hit");
    assert!(filled > 3.0 && fleet.fills("miss") == 0.0 && fleet.fills("failed") == 0.0, "{filled} filled");
    fleet.ask();
    assert_eq!(fleet.fills("hit"), filled, "what was filled is kept");
    assert_eq!(fleet.origin.requests().len(), KEYS, "the origin was asked for nothing again");
}
