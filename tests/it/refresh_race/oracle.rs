//! What the answers of a race on one session may be: a pure function of its history.
//!
//! A history is right if its calls have an order, each within the time that it took, in which a session that does one thing after the
//! other gives the same answers:
//!
//! ```text
//!   ┌─ refresh n = g: tokens, g + 1        ┌─ any refresh: SESSION_REVOKED, of an old token also REFRESH_TOKEN_REUSED
//!   ├─ refresh n = g − 1, within the       ├─ a check: SESSION_REVOKED
//!   │  grace: the same tokens again        │
//! live(g) ──── logout, revocation ───────► over
//!   │          change of password          ▲
//!   └─ any older refresh: REFRESH_TOKEN_REUSED
//! ```
//!
//! (The search is that of Wing and Gong, "Testing and Verifying Concurrent Objects", with one shortcut: what fits and changes nothing is
//! placed at once.) A call without an answer may have been done at any time since, or never.

use std::collections::{HashMap, HashSet};

/// What a client does.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Act {
    /// Uses a refresh token, of this text.
    Refresh(String),
    /// Ends the session: by a token, or as an operator.
    End,
    /// Changes the password with a token of the session.
    ChangePassword,
    /// Asks whether an access token is good.
    Check,
    /// Lets the grace of whatever was answered pass.
    PassGrace,
}

/// What it is told.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Answer {
    /// A set of tokens, with this refresh token.
    Tokens(String),
    /// Yes.
    Done,
    /// No, for this reason.
    Refused(String),
    /// Nothing.
    Unknown,
}

/// A call and its answer, with the times of both on one count.
#[derive(Clone, Debug)]
pub struct Call {
    pub act: Act,
    pub answer: Answer,
    pub began: u64,
    pub ended: u64,
}

/// What the database holds of the session when everything is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Found {
    pub generation: usize,
    pub is_over: bool,
    /// Events of its end, whatever ended it but a change of password.
    pub ends: usize,
    /// Those of them that speak of reuse.
    pub reuses: usize,
}

/// Why a history cannot be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Flaw {
    /// A refresh token was answered with two different ones.
    TwoSuccessors(String),
    /// No order of the calls explains the answers; this says how far one comes.
    NoOrder(String),
    /// The answers can be explained, and what is in the database is something else.
    LeftBehind(String),
}

/// The session that does one thing after the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Model {
    generation: usize,
    /// Up to here, what was moved on is not answered again.
    past_grace: usize,
    is_over: bool,
}

impl Model {
    fn is_old(self, position: usize) -> bool {
        position + 1 < self.generation || (position + 1 == self.generation && self.generation <= self.past_grace)
    }

    fn over(self) -> Self {
        Self { is_over: true, ..self }
    }

    /// What it is after a call that was answered so; none where that would not be its answer.
    fn after(self, act: Step, answer: &Answer) -> Option<Self> {
        let refused = |expected: &str| matches!(answer, Answer::Refused(reason) if reason == expected);
        let is_unknown = *answer == Answer::Unknown;
        let fits = |fits: bool, then: Self| fits.then_some(then);
        match act {
            Step::Refresh(position) if self.is_over => {
                // Who saw it live may say so a moment later.
                let is_late = refused("REFRESH_TOKEN_REUSED") && self.is_old(position);
                fits(refused("SESSION_REVOKED") || is_late, self)
            }
            Step::Refresh(position) if position == self.generation => {
                let next = Self { generation: self.generation + 1, ..self };
                fits(is_unknown || matches!(answer, Answer::Tokens(_)), next)
            }
            Step::Refresh(position) if self.is_old(position) => fits(is_unknown || refused("REFRESH_TOKEN_REUSED"), self.over()),
            Step::Refresh(position) => fits(position < self.generation && matches!(answer, Answer::Tokens(_)), self),
            Step::ChangePassword if self.is_over => fits(refused("SESSION_REVOKED"), self),
            // A logout of what is over is done; who revokes has to be logged in.
            Step::End if self.is_over => fits(is_unknown || *answer == Answer::Done || refused("SESSION_REVOKED"), self),
            Step::End | Step::ChangePassword => fits(is_unknown || *answer == Answer::Done, self.over()),
            Step::Check => fits(if self.is_over { refused("SESSION_REVOKED") } else { *answer == Answer::Done }, self),
            Step::PassGrace => Some(Self { past_grace: self.generation, ..self }),
        }
    }
}

/// [`Act`] with the place of the token in the chain.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Step {
    Refresh(usize),
    End,
    ChangePassword,
    Check,
    PassGrace,
}

