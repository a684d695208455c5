//! An exhaustive check of the refresh protocol: every order of the steps of a few calls, of tabs, thieves, crashes and time.
//!
//! What is checked is one session's row, to which up to three calls are under way, each on a replica of its own if you like: a replica
//! keeps nothing between two calls. The steps of a call are those of [`protocol`], by which `refresh_walk` judges the running service.
//! Between any two of them anything else may come: time, other calls, the loss of an answer (its replica killed after the commit, its
//! deadline over, the network), a thief's copy of any token, a logout. Nothing cuts the search short; what bounds it is that the clock
//! stops and that the chain moves on two or three times. A time is a tick: the grace is one, so that two are after it.
//!
//! What the model takes for granted:
//!
//! - **A client rotates at most once per grace**: a tab refreshes a token only when it has had it for longer than the grace and a call's
//!   longest time together; until then it repeats nothing but what got no answer. For hasty tabs, who do not wait, one tab's second step
//!   makes the other's token two back, which is reuse. All that protects the session holds with hasty ones too.
//! - **No call takes longer than the grace.** It has its time from when it came in; one that lay about for longer would be judged by a
//!   time at which the chain stood elsewhere.
//! - The clocks of the replicas are one clock.
//!
//! A model that cannot be wrong proves nothing: for each planted [`Flaw`] the search has to find a run that breaks what it should break,
//! and every property is broken by one of them.

use std::{collections::BTreeSet, time::Instant};

use stateright::{Checker, HasDiscoveries, Model};

use self::{
    flaw::Flaw,
    house::{Cast, GRACE, House, OPENED},
    properties::ALWAYS,
    protocol::{Client, Rules},
};

mod flaw;
mod house;
mod properties;
pub mod protocol;

const RULES: Rules = Rules { grace: GRACE, idle: 4, absolute: 7 };

/// Two tabs with storages of their own, of which the first makes two calls at once; nobody else.
fn tabs() -> Cast {
    Cast {
        tabs: 2,
        are_hasty: false,
        clients: vec![Client::Default],
        thieves: vec![],
        has_forger: false,
        has_logout: false,
        rotations: 3,
        last: OPENED + RULES.absolute,
    }
}

/// The same, and the session can be logged out of.
fn leavers() -> Cast {
    Cast { has_logout: true, ..tabs() }
}

fn hasty() -> Cast {
    Cast { are_hasty: true, rotations: 2, last: OPENED + 2, ..tabs() }
}

fn thief() -> Cast {
    Cast { tabs: 1, thieves: vec![Client::Default], last: OPENED + 3, ..tabs() }
}

/// A backend whose replicas prove who they are or do not yet, and a thief in another backend.
fn callers() -> Cast {
    Cast { clients: vec![Client::Default, Client::Known(1)], thieves: vec![Client::Known(2)], rotations: 2, last: OPENED + 2, ..thief() }
}

fn forger() -> Cast {
    Cast { tabs: 1, has_forger: true, rotations: 2, last: OPENED + 3, ..tabs() }
}

/// Explores everything that a cast can do. The number of states says that nothing of it was left out: a change of the model changes it,
/// and is to be read with care.
#[track_caller]
fn prove(cast: Cast, states: usize) {
    let start = Instant::now();
    let checker = House { rules: RULES, cast, flaw: None }.checker().threads(2).spawn_bfs().join();
    let (found, depth) = (checker.unique_state_count(), checker.max_depth());
    eprintln!("{found} states, {depth} steps deep, {:.1} s", start.elapsed().as_secs_f64());
    checker.assert_properties();
    assert!(checker.is_done());
    assert_eq!(found, states, "another number of states than this model had");
}

#[test]
fn tabs_heal_and_are_never_stranded() {
    prove(tabs(), 27_552);
}

#[test]
fn nothing_comes_after_a_logout() {
    prove(leavers(), 48_278);
}

#[test]
fn hasty_tabs_endanger_only_their_own_session() {
    prove(hasty(), 43_401);
}

#[test]
fn a_thief_is_found() {
    prove(thief(), 246_506);
}

#[test]
fn a_session_is_taken_over_once() {
    prove(callers(), 87_687);
}

#[test]
fn a_forger_gets_and_ends_nothing() {
    prove(forger(), 4_063);
}

/// A planted flaw, who meets it, and what it breaks.
type Planted = (Flaw, fn() -> Cast, &'static [&'static str]);

const RACES: [Planted; 4] = [
    (
        Flaw::ReadsThenWrites,
        tabs,
        &["every tab can go on, or repeat", "no client is taken for a thief", "nobody who comes after the grace goes on"],
    ),
    (Flaw::ReadsThenWrites, thief, &["an old token never revives", "nothing is answered after the end"]),
    (Flaw::ReadsThenWrites, callers, &["a known client keeps its session", "a token works for its client only"]),
    (Flaw::HealsWithAnother, tabs, &["parallel uses have one successor", "every tab can go on, or repeat"]),
];

const CONDITIONS: [Planted; 8] = [
    (Flaw::IgnoresDigest, forger, &["at most one token moves the chain on", "a wrong secret gets nothing"]),
    (Flaw::IgnoresSuccessor, forger, &["a wrong secret gets nothing", "a stranger ends nothing"]),
    (Flaw::IgnoresClient, callers, &["a token works for its client only", "a stranger ends nothing"]),
    (Flaw::TakesOverAgain, callers, &["a known client keeps its session"]),
    (Flaw::IgnoresEnd, leavers, &["nothing is answered after the end"]),
    (Flaw::IgnoresGrace, tabs, &["nobody who comes after the grace goes on"]),
    (Flaw::HealingRestartsGrace, tabs, &["nobody who comes after the grace goes on", "no client is taken for a thief"]),
    (Flaw::ExtendsSession, tabs, &["the absolute lifetime never grows", "nothing is answered after its time"]),
];

const REUSES: [Planted; 4] = [
    (Flaw::SwallowsReuse, thief, &["reuse is answered only of an ended session"]),
    (Flaw::HidesReuse, thief, &["reuse is one end and one event"]),
    (Flaw::RepeatsReuse, tabs, &["reuse is one end and one event"]),
    (Flaw::ForgetsFurtherBack, thief, &["reuse after the grace is not missed"]),
];

#[track_caller]
fn find(planted: &[Planted]) {
    for (flaw, cast, broken) in planted {
        let house = House { rules: RULES, cast: cast(), flaw: Some(*flaw) };
        let all = HasDiscoveries::AllOf(broken.iter().copied().collect());
        let checker = house.checker().threads(2).finish_when(all).spawn_bfs().join();
        for property in *broken {
            let run = checker.discovery(property);
            let run = run.unwrap_or_else(|| panic!("{flaw:?}: no run breaks “{property}” in {} states", checker.unique_state_count()));
            eprintln!("{flaw:?} breaks “{property}” in {} steps: {:?}", run.clone().into_actions().len(), run.into_actions());
        }
    }
}

#[test]
fn a_rotation_that_is_not_atomic_is_found() {
    find(&RACES);
}

#[test]
fn a_replaced_condition_is_found() {
    find(&CONDITIONS);
}

#[test]
fn a_swallowed_reuse_is_found() {
    find(&REUSES);
}

#[test]
fn every_property_can_be_broken() {
    let broken: BTreeSet<_> = [&RACES[..], &CONDITIONS, &REUSES].concat().into_iter().flat_map(|(_, _, broken)| broken).copied().collect();
    assert_eq!(broken, ALWAYS.iter().map(|(name, _)| *name).collect());
}
