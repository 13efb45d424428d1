//! A glance at field blocks (HPACK, RFC 7541) before `h2` reads them: what it would pass over in silence, and blocks that are none.
//! Keeps the table of the connection as far as that is needed, which is what kind each entry is, and no field's text.
use super::huffman;
use std::collections::VecDeque;

/// Lengths of the names in the static table (RFC 7541 appendix A).
#[rustfmt::skip]
const STATIC_NAMES: [u32; 61] = [
    10, 7, 7, 5, 5, 7, 7, 7, 7, 7, 7, 7, 7, 7, 14, 15, 15, 13, 6, 27, 3, 5, 13, 13, 19, 16, 16, 14, 16, 13, 12, 6, 4, 4, 6, 7, 4, 4, 8,
    17, 13, 8, 19, 13, 4, 8, 12, 18, 19, 5, 7, 7, 11, 6, 10, 25, 17, 10, 4, 3, 16,
];
/// Places of `:path` in it, and the last of a pseudo-field.
const STATIC_PATHS: [usize; 2] = [4, 5];
const LAST_PSEUDO: usize = 14;
/// Size of the table of a connection, which we never announce otherwise, and what an entry counts beside its text.
const TABLE_SIZE: u32 = 4096;
const ENTRY: u32 = 32;

/// It is not a field block: COMPRESSION_ERROR.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Malformed;

/// What `h2` does not say of a field block.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Remarks {
    /// It has pseudo-fields.
    pub has_pseudo: bool,
    /// Its `:path` has a fragment.
    pub has_fragment: bool,
}

/// What a field is to us.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Field,
    Pseudo,
    Path,
    PathWithFragment,
}

#[derive(Debug, Clone, Copy)]
struct Entry {
    kind: Kind,
    name_length: u32,
    size: u32,
}

/// Follows the field blocks that one peer sends on one connection.
#[derive(Debug)]
pub struct Glance {
    /// Newest first.
    entries: VecDeque<Entry>,
    size: u32,
    max: u32,
}

impl Default for Glance {
    fn default() -> Self {
        Self { entries: VecDeque::new(), size: 0, max: TABLE_SIZE }
    }
}

impl Glance {
    /// Looks at a whole field block; every one of the connection has to be looked at, in order.
    pub fn at(&mut self, mut block: &[u8]) -> Result<Remarks, Malformed> {
        let mut remarks = Remarks::default();
        let mut may_resize = true;
        while let Some(first) = block.first().copied() {
            let kind = match first {
                0x80.. => self.entry(integer(&mut block, 7)?)?.kind,
                0x40.. => {
                    let entry = self.literal(&mut block, 6)?;
                    self.add(entry);
                    entry.kind
                }
                0x20.. if may_resize => {
                    self.resize(integer(&mut block, 5)?)?;
                    continue;
                }
                0x20.. => return Err(Malformed),
                _ => self.literal(&mut block, 4)?.kind,
            };
            may_resize = false;
            remarks.has_pseudo |= kind != Kind::Field;
            remarks.has_fragment |= kind == Kind::PathWithFragment;
        }
        Ok(remarks)
    }

    /// The field at a place of both tables.
    fn entry(&self, index: u32) -> Result<Entry, Malformed> {
        let index = (index as usize).checked_sub(1).ok_or(Malformed)?;
        let Some(length) = STATIC_NAMES.get(index) else {
            return self.entries.get(index - STATIC_NAMES.len()).copied().ok_or(Malformed);
        };
        let kind = match index + 1 {
            place if STATIC_PATHS.contains(&place) => Kind::Path,
            ..=LAST_PSEUDO => Kind::Pseudo,
            _ => Kind::Field,
        };
        Ok(Entry { kind, name_length: *length, size: 0 })
    }

