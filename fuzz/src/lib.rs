//! What must hold for every input: one function per fuzz target, each panics when its claim does not hold.
//!
//! The claims are written against the public calls of the pure parts and, where there is one, against a second, plainer
//! implementation that stands here.
pub mod chunked_body;
pub mod configuration;
pub mod dns_message;
pub mod field_block;
pub mod key;
pub mod log_line;
pub mod path;
pub mod proxy_header;
pub mod request_head;
pub mod response_head;

use ringway::head::Head;
use ringway::head::is_token;
use ringway::http1::limits::Limits;
use ringway::http1::parse::Progress;
use ringway::http1::refusal::Refusal;

/// Small enough for a fuzzer to find them.
const LIMITS: Limits = Limits { max_head_bytes: 1 << 10, max_fields: 24 };
/// What a head that was accepted may grow by when it is encoded again.
const ROOMY: Limits = Limits { max_head_bytes: 1 << 12, max_fields: 32 };

/// Everything that a head says, in one comparable value.
type Facts = (Vec<u8>, Vec<u8>, Option<Vec<u8>>, u16, Vec<u8>, Fields);
/// Names and values in order.
type Fields = Vec<(Vec<u8>, Vec<u8>)>;

fn fields(head: &Head) -> Fields {
    head.fields().iter().map(|field| (head.name_of(field).to_vec(), head.value_of(field).to_vec())).collect()
}

fn facts(head: &Head) -> Facts {
    let authority = head.authority().map(<[u8]>::to_vec);
    let (method, target, reason) = (head.method_text().to_vec(), head.target().to_vec(), head.reason().to_vec());
    (method, target, authority, head.status(), reason, fields(head))
}

/// Fields as they go on: without those that say where a message ends or for whom it is.
fn passed_on(head: &Head) -> Fields {
    let ours = ["host", "content-length", "transfer-encoding"];
    let is_ours = |name: &[u8]| ours.iter().any(|ours| name.eq_ignore_ascii_case(ours.as_bytes()));
    fields(head).into_iter().filter(|(name, _)| !is_ours(name)).collect()
}

/// Nothing of an accepted head could end a line, or a text, of somebody who reads it after us.
fn check_clean(head: &Head) {
    let (method, target, authority, _, reason, fields) = facts(head);
    let texts = [Some(method), Some(target), authority, Some(reason)].into_iter().flatten();
    for text in texts.chain(fields.iter().map(|(_, value)| value.clone())) {
        assert!(!text.iter().any(|byte| matches!(byte, b'\r' | b'\n' | 0)), "{} was accepted", text.escape_ascii());
    }
    for (name, value) in &fields {
        assert!(is_token(name), "{} is no field name", name.escape_ascii());
        assert_eq!(value.trim_ascii(), &value[..], "white space around a value is not part of it");
    }
}

/// What a prefix decides, more bytes never change: a refusal stays one, and a whole head stays the same one.
fn check_prefixes(
    input: &[u8],
    parser: fn(&[u8], &Limits, &mut Head) -> Result<Progress, Refusal>,
) -> Result<(Progress, Head), Refusal> {
    let parse = |input: &[u8]| {
        let mut head = Head::default();
        parser(input, &LIMITS, &mut head).map(|progress| (progress, head))
    };
    let whole = parse(input);
    for end in 0..input.len() {
        match parse(&input[..end]) {
            Ok((Progress::Partial, _)) => {}
            Ok((Progress::Complete { consumed }, head)) => {
                let (progress, all) = whole.as_ref().expect("a head that was whole is not refused with more bytes");
                assert_eq!(*progress, Progress::Complete { consumed });
                assert!(consumed <= end, "more was consumed than there is");
                assert_eq!(facts(all), facts(&head));
            }
            Err(_) => assert!(whole.is_err(), "refused at {end} bytes, accepted with more"),
        }
    }
    whole
}

/// Numbers to split an input by: the same for the same seed.
fn steps(seed: u8) -> impl Iterator<Item = usize> {
    let mut state = u64::from(seed).wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    std::iter::repeat_with(move || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        1 + (state >> 33) as usize % 9
    })
}
