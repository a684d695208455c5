//! Servers that are killed at any moment of refreshes and revocations (invariants 9 and 37): whatever was acknowledged is there afterwards,
//! nothing that was ended revives, and whoever got no answer uses the same token again.
//!
//! On SQLite there is one server, on PostgreSQL there are three, of which one dies while the others go on. In every round each client
//! refreshes as fast as it can, in one or two tabs; one of them is about to end its session, by a logout, by the reuse of an old token or
//! by an operator's command that is killed too; and at some moment within that the server dies.
//!
//! 50 kills on each database by default; `DOORWARD_KILLS=1000 cargo test --test it kill::` for the long run. The moments are of chance:
//! `DOORWARD_SEED` repeats the chosen ones, not what the machine makes of them.

use std::{
    process::Stdio,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use doorward::values::time::Clock;
use tokio::{
    sync::{oneshot, watch},
    task::JoinSet,
};

use crate::{
    harness::{
        holder::{Ending, Holder},
        ledger::Ledger,
        process::Process,
        told::Told,
        *,
    },
    life::eventually,
    probe::Chance,
    start::{self, Ground, person},
};

const CLIENTS: usize = 6;

/// Where a round stands, for the clients.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Moment {
    Load,
    /// Whoever is to end its session does it now.
    Leave,
    Over,
}

/// What the rounds of a run did.
#[derive(Debug, Default)]
struct Tally {
    acknowledged: AtomicUsize,
    unanswered: AtomicUsize,
    ends: AtomicUsize,
    ends_unanswered: AtomicUsize,
    /// What the last refresh took, and the last command.
    micros: AtomicUsize,
    command_micros: AtomicUsize,
}

impl Tally {
    fn add(counter: &AtomicUsize) {
        counter.fetch_add(1, Ordering::Relaxed);
    }
}

/// What a client knows of the round.
#[derive(Clone)]
struct Round {
    replicas: Arc<Replicas<Process>>,
    /// The one that is to die.
    victim: usize,
    moment: watch::Receiver<Moment>,
    tally: Arc<Tally>,
}

impl Round {
    fn is(&self, moment: Moment) -> bool {
        *self.moment.borrow() == moment
    }

    /// Refreshes until it is over or, where this one is to leave, until then.
    async fn refresh(&self, holder: &mut Holder, leaves: bool, two_tabs: bool) {
        while self.is(Moment::Load) || (self.is(Moment::Leave) && !leaves) {
            let (mut client, mut other) = (self.replicas.client(), self.replicas.client());
            let begin = Instant::now();
            let told = if two_tabs { holder.refresh_twice(&mut client, &mut other).await } else { holder.refresh(&mut client).await };
            match told {
                Told::Yes(()) => {
                    Tally::add(&self.tally.acknowledged);
                    self.tally.micros.store(usize::try_from(begin.elapsed().as_micros()).unwrap(), Ordering::Relaxed);
                }
                Told::Unknown => Tally::add(&self.tally.unanswered),
                Told::No(reason) => panic!("refused: {reason}"),
            }
        }
    }

    /// Ends the session of a holder, at the server that is to die.
    async fn leave(&self, holder: &mut Holder, ending: Option<Ending>, chance: &mut Chance) {
        let is_known = match ending {
            Some(ending) => holder.end(&mut self.victim().client(), ending).await != Told::Unknown,
            None => self.command(holder, chance).await,
        };
        Tally::add(if is_known { &self.tally.ends } else { &self.tally.ends_unanswered });
    }

