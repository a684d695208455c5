//! A database that goes away in the middle of refreshes (invariant 39): nobody is told of tokens that were not committed, nobody is told
//! that a token is bad, and when it is back everybody goes on with the token they have.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use doorward::values::time::Clock;
use tokio::{sync::watch, task::JoinSet, time::timeout};

use crate::{
    harness::{
        holder::Holder,
        ledger::Ledger,
        process::Process,
        proxy::{Fault, Proxy},
        told::Told,
        *,
    },
    life::eventually,
    probe::Chance,
    start::{self, Ground, person},
};

const CLIENTS: usize = 8;
/// In the form of a refresh token, and nobody's.
const SOME_TOKEN: &str = "dw_rt_";
/// What the contract says. Most of it is slack: the deadline of the call that was under way, and what is left of the time for which the
/// database keeps the rows of a transaction that fell silent.
const RECOVERY: Duration = Duration::from_secs(5);

/// Clients that refresh until they are told to stop.
struct Load {
    clients: JoinSet<Holder>,
    counts: Arc<Counts>,
    stop: watch::Sender<bool>,
}

#[derive(Default)]
struct Counts {
    done: AtomicUsize,
    unanswered: AtomicUsize,
}

impl Load {
    fn start(replicas: &Arc<Replicas<Process>>, holders: Vec<Holder>) -> Self {
        let (stop, told) = watch::channel(false);
        let (counts, mut clients) = (Arc::new(Counts::default()), JoinSet::new());
        for mut holder in holders {
            let (replicas, told, counts) = (Arc::clone(replicas), told.clone(), Arc::clone(&counts));
            clients.spawn(async move {
                while !*told.borrow() {
                    // A refusal for any other reason than the database's would be a panic.
                    let counter = match holder.refresh(&mut replicas.client()).await {
                        Told::Yes(()) => &counts.done,
                        _ => &counts.unanswered,
                    };
                    counter.fetch_add(1, Ordering::Relaxed);
                }
                holder
            });
        }
        Self { clients, counts, stop }
    }

    /// Waits for as many more as there are clients; answers how many refreshes were done by then.
    async fn some(&self, what: &str, counter: impl Fn(&Counts) -> &AtomicUsize) -> usize {
        let count = || counter(&self.counts).load(Ordering::Relaxed);
        let before = count();
        eventually(what, async || count() >= before + CLIENTS).await;
        self.counts.done.load(Ordering::Relaxed)
    }
}

/// Refreshes until it is done; the same token all the time.
async fn recover(mut holder: Holder, replicas: Arc<Replicas<Process>>) -> Holder {
    while holder.refresh(&mut replicas.client()).await == Told::Unknown {}
    holder
}

async fn refreshes_through(ground: Ground, fault: Fault) {
    let mut ground = Ground { clock: Clock::system(), ..ground };
    let (sql, app) = (ground.sql().await, ground.open().await.unwrap());
    let mut proxy = Proxy::before(&mut ground.config).await;
    let replicas = Arc::new(Replicas::processes(&ground.config, &[("server.default_deadline", "2s")]).await);
    let (mut ledger, mut chance) = (Ledger::default(), Chance::new());
    for number in 0..CLIENTS {
        let email = format!("person-{number}@example.com");
        person(&app, &email).await;
        ledger.add(Holder::login(&mut replicas.client(), &email).await.unwrap());
    }
    for _ in 0..3 {
        let load = Load::start(&replicas, std::mem::take(&mut ledger.open));
        load.some("refreshes", |counts| &counts.done).await;
        // Somewhere within a refresh.
        for _ in 0..chance.below(1_000) {
            tokio::task::yield_now().await;
        }

        proxy.set(fault).await;
        let done = load.some("the fault to show", |counts| &counts.unanswered).await;
        assert_eq!(load.some("more of it", |counts| &counts.unanswered).await, done, "answered without a database");
        for server in replicas.all() {
            let refusal = refresh_with(&mut server.client(), SOME_TOKEN).await;
            assert_eq!(refused(refusal), "TOKEN_INVALID", "what needs no database is answered");
        }

        proxy.set(Fault::None).await;
        let begin = Instant::now();
        load.stop.send_replace(true);
        let mut recovering = JoinSet::new();
        let mut clients = load.clients;
        while let Some(holder) = clients.join_next().await {
            recovering.spawn(recover(holder.unwrap(), Arc::clone(&replicas)));
        }
        let holders = timeout(RECOVERY, recovering.join_all()).await.expect("everybody goes on within five seconds");
        eprintln!("{fault:?}: everybody goes on after {:?}", begin.elapsed());
        ledger.open = holders;
        ledger.check(&replicas, &sql).await;
    }
    ledger.close(&replicas, &sql).await;
}

#[test]
fn a_database_that_is_cut_off_in_the_middle_of_refreshes() {
    start::run(Backend::Postgres, |ground| refreshes_through(ground, Fault::Cut));
}

#[test]
fn a_database_that_falls_silent_in_the_middle_of_refreshes() {
    start::run(Backend::Postgres, |ground| refreshes_through(ground, Fault::BlackHole));
}

/// A slow way is no fault: the parallel uses of one token wait for each other, and are one step.
#[test]
fn a_database_far_away_changes_no_answer() {
    start::run(Backend::Postgres, |ground| async move {
        let mut ground = Ground { clock: Clock::system(), ..ground };
        let (sql, app) = (ground.sql().await, ground.open().await.unwrap());
        person(&app, "ann@example.com").await;
        let mut proxy = Proxy::before(&mut ground.config).await;
        let replicas = Arc::new(Replicas::processes(&ground.config, &[]).await);
        let mut ann = Holder::login(&mut replicas.client(), "ann@example.com").await.unwrap();
        proxy.set(Fault::Latency(Duration::from_millis(20))).await;
        for _ in 0..5 {
            let begin = Instant::now();
            ann.refresh_twice(&mut replicas.client(), &mut replicas.client()).await.unwrap();
            assert!(begin.elapsed() >= Duration::from_millis(40), "there and back");
        }
        let mut ledger = Ledger::default();
        ledger.add(ann);
        ledger.close(&replicas, &sql).await;
    });
}
