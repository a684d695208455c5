//! Random walks through the running service, two replicas of it, judged after every step by the protocol that the model check explores
//! (invariants 6 to 8 and 10): tabs, a thief, lost answers, uses at once, old, wrong and early tokens, logout, time around the grace.
//!
//! After every step the whole row of each session is what [`protocol`](crate::refresh_model::protocol) says, and so is every answer; of
//! two calls at once, one of the outcomes that some order of their steps has.

use std::{cell::RefCell, collections::BTreeMap, iter::successors, time::Duration};

use doorward::{
    pb::v1::{self, auth_service_client::AuthServiceClient},
    values::{entropy::Entropy, ids::SessionId, opaque::RefreshToken},
};
use proptest::{
    collection::vec,
    prelude::*,
    test_runner::{Config, RngAlgorithm, TestRng, TestRunner},
};
use sea_orm::{ConnectionTrait, QueryResult, Statement};
use secrecy::ExposeSecret;
use tokio::{runtime::Handle, task::block_in_place};
use tonic::{Status, transport::Channel};

use crate::{
    harness::*,
    on_both,
    probe::*,
    refresh_model::protocol::{Answer, Call, Client, End, OWN, Row, Rules, Secret, Time, Token},
};

const CASES: u32 = 48;
const GRACE: Time = 30;
const IDLE: Time = 1_000;
const ABSOLUTE: Time = 2_500;
const RULES: Rules = Rules { grace: GRACE, idle: IDLE, absolute: ABSOLUTE };
/// Secrets of the other session, under tags that are good for this one.
const WRONG: u8 = 1;
/// What no token is known for.
const UNKNOWN: Secret = Secret { chain: u8::MAX, place: 0 };

/// A token, by where it stands to the row.
#[derive(Clone, Copy, Debug)]
enum Which {
    /// So many before the current one; the first, where there are not so many.
    Back(u8),
    /// So many ahead of it, as if the row were of a backup.
    Ahead(u8),
    /// With the generation of the one, or of the one after it, and a wrong secret.
    WrongBack(u8),
    WrongAhead,
}

/// Something that happens. The first number is always the session, 0 or 1.
#[derive(Clone, Copy, Debug)]
enum Move {
    /// One of two tabs, or the thief, refreshes what they hold; `is_lost` is the answer.
    Refresh { session: usize, holder: usize, replica: usize, is_lost: bool },
    /// Any token is shown.
    Show { session: usize, which: Which, replica: usize },
    /// Two callers at once, of whom the second goes on with the tokens that follow; `are_apart` is whether each has a replica of its own.
    Race { session: usize, one: Which, other: Which, steps: usize, are_apart: bool },
    /// The thief copies what a tab holds.
    Steal { session: usize, tab: usize },
    /// Logout by the current refresh token.
    Logout { session: usize },
    /// Login again, where the session is over.
    Login { session: usize },
    /// Time passes.
    Pass(Time),
}

fn any_which() -> impl Strategy<Value = Which> {
    prop_oneof![
        4 => Just(Which::Back(0)),
        4 => Just(Which::Back(1)),
        1 => (2..5_u8).prop_map(Which::Back),
        1 => (1..3_u8).prop_map(Which::Ahead),
        2 => (0..3_u8).prop_map(Which::WrongBack),
        1 => Just(Which::WrongAhead),
    ]
}

fn any_move() -> impl Strategy<Value = Move> {
    let seconds = prop_oneof![
        9 => prop::sample::select(vec![1, GRACE - 1, GRACE, GRACE + 1]),
        1 => prop::sample::select(vec![IDLE - GRACE, IDLE - 1, IDLE]),
    ];
    prop_oneof![
        8 => (0..2_usize, 0..3_usize, 0..2_usize, prop::bool::weighted(0.3))
            .prop_map(|(session, holder, replica, is_lost)| Move::Refresh { session, holder, replica, is_lost }),
        4 => (0..2_usize, any_which(), 0..2_usize).prop_map(|(session, which, replica)| Move::Show { session, which, replica }),
        3 => (0..2_usize, any_which(), any_which(), 1..4_usize, any::<bool>())
            .prop_map(|(session, one, other, steps, are_apart)| Move::Race { session, one, other, steps, are_apart }),
        2 => (0..2_usize, 0..2_usize).prop_map(|(session, tab)| Move::Steal { session, tab }),
        1 => (0..2_usize, prop::bool::weighted(0.2))
            .prop_map(|(session, is_out)| if is_out { Move::Logout { session } } else { Move::Login { session } }),
        3 => (0..2_usize).prop_map(|session| Move::Login { session }),
        6 => seconds.prop_map(Move::Pass),
    ]
}