/// Judges the history of a session that began with a refresh token of the text `first`.
pub fn judge(first: &str, calls: &[Call], found: Found) -> Result<(), Flaw> {
    let places = places(first, calls)?;
    let step = |call: &Call| match &call.act {
        Act::Refresh(token) => places.get(token.as_str()).copied().map(Step::Refresh),
        Act::End => Some(Step::End),
        Act::ChangePassword => Some(Step::ChangePassword),
        Act::Check => Some(Step::Check),
        Act::PassGrace => Some(Step::PassGrace),
    };
    let steps: Option<Vec<Step>> = calls.iter().map(step).collect();
    let steps = steps.ok_or_else(|| Flaw::NoOrder("a token that is not of the chain was used".to_owned()))?;
    let begin = Model { generation: 0, past_grace: 0, is_over: false };
    let mut search = Search { calls, steps, seen: HashSet::new(), ends: HashSet::new(), best: (0, String::new()) };
    search.run(vec![false; calls.len()], begin);
    if search.ends.is_empty() {
        return Err(Flaw::NoOrder(search.best.1));
    }
    let was = |reason: &str| calls.iter().any(|call| matches!(&call.answer, Answer::Refused(found) if found == reason));
    let is_changed = calls.iter().any(|call| call.act == Act::ChangePassword && call.answer == Answer::Done);
    let least_ends = usize::from(found.is_over && !is_changed);
    let events_fit = (least_ends..=usize::from(found.is_over)).contains(&found.ends)
        && found.reuses <= usize::from(was("REFRESH_TOKEN_REUSED"))
        && found.reuses <= found.ends;
    let fits = |end: &Model| (end.generation, end.is_over) == (found.generation, found.is_over);
    if events_fit && search.ends.iter().any(fits) {
        return Ok(());
    }
    Err(Flaw::LeftBehind(format!("{found:?} where the answers lead to {:?}", search.ends)))
}

/// The place in the chain of every refresh token that was answered.
fn places<'a>(first: &'a str, calls: &'a [Call]) -> Result<HashMap<&'a str, usize>, Flaw> {
    let mut successors: HashMap<&str, &str> = HashMap::new();
    for call in calls {
        if let (Act::Refresh(from), Answer::Tokens(to)) = (&call.act, &call.answer)
            && *successors.entry(from).or_insert(to) != to.as_str()
        {
            return Err(Flaw::TwoSuccessors(from.clone()));
        }
    }
    let mut places = HashMap::from([(first, 0)]);
    let mut last = first;
    while let Some(next) = successors.get(last) {
        let place = places.len();
        if places.insert(next, place).is_some() {
            return Err(Flaw::NoOrder("the chain comes back to an old token".to_owned()));
        }
        last = next;
    }
    Ok(places)
}

struct Search<'a> {
    calls: &'a [Call],
    steps: Vec<Step>,
    seen: HashSet<(Vec<bool>, Model)>,
    /// What the session may be when every call is placed.
    ends: HashSet<Model>,
    /// The most calls that were placed, and what stood in the way of the next one.
    best: (usize, String),
}

impl Search<'_> {
    fn run(&mut self, mut placed: Vec<bool>, model: Model) {
        while let Some(at) = self.next(&placed).into_iter().find(|&at| self.after(model, at) == Some(model)) {
            placed[at] = true;
        }
        if !self.seen.insert((placed.clone(), model)) {
            return;
        }
        let next = self.next(&placed);
        let left = (0..placed.len()).any(|at| !placed[at] && self.calls[at].answer != Answer::Unknown);
        if !left {
            self.ends.insert(model);
        }
        let count = placed.iter().filter(|placed| **placed).count();
        if count >= self.best.0 {
            let stuck: HashSet<String> = next.iter().map(|&at| format!("{:?} -> {:?}", self.steps[at], self.calls[at].answer)).collect();
            self.best = (count, format!("after {count} of {} calls {model:?} does not give one of {stuck:?}", placed.len()));
        }
        let mut tried = HashSet::new();
        for at in next {
            if let Some(then) = self.after(model, at)
                && tried.insert((self.steps[at], self.calls[at].answer.clone()))
            {
                let mut placed = placed.clone();
                placed[at] = true;
                self.run(placed, then);
            }
        }
    }

    fn after(&self, model: Model, at: usize) -> Option<Model> {
        model.after(self.steps[at], &self.calls[at].answer)
    }

    /// The calls that may come next, of equals the one that ended first: those that began before any other one ended.
    fn next(&self, placed: &[bool]) -> Vec<usize> {
        let left = || (0..placed.len()).filter(|&at| !placed[at]);
        let until = left().filter(|&at| self.calls[at].answer != Answer::Unknown).map(|at| self.calls[at].ended).min().unwrap_or(u64::MAX);
        let mut next: Vec<usize> = left().filter(|&at| self.calls[at].began < until).collect();
        next.sort_by_key(|&at| (self.calls[at].answer == Answer::Unknown, self.calls[at].ended));
        next
    }
}