    /// A field whose value, at least, is written out.
    fn literal(&self, block: &mut &[u8], prefix: u32) -> Result<Entry, Malformed> {
        let (name_length, named) = match integer(block, prefix)? {
            0 => {
                let (mut at, mut is_pseudo, mut is_path) = (0, false, true);
                let length = string(block, |byte| {
                    is_pseudo |= at == 0 && byte == b':';
                    is_path &= b":path".get(at) == Some(&byte);
                    at += 1;
                })?;
                let kind = if is_pseudo { Kind::Pseudo } else { Kind::Field };
                (length, if is_path && at == b":path".len() { Kind::Path } else { kind })
            }
            index => self.entry(index).map(|entry| (entry.name_length, entry.kind))?,
        };
        let mut has_fragment = false;
        let value_length = string(block, |byte| has_fragment |= byte == b'#')?;
        let kind = match named {
            Kind::Path | Kind::PathWithFragment if has_fragment => Kind::PathWithFragment,
            Kind::PathWithFragment => Kind::Path,
            kind => kind,
        };
        Ok(Entry { kind, name_length, size: name_length.saturating_add(value_length).saturating_add(ENTRY) })
    }

    fn add(&mut self, entry: Entry) {
        self.shrink(self.max.saturating_sub(entry.size));
        if entry.size <= self.max {
            self.size += entry.size;
            self.entries.push_front(entry);
        }
    }

    fn resize(&mut self, max: u32) -> Result<(), Malformed> {
        if max > TABLE_SIZE {
            return Err(Malformed);
        }
        self.max = max;
        self.shrink(max);
        Ok(())
    }

    fn shrink(&mut self, most: u32) {
        while self.size > most
            && let Some(oldest) = self.entries.pop_back()
        {
            self.size -= oldest.size;
        }
    }
}

/// An integer whose first byte has so many bits of it (RFC 7541 section 5.1).
fn integer(block: &mut &[u8], prefix: u32) -> Result<u32, Malformed> {
    let most = (1u32 << prefix) - 1;
    let first = u32::from(next(block)?) & most;
    if first < most {
        return Ok(first);
    }
    let mut value = first;
    for shift in [0, 7, 14, 21] {
        let byte = u32::from(next(block)?);
        value += (byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Ok(value);
        }
    }
    Err(Malformed)
}

/// A string (RFC 7541 section 5.2), byte by byte; gives its length.
fn string(block: &mut &[u8], mut each: impl FnMut(u8)) -> Result<u32, Malformed> {
    let is_coded = block.first().ok_or(Malformed)? & 0x80 != 0;
    let length = integer(block, 7)?;
    let (text, rest) = block.split_at_checked(length as usize).ok_or(Malformed)?;
    *block = rest;
    if !is_coded {
        text.iter().copied().for_each(each);
        return Ok(length);
    }
    let mut decoded = 0;
    huffman::decode(text, |byte| {
        decoded += 1;
        each(byte);
    })
    .ok_or(Malformed)?;
    Ok(decoded)
}

