//! PURE: which nodes locks and those who ask for them have, and who of them comes first.
use crate::lock::key::LockKey;

/// The node of a lock: not many thousands in one.
pub(super) fn folder(root: &str, key: &LockKey) -> String {
    let (used_for, hash) = (key.to_string(), format!("{:032x}", key.hash()));
    let used_for = used_for.split('/').next().unwrap_or_default().to_string();
    format!("{root}/locks/{used_for}/{}/{hash}", &hash[..2])
}

/// How the name of an ask's node begins, in a session. It is known before anything is sent, so that it can be found again.
pub(super) fn mark(session: i64, owner: u64) -> String {
    format!("_c_{session:016x}-{owner:016x}-lock-")
}

/// Where one is among all who ask for a lock.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Place<'a> {
    First,
    /// Right behind this one.
    Behind(&'a str),
    Gone,
}

pub(super) fn place<'a>(names: &'a [String], own: &str) -> Place<'a> {
    let Some(ours) = number(own).filter(|_| names.iter().any(|name| name == own)) else { return Place::Gone };
    // The numbers of a node that is never empty come round some day.
    let ahead = |name: &'a String| Some((ours.wrapping_sub(number(name)?), name)).filter(|(by, _)| *by > 0);
    names.iter().filter_map(ahead).min().map_or(Place::First, |(_, name)| Place::Behind(name))
}

/// Who has the lock, if anybody does.
pub(super) fn holder(names: &[String]) -> Option<&String> {
    names.iter().find(|name| place(names, name) == Place::First)
}

fn number(name: &str) -> Option<i32> {
    name.rsplit_once("lock-")?.1.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::telemetry::labels::LockUse;

    #[test]
    fn whoever_has_the_lowest_number_is_first_and_others_look_at_who_is_before() {
        let names = |numbers: &[&str]| -> Vec<String> {
            numbers.iter().enumerate().map(|(at, number)| format!("_c_{}-lock-{number}", 99 - at)).collect()
        };
        let own = |at: usize, number: &str| format!("_c_{}-lock-{number}", 99 - at);
        let some = names(&["0000000007", "0000000005", "0000000012"]);
        assert_eq!(place(&some, &own(1, "0000000005")), Place::First);
        assert_eq!(place(&some, &own(0, "0000000007")), Place::Behind(&some[1]));
        assert_eq!(place(&some, &own(2, "0000000012")), Place::Behind(&some[0]));
        assert_eq!(place(&some, "_c_1-lock-0000000006"), Place::Gone);
        let round = names(&["2147483647", "-2147483648"]);
        assert_eq!(place(&round, &round[0]), Place::First);
        assert_eq!(place(&round, &round[1]), Place::Behind(&round[0]));
        let strange: Vec<String> = ["x", "lock-0000000001", "_c_9-lock-0000000002"].map(String::from).into();
        assert_eq!(place(&strange, &strange[2]), Place::Behind("lock-0000000001"), "another program's");
        assert_eq!((holder(&some), holder(&round)), (Some(&some[1]), Some(&round[0])));
        assert_eq!(holder(&["x".to_string()]), None);
    }

    #[test]
    fn locks_are_spread_over_nodes_and_an_ask_is_found_by_its_beginning() {
        let key = LockKey::new(LockUse::Serialize, &[b"orders", b"/17"]);
        assert_eq!(folder("/r", &key), "/r/locks/serialize/83/83c9b70772eb1860ddb3f13b3d0cfde2");
        assert_eq!(mark(-1, 7), "_c_ffffffffffffffff-0000000000000007-lock-");
    }
}