    /// Ends it by a command that is killed, mostly when it has done what it starts with.
    async fn command(&self, holder: &mut Holder, chance: &mut Chance) -> bool {
        let mut command = self.victim().command(&["session", "revoke", &holder.session_id, "--yes"]);
        let mut child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        let (begin, last) = (Instant::now(), self.tally.command_micros.load(Ordering::Relaxed));
        let kill_after = (last > 0).then(|| micros(last / 2 + chance.below(last)));
        let status = loop {
            if let Some(status) = child.try_wait().unwrap() {
                let took = usize::try_from(begin.elapsed().as_micros()).unwrap();
                self.tally.command_micros.store(took, Ordering::Relaxed);
                break status;
            }
            if kill_after.is_some_and(|kill_after| begin.elapsed() > kill_after) {
                child.kill().unwrap();
                break child.wait().unwrap();
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        };
        holder.was_ended(status.success());
        status.success()
    }

    fn victim(&self) -> &Process {
        self.replicas.at(self.victim)
    }
}

fn micros(number: usize) -> Duration {
    Duration::from_micros(u64::try_from(number).unwrap())
}

/// Finer than a timer, whose millisecond is longer than a statement.
async fn after(delay: Duration) {
    let start = Instant::now();
    while start.elapsed() < delay {
        tokio::task::yield_now().await;
    }
}

/// One kill. Answers the holders as they are afterwards.
async fn round(replicas: &Arc<Replicas<Process>>, holders: Vec<Holder>, tally: &Arc<Tally>, chance: &mut Chance) -> Vec<Holder> {
    let (moment, told) = watch::channel(Moment::Load);
    let victim = chance.below(replicas.all().len());
    let round = Round { replicas: Arc::clone(replicas), victim, moment: told, tally: Arc::clone(tally) };
    let chosen = chance.below(holders.len());
    let ending = Some(Ending::ALL[chance.below(Ending::ALL.len())]).filter(|_| chance.below(4) > 0);
    let (begins, has_begun) = oneshot::channel();
    let (ends, has_ended) = oneshot::channel();
    let (mut signs, mut clients) = (Some((begins, ends)), JoinSet::new());
    for (number, mut holder) in holders.into_iter().enumerate() {
        let (round, two_tabs, mut chance) = (round.clone(), chance.below(3) == 0, chance.fork());
        let signs = if number == chosen { signs.take() } else { None };
        clients.spawn(async move {
            round.refresh(&mut holder, signs.is_some(), two_tabs).await;
            if let Some((begins, ends)) = signs {
                let ending = ending.filter(|ending| *ending != Ending::Reuse || holder.has_two_back());
                begins.send(()).unwrap();
                round.leave(&mut holder, ending, &mut chance).await;
                ends.send(()).unwrap();
            }
            holder
        });
    }
    let more = async |what| {
        let before = tally.acknowledged.load(Ordering::Relaxed);
        eventually(what, async || tally.acknowledged.load(Ordering::Relaxed) >= before + CLIENTS).await;
    };
    more("load").await;
    let delay = micros(chance.below(2 * tally.micros.load(Ordering::Relaxed)));

    moment.send_replace(Moment::Leave);
    has_begun.await.expect("the end of a session has begun");
    after(delay).await;
    assert!(round.victim().kill9());

    if replicas.all().len() > 1 {
        more("the others to go on").await;
    }
    moment.send_replace(Moment::Over);
    // A command lives on.
    has_ended.await.expect("the end of a session is answered, or not");
    let holders = clients.join_all().await;
    round.victim().restart().await;
    holders
}

async fn killed(ground: Ground) {
    let kills = std::env::var("DOORWARD_KILLS").ok().map_or(50, |kills| kills.parse().unwrap());
    let ground = Ground { clock: Clock::system(), ..ground };
    let mut chance = Chance::new();
    let emails: Vec<String> = (0..CLIENTS).map(|number| format!("person-{number}@example.com")).collect();
    let app = ground.open().await.unwrap();
    for email in &emails {
        person(&app, email).await;
    }
    app.store.close().await;
    let replicas = Arc::new(Replicas::processes(&ground.config, &[]).await);
    let (mut ledger, tally) = (Ledger::default(), Arc::new(Tally::default()));
    let begin = Instant::now();
    for _ in 0..kills {
        for email in &emails {
            if !ledger.open.iter().any(|holder| holder.email == *email) {
                ledger.add(Holder::login(&mut replicas.client(), email).await.unwrap());
            }
        }
        ledger.open = round(&replicas, ledger.open, &tally, &mut chance).await;
        // Not before: an open connection of this process would spare SQLite the recovery.
        let sql = ground.sql().await;
        ledger.check(&replicas, &sql).await;
        sql.0.close().await.unwrap();
    }
    let sql = ground.sql().await;
    eprintln!(
        "{kills} kills in {:?}, {tally:?}, ends without an answer: {} whole, {} absent",
        begin.elapsed(),
        ledger.whole,
        ledger.absent
    );
    ledger.close(&replicas, &sql).await;
    if ground.backend == Backend::Sqlite {
        let integrity = crate::probe::strings(&sql, "SELECT integrity_check AS line FROM pragma_integrity_check").await;
        assert_eq!(integrity, ["ok"]);
    }
    // A kill that no call noticed would prove nothing.
    assert!(tally.unanswered.load(Ordering::Relaxed) >= kills / 2, "{tally:?}");
}

#[test]
fn no_acknowledged_state_is_lost_and_nothing_revives_on_sqlite() {
    start::run(Backend::Sqlite, killed);
}

#[test]
fn no_acknowledged_state_is_lost_and_nothing_revives_on_postgresql() {
    start::run(Backend::Postgres, killed);
}
