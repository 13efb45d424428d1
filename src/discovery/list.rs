//! A list of members as text, TOML or JSON: `{ "endpoints": [{ "id", "address", "weight" }] }`. A list is read whole or not at
//! all. The last list that is kept for a cold start is one, too.
use super::settings::Allowed;
use crate::base::address::Address;
use crate::base::address::Location;
use crate::base::ids::EndpointId;
use crate::ring::build::MAX_WEIGHT;
use crate::snapshot::settings::Endpoint;
use serde::Deserialize;
use serde::Serialize;
use std::collections::HashSet;
use std::io;
use std::io::Read;
use std::io::Write;
use std::net::SocketAddr;
use std::path::Path;
use thiserror::Error;

/// Largest file that is read: 100,000 members have about a tenth of it.
const MAX_BYTES: u64 = 64 << 20;

/// Why a list cannot be read.
#[derive(Debug, Error)]
pub enum ListError {
    /// The file is not there, or may not be read.
    #[error("{0} cannot be read: {1}")]
    Io(String, #[source] io::Error),
    /// The file is too large to be a list.
    #[error("{0} is larger than {MAX_BYTES} bytes")]
    TooLarge(String),
    /// It is no TOML of the right shape.
    #[error("{0}: {1}")]
    Toml(String, String),
    /// It is no JSON of the right shape.
    #[error("{0}: {1}")]
    Json(String, #[source] serde_json::Error),
    /// One of its members cannot be one.
    #[error("{0}: {1}")]
    Member(String, #[source] MemberError),
    /// Two members have one id.
    #[error("{0}: two endpoints have the id \"{1}\"")]
    Twice(String, EndpointId),
}

/// Why something cannot be a member.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum MemberError {
    /// Its id cannot be one.
    #[error("{0:?} is not an id: 1 to 128 characters of A-Za-z0-9._:/[]-")]
    Id(String),
    /// Its address is no numbers and a port.
    #[error("endpoint {0}: {1:?} is not an address; write \"10.0.0.1:8080\" or \"[2001:db8::1]:8080\"")]
    Address(String, String),
    /// Its address is not one that members may have.
    #[error("endpoint {0}: {1} {2}")]
    Refused(String, SocketAddr, &'static str),
    /// Its weight is out of range.
    #[error("endpoint {0}: the weight {1} is not 0 to {MAX_WEIGHT}")]
    Weight(String, u64),
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct List {
    endpoints: Vec<Entry>,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    id: String,
    address: String,
    #[serde(default = "one")]
    weight: u64,
}

fn one() -> u64 {
    1
}

/// Makes a member of what somebody says of it.
///
/// # Errors
/// When its id, address or weight cannot be one, or its address is not allowed.
pub fn member(id: &str, address: &str, weight: u64, allow: &Allowed) -> Result<Endpoint, MemberError> {
    if !EndpointId::is_valid(id) {
        let shown: String = id.chars().take(64).collect();
        return Err(MemberError::Id(shown));
    }
    let shown = || address.chars().take(64).collect();
    let parsed: Option<SocketAddr> = address.parse().ok().filter(|address: &SocketAddr| address.port() != 0);
    let parsed = parsed.ok_or_else(|| MemberError::Address(id.into(), shown()))?;
    if let Some(why) = allow.refusal(parsed.ip()) {
        return Err(MemberError::Refused(id.into(), parsed, why));
    }
    if weight > u64::from(MAX_WEIGHT) {
        return Err(MemberError::Weight(id.into(), weight));
    }
    let address = Location::At(Address::Ip(SocketAddr::new(parsed.ip().to_canonical(), parsed.port())));
    Ok(Endpoint { id: EndpointId::new(id), address, weight: weight as u32 })
}

/// Reads a file: JSON when its name ends so, else TOML.
///
/// # Errors
/// When it cannot be read, or one of its members cannot be one.
pub fn read(path: &Path, allow: &Allowed) -> Result<Vec<Endpoint>, ListError> {
    let name = path.display().to_string();
    let io = |error| ListError::Io(name.clone(), error);
    let mut text = String::new();
    let file = std::fs::File::open(path).map_err(io)?;
    file.take(MAX_BYTES + 1).read_to_string(&mut text).map_err(io)?;
    if text.len() as u64 > MAX_BYTES {
        return Err(ListError::TooLarge(name));
    }
    parse(&name, &text, allow)
}

fn parse(name: &str, text: &str, allow: &Allowed) -> Result<Vec<Endpoint>, ListError> {
    let list: List = if name.ends_with(".json") {
        serde_json::from_str(text).map_err(|error| ListError::Json(name.into(), error))?
    } else {
        toml::from_str(text).map_err(|error| ListError::Toml(name.into(), told(text, &error)))?
    };
    let mut ids = HashSet::new();
    let mut members = Vec::with_capacity(list.endpoints.len());
    for entry in list.endpoints {
        let found = member(&entry.id, &entry.address, entry.weight, allow);
        let member = found.map_err(|error| ListError::Member(name.into(), error))?;
        if !ids.insert(member.id.clone()) {
            return Err(ListError::Twice(name.into(), member.id));
        }
        members.push(member);
    }
    Ok(members)
}

/// What is wrong with a TOML text, in one line with its place.
fn told(text: &str, error: &toml::de::Error) -> String {
    let at = error.span().map_or(0, |span| span.start.min(text.len()));
    let line = text.as_bytes()[..at].iter().filter(|byte| **byte == b'\n').count() + 1;
    format!("line {line}: {}", error.message().replace('\n', ", "))
}

/// Writes a list to a file in one step: whoever reads it sees the old list or the new one.
///
/// # Errors
/// When the file cannot be written.
pub fn write(path: &Path, members: &[Endpoint]) -> io::Result<()> {
    let entry = |member: &Endpoint| Entry {
        id: member.id.to_string(),
        address: member.address.to_string(),
        weight: u64::from(member.weight),
    };
    let list = List { endpoints: members.iter().map(entry).collect() };
    let mut temporary = path.as_os_str().to_owned();
    temporary.push(".new");
    let mut file = std::fs::File::create(&temporary)?;
    serde_json::to_writer_pretty(&mut file, &list)?;
    file.write_all(b"\n")?;
    file.sync_all()?;
    std::fs::rename(&temporary, path)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(name: &str, text: &str) -> String {
        parse(name, text, &Allowed::default()).unwrap_err().to_string()
    }

    #[test]
    fn toml_and_json_say_the_same() {
        let toml = "[[endpoints]]\nid = \"a\"\naddress = \"10.0.0.1:80\"\n[[endpoints]]\nid = \"b\"\naddress = \"[2001:db8::1]:80\"\nweight = 3\n";
        let json = r#"{"endpoints": [{"id": "a", "address": "10.0.0.1:80"}, {"id": "b", "address": "[2001:db8::1]:80", "weight": 3}]}"#;
        let members = parse("m.toml", toml, &Allowed::default()).unwrap();
        assert_eq!(members, parse("m.json", json, &Allowed::default()).unwrap());
        assert_eq!((members[0].weight, members[1].weight), (1, 3));
    }

    #[test]
    fn what_is_wrong_is_named_with_its_place() {
        assert!(
            told("m.toml", "endpoints = [\n{ id = \"a\" }]").starts_with("m.toml: line 2: missing field `address`")
        );
        assert!(told("m.json", "[").contains("line 1"));
        assert!(told("m.json", r#"{"endpoints": [{"id": "a", "adress": "x"}]}"#).contains("unknown field `adress`"));
        let one = |id: &str, address: &str, weight: u64| {
            told("m.toml", &format!("endpoints = [{{ id = \"{id}\", address = \"{address}\", weight = {weight} }}]"))
        };
        assert!(one("", "10.0.0.1:80", 1).contains("is not an id"));
        assert!(one("a", "host:80", 1).contains("endpoint a: \"host:80\" is not an address"));
        assert!(one("a", "10.0.0.1:0", 1).contains("is not an address"));
        assert!(one("a", "127.0.0.1:80", 1).contains("name its network in `allow`"));
        assert!(one("a", "10.0.0.1:80", 1001).contains("the weight 1001 is not 0 to 1000"));
        let twice = r#"{"endpoints": [{"id": "a", "address": "10.0.0.1:1"}, {"id": "a", "address": "10.0.0.1:2"}]}"#;
        assert!(told("m.json", twice).contains("two endpoints have the id \"a\""));
    }

    #[test]
    fn what_is_written_is_read_again() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("last.json");
        let members = vec![member("a", "10.0.0.1:80", 7, &Allowed::default()).unwrap()];
        write(&path, &members).unwrap();
        assert_eq!(read(&path, &Allowed::default()).unwrap(), members);
    }
}
