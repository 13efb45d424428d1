//! PURE: which part of a source's answer is taken up, and when. What comes is taken at once; what would take too much away
//! must stay missing for a time, because a source that has lost its data looks the same as one whose members left.
use super::EndpointSet;
use super::settings::Settings;
use crate::base::ids::EndpointId;
use crate::snapshot::settings::Endpoint;
use crate::telemetry::labels::HeldBack;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

/// Decides over one upstream's lists.
#[derive(Debug)]
pub struct Judge {
    settings: Arc<Settings>,
    /// The list in force, by id.
    current: BTreeMap<EndpointId, Endpoint>,
    /// The last answer that was a list, by id.
    fresh: Option<BTreeMap<EndpointId, Endpoint>>,
    /// Members in force that the last answer does not have, and since when.
    missing: BTreeMap<EndpointId, Instant>,
    /// What `max_drop` is a share of while some are missing: those that came meanwhile make no room for others to go.
    base: usize,
    /// Until then nobody goes at once: the source was lost, and may have lost its data.
    settling: Option<Instant>,
}

/// Why an answer was not taken up.
#[derive(Debug, PartialEq, Eq)]
pub struct Refused {
    /// The label.
    pub reason: HeldBack,
    /// In words.
    pub why: String,
}

/// What came of an answer, or of time.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Verdict {
    /// The list from now on, when it is another one.
    pub members: Option<Arc<[Endpoint]>>,
    /// Members that have just begun to wait for their removal.
    pub newly_held: usize,
}

impl Judge {
    /// Begins with a list that was in force before.
    pub fn new(settings: Arc<Settings>, current: &[Endpoint]) -> Self {
        Self {
            settings,
            current: by_id(current.to_vec()),
            fresh: None,
            missing: BTreeMap::new(),
            base: 0,
            settling: None,
        }
    }

    /// Takes an answer in.
    ///
    /// # Errors
    /// When it is none that may be taken up; then nothing changes.
    pub fn hear(&mut self, answer: EndpointSet, now: Instant) -> Result<Verdict, Refused> {
        let (count, settings) = (answer.members.len(), &self.settings);
        let refused = |reason, why| Err(Refused { reason, why });
        if count < settings.min_members {
            let why = format!("the list has {count} members, fewer than min_members = {}", settings.min_members);
            return refused(HeldBack::MinMembers, why);
        }
        if count > settings.max_members {
            let why = format!("the list has {count} members, more than max_members = {}", settings.max_members);
            return refused(HeldBack::MaxMembers, why);
        }
        if let Some(why) = settings.unusable(&answer.members) {
            return refused(HeldBack::Unusable, why);
        }
        self.fresh = Some(by_id(answer.members));
        Ok(self.look(now))
    }

    /// The source is back after a loss: who is missing now must stay missing for a time.
    pub fn begin_settling(&mut self, now: Instant) {
        self.settling = Some(now + self.settings.settle);
    }

    /// Takes up all of the last answer, without waiting for anybody: somebody knows that it is right. Gives the list from now on.
    pub fn release(&mut self) -> Arc<[Endpoint]> {
        if let Some(fresh) = &self.fresh {
            self.current.clone_from(fresh);
        }
        self.missing.clear();
        self.settling = None;
        self.members()
    }

    /// The list in force.
    pub fn members(&self) -> Arc<[Endpoint]> {
        self.current.values().cloned().collect()
    }

    /// What time has changed.
    pub fn look(&mut self, now: Instant) -> Verdict {
        let Some(fresh) = &self.fresh else { return Verdict::default() };
        let before = self.missing.len();
        let gone = self.current.keys().filter(|id| !fresh.contains_key(*id));
        let mut missing: BTreeMap<EndpointId, Instant> =
            gone.map(|id| (id.clone(), self.missing.get(id).copied().unwrap_or(now))).collect();
        if self.missing.is_empty() {
            self.base = self.current.len();
        }
        let is_settling = self.settling.is_some_and(|until| now < until);
        if !is_settling && missing.len() <= (self.settings.max_drop.0 * self.base as f64).floor() as usize {
            missing.clear();
        }
        let held = missing.len();
        missing.retain(|_, since| now < *since + self.settings.settle);
        self.base = self.base.saturating_sub(held - missing.len());
        let waiting = self.current.iter().filter(|(id, _)| missing.contains_key(*id));
        let mut next = fresh.clone();
        next.extend(waiting.map(|(id, member)| (id.clone(), member.clone())));
        self.missing = missing;
        let newly_held = self.missing.len().saturating_sub(before);
        if next == self.current {
            return Verdict { members: None, newly_held };
        }
        self.current = next;
        Verdict { members: Some(self.members()), newly_held }
    }

    /// When to look next, if no answer comes before.
    pub fn due(&self) -> Option<Instant> {
        self.missing.values().min().map(|since| *since + self.settings.settle)
    }

    /// Members that are kept although the last answer does not have them.
    pub fn waiting(&self) -> usize {
        self.missing.len()
    }
}

