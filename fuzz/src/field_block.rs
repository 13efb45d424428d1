//! The glance at field blocks of HTTP/2: a plain second reading, which keeps all texts, finds the same: which blocks are none, which
//! have pseudo-fields, and which a path with a fragment, over all blocks of a connection.
use ringway::http2::glance::Glance;
use ringway::http2::huffman;

/// Names of the static table as far as the claims need them: pseudo-fields come first.
const PSEUDO: [&str; 14] = [
    ":authority",
    ":method",
    ":method",
    ":path",
    ":path",
    ":scheme",
    ":scheme",
    ":status",
    ":status",
    ":status",
    ":status",
    ":status",
    ":status",
    ":status",
];
/// How long the names after them are.
const OTHERS: [usize; 47] = [
    14, 15, 15, 13, 6, 27, 3, 5, 13, 13, 19, 16, 16, 14, 16, 13, 12, 6, 4, 4, 6, 7, 4, 4, 8, 17, 13, 8, 19, 13, 4, 8,
    12, 18, 19, 5, 7, 7, 11, 6, 10, 25, 17, 10, 4, 3, 16,
];

type Field = (Vec<u8>, Vec<u8>);

/// Checks one input: blocks, each after a byte that says how long it is.
pub fn check(mut input: &[u8]) {
    let (mut glance, mut plain) = (Glance::default(), Plain { table: Vec::new(), max: 4096 });
    while let Some((length, rest)) = input.split_first() {
        let (block, rest) = rest.split_at(rest.len().min(usize::from(*length)));
        input = rest;
        let (ours, theirs) = (glance.at(block), plain.read(block));
        let found = theirs.map(|fields| {
            let has_pseudo = fields.iter().any(|(name, _)| name.first() == Some(&b':'));
            let is_cut = |(name, value): &Field| name == b":path" && value.contains(&b'#');
            (has_pseudo, fields.iter().any(is_cut))
        });
        assert_eq!(ours.ok().map(|seen| (seen.has_pseudo, seen.has_fragment)), found, "{block:x?}");
        if found.is_none() {
            return;
        }
    }
}

/// A table with all its texts, newest first.
struct Plain {
    table: Vec<Field>,
    max: usize,
}

impl Plain {
    fn read(&mut self, mut block: &[u8]) -> Option<Vec<Field>> {
        let mut fields = Vec::new();
        while let Some(first) = block.first().copied() {
            if first >> 5 == 1 {
                let size = number(&mut block, 5)?;
                if !fields.is_empty() || size > 4096 {
                    return None;
                }
                self.max = size;
                self.evict();
                continue;
            }
            let (prefix, is_kept) = match first {
                0x80.. => {
                    fields.push(self.get(number(&mut block, 7)?)?);
                    continue;
                }
                0x40.. => (6, true),
                _ => (4, false),
            };
            let name = match number(&mut block, prefix)? {
                0 => text(&mut block)?,
                place => self.get(place)?.0,
            };
            let field = (name, text(&mut block)?);
            fields.push(field.clone());
            if is_kept {
                self.table.insert(0, field);
                self.evict();
            }
        }
        Some(fields)
    }

    fn get(&self, place: usize) -> Option<Field> {
        match place {
            0 => None,
            1..=14 => Some((PSEUDO[place - 1].into(), Vec::new())),
            15..=61 => Some((vec![b'x'; OTHERS[place - 15]], Vec::new())),
            _ => self.table.get(place - 62).cloned(),
        }
    }

    fn evict(&mut self) {
        let size = |table: &[Field]| table.iter().map(|(name, value)| name.len() + value.len() + 32).sum::<usize>();
        while size(&self.table) > self.max {
            self.table.pop();
        }
    }
}

fn number(block: &mut &[u8], prefix: u32) -> Option<usize> {
    let most = (1usize << prefix) - 1;
    let (first, rest) = block.split_first()?;
    *block = rest;
    let mut value = usize::from(*first) & most;
    if value < most {
        return Some(value);
    }
    for turn in 0..4 {
        let (byte, rest) = block.split_first()?;
        *block = rest;
        value += usize::from(byte & 127) << (7 * turn);
        if *byte < 128 {
            return Some(value);
        }
    }
    None
}

fn text(block: &mut &[u8]) -> Option<Vec<u8>> {
    let is_coded = *block.first()? >= 128;
    let length = number(block, 7)?;
    let text = block.get(..length)?;
    *block = &block[length..];
    if !is_coded {
        return Some(text.to_vec());
    }
    let mut plain = Vec::new();
    huffman::decode(text, |byte| plain.push(byte))?;
    Some(plain)
}
