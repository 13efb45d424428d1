//! PURE: DNS messages (RFC 1035, 2782, 6891) as far as a stub needs them: one question, and the records that answer it. What
//! comes is not trusted: lengths are checked, pointers only lead backward, names are plain text.
use std::net::Ipv4Addr;
use std::net::Ipv6Addr;
use std::time::Duration;
use thiserror::Error;

/// What we say a UDP answer may have: fits into any network's packets (RFC 9715).
const UDP_BYTES: u16 = 1232;
/// Longest name, dots included.
const MAX_NAME: usize = 253;
/// Aliases that are followed.
const MAX_ALIASES: usize = 16;

/// A kind of records.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u16)]
pub enum Kind {
    /// Addresses of IPv4.
    A = 1,
    /// Addresses of IPv6.
    Aaaa = 28,
    /// Servers of a service.
    Srv = 33,
}

/// One server of a service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Service {
    /// Lower ones are asked first.
    pub priority: u16,
    /// Its part among those of one priority.
    pub weight: u16,
    /// Where it listens.
    pub port: u16,
    /// Its name; empty: the service is not offered.
    pub target: String,
}

/// What a record says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Data {
    /// An address of IPv4.
    A(Ipv4Addr),
    /// An address of IPv6.
    Aaaa(Ipv6Addr),
    /// Another name for the name.
    Alias(String),
    /// A server of a service.
    Srv(Service),
}

/// A record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// Whose.
    pub name: String,
    /// How long it holds.
    pub ttl: Duration,
    /// What it says.
    pub data: Data,
}

/// An answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// The response code: 0 fine, 3 no such name.
    pub code: u8,
    /// Whether it did not fit and has to be asked for over TCP.
    pub is_truncated: bool,
    /// What answers the question, aliases followed and included.
    pub records: Vec<Record>,
}

/// Why bytes are no answer to a question.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum MessageError {
    /// They end too soon, or lead nowhere.
    #[error("the message is malformed")]
    Malformed,
    /// They answer something else.
    #[error("the message answers another question")]
    Other,
}

impl Answer {
    /// How long all of it holds; five minutes for nothing at all are cut down by whoever asks.
    pub fn ttl(&self) -> Duration {
        self.records.iter().map(|record| record.ttl).min().unwrap_or(Duration::from_secs(5))
    }
}

/// The question, recursion desired.
pub fn question(id: u16, name: &str, kind: Kind) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(name.len() + 32);
    bytes.extend_from_slice(&id.to_be_bytes());
    // Recursion desired; one question, no answers, no authorities, one further record: EDNS(0).
    bytes.extend_from_slice(&[1, 0, 0, 1, 0, 0, 0, 0, 0, 1]);
    for label in name.split('.').filter(|label| !label.is_empty()) {
        bytes.push(label.len() as u8);
        bytes.extend_from_slice(label.as_bytes());
    }
    bytes.push(0);
    bytes.extend_from_slice(&(kind as u16).to_be_bytes());
    bytes.extend_from_slice(&1u16.to_be_bytes());
    bytes.extend_from_slice(&[0, 0, 41]);
    bytes.extend_from_slice(&UDP_BYTES.to_be_bytes());
    bytes.extend_from_slice(&[0; 6]);
    bytes
}

/// Reads the answer to a question.
///
/// # Errors
/// When the bytes are none.
pub fn answer(bytes: &[u8], id: u16, name: &str, kind: Kind) -> Result<Answer, MessageError> {
    let mut reader = Reader { bytes, at: 0 };
    let (found, flags) = (reader.u16()?, reader.u16()?);
    let (questions, answers) = (reader.u16()?, reader.u16()?);
    reader.skip(4)?;
    let is_response = flags & 0x8000 != 0;
    if found != id || !is_response || questions != 1 {
        return Err(MessageError::Other);
    }
    let (asked, asked_kind, class) = (reader.name()?, reader.u16()?, reader.u16()?);
    if asked.as_deref() != Some(&*name.to_ascii_lowercase()) || asked_kind != kind as u16 || class != 1 {
        return Err(MessageError::Other);
    }
    let (code, is_truncated) = ((flags & 15) as u8, flags & 0x0200 != 0);
    if is_truncated {
        return Ok(Answer { code, is_truncated, records: Vec::new() });
    }
    let mut records = Vec::new();
    for _ in 0..answers {
        records.extend(reader.record()?);
    }
    Ok(Answer { code, is_truncated, records: answering(records, name, kind) })
}

