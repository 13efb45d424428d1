//! HPACK's Huffman code (RFC 7541 section 5.2 and appendix B), read one way: what a coded string says.

/// Bits of each byte's code; the last is the end of a string, which never stands in one.
#[rustfmt::skip]
const LENGTHS: [u8; 257] = [
    13, 23, 28, 28, 28, 28, 28, 28, 28, 24, 30, 28, 28, 30, 28, 28, 28, 28, 28, 28, 28, 28, 30, 28, 28, 28, 28, 28, 28, 28, 28, 28,
    6, 10, 10, 12, 13, 6, 8, 11, 10, 10, 8, 11, 8, 6, 6, 6, 5, 5, 5, 6, 6, 6, 6, 6, 6, 6, 7, 8, 15, 6, 12, 10,
    13, 6, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 8, 7, 8, 13, 19, 13, 14, 6,
    15, 5, 6, 5, 6, 5, 6, 6, 6, 5, 7, 7, 6, 6, 6, 5, 6, 7, 6, 5, 5, 6, 7, 7, 7, 7, 7, 15, 11, 14, 13, 28,
    20, 22, 20, 20, 22, 22, 22, 23, 22, 23, 23, 23, 23, 23, 24, 23, 24, 24, 22, 23, 24, 23, 23, 23, 23, 21, 22, 23, 22, 23, 23, 24,
    22, 21, 20, 22, 22, 23, 23, 21, 23, 22, 22, 24, 21, 22, 23, 23, 21, 21, 22, 21, 23, 22, 23, 23, 20, 22, 22, 22, 23, 22, 22, 23,
    26, 26, 20, 19, 22, 23, 22, 25, 26, 26, 26, 27, 27, 26, 24, 25, 19, 21, 26, 27, 27, 26, 27, 24, 21, 21, 26, 26, 28, 27, 27, 27,
    20, 24, 20, 21, 22, 21, 21, 23, 22, 22, 25, 25, 24, 24, 26, 23, 26, 27, 26, 26, 27, 27, 27, 27, 27, 28, 27, 27, 27, 27, 27, 26,
    30,
];
const LONGEST: usize = 30;
/// What ends a string.
const END: u16 = 256;

/// The code is canonical: codes of one length follow each other in the order of their bytes.
struct Code {
    /// The first code of each length.
    first: [u32; LONGEST + 1],
    /// How many codes have this length.
    count: [u32; LONGEST + 1],
    /// Where the bytes of this length begin.
    at: [usize; LONGEST + 1],
    /// All bytes in the order of their codes.
    symbols: [u16; 257],
}

static CODE: Code = code();

/// Bits that the short codes are looked up by: those of all letters, digits and signs but a few of them.
const SHORT: usize = 10;

/// What bits begin with when that is a short code: its symbol and its length, else no length.
static SHORT_CODES: [(u8, u8); 1 << SHORT] = short_codes();

const fn short_codes() -> [(u8, u8); 1 << SHORT] {
    let (code, mut found) = (code(), [(0, 0); 1 << SHORT]);
    let mut length = 1;
    while length <= SHORT {
        let mut place = 0;
        while place < code.count[length] {
            let first = ((code.first[length] + place) as usize) << (SHORT - length);
            let mut more = 0;
            while more < 1 << (SHORT - length) {
                found[first + more] = (code.symbols[code.at[length] + place as usize] as u8, length as u8);
                more += 1;
            }
            place += 1;
        }
        length += 1;
    }
    found
}

const fn code() -> Code {
    let mut code = Code { first: [0; LONGEST + 1], count: [0; LONGEST + 1], at: [0; LONGEST + 1], symbols: [0; 257] };
    let (mut next, mut placed, mut length) = (0u32, 0, 1);
    while length <= LONGEST {
        next <<= 1;
        code.first[length] = next;
        code.at[length] = placed;
        let mut symbol = 0;
        while symbol < LENGTHS.len() {
            if LENGTHS[symbol] as usize == length {
                code.symbols[placed] = symbol as u16;
                placed += 1;
                next += 1;
            }
            symbol += 1;
        }
        code.count[length] = next - code.first[length];
        length += 1;
    }
    code
}

