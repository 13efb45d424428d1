//! What a query asks for, decoded.
use std::net::IpAddr;
use std::net::Ipv4Addr;

/// What is to be explained.
pub struct Asked {
    /// The request's URL, or its path.
    pub url: String,
    /// Its method.
    pub method: String,
    /// Its fields.
    pub headers: Vec<(String, String)>,
    /// The client's address.
    pub client_ip: IpAddr,
    /// The listener it comes in by.
    pub listener: Option<String>,
    /// The moment it is about; `None`: now.
    pub at: Option<String>,
}

impl Asked {
    /// Reads a query; `None` when it asks for something else.
    pub fn parse(query: &str) -> Option<Self> {
        let (mut url, mut method, mut headers) = (None, "GET".to_string(), Vec::new());
        let (mut client_ip, mut listener, mut at) = (IpAddr::V4(Ipv4Addr::LOCALHOST), None, None);
        for (name, value) in pairs(query) {
            match name.as_str() {
                "url" => url = Some(value),
                "method" => method = value,
                "header" => {
                    let (name, value) = value.split_once(':')?;
                    headers.push((name.trim().to_string(), value.trim().to_string()));
                }
                "client_ip" => client_ip = value.parse().ok()?,
                "listener" => listener = Some(value),
                "at" => at = Some(value),
                _ => return None,
            }
        }
        Some(Self { url: url?, method, headers, client_ip, listener, at })
    }
}

/// The pairs of a query, decoded.
pub fn pairs(query: &str) -> impl Iterator<Item = (String, String)> {
    let decode = |text: &str| {
        let text = text.replace('+', " ");
        percent_encoding::percent_decode_str(&text).decode_utf8_lossy().into_owned()
    };
    query.split('&').filter(|pair| !pair.is_empty()).map(move |pair| {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        (decode(name), decode(value))
    })
}

/// The segments of a path, each decoded: an id may hold a slash.
pub fn segments(path: &str) -> Vec<String> {
    let decode = |text: &str| percent_encoding::percent_decode_str(text).decode_utf8_lossy().into_owned();
    path.split('/').skip(1).map(decode).collect()
}