fn next(block: &mut &[u8]) -> Result<u8, Malformed> {
    let (first, rest) = block.split_first().ok_or(Malformed)?;
    *block = rest;
    Ok(*first)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http2::huffman::tests::encode;

    const FINE: Result<Remarks, Malformed> = Ok(Remarks { has_pseudo: true, has_fragment: false });
    const FRAGMENT: Result<Remarks, Malformed> = Ok(Remarks { has_pseudo: true, has_fragment: true });
    const TRAILERS: Result<Remarks, Malformed> = Ok(Remarks { has_pseudo: false, has_fragment: false });

    fn text(text: &str, is_coded: bool) -> Vec<u8> {
        let bytes = if is_coded { encode(text.as_bytes()) } else { text.as_bytes().to_vec() };
        assert!(bytes.len() < 127);
        [vec![bytes.len() as u8 | if is_coded { 0x80 } else { 0 }], bytes].concat()
    }

    #[test]
    fn a_fragment_is_seen_however_it_is_written() {
        for is_coded in [false, true] {
            for first in [0x04u8, 0x44, 0x14, 0x05, 0x45] {
                for (path, expected) in [("/a#b", FRAGMENT), ("/a?c#", FRAGMENT), ("#", FRAGMENT), ("/a?b=%23", FINE)] {
                    let block = [vec![first], text(path, is_coded)].concat();
                    assert_eq!(Glance::default().at(&block), expected, "{path} {first:#x}");
                }
            }
            for first in [0x00u8, 0x40, 0x10] {
                let field = |name, value| [vec![first], text(name, is_coded), text(value, is_coded)].concat();
                assert_eq!(Glance::default().at(&field(":path", "/a#b")), FRAGMENT);
                assert_eq!(Glance::default().at(&field(":path", "/a")), FINE);
                assert_eq!(Glance::default().at(&field(":pat", "/a#b")), FINE);
                assert_eq!(Glance::default().at(&field(":paths", "/a#b")), FINE);
                assert_eq!(Glance::default().at(&field("referer", "/a#b")), TRAILERS);
                assert_eq!(Glance::default().at(&field("", "#")), TRAILERS);
            }
        }
    }

    #[test]
    fn a_fragment_is_seen_when_it_is_meant_again() {
        let mut glance = Glance::default();
        let path = |path| [vec![0x44], text(path, true)].concat();
        assert_eq!(glance.at(&path("/a#b")), FRAGMENT);
        assert_eq!(glance.at(&[0x82, 0x80 | 62]), FRAGMENT);
        // The name of that entry, with another value, and the older one again.
        assert_eq!(glance.at(&[vec![0x40 | 62], text("/c", false)].concat()), FINE);
        assert_eq!(glance.at(&[0x80 | 62]), FINE);
        assert_eq!(glance.at(&[0x80 | 63]), FRAGMENT);
        assert_eq!(glance.at(&[vec![0x0f, 62 - 15], text("/c#", false)].concat()), FRAGMENT);
        assert_eq!(glance.at(&[0x80 | 64]), Err(Malformed));
    }

    #[test]
    fn the_table_forgets_as_the_peer_expects() {
        let mut glance = Glance::default();
        let field = |name: &str, value: &str| [vec![0x40], text(name, false), text(value, false)].concat();
        // 32 + 1 + 31 bytes: 64 of them fill the table.
        for _ in 0..64 {
            assert_eq!(glance.at(&field("x", &"y".repeat(31))), TRAILERS);
        }
        // The 64th is at 125, and there is none after it.
        assert_eq!((glance.at(&[0x80 | 125]), glance.at(&[0x80 | 126])), (TRAILERS, Err(Malformed)));
        assert_eq!(glance.at(&[0x20, 0x82]), FINE, "emptied");
        assert_eq!(glance.at(&[0x80 | 62]), Err(Malformed));
        assert_eq!(glance.at(&field("x", "y")), TRAILERS);
        assert_eq!(glance.at(&[0x80 | 62]), Err(Malformed), "there is no room");
        assert_eq!(glance.at(&[&[0x3f, 64 - 31][..], &field("x", "y")].concat()), TRAILERS);
        assert_eq!(glance.at(&[0x80 | 62]), TRAILERS);
    }

    #[test]
    fn what_is_no_field_block_is_told() {
        for block in [
            &[0x80][..],
            &[0x80 | 62],
            &[0x40 | 62, 0],
            &[0x82, 0x20],
            &[0x3f, 0xe2, 0x1f],
            &[0xff, 0xff, 0xff, 0xff, 0xff, 0xff],
            &[0x00],
            &[0x00, 0x05, b'a'],
            &[0x00, 0x01, b'a', 0x85, 0xff, 0xff],
            &[0x00, 0x01, b'a', 0x84, 0xff, 0xff, 0xff, 0xff],
            &[0x04],
            &[0x7f],
        ] {
            assert_eq!(Glance::default().at(block), Err(Malformed), "{block:x?}");
        }
        assert_eq!(Glance::default().at(&[]), TRAILERS);
        assert_eq!(Glance::default().at(&[0x3f, 0xe1, 0x1f, 0x82]), FINE, "4096 is no more than was announced");
        assert_eq!(Glance::default().at(&[0x80 | 15, 0x80 | 61]), TRAILERS);
        assert_eq!(Glance::default().at(&[0x80 | 14]), FINE);
    }
}
