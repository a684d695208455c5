//! Races on one refresh token over three servers (invariants 6 to 8): on three real processes over one PostgreSQL, on three servers in
//! this process on both databases, and on planted refreshers, whose flaws the same races must find.
//!
//! Every call is recorded with its times and its answer, and [`oracle`] says whether such a history can be. `DOORWARD_RACES=100 cargo test
//! --test it refresh_race` runs as many rounds of each race; `DOORWARD_SEED` repeats the order of a run's calls, as far as that settles it.

use std::sync::{
    Arc, Mutex,
    atomic::{AtomicU64, AtomicUsize, Ordering},
};

use doorward::values::time::Clock;
use tokio::{sync::Barrier, task::JoinSet};

use crate::{
    harness::*,
    on_both,
    probe::Chance,
    start::{self, Ground},
};

mod arena;
mod oracle;
mod plants;

use arena::{Arena, Servers};
use oracle::{Act, Answer, Call, Flaw, judge};
use plants::{Plant, Planted};

/// Parallel calls of a race.
const PARALLEL: usize = 64;

/// What happens at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Race {
    /// All use the newest token, several times over.
    Uses,
    /// Some are a step behind.
    Stragglers,
    /// Somebody logs out, or an operator ends the session.
    End,
    /// The password is changed.
    Change,
    /// Somebody has a token from two back.
    TwoBack,
    /// Somebody has the token before, and the grace is over.
    PastGrace,
}

impl Race {
    const ALL: [Self; 6] = [Self::Uses, Self::Stragglers, Self::End, Self::Change, Self::TwoBack, Self::PastGrace];
}

/// One session, and what was done with it.
struct Track<A: Arena> {
    arena: Arc<A>,
    session: A::Session,
    ticks: Arc<AtomicU64>,
    calls: Arc<Mutex<Vec<Call>>>,
    /// Every refresh token that was answered, in the order of the chain.
    tokens: Vec<String>,
}

impl<A: Arena> Track<A> {
    async fn open(arena: &Arc<A>) -> Self {
        let opened = arena.open().await;
        let (ticks, calls) = (Arc::default(), Arc::default());
        Self { arena: Arc::clone(arena), session: opened.session, ticks, calls, tokens: vec![opened.refresh_token] }
    }

    /// Makes calls at once, in an order of chance, and waits for their answers.
    async fn at_once(&mut self, acts: &[(usize, Act)], chance: &mut Chance) {
        let mut all: Vec<Act> = acts.iter().flat_map(|(times, act)| vec![act.clone(); *times]).collect();
        for at in (1..all.len()).rev() {
            all.swap(at, chance.below(at + 1));
        }
        let (gate, mut running) = (Arc::new(Barrier::new(all.len())), JoinSet::new());
        for act in all {
            let (arena, session, gate) = (Arc::clone(&self.arena), self.session.clone(), Arc::clone(&gate));
            let (ticks, calls, choice) = (Arc::clone(&self.ticks), Arc::clone(&self.calls), chance.next());
            running.spawn(async move {
                gate.wait().await;
                let began = ticks.fetch_add(1, Ordering::SeqCst);
                let answer = arena.call(&session, &act, choice).await;
                let ended = ticks.fetch_add(1, Ordering::SeqCst);
                calls.lock().unwrap().push(Call { act, answer, began, ended });
            });
        }
        running.join_all().await;
        self.follow();
    }

    async fn one(&mut self, act: Act, chance: &mut Chance) {
        self.at_once(&[(1, act)], chance).await;
    }

    /// Adds what was answered to the chain.
    fn follow(&mut self) {
        let calls = self.calls.lock().unwrap();
        let next = |token: &str| {
            calls.iter().find_map(|call| match (&call.act, &call.answer) {
                (Act::Refresh(from), Answer::Tokens(to)) if from == token => Some(to.clone()),
                _ => None,
            })
        };
        while let Some(token) = next(self.tokens.last().unwrap()) {
            assert!(self.tokens.len() < 1_000, "the chain has no end");
            self.tokens.push(token);
        }
    }

    /// The use of the newest token, or of one so many steps before it.
    fn refresh(&self, back: usize) -> Act {
        Act::Refresh(self.tokens[self.tokens.len().saturating_sub(back + 1)].clone())
    }

