//! Field blocks of HTTP/2 as we see them and as `h2` does: whatever comes on a connection, a block that is none to us is none to `h2`
//! either, or a client would be sent away for nothing. (`h2` refuses more: names and values that HTTP does not have.)
use crate::harness::h2::{END_HEADERS, END_STREAM, HEADERS, SETTINGS, frame};
use proptest::prelude::*;
use ringway::http2::glance::Glance;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// Plain texts, and texts in HPACK's Huffman code: the last four are none.
const PLAIN: &[&[u8]] =
    &[b"", b":path", b"/a#b", b"/a", b"x-y", b"GET", b"yyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyy"];
const CODED: &[&[u8]] = &[
    b"",
    b"\xb9\x58\xd3\x3f",
    b"\x60\x7f\xf5\x1f",
    b"\xf2\xb7\xaf",
    b"\xc5\x83\x7f",
    b"\xf1\xe3\xc2\xe5\xf2\x3a\x6b\xa0\xab\x90\xf4\xff",
    b"\xff",
    b"\x00",
    b"\xff\xff\xff\xff",
    b"\x49\x50\x9f\xff",
];

fn number(first: u8, prefix: u32, value: u32) -> Vec<u8> {
    let most = (1 << prefix) - 1;
    if value < most {
        return vec![first | value as u8];
    }
    let (mut bytes, mut left) = (vec![first | most as u8], value - most);
    while left >= 128 {
        bytes.push(left as u8 | 128);
        left /= 128;
    }
    bytes.push(left as u8);
    bytes
}

fn text() -> impl Strategy<Value = Vec<u8>> {
    let plain = prop::sample::select(PLAIN).prop_map(|text| [number(0, 7, text.len() as u32), text.to_vec()].concat());
    let coded =
        prop::sample::select(CODED).prop_map(|text| [number(0x80, 7, text.len() as u32), text.to_vec()].concat());
    prop_oneof![plain, coded]
}

fn index() -> impl Strategy<Value = u32> {
    prop_oneof![6 => 1..62u32, 4 => 62..70u32, 1 => 0..200u32]
}

/// A name that `h2` takes, most often.
fn name() -> impl Strategy<Value = Vec<u8>> {
    const GOOD: &[&[u8]] = &[b"\x03x-y", b"\x83\xf2\xb7\xaf", b"\x05:path", b"\x84\xb9\x58\xd3\x3f"];
    let good = prop::sample::select(GOOD);
    prop_oneof![6 => good.prop_map(<[u8]>::to_vec), 1 => text()]
}

/// One field of a block, as it is or as it should not be.
fn field() -> impl Strategy<Value = Vec<u8>> {
    let kinds = prop::sample::select(&[(0x40u8, 6u32), (0x00, 4), (0x10, 4)][..]);
    prop_oneof![
        8 => index().prop_map(|index| number(0x80, 7, index)),
        8 => (kinds.clone(), index(), text()).prop_map(|((first, prefix), index, value)| [number(first, prefix, index), value].concat()),
        8 => (kinds, name(), text()).prop_map(|((first, _), name, value)| [vec![first], name, value].concat()),
        1 => prop_oneof![0..4096u32, 4090..5000u32].prop_map(|size| number(0x20, 5, size)),
        1 => prop::collection::vec(any::<u8>(), 0..6),
    ]
}

fn block() -> impl Strategy<Value = Vec<u8>> {
    let size = prop::option::weighted(0.2, prop_oneof![0..200u32, 0..4097u32].prop_map(|size| number(0x20, 5, size)));
    let fields = prop::collection::vec(field(), 0..6).prop_map(|fields| fields.concat());
    (size, fields).prop_map(|(size, fields)| [size.unwrap_or_default(), fields].concat())
}

/// Whether all of them are blocks to `h2`.
fn are_read_by_h2(blocks: &[Vec<u8>]) -> bool {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(async {
        let (mut ours, theirs) = tokio::io::duplex(1 << 20);
        let mut bytes = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
        bytes.extend(frame(SETTINGS, 0, 0, &[]));
        for (index, block) in blocks.iter().enumerate() {
            bytes.extend(frame(HEADERS, END_HEADERS | END_STREAM, 2 * index as u32 + 1, block));
        }
        ours.write_all(&bytes).await.unwrap();
        ours.shutdown().await.unwrap();
        let mut connection = ::h2::server::handshake(theirs).await.unwrap();
        while let Some(Ok(request)) = connection.accept().await {
            drop(request);
        }
        drop(connection);
        let mut answer = Vec::new();
        ours.read_to_end(&mut answer).await.unwrap();
        // For one that is none it says GOAWAY with a code; other faults end their streams alone.
        let mut rest = &answer[..];
        while rest.len() >= 9 {
            let length = u32::from_be_bytes([0, rest[0], rest[1], rest[2]]) as usize;
            if rest[3] == 7 && rest[9 + 7] != 0 {
                return false;
            }
            rest = &rest[9 + length..];
        }
        true
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: ProptestConfig::default().cases.max(2000), failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_block_that_h2_reads_is_one_to_us(blocks in prop::collection::vec(block(), 1..5)) {
        let mut glance = Glance::default();
        let ours = blocks.iter().all(|block| glance.at(block).is_ok());
        prop_assert!(ours || !are_read_by_h2(&blocks), "{:x?}", blocks);
    }
}
