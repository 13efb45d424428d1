//! Whom a certificate is about, as a text by RFC 4514. The text is made of visible ASCII only, whatever the certificate says.
use rustls::pki_types::CertificateDer;
use std::fmt::Write;
use x509_parser::prelude::FromDer;
use x509_parser::prelude::X509Certificate;
use x509_parser::x509::AttributeTypeAndValue;

/// Short names of attribute types that every reader knows (RFC 4514 section 3); others are written in numbers.
const SHORT_NAMES: [(&str, &str); 9] = [
    ("2.5.4.3", "CN"),
    ("2.5.4.7", "L"),
    ("2.5.4.8", "ST"),
    ("2.5.4.10", "O"),
    ("2.5.4.11", "OU"),
    ("2.5.4.6", "C"),
    ("2.5.4.9", "STREET"),
    ("0.9.2342.19200300.100.1.25", "DC"),
    ("0.9.2342.19200300.100.1.1", "UID"),
];

/// The subject, such as `CN=alice,O=Example`; empty when it has none or the certificate cannot be read.
pub fn of(certificate: &CertificateDer<'_>) -> String {
    let Ok((_, certificate)) = X509Certificate::from_der(certificate) else { return String::new() };
    let mut names: Vec<String> = Vec::new();
    for name in certificate.subject().iter_rdn() {
        names.push(name.iter().map(attribute).collect::<Vec<_>>().join("+"));
    }
    // The most particular part comes last in a certificate and first in the text.
    names.reverse();
    names.join(",")
}

fn attribute(attribute: &AttributeTypeAndValue<'_>) -> String {
    let oid = attribute.attr_type().to_id_string();
    let short = SHORT_NAMES.iter().find(|(number, _)| *number == oid).map(|(_, short)| *short);
    match (short, attribute.as_str()) {
        (Some(short), Ok(value)) => format!("{short}={}", escaped(value)),
        // The bytes say themselves what they are only in their whole encoding, which a reader of numbers can do without.
        _ => format!("{}=#{}", short.unwrap_or(&oid), hex(attribute.as_slice())),
    }
}

fn escaped(value: &str) -> String {
    let last = value.len().saturating_sub(1);
    let mut text = String::new();
    for (at, byte) in value.bytes().enumerate() {
        match byte {
            b',' | b'+' | b'"' | b'\\' | b'<' | b'>' | b';' | b'=' => text.extend(['\\', byte as char]),
            b'#' | b' ' if at == 0 => text.extend(['\\', byte as char]),
            b' ' if at == last => text.push_str("\\ "),
            b' '..=b'~' => text.push(byte as char),
            _ => write!(text, "\\{byte:02x}").expect("a text takes all that is written"),
        }
    }
    text
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn subject(parts: &[(rcgen::DnType, &str)]) -> String {
        let mut params = rcgen::CertificateParams::new(Vec::new()).unwrap();
        params.distinguished_name = rcgen::DistinguishedName::new();
        for (kind, value) in parts {
            params.distinguished_name.push(kind.clone(), *value);
        }
        of(params.self_signed(&rcgen::KeyPair::generate().unwrap()).unwrap().der())
    }

    #[test]
    fn a_subject_is_written_with_its_most_particular_part_first() {
        use rcgen::DnType::{CommonName, CountryName, OrganizationName};
        let parts = [(CountryName, "CH"), (OrganizationName, "Example"), (CommonName, "alice")];
        assert_eq!(subject(&parts), "CN=alice,O=Example,C=CH");
        assert_eq!(subject(&[]), "");
        assert_eq!(of(&CertificateDer::from(vec![1, 2, 3])), "");
    }

    #[test]
    fn a_value_cannot_pretend_to_be_another_part_or_another_header() {
        use rcgen::DnType::{CommonName, CustomDnType};
        assert_eq!(subject(&[(CommonName, "a,CN=root")]), "CN=a\\,CN\\=root");
        assert_eq!(subject(&[(CommonName, "#a\r\nX: 1 ")]), "CN=\\#a\\0d\\0aX: 1\\ ");
        assert_eq!(subject(&[(CommonName, "é")]), "CN=\\c3\\a9");
        assert_eq!(subject(&[(CustomDnType(vec![1, 2, 3]), "a")]), "1.2.3=#61");
    }
}