/// A session, as it has to be, and who holds what of it.
struct Chain {
    id: SessionId,
    first: RefreshToken,
    row: Row,
    /// Two tabs with storages of their own, and a thief.
    holders: [Token; 3],
    /// The newest access token, and when it ends.
    access: (String, Time),
}

impl Chain {
    async fn begin(world: &World, email: &str, now: Time) -> Self {
        let set = world.login(email).await;
        let first = RefreshToken::parse(&set.refresh_token, &world.app().roots).unwrap();
        let (row, token) = RULES.open(Client::Default, now);
        let access = (set.access_token, now + seconds(set.expires_in));
        Self { id: first.session, first, row, holders: [token; 3], access }
    }
}

struct Walk<'world> {
    world: &'world World,
    email: String,
    clients: [AuthServiceClient<Channel>; 2],
    sql: &'world Sql,
    tally: &'world Tally,
    now: Time,
    chains: Vec<Chain>,
}

/// How often each answer came.
type Tally = RefCell<BTreeMap<String, u32>>;

/// What a caller hears: two ways to a token sound the same.
type Heard = Result<Token, String>;

fn heard(answer: Answer) -> Heard {
    answer.token().ok_or_else(|| {
        match answer {
            Answer::Rotated(_) | Answer::Healed(_) => "OK",
            Answer::Reused => "REFRESH_TOKEN_REUSED",
            Answer::Refused(refusal) => refusal.as_str(),
        }
        .to_owned()
    })
}

impl<'world> Walk<'world> {
    async fn begin(world: &'world World, other: &Replica, sql: &'world Sql, tally: &'world Tally) -> Self {
        let email = format!("walker-{}@example.com", SessionId::generate(&Entropy::system(), &world.clock));
        world.person(&email).await;
        let now = since_start(world.clock.now().as_unix());
        let chains = vec![Chain::begin(world, &email, now).await, Chain::begin(world, &email, now).await];
        Self { world, email, clients: [world.client(), other.client()], sql, tally, now, chains }
    }

    /// The text of a token of a session.
    fn text(&self, session: usize, token: Token) -> String {
        let roots = &self.world.app().roots;
        let own = |chain: &Chain| (0..token.generation).fold(chain.first.clone(), |token, _| token.successor(roots).unwrap());
        let found = match token.secret.chain {
            OWN => own(&self.chains[session]),
            _ => RefreshToken { session: self.chains[session].id, ..own(&self.chains[1 - session]) },
        };
        found.encode(roots).unwrap().expose_secret().to_owned()
    }

    fn pick(&self, session: usize, which: Which) -> Token {
        let current = self.chains[session].row.generation;
        match which {
            Which::Back(back) => Token::of(OWN, current.saturating_sub(back)),
            Which::Ahead(ahead) => Token::of(OWN, current + ahead),
            Which::WrongBack(back) => Token::of(WRONG, current.saturating_sub(back)),
            Which::WrongAhead => Token::of(WRONG, current + 1),
        }
    }

    /// The answer of the service in the words of the protocol. A token is the one that follows from the one presented, or none at all.
    fn read(&mut self, session: usize, presented: Token, answer: Result<v1::TokenSet, Status>) -> Heard {
        let set = answer.map_err(|status| reason(&status))?;
        let next = presented.successor();
        assert_eq!(presented.secret.chain, OWN, "a token is answered to {presented:?}");
        assert_eq!(set.refresh_token, self.text(session, next), "the answered token does not follow from {presented:?}");
        self.chains[session].access = (set.access_token, self.now + seconds(set.expires_in));
        Ok(next)
    }

