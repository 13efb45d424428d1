//! A chunked body: the same data, end and trailers whatever the split, and the same after it was encoded again. The first
//! byte of the input picks the split.
use crate::Fields;
use crate::LIMITS;
use crate::ROOMY;
use crate::fields;
use crate::steps;
use bytes::BytesMut;
use ringway::http1::chunked;
use ringway::http1::chunked::Decoded;
use ringway::http1::chunked::Decoder;
use ringway::http1::limits::Limits;

/// How a body ended.
#[derive(Debug, Clone, PartialEq, Eq)]
enum End {
    /// After so many bytes, with these trailers.
    Whole(usize, Fields),
    NeedsMore,
    Refused,
}

/// Checks one input.
pub fn check(input: &[u8]) {
    let Some((seed, input)) = input.split_first() else { return };
    let whole = decode(input, &LIMITS, std::iter::once(input.len()));
    assert_eq!(decode(input, &LIMITS, std::iter::repeat(1)), whole, "one byte at a time");
    assert_eq!(decode(input, &LIMITS, steps(*seed)), whole, "in pieces");
    let (data, End::Whole(used, trailers)) = whole else { return };
    assert!(used <= input.len());
    assert_eq!(
        decode(&input[..used], &LIMITS, std::iter::once(used)),
        (data.clone(), End::Whole(used, trailers.clone()))
    );
    assert_eq!(
        decode(&input[..used - 1], &LIMITS, std::iter::once(used)).1,
        End::NeedsMore,
        "it ends with its last byte"
    );
    for (name, value) in &trailers {
        assert!(!value.iter().any(|byte| matches!(byte, b'\r' | b'\n' | 0)));
        for ours in ["content-length", "transfer-encoding", "host", "te", "connection", "fencing-token"] {
            assert!(!name.eq_ignore_ascii_case(ours.as_bytes()), "{ours} came as a trailer");
        }
    }
    check_again(&data, trailers, *seed);
}

/// What we encode is decoded to the same, where there is room for the white space that we add.
fn check_again(data: &[u8], trailers: Fields, seed: u8) {
    let mut head = ringway::head::Head::default();
    trailers.iter().for_each(|(name, value)| head.push(name, value));
    let mut out = BytesMut::new();
    let mut left = data;
    for step in steps(seed) {
        if left.is_empty() {
            break;
        }
        let (piece, rest) = left.split_at(step.min(left.len()));
        chunked::encode_chunk(piece, &mut out);
        left = rest;
    }
    chunked::encode_last(Some(&head), &mut out);
    let again = decode(&out, &ROOMY, steps(seed.wrapping_add(1)));
    assert_eq!(again, (data.to_vec(), End::Whole(out.len(), trailers)));
}

/// Feeds the input piece by piece, as a connection does: what is not consumed is there again.
fn decode(input: &[u8], limits: &Limits, mut steps: impl Iterator<Item = usize>) -> (Vec<u8>, End) {
    let mut decoder = Decoder::new(limits);
    let (mut data, mut used, mut seen) = (Vec::new(), 0, 0);
    loop {
        match decoder.decode(&input[used..seen]) {
            Err(_) => return (data, End::Refused),
            Ok(Decoded::Data { consumed, data: range }) => {
                assert!(range.end <= consumed && consumed <= seen - used && !range.is_empty());
                data.extend_from_slice(&input[used..seen][range]);
                used += consumed;
            }
            Ok(Decoded::End { consumed }) => {
                let trailers = decoder.take_trailers().map(|head| fields(&head)).unwrap_or_default();
                return (data, End::Whole(used + consumed, trailers));
            }
            Ok(Decoded::NeedMore { consumed }) => {
                used += consumed;
                if seen == input.len() {
                    return (data, End::NeedsMore);
                }
                seen = (seen + steps.next().unwrap_or(usize::MAX)).min(input.len());
            }
        }
    }
}