/// Gives each byte that `coded` stands for. `None`: it is not a coded string.
pub fn decode(coded: &[u8], mut each: impl FnMut(u8)) -> Option<()> {
    let mut rest = coded.iter();
    // The next bits, from the highest on, and how many of them there are.
    let (mut bits, mut have) = (0u64, 0usize);
    loop {
        while have <= 56
            && let Some(byte) = rest.next()
        {
            bits |= u64::from(*byte) << (56 - have);
            have += 8;
        }
        // The rest of the last byte is filled with ones, which begin no short code.
        if have < 8 && bits.count_ones() as usize == have {
            return Some(());
        }
        let (symbol, length) = first_symbol((bits >> 32) as u32)?;
        if symbol == END || length > have {
            return None;
        }
        each(symbol as u8);
        bits <<= length;
        have -= length;
    }
}

/// The symbol whose code these bits begin with, and how long that is.
fn first_symbol(bits: u32) -> Option<(u16, usize)> {
    let (symbol, length) = SHORT_CODES[(bits >> (32 - SHORT)) as usize];
    if length > 0 {
        return Some((u16::from(symbol), usize::from(length)));
    }
    for length in SHORT + 1..=LONGEST {
        let place = (bits >> (32 - length)).wrapping_sub(CODE.first[length]);
        if place < CODE.count[length] {
            return Some((CODE.symbols[CODE.at[length] + place as usize], length));
        }
    }
    None
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// The coded form of a text.
    pub(in crate::http2) fn encode(text: &[u8]) -> Vec<u8> {
        let (mut coded, mut bits, mut have) = (Vec::new(), 0u64, 0);
        for byte in text {
            let length = usize::from(LENGTHS[usize::from(*byte)]);
            let place = CODE.symbols.iter().position(|symbol| *symbol == u16::from(*byte)).unwrap();
            bits = bits << length | u64::from(CODE.first[length] + (place - CODE.at[length]) as u32);
            have += length;
            while have >= 8 {
                have -= 8;
                coded.push((bits >> have) as u8);
            }
        }
        if have > 0 {
            coded.push((bits << (8 - have)) as u8 | (0xff >> have));
        }
        coded
    }

    fn decoded(coded: &[u8]) -> Option<Vec<u8>> {
        let mut text = Vec::new();
        decode(coded, |byte| text.push(byte)).map(|()| text)
    }

    #[test]
    fn the_examples_of_the_rfc_are_read() {
        // RFC 7541 appendix C.4 and C.6.
        for (coded, text) in [
            (&[0xf1, 0xe3, 0xc2, 0xe5, 0xf2, 0x3a, 0x6b, 0xa0, 0xab, 0x90, 0xf4, 0xff][..], "www.example.com"),
            (&[0xa8, 0xeb, 0x10, 0x64, 0x9c, 0xbf], "no-cache"),
            (&[0x64, 0x02], "302"),
            (
                &[
                    0xd0, 0x7a, 0xbe, 0x94, 0x10, 0x54, 0xd4, 0x44, 0xa8, 0x20, 0x05, 0x95, 0x04, 0x0b, 0x81, 0x66,
                    0xe0, 0x82, 0xa6, 0x2d, 0x1b, 0xff,
                ],
                "Mon, 21 Oct 2013 20:13:21 GMT",
            ),
        ] {
            assert_eq!(decoded(coded).as_deref(), Some(text.as_bytes()), "{text}");
            assert_eq!(encode(text.as_bytes()), coded, "{text}");
        }
    }

    #[test]
    fn every_byte_comes_back() {
        let all: Vec<u8> = (0..=255).collect();
        assert_eq!(decoded(&encode(&all)), Some(all.clone()));
        for byte in all {
            for text in [vec![byte], vec![b'a', byte], vec![byte; 9]] {
                assert_eq!(decoded(&encode(&text)), Some(text.clone()), "{text:?}");
            }
        }
    }

    #[test]
    fn what_is_no_coded_string_is_told() {
        for coded in [&[0x49, 0x50, 0x9f, 0xff][..], &[0x49, 0x50, 0x90], &[0xff; 4], &[0xff], &[0x00]] {
            assert_eq!(decoded(coded), None, "{coded:x?}");
        }
    }
}
