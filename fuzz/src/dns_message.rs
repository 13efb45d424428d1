//! Answers of a name server: whatever comes, the records told belong to the name asked for or to one it is another name for; names are
//! plain text of a length that a name may have; there are not more records than bytes could hold; and what was asked is not an answer.
use ringway::discovery::dns::message::Data;
use ringway::discovery::dns::message::Kind;
use ringway::discovery::dns::message::answer;
use ringway::discovery::dns::message::question;

const NAME: &str = "a.example";

/// Checks one input: the first byte chooses the kind of the question, the rest is what came.
pub fn check(input: &[u8]) {
    let Some((kind, bytes)) = input.split_first() else { return };
    let kind = [Kind::A, Kind::Aaaa, Kind::Srv][usize::from(*kind) % 3];
    assert!(answer(&question(1, NAME, kind), 1, NAME, kind).is_err(), "a question is no answer");
    let id = bytes.first_chunk().map_or(0, |id| u16::from_be_bytes(*id));
    assert!(answer(bytes, id.wrapping_add(1), NAME, kind).is_err(), "the answer to another question was taken");
    // Asked for in both cases, as resolvers may answer in either.
    let found = answer(bytes, id, NAME, kind);
    assert_eq!(found, answer(bytes, id, &NAME.to_ascii_uppercase(), kind));
    let Ok(found) = found else { return };
    // A record of an alias and one of data take eleven bytes each at least; each may be told once for each alias.
    assert!(found.records.len() <= bytes.len() / 11 * 17, "{} records of {} bytes", found.records.len(), bytes.len());
    let mut known = vec![NAME.to_owned()];
    for record in &found.records {
        assert!(known.contains(&record.name), "{} was not asked for", record.name);
        match &record.data {
            Data::A(_) => assert_eq!(kind, Kind::A),
            Data::Aaaa(_) => assert_eq!(kind, Kind::Aaaa),
            Data::Srv(service) => check_name(&service.target),
            Data::Alias(target) => {
                check_name(target);
                known.push(target.clone());
            }
        }
    }
}

fn check_name(name: &str) {
    assert!(name.len() <= 253, "a name of {} bytes", name.len());
    assert!(name.bytes().all(|byte| byte.is_ascii_graphic() && !byte.is_ascii_uppercase()), "{name:?} is not plain");
}