/// The records of the name itself, or of what it is another name for, with the aliases on the way.
fn answering(records: Vec<Record>, name: &str, kind: Kind) -> Vec<Record> {
    let mut name = name.to_ascii_lowercase();
    let mut found = Vec::new();
    for _ in 0..MAX_ALIASES {
        let own = records.iter().filter(|record| record.name == name && record.data.kind() == Some(kind));
        found.extend(own.cloned());
        let alias = records.iter().find_map(|record| match &record.data {
            Data::Alias(target) if record.name == name => Some((record, target)),
            _ => None,
        });
        let Some((record, target)) = alias else { break };
        found.push(record.clone());
        name.clone_from(target);
    }
    found
}

impl Data {
    fn kind(&self) -> Option<Kind> {
        match self {
            Self::A(_) => Some(Kind::A),
            Self::Aaaa(_) => Some(Kind::Aaaa),
            Self::Srv(_) => Some(Kind::Srv),
            Self::Alias(_) => None,
        }
    }
}

struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl Reader<'_> {
    fn take<const N: usize>(&mut self) -> Result<[u8; N], MessageError> {
        let part = self.bytes.get(self.at..self.at + N).ok_or(MessageError::Malformed)?;
        self.at += N;
        part.try_into().map_err(|_| MessageError::Malformed)
    }

    fn u16(&mut self) -> Result<u16, MessageError> {
        self.take().map(u16::from_be_bytes)
    }

    fn skip(&mut self, count: usize) -> Result<(), MessageError> {
        self.at += count;
        if self.at > self.bytes.len() { Err(MessageError::Malformed) } else { Ok(()) }
    }

    /// A name in lower case; `None` when it is not plain text: nobody here asked for such a one.
    fn name(&mut self) -> Result<Option<String>, MessageError> {
        let (mut name, mut is_plain, mut length_so_far) = (String::new(), true, 0);
        let (mut at, mut end, mut lowest) = (self.at, None, self.at);
        loop {
            let length = *self.bytes.get(at).ok_or(MessageError::Malformed)?;
            match length {
                0 => break,
                0xC0.. => {
                    let low = *self.bytes.get(at + 1).ok_or(MessageError::Malformed)?;
                    let target = usize::from(length & 0x3F) << 8 | usize::from(low);
                    // Only backward, so that it ends.
                    if target >= lowest {
                        return Err(MessageError::Malformed);
                    }
                    end.get_or_insert(at + 2);
                    (at, lowest) = (target, target);
                }
                1..=63 => {
                    let label = at + 1..at + 1 + usize::from(length);
                    let label = self.bytes.get(label).ok_or(MessageError::Malformed)?;
                    at += 1 + label.len();
                    length_so_far += 1 + label.len();
                    if length_so_far > MAX_NAME + 1 {
                        return Err(MessageError::Malformed);
                    }
                    is_plain &= label.iter().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(byte));
                    if !name.is_empty() {
                        name.push('.');
                    }
                    name.extend(label.iter().map(|byte| char::from(byte.to_ascii_lowercase())));
                }
                _ => return Err(MessageError::Malformed),
            }
        }
        self.at = end.unwrap_or(at + 1);
        Ok(is_plain.then_some(name))
    }

    /// A record; `None` when it is of a kind that answers nothing here.
    fn record(&mut self) -> Result<Option<Record>, MessageError> {
        let name = self.name()?;
        let (kind, class) = (self.u16()?, self.u16()?);
        let ttl = u32::from_be_bytes(self.take()?);
        let length = usize::from(self.u16()?);
        let end = self.at + length;
        if end > self.bytes.len() {
            return Err(MessageError::Malformed);
        }
        let data = match (kind, length) {
            _ if class != 1 => None,
            (1, 4) => Some(Data::A(Ipv4Addr::from(self.take::<4>()?))),
            (28, 16) => Some(Data::Aaaa(Ipv6Addr::from(self.take::<16>()?))),
            (5, _) => self.name()?.map(Data::Alias),
            (33, 7..) => {
                let (priority, weight, port) = (self.u16()?, self.u16()?, self.u16()?);
                self.name()?.map(|target| Data::Srv(Service { priority, weight, port, target }))
            }
            _ => None,
        };
        self.at = end;
        // The highest bit is none of a time (RFC 2181).
        let ttl = Duration::from_secs(u64::from(if ttl > i32::MAX as u32 { 0 } else { ttl }));
        Ok(name.zip(data).map(|(name, data)| Record { name, ttl, data }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An answer to `question` with these records as bytes after it.
    fn reply(question: &[u8], count: u16, records: &[u8]) -> Vec<u8> {
        // Without our EDNS record.
        let mut bytes = question[..question.len() - 11].to_vec();
        bytes[2] |= 0x80;
        bytes[6..8].copy_from_slice(&count.to_be_bytes());
        bytes[11] = 0;
        bytes.extend_from_slice(records);
        bytes
    }

    /// `name` as a pointer to the question's, then kind, class, TTL and data.
    fn record(kind: u16, ttl: u32, data: &[u8]) -> Vec<u8> {
        let mut bytes = vec![0xC0, 12];
        bytes.extend_from_slice(&kind.to_be_bytes());
        bytes.extend_from_slice(&1u16.to_be_bytes());
        bytes.extend_from_slice(&ttl.to_be_bytes());
        bytes.extend_from_slice(&(data.len() as u16).to_be_bytes());
        bytes.extend_from_slice(data);
        bytes
    }

    #[test]
    fn addresses_aliases_and_services_are_read() {
        let asked = question(7, "A.example", Kind::A);
        let found = answer(&reply(&asked, 1, &record(1, 30, &[10, 0, 0, 1])), 7, "a.example", Kind::A).unwrap();
        let ten = Data::A(Ipv4Addr::new(10, 0, 0, 1));
        assert_eq!(
            found.records,
            [Record { name: "a.example".into(), ttl: Duration::from_secs(30), data: ten.clone() }]
        );
        // An alias `b`, and its address: `b` stands behind the first record's head, at 12 + 11 + 4 + 12.
        let alias = record(5, 9, b"\x01b\0");
        let mut own = record(1, 30, &[10, 0, 0, 1]);
        own[1] = 39;
        let found = answer(&reply(&asked, 2, &[alias, own].concat()), 7, "a.example", Kind::A).unwrap();
        assert_eq!((found.records.len(), &found.records[1].data, found.ttl()), (2, &ten, Duration::from_secs(9)));
        let asked = question(7, "s", Kind::Srv);
        let srv = record(33, 5, b"\0\x01\0\x02\x1f\x90\x01t\x01x\0");
        let found = answer(&reply(&asked, 1, &srv), 7, "s", Kind::Srv).unwrap();
        let service = Service { priority: 1, weight: 2, port: 8080, target: "t.x".into() };
        assert_eq!(found.records[0].data, Data::Srv(service));
    }

    #[test]
    fn what_answers_another_question_is_none() {
        let asked = question(7, "a.example", Kind::A);
        let bytes = reply(&asked, 1, &record(1, 30, &[10, 0, 0, 1]));
        let check = |id, name, kind| assert_eq!(answer(&bytes, id, name, kind), Err(MessageError::Other));
        check(8, "a.example", Kind::A);
        check(7, "b.example", Kind::A);
        check(7, "a.example", Kind::Aaaa);
        assert_eq!(answer(&asked, 7, "a.example", Kind::A), Err(MessageError::Other), "a question is no answer");
        let mut other = record(1, 30, &[10, 0, 0, 1]);
        other.splice(0..2, *b"\x01x\0");
        assert!(answer(&reply(&asked, 1, &other), 7, "a.example", Kind::A).unwrap().records.is_empty());
    }

    #[test]
    fn no_bytes_make_it_loop_or_panic() {
        let asked = question(7, "a.example", Kind::A);
        let whole = reply(
            &asked,
            2,
            &[record(5, 9, b"\x01b\xC0\x0C"), record(33, 5, b"\0\x01\0\x02\x1f\x90\xC0\x0C")].concat(),
        );
        for end in 0..whole.len() {
            assert!(answer(&whole[..end], 7, "a.example", Kind::A).is_err(), "{end}");
        }
        let mut forward = record(5, 9, &[0xC0, 200]);
        assert_eq!(answer(&reply(&asked, 1, &forward), 7, "a.example", Kind::A), Err(MessageError::Malformed));
        forward[1] = 27;
        assert_eq!(answer(&reply(&asked, 1, &forward), 7, "a.example", Kind::A), Err(MessageError::Malformed));
        let mut seed = 1u64;
        for _ in 0..20_000 {
            let mut bytes = whole.clone();
            for _ in 0..3 {
                seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                let at = (seed >> 33) as usize % bytes.len();
                bytes[at] = (seed >> 56) as u8;
            }
            drop(answer(&bytes, 7, "a.example", Kind::A));
        }
    }
}