    /// Presents a token; answers what came of it, which is what the protocol says.
    async fn present(&mut self, session: usize, token: Token, replica: usize) -> Heard {
        let text = self.text(session, token);
        let answer = refresh_with(&mut self.clients[replica].clone(), &text).await;
        let found = self.read(session, token, answer);
        let call = self.call(token);
        let answer = RULES.refresh(&mut self.chains[session].row, &call);
        assert_eq!(found, heard(answer), "{token:?}");
        self.count(answer);
        found
    }

    /// Presents tokens one after the other, whatever is answered.
    async fn present_all(&self, session: usize, tokens: &[Token], replica: usize) -> Vec<Result<v1::TokenSet, Status>> {
        let mut client = self.clients[replica].clone();
        let mut answers = Vec::new();
        for token in tokens {
            answers.push(refresh_with(&mut client, &self.text(session, *token)).await);
        }
        answers
    }

    /// Two callers at once: what comes of it is what some order of their steps gives.
    async fn race(&mut self, session: usize, tokens: [&[Token]; 2], replicas: [usize; 2]) {
        let one = self.present_all(session, tokens[0], replicas[0]);
        let (one, other) = tokio::join!(one, self.present_all(session, tokens[1], replicas[1]));
        let mut read = |tokens: &[Token], answers: Vec<_>| -> Vec<Heard> {
            tokens.iter().zip(answers).map(|(token, answer)| self.read(session, *token, answer)).collect()
        };
        let found = [read(tokens[0], one), read(tokens[1], other)];
        let row = self.row(session).await;
        let calls = tokens.map(|tokens| tokens.iter().map(|token| self.call(*token)).collect::<Vec<_>>());
        let outcomes = RULES.race(&self.chains[session].row, [&calls[0], &calls[1]]);
        let hear = |answers: &Vec<Answer>| -> Vec<Heard> { answers.iter().copied().map(heard).collect() };
        let outcome = outcomes.iter().find(|(expected, answers)| *expected == row && answers.each_ref().map(hear) == found);
        assert!(outcome.is_some(), "{tokens:?} at once: {found:?} and {row:?} is none of {outcomes:?}");
        outcome.iter().flat_map(|(_, answers)| answers.iter().flatten()).for_each(|answer| self.count(*answer));
        self.chains[session].row = row;
    }

    fn call(&self, token: Token) -> Call {
        Call { token, client: Client::Default, now: self.now }
    }

    fn count(&self, answer: Answer) {
        let kind = match answer {
            Answer::Rotated(_) => "rotated",
            Answer::Healed(_) => "healed",
            Answer::Reused => "reused",
            Answer::Refused(refusal) => refusal.as_str(),
        };
        *self.tally.borrow_mut().entry(kind.to_owned()).or_default() += 1;
    }

    async fn take(&mut self, step: Move) {
        match step {
            Move::Refresh { session, holder, replica, is_lost } => {
                let token = self.chains[session].holders[holder];
                if let (Ok(next), false) = (self.present(session, token, replica).await, is_lost) {
                    self.chains[session].holders[holder] = next;
                }
            }
            Move::Show { session, which, replica } => {
                let _ = self.present(session, self.pick(session, which), replica).await;
            }
            Move::Race { session, one, other, steps, are_apart } => {
                let (one, other) = (self.pick(session, one), self.pick(session, other));
                let others: Vec<Token> = successors(Some(other), |token| Some(token.successor())).take(steps).collect();
                self.race(session, [&[one], &others], [0, usize::from(are_apart)]).await;
            }
            Move::Steal { session, tab } => {
                let chain = &mut self.chains[session];
                chain.holders[2] = chain.holders[tab];
            }
            Move::Logout { session } => {
                let current = self.text(session, self.pick(session, Which::Back(0)));
                logout_by_refresh(self.world, &current).await.unwrap();
                self.chains[session].row.end(End::Logout, self.now);
            }
            Move::Login { session } => {
                let row = &self.chains[session].row;
                if row.ended.is_some() || row.idle_expires_at <= self.now {
                    self.chains[session] = Chain::begin(self.world, &self.email, self.now).await;
                }
            }
            Move::Pass(seconds) => {
                self.now += seconds;
                self.world.pass(Duration::from_secs(seconds.into()));
            }
        }
        self.compare(step).await;
    }