    async fn run(&mut self, race: Race, chance: &mut Chance) {
        let steps = if matches!(race, Race::Uses | Race::End | Race::Change) { 0 } else { 1 + usize::from(race == Race::TwoBack) };
        for _ in 0..steps {
            self.one(self.refresh(0), chance).await;
        }
        let (newest, before) = (self.refresh(0), self.refresh(1));
        match race {
            Race::Uses => {
                for _ in 0..4 {
                    self.at_once(&[(PARALLEL, self.refresh(0))], chance).await;
                }
            }
            Race::Stragglers => self.at_once(&[(PARALLEL - 8, newest), (8, before)], chance).await,
            Race::End => self.at_once(&[(PARALLEL - 12, newest), (3, Act::End), (9, Act::Check)], chance).await,
            Race::Change => self.at_once(&[(PARALLEL - 10, newest), (1, Act::ChangePassword), (9, Act::Check)], chance).await,
            Race::TwoBack => self.at_once(&[(PARALLEL - 12, newest), (8, self.refresh(2)), (4, Act::Check)], chance).await,
            Race::PastGrace => {
                self.one(Act::PassGrace, chance).await;
                let others = if chance.below(2) == 0 { 0 } else { PARALLEL - 12 };
                self.at_once(&[(others, newest), (8, before), (4, Act::Check)], chance).await;
            }
        }
        // At each of three servers, one after the other: the newest token, and whether anything lives.
        for _ in 0..3 {
            self.one(self.refresh(0), chance).await;
            self.one(Act::Check, chance).await;
        }
    }

    async fn judged(&self) -> Result<(), Flaw> {
        let found = self.arena.found(&self.session).await;
        let calls = self.calls.lock().unwrap();
        judge(&self.tokens[0], &calls, found)
    }
}

/// One round of a race.
async fn round<A: Arena>(arena: &Arc<A>, race: Race, chance: &mut Chance) -> Result<(), Flaw> {
    let mut track = Track::open(arena).await;
    track.run(race, chance).await;
    track.judged().await
}

fn rounds(default: usize) -> usize {
    std::env::var("DOORWARD_RACES").ok().map_or(default, |rounds| rounds.parse().unwrap())
}

async fn race_all<S: Serves>(servers: Servers<S>, times: usize) -> Arc<Servers<S>> {
    let (arena, mut chance) = (Arc::new(servers), Chance::new());
    for number in 0..rounds(times) {
        for race in Race::ALL {
            let judged = round(&arena, race, &mut chance).await;
            assert_eq!(judged, Ok(()), "{race:?}, round {number}");
        }
    }
    arena
}

on_both! {
    async fn three_servers_in_this_process_stand_every_race(world: World) {
        let replicas = Replicas::in_process(&world).await;
        let app = Arc::clone(&world.replica.app);
        let arena = race_all(Servers { replicas, app, sql: world.sql().await, people: AtomicUsize::new(0) }, 2).await;
        for server in arena.replicas.all() {
            assert!(server.replica.app.store.answered() > 100, "each had its share");
        }
    }
}

#[test]
fn three_real_servers_on_one_postgresql_stand_every_race() {
    start::run(Backend::Postgres, |ground| async move {
        let ground = Ground { clock: Clock::system(), ..ground };
        let replicas = Replicas::processes(&ground.config, &[]).await;
        let app = Arc::new(ground.open().await.unwrap());
        race_all(Servers { replicas, app, sql: ground.sql().await, people: AtomicUsize::new(0) }, 2).await;
    });
}

/// Runs all races on a refresher until one of them finds something.
async fn flaw_of(ground: &Ground, plant: Plant, times: usize) -> Option<(Race, Flaw)> {
    let (arena, mut chance) = (Arc::new(Planted::new(ground.sql().await, plant).await), Chance::new());
    for _ in 0..times {
        for race in Race::ALL {
            if let Err(flaw) = round(&arena, race, &mut chance).await {
                return Some((race, flaw));
            }
        }
    }
    None
}

#[test]
fn the_same_races_find_every_planted_flaw() {
    start::run(Backend::Postgres, |ground| async move {
        assert_eq!(flaw_of(&ground, Plant::Nothing, 5).await, None, "the plain one has no flaw");
        for plant in
            [Plant::NotAtomic, Plant::WritesBack, Plant::ReplacedCondition, Plant::SwallowedReuse, Plant::EndlessGrace, Plant::NoGrace]
        {
            let found = flaw_of(&ground, plant, 50).await;
            eprintln!("{plant:?}: {found:?}");
            let (race, flaw) = found.unwrap_or_else(|| panic!("{plant:?} was not found"));
            let is_of_it = match plant {
                Plant::NotAtomic => matches!(flaw, Flaw::TwoSuccessors(_)),
                Plant::SwallowedReuse => matches!((race, &flaw), (Race::Stragglers | Race::TwoBack | Race::PastGrace, Flaw::NoOrder(_))),
                Plant::EndlessGrace => race == Race::PastGrace,
                _ => matches!(flaw, Flaw::NoOrder(_) | Flaw::LeftBehind(_)),
            };
            assert!(is_of_it, "{plant:?} was found by {race:?} as {flaw:?}");
        }
    });
}