/// A history written by hand: each call with its answer and its times.
fn history(calls: &[(Act, Answer, u64, u64)]) -> Vec<Call> {
    calls.iter().cloned().map(|(act, answer, began, ended)| Call { act, answer, began, ended }).collect()
}

#[test]
fn histories_that_may_be_and_that_may_not() {
    let uses = |token: &str| Act::Refresh(token.to_owned());
    let tokens = |token: &str| Answer::Tokens(token.to_owned());
    let refusal = |reason: &str| Answer::Refused(reason.to_owned());
    let (revoked, reused) = (refusal("SESSION_REVOKED"), refusal("REFRESH_TOKEN_REUSED"));
    let found = |generation, ends: usize| Found { generation, is_over: ends > 0, ends, reuses: 0 };
    let by_reuse = |generation| Found { generation, is_over: true, ends: 1, reuses: 1 };
    let judge = |calls: &[_], found| judge("a", &history(calls), found);
    let has_no_order = |judged: Result<(), Flaw>| assert!(matches!(judged, Err(Flaw::NoOrder(_))), "{judged:?}");
    let is_left = |judged: Result<(), Flaw>| assert!(matches!(judged, Err(Flaw::LeftBehind(_))), "{judged:?}");
    let step = |from, to, began| (uses(from), tokens(to), began, began + 1);

    // Two tabs, one after the other and at once, are one step.
    assert_eq!(judge(&[step("a", "b", 0), step("a", "b", 2)], found(1, 0)), Ok(()));
    assert_eq!(judge(&[(uses("a"), tokens("b"), 0, 3), (uses("a"), tokens("b"), 1, 2)], found(1, 0)), Ok(()));
    is_left(judge(&[step("a", "b", 0), step("a", "b", 2)], found(2, 0)));
    assert_eq!(judge(&[step("a", "b", 0), step("a", "c", 2)], found(1, 0)), Err(Flaw::TwoSuccessors("a".to_owned())));
    has_no_order(judge(&[step("x", "y", 0)], found(1, 0)));
    has_no_order(judge(&[step("a", "b", 0), step("b", "a", 2)], found(2, 0)));

    // After an end nothing works; while it is under way, both may be.
    let end = |began, ended| (Act::End, Answer::Done, began, ended);
    has_no_order(judge(&[end(0, 1), step("a", "b", 2)], found(1, 1)));
    assert_eq!(judge(&[end(0, 3), step("a", "b", 1)], found(1, 1)), Ok(()));
    assert_eq!(judge(&[end(0, 1), (uses("a"), revoked.clone(), 2, 3)], found(0, 1)), Ok(()));
    has_no_order(judge(&[(uses("a"), revoked.clone(), 0, 1), end(2, 3)], found(0, 1)));
    has_no_order(judge(&[end(0, 1), (Act::Check, Answer::Done, 2, 3)], found(0, 1)));
    is_left(judge(&[end(0, 1)], found(0, 0)));
    is_left(judge(&[end(0, 1)], found(0, 2)));

    // Reuse: of a token from two back, and of the one before when the grace is over; then everything is.
    let (ab, bc) = (step("a", "b", 0), step("b", "c", 2));
    let of_old = (uses("a"), reused.clone(), 4, 5);
    assert_eq!(judge(&[ab.clone(), bc.clone(), of_old.clone(), (uses("c"), revoked, 6, 7)], by_reuse(2)), Ok(()));
    has_no_order(judge(&[ab.clone(), bc.clone(), of_old.clone(), step("c", "d", 6)], by_reuse(3)));
    is_left(judge(&[ab.clone(), bc.clone(), of_old], found(2, 0)));
    has_no_order(judge(&[ab.clone(), bc, step("a", "b", 4)], found(2, 0)));
    has_no_order(judge(&[ab.clone(), (uses("a"), reused, 4, 5)], by_reuse(1)));
    has_no_order(judge(&[ab.clone(), (Act::PassGrace, Answer::Done, 2, 3), step("a", "b", 4)], found(1, 0)));

    // No answer: it may have been, later too, or not.
    let unknown = |act| (act, Answer::Unknown, 2, 3);
    assert_eq!(judge(&[ab.clone(), unknown(uses("b"))], found(1, 0)), Ok(()));
    assert_eq!(judge(&[ab.clone(), unknown(uses("b"))], found(2, 0)), Ok(()));
    is_left(judge(&[ab.clone(), unknown(uses("b"))], found(3, 0)));
    assert_eq!(judge(&[ab, unknown(Act::End), step("b", "c", 4)], found(2, 1)), Ok(()));
    has_no_order(judge(&[(uses("a"), refusal("INTERNAL"), 0, 1)], found(0, 0)));
}