    /// The rows of both sessions, and whether their access tokens still work.
    async fn compare(&mut self, step: Move) {
        for session in 0..self.chains.len() {
            let row = self.row(session).await;
            assert_eq!(row, self.chains[session].row, "session {session} after {step:?}");
            let (token, ends) = &self.chains[session].access;
            if self.now < *ends && !matches!(step, Move::Pass(_) | Move::Steal { .. }) {
                let expected = if row.ended.is_some() { "SESSION_REVOKED" } else { "OK" };
                assert_eq!(word(self.world.validate(token).await), expected, "session {session} after {step:?}");
            }
        }
    }

    async fn row(&self, session: usize) -> Row {
        let query = "SELECT s.*, (SELECT count(*) FROM audit_events e \
                     WHERE e.session_id = s.id AND e.event = 'session.refresh_token_reused') AS reuse_events \
                     FROM sessions s WHERE s.id = $1";
        let id = self.chains[session].id.as_uuid();
        let statement = Statement::from_sql_and_values(self.sql.0.get_database_backend(), query, [id.into()]);
        let found = self.sql.0.query_one_raw(statement).await.unwrap().unwrap();
        let number = |column: &str| found.try_get::<i64>("", column).unwrap();
        let generation = u8::try_from(number("refresh_generation")).unwrap();
        Row {
            generation,
            secret: self.secret(session, generation, &found),
            rotated_at: since_start(number("rotated_at")),
            idle_expires_at: since_start(number("idle_expires_at")),
            expires_at: since_start(number("expires_at")),
            client: match found.try_get::<String>("", "client_id").unwrap().as_str() {
                "doorward" => Client::Default,
                _ => Client::Known(0),
            },
            ended: found.try_get::<Option<String>>("", "revoked_reason").unwrap().map(|reason| match reason.as_str() {
                "refresh_token_reused" => End::Reuse,
                _ => End::Logout,
            }),
            reuse_events: u8::try_from(number("reuse_events")).unwrap(),
        }
    }

    /// Whose secret it is that the row has the digest of.
    fn secret(&self, session: usize, generation: u8, row: &QueryResult) -> Secret {
        let digest: Vec<u8> = row.try_get("", "refresh_digest").unwrap();
        let own = Token::of(OWN, generation);
        let known = RefreshToken::parse(&self.text(session, own), &self.world.app().roots).unwrap();
        if known.digest().as_slice() == digest { own.secret } else { UNKNOWN }
    }
}

/// A lifetime.
fn seconds(number: impl TryInto<Time>) -> Time {
    number.try_into().ok().unwrap()
}

/// Seconds since the world began.
fn since_start(unix: i64) -> Time {
    seconds(unix - START)
}

fn generator() -> TestRunner {
    let mut chance = Chance::new();
    let seed: Vec<u8> = (0..4).flat_map(|_| chance.next().to_le_bytes()).collect();
    // A case is a row of its own in a world that goes on: it is repeated by its seed, and leaves no file behind.
    let config = Config { cases: CASES, failure_persistence: None, max_shrink_iters: 200, ..Config::default() };
    TestRunner::new_with_rng(config, TestRng::from_seed(RngAlgorithm::ChaCha, &seed))
}

on_both! {
    async fn every_step_is_the_protocol_s(world: World) {
        let world = world.restart_with(|config| {
            config.tokens.idle_lifetime = Duration::from_secs(IDLE.into());
            config.tokens.absolute_lifetime = Duration::from_secs(ABSOLUTE.into());
            config.tokens.refresh_grace = Duration::from_secs(GRACE.into());
        }).await;
        let other = world.another_replica().await;
        let sql = world.sql().await;
        let tally = RefCell::default();
        let walk = |moves: Vec<Move>| {
            block_in_place(|| Handle::current().block_on(async {
                let mut walk = Walk::begin(&world, &other, &sql, &tally).await;
                for step in moves {
                    walk.take(step).await;
                }
            }));
            Ok(())
        };
        generator().run(&vec(any_move(), 8..40), walk).unwrap();
        eprintln!("{:?}", tally.borrow());
        for kind in ["rotated", "healed", "reused", "TOKEN_INVALID", "SESSION_REVOKED", "SESSION_EXPIRED"] {
            assert!(tally.borrow().contains_key(kind), "no walk came to {kind}");
        }
        other.stop().await;
    }
}
