//! `client_ip`, `client_ip/24/56`: the client's address, or its network (IPv4 and IPv6 prefix lengths), as 4 or 16 bytes.
use crate::head::Client;
use std::net::IpAddr;

/// The client's address, cut to a prefix.
#[derive(Debug, Clone, Copy)]
pub struct ClientIp {
    v4: u32,
    v6: u32,
}

impl ClientIp {
    /// All of the address.
    pub(super) fn whole() -> Self {
        Self { v4: 32, v6: 128 }
    }

    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let mut parts = text.split('/').skip(1);
        let (Some(v4), v6, None) = (parts.next(), parts.next(), parts.next()) else {
            return if text == "client_ip" { Ok(Self::whole()) } else { Err(bad(text)) };
        };
        let length = |text: Option<&str>, max: u32| text?.parse::<u32>().ok().filter(|length| *length <= max);
        match (length(Some(v4), 32), length(v6, 128)) {
            (Some(v4), Some(v6)) => Ok(Self { v4, v6 }),
            _ => Err(bad(text)),
        }
    }

    pub(super) fn write(&self, client: &Client, out: &mut Vec<u8>) {
        match client.ip.to_canonical() {
            IpAddr::V4(ip) => {
                let mask = u32::MAX.checked_shl(32 - self.v4).unwrap_or(0);
                out.extend_from_slice(&(ip.to_bits() & mask).to_be_bytes());
            }
            IpAddr::V6(ip) => {
                let mask = u128::MAX.checked_shl(128 - self.v6).unwrap_or(0);
                out.extend_from_slice(&(ip.to_bits() & mask).to_be_bytes());
            }
        }
    }
}

fn bad(text: &str) -> String {
    format!("\"{text}\" has no prefix lengths of 0 to 32 and 0 to 128; write \"client_ip/24/56\"")
}
