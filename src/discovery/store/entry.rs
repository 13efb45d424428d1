//! A member as it is written down in a store, before anybody has judged it.
use crate::base::ids::EndpointId;
use serde::Deserialize;

/// Largest value that is looked at.
const MAX_VALUE: usize = 4 << 10;

/// What a store says of one member.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Its id.
    pub id: String,
    /// Its address, as written.
    pub address: String,
    /// Its weight.
    pub weight: u64,
}

/// Ringway's own form of a value.
#[derive(Deserialize)]
struct Value {
    addr: String,
    #[serde(default = "one")]
    weight: u64,
}

fn one() -> u64 {
    1
}

impl Entry {
    /// Reads Ringway's own form: `host:port`, or `{"addr": "host:port", "weight": 1}` with what else others may want to know.
    ///
    /// # Errors
    /// Why it is no member, in words.
    pub fn read(id: &[u8], value: &[u8]) -> Result<Self, String> {
        let id = checked(id, value)?;
        let text = std::str::from_utf8(value).map_err(|_| format!("endpoint {id}: its value is not text"))?;
        let value = if text.trim_start().starts_with('{') {
            serde_json::from_str(text).map_err(|error| format!("endpoint {id}: {error}"))?
        } else {
            Value { addr: text.trim().to_string(), weight: 1 }
        };
        Ok(Self { id, address: value.addr, weight: value.weight })
    }

    /// Writes that form.
    pub fn write(&self) -> String {
        serde_json::json!({ "addr": self.address, "weight": self.weight }).to_string()
    }
}

/// An id that can be one, of a value that is not too large.
///
/// # Errors
/// Why not, in words.
pub fn checked(id: &[u8], value: &[u8]) -> Result<String, String> {
    let id = String::from_utf8_lossy(id);
    if !EndpointId::is_valid(&id) || value.len() > MAX_VALUE {
        let id: String = id.escape_debug().take(EndpointId::MAX_LEN).collect();
        return Err(format!("endpoint {id}: its id or its value cannot be one"));
    }
    Ok(id.into_owned())
}
