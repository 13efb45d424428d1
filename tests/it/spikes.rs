//! HTTP/2 in clear and TLS go through the same door and give the same key.
use crate::harness::origin::{Body, Script};
use crate::harness::program::Ringway;
use crate::hashing::{BY_PATH, fleet};
use crate::skip;
use std::process::Command;

fn curl(arguments: &[&str]) -> Option<String> {
    let output = Command::new("curl").args(["-s", "-S", "-m", "10"]).args(arguments).output().ok()?;
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    Some(String::from_utf8_lossy(&output.stdout).into_owned())
}

#[test]
fn every_protocol_finds_the_same_owner() {
    let (origins, upstream) = fleet(&["a", "b", "c"]);
    let folder = tempfile::tempdir().unwrap();
    let made = rcgen::generate_simple_self_signed(vec!["example.com".to_string()]).unwrap();
    let (cert, key) = (folder.path().join("c.pem"), folder.path().join("k.pem"));
    std::fs::write(&cert, made.cert.pem()).unwrap();
    std::fs::write(&key, made.signing_key.serialize_pem()).unwrap();
    let secure = crate::harness::free_address();
    let tls = format!(
        "[[listener]]\naddress = \"LISTEN\"\n[[listener]]\naddress = \"{secure}\"\ntls = {{ certificates = [{{ cert = \"{}\", key = \"{}\" }}] }}\n",
        cert.display(),
        key.display()
    );
    let route = BY_PATH.replace("\"path\"", "\"host + path\"");
    let ringway = Ringway::start(&format!("{tls}{route}{upstream}"));
    let (clear, secure) = (format!("example.com:80:{}", ringway.address), format!("example.com:443:{secure}"));
    for path in ["/1", "/2", "/3", "/4"] {
        let connect_clear = format!("example.com:80:{}", clear.split_once(":80:").unwrap().1);
        let connect_secure = format!("example.com:443:{}", secure.split_once(":443:").unwrap().1);
        let plain = format!("http://example.com{path}");
        let Some(http1) = curl(&["--connect-to", &connect_clear, &plain]) else { skip!("curl is not installed") };
        assert!(http1.ends_with(&format!("{path}\n")), "{http1}");
        assert_eq!(curl(&["--connect-to", &connect_clear, "--http2-prior-knowledge", &plain]).unwrap(), http1);
        let encrypted = format!("https://example.com{path}");
        for version in ["--http1.1", "--http2"] {
            let said =
                curl(&["--connect-to", &connect_secure, "--cacert", cert.to_str().unwrap(), version, &encrypted]);
            assert_eq!(said.unwrap(), http1, "{version}");
        }
    }
    let seen: Vec<_> = origins.iter().flat_map(|origin| origin.requests()).collect();
    let protocols = |wanted: &str| seen.iter().filter(|seen| seen.header("x-forwarded-proto") == Some(wanted)).count();
    assert_eq!((protocols("http"), protocols("https")), (8, 8));
}

#[test]
fn http2_carries_bodies_both_ways() {
    let (origins, upstream) = fleet(&["a"]);
    let ringway = Ringway::start(&format!("{BY_PATH}{upstream}"));
    origins[0].script(Script { body: Body::Echo, ..Script::default() });
    let folder = tempfile::tempdir().unwrap();
    let body = folder.path().join("body");
    std::fs::write(&body, vec![b'x'; 3_000_000]).unwrap();
    let url = format!("http://{}/echo", ringway.address);
    let data = format!("@{}", body.display());
    let Some(echoed) = curl(&["--http2-prior-knowledge", "--data-binary", &data, &url]) else {
        skip!("curl is not installed")
    };
    assert_eq!(echoed.len(), 3_000_000);
}