fn by_id(members: Vec<Endpoint>) -> BTreeMap<EndpointId, Endpoint> {
    members.into_iter().map(|member| (member.id.clone(), member)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::clock;
    use crate::base::units::Ratio;
    use crate::discovery::list::member;
    use crate::discovery::settings::Allowed;
    use crate::discovery::settings::Source;
    use std::time::Duration;

    const SECOND: Duration = Duration::from_secs(1);

    fn settings(min_members: usize) -> Arc<Settings> {
        Arc::new(Settings {
            source: Source::File("m.toml".into()),
            snapshot: None,
            settle: 10 * SECOND,
            max_drop: Ratio(0.5),
            min_members,
            max_members: 6,
            on_loss: crate::discovery::settings::OnLoss::ServeLast,
            allow: Allowed::default(),
            vnodes: 160,
        })
    }

    fn answer(ids: &str) -> EndpointSet {
        let members = ids.chars().map(|id| member(&id.to_string(), "10.0.0.1:80", 1, &Allowed::default()).unwrap());
        EndpointSet { members: members.collect(), left_out: Vec::new() }
    }

    fn ids(judge: &Judge) -> String {
        judge.current.keys().map(EndpointId::as_str).collect()
    }

    /// Hears `lists`, each so many seconds after the start, and looks when it is time; the ids in force after each.
    fn play(judge: &mut Judge, start: Instant, lists: &[(u32, &str)]) -> Vec<String> {
        let mut after = Vec::new();
        for (seconds, list) in lists {
            let now = start + *seconds * SECOND;
            while let Some(due) = judge.due().filter(|due| *due <= now) {
                judge.look(due);
            }
            judge.hear(answer(list), now).unwrap();
            after.push(ids(judge));
        }
        after
    }

    #[test]
    fn what_comes_is_taken_at_once_and_a_few_may_go_at_once() {
        let mut judge = Judge::new(settings(1), &[]);
        let after = play(&mut judge, clock::now(), &[(0, "ab"), (1, "abcd"), (2, "cd"), (3, "cde")]);
        assert_eq!(after, ["ab", "abcd", "cd", "cde"]);
        assert_eq!(judge.due(), None);
    }

    #[test]
    fn many_that_go_at_once_wait_until_they_have_been_missing_for_long_enough() {
        let start = clock::now();
        let mut judge = Judge::new(settings(1), &answer("abcd").members);
        let after = play(&mut judge, start, &[(0, "ax"), (5, "axy"), (9, "axy")]);
        assert_eq!(after, ["abcdx", "abcdxy", "abcdxy"]);
        assert_eq!((judge.waiting(), judge.due()), (3, Some(start + 10 * SECOND)));
        assert!(judge.look(start + 10 * SECOND).members.is_some());
        assert_eq!((ids(&judge), judge.waiting()), ("axy".into(), 0));
    }

    #[test]
    fn those_whose_time_is_over_take_no_others_along() {
        let start = clock::now();
        let mut judge = Judge::new(settings(1), &answer("abcde").members);
        assert_eq!(play(&mut judge, start, &[(0, "de"), (9, "e")]), ["abcde", "abcde"]);
        judge.look(start + 10 * SECOND);
        assert_eq!((ids(&judge), judge.due()), ("de".into(), Some(start + 19 * SECOND)));
        judge.look(start + 11 * SECOND);
        assert_eq!(ids(&judge), "e", "one of two may go at once");
    }

    #[test]
    fn members_that_come_back_in_time_have_never_gone() {
        let start = clock::now();
        let mut judge = Judge::new(settings(0), &answer("abcd").members);
        assert_eq!(play(&mut judge, start, &[(0, ""), (5, "abcd"), (9, ""), (12, "")]), ["abcd"; 4]);
        assert_eq!(judge.due(), Some(start + 19 * SECOND), "the second time counts anew");
        judge.look(start + 19 * SECOND);
        assert_eq!(ids(&judge), "");
    }

    #[test]
    fn after_a_loss_nobody_goes_at_once() {
        let start = clock::now();
        let mut judge = Judge::new(settings(1), &answer("abcd").members);
        judge.begin_settling(start);
        assert_eq!(play(&mut judge, start, &[(1, "abc"), (2, "abcx")]), ["abcd", "abcdx"]);
        assert_eq!(judge.due(), Some(start + 11 * SECOND));
        assert_eq!(play(&mut judge, start, &[(11, "abcx"), (12, "ab")]), ["abcx", "ab"]);
    }

    #[test]
    fn whoever_knows_that_a_list_is_right_need_not_wait() {
        let start = clock::now();
        let mut judge = Judge::new(settings(1), &answer("abcd").members);
        judge.begin_settling(start);
        play(&mut judge, start, &[(0, "ax")]);
        assert_eq!(judge.release().len(), 2);
        assert_eq!((ids(&judge), judge.waiting(), judge.due()), ("ax".into(), 0, None));
        assert_eq!(play(&mut judge, start, &[(1, "a")]), ["a"], "nor does the next one");
    }

    #[test]
    fn a_list_that_may_not_be_is_refused_whole() {
        let now = clock::now();
        let mut judge = Judge::new(settings(2), &answer("abc").members);
        let reason = |judge: &mut Judge, list: &str| judge.hear(answer(list), now).unwrap_err().reason;
        assert_eq!(reason(&mut judge, "a"), HeldBack::MinMembers);
        assert_eq!(reason(&mut judge, "abcdefg"), HeldBack::MaxMembers);
        let mut weightless = answer("xy");
        weightless.members.iter_mut().for_each(|member| member.weight = 0);
        assert_eq!(judge.hear(weightless, now).unwrap_err().reason, HeldBack::Unusable);
        assert_eq!((ids(&judge), judge.due()), ("abc".into(), None));
    }

    #[test]
    fn an_address_or_a_weight_that_changes_is_taken_at_once() {
        let mut judge = Judge::new(settings(1), &answer("ab").members);
        let mut changed = answer("ab");
        changed.members[1].weight = 5;
        let verdict = judge.hear(changed.clone(), clock::now()).unwrap();
        assert_eq!(verdict.members.unwrap().as_ref(), changed.members);
    }
}
