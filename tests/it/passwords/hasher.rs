//! The queue before the hashing threads: bounded, and no work for those who are gone or late.
//!
//! The thread is kept busy by verifying against a stored hash of slow parameters; those that the hasher expects are quick.

use std::{
    future::poll_fn,
    pin::pin,
    sync::Arc,
    task::Poll,
    time::{Duration, Instant},
};

use super::stored::hashed;
use crate::harness::*;
use argon2::Params;
use doorward::{
    domain::passwords::{
        ARGON2ID, Normalized, Stored,
        hasher::{Hasher, Verdict},
    },
    error::Error,
    pb::v1,
    store::credentials::Credential,
    values::{entropy::Entropy, secret::Password},
};
use tonic_types::StatusExt;

const SLOW: (u32, u32, u32, usize) = (64 * 1024, 6, 1, 32);

fn hasher(queue: usize) -> Hasher {
    Hasher::start(Params::new(64, 1, 1, Some(32)).unwrap(), 1, queue, Entropy::system()).unwrap()
}

fn password(text: &str) -> Normalized {
    Normalized::new(&Password::new(text.to_owned())).unwrap()
}

/// A stored hash that takes a good part of a second.
fn slow() -> Stored {
    let hash = hashed(PASSWORD, SLOW);
    let credential = Credential { scheme: ARGON2ID.to_owned(), hash, must_change: false, reset_required: false, version: 1 };
    Stored::read(&credential).unwrap()
}

fn patient() -> Instant {
    Instant::now() + Duration::from_mins(1)
}

/// Verifies for a caller who waits as long as the future is kept.
async fn verify(hasher: &Hasher, password: Normalized, stored: Option<Stored>, deadline: Instant) -> Result<Verdict, Error> {
    let caller = Arc::new(());
    hasher.verify(password, stored, deadline, Arc::downgrade(&caller)).await
}

/// Puts a job into the queue without waiting for it.
async fn started<T>(job: &mut std::pin::Pin<&mut impl Future<Output = T>>) {
    poll_fn(|cx| {
        assert!(job.as_mut().poll(cx).is_pending(), "it should wait");
        Poll::Ready(())
    })
    .await;
}

#[tokio::test]
async fn a_full_queue_refuses_at_once() {
    let hasher = hasher(2);
    let mut busy = pin!(verify(&hasher, password(PASSWORD), Some(slow()), patient()));
    started(&mut busy).await;
    let many = (0..10).map(|_| Box::pin(verify(&hasher, password("x"), None, patient())));
    let mut many: Vec<_> = many.collect();
    let mut refused = 0;
    let mut waiting = Vec::new();
    while let Some(mut job) = many.pop() {
        match poll_fn(|cx| Poll::Ready(job.as_mut().poll(cx))).await {
            Poll::Pending => waiting.push(job),
            Poll::Ready(answer) => {
                assert!(matches!(answer, Err(Error::Overloaded { retry_after }) if retry_after > Duration::ZERO), "{answer:?}");
                refused += 1;
            }
        }
    }
    // One less where the busy job had not left the queue yet.
    assert!((1..=2).contains(&waiting.len()), "{} wait", waiting.len());
    assert_eq!(refused, 10 - waiting.len());
    assert!(matches!(busy.await.unwrap(), Verdict::RightButOld(_)));
    let admitted = waiting.len() as u64;
    for job in waiting {
        assert_eq!(job.await.unwrap(), Verdict::Wrong);
    }
    assert_eq!(hasher.hashes(), 1 + admitted, "a refused job costs no hash");
}

#[tokio::test]
async fn a_job_whose_caller_is_gone_is_not_started() {
    let hasher = hasher(8);
    let mut busy = pin!(verify(&hasher, password(PASSWORD), Some(slow()), patient()));
    started(&mut busy).await;
    {
        let mut gone = pin!(verify(&hasher, password("x"), None, patient()));
        started(&mut gone).await;
    }
    assert_eq!(verify(&hasher, password("x"), None, patient()).await.unwrap(), Verdict::Wrong);
    assert!(matches!(busy.await.unwrap(), Verdict::RightButOld(_)));
    assert_eq!(hasher.hashes(), 2, "the busy one and the last one");
}

#[tokio::test]
async fn a_job_that_is_late_at_its_turn_is_not_started() {
    let hasher = hasher(8);
    let mut busy = pin!(verify(&hasher, password(PASSWORD), Some(slow()), patient()));
    started(&mut busy).await;
    let late = verify(&hasher, password("x"), None, Instant::now() + Duration::from_millis(20)).await;
    assert!(matches!(late, Err(Error::Deadline)), "{late:?}");
    assert!(matches!(busy.await.unwrap(), Verdict::RightButOld(_)));
    assert_eq!(hasher.hashes(), 1);
}

#[tokio::test]
async fn a_deadline_that_a_hash_cannot_keep_is_refused_before_it() {
    let (memory, passes, lanes, length) = SLOW;
    let hasher = Hasher::start(Params::new(memory, passes, lanes, Some(length)).unwrap(), 1, 8, Entropy::system()).unwrap();
    let soon = || Instant::now() + Duration::from_millis(20);
    let refused = |answer: Error| matches!(answer, Error::Overloaded { retry_after } if retry_after > Duration::from_millis(20));
    assert!(refused(verify(&hasher, password("x"), None, soon()).await.unwrap_err()));
    assert!(refused(hasher.hash(password("x"), soon()).await.unwrap_err()));
    assert_eq!(hasher.hashes(), 0);
    assert_eq!(verify(&hasher, password("x"), None, patient()).await.unwrap(), Verdict::Wrong);
}

#[tokio::test]
async fn a_slow_spell_does_not_shut_callers_out_for_ever() {
    // A machine that stood still for a moment makes one hash look long; with nothing waiting, that must mend itself.
    let hasher = hasher(8);
    assert!(matches!(verify(&hasher, password(PASSWORD), Some(slow()), patient()).await.unwrap(), Verdict::RightButOld(_)));
    for _ in 0..200 {
        // A hash of these parameters takes a fraction of a millisecond.
        match verify(&hasher, password("x"), None, Instant::now() + Duration::from_millis(10)).await {
            Ok(verdict) => return assert_eq!(verdict, Verdict::Wrong),
            Err(Error::Overloaded { .. } | Error::Deadline) => tokio::task::yield_now().await,
            Err(other) => panic!("{other:?}"),
        }
    }
    panic!("200 callers of an idle hasher were refused");
}

#[tokio::test]
async fn what_was_hashed_verifies_and_needs_no_renewal() {
    let hasher = hasher(8);
    assert_eq!(verify(&hasher, password("x"), None, patient()).await.unwrap(), Verdict::Wrong);
    let (scheme, phc) = hasher.hash(password(PASSWORD), patient()).await.unwrap();
    assert_eq!(scheme, ARGON2ID);
    let credential = Credential { scheme: scheme.to_owned(), hash: phc, must_change: false, reset_required: false, version: 1 };
    let again = Stored::read(&credential).unwrap();
    assert_eq!(verify(&hasher, password(PASSWORD), Some(again), patient()).await.unwrap(), Verdict::Right);
}

/// A world with one hashing thread and slow hashes.
fn slow_world(backend: Backend, queue: usize, scenario: impl AsyncFnOnce(World)) {
    if backend == Backend::Postgres && postgres::cluster().is_none() {
        return;
    }
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap().block_on(async {
        let world = World::start_with(backend, |config| {
            config.passwords.memory_kib = SLOW.0;
            config.passwords.iterations = SLOW.1;
            config.passwords.hash_threads = Some(1);
            config.passwords.queue = queue;
        });
        scenario(world.await).await;
    });
}

async fn a_flood_is_refused_with_a_hint(world: World) {
    let mut logins = Vec::new();
    for turn in 0..10 {
        let mut client = world.client();
        logins.push(tokio::spawn(async move {
            let request =
                v1::LoginRequest { identifier: format!("nobody{turn}@example.com"), password: PASSWORD.to_owned(), ..Default::default() };
            client.login(request).await.unwrap_err()
        }));
    }
    let (mut hashed, mut refused) = (0, 0);
    for login in logins {
        let status = login.await.unwrap();
        match reason(&status).as_str() {
            "INVALID_CREDENTIALS" => hashed += 1,
            "OVERLOADED" => {
                assert_eq!(status.code(), tonic::Code::ResourceExhausted);
                let retry = status.get_details_retry_info().unwrap().retry_delay.unwrap();
                assert!(retry > Duration::ZERO && retry < Duration::from_mins(1), "{retry:?}");
                refused += 1;
            }
            other => panic!("{other}"),
        }
    }
    assert!(hashed >= 1 && refused >= 5, "{hashed} hashed, {refused} refused");
    assert_eq!(world.app().hasher.hashes(), hashed);
    assert_eq!(world.count_events("login.failed").await, i64::try_from(hashed).unwrap(), "a refused call is no event");
}

async fn a_short_deadline_is_refused_before_the_hash(world: World) {
    let mut request = tonic::Request::new(v1::LoginRequest {
        identifier: "nobody@example.com".to_owned(),
        password: PASSWORD.to_owned(),
        ..Default::default()
    });
    // Not by the client's own timer: only the server is told.
    request.metadata_mut().insert("grpc-timeout", "100m".parse().unwrap());
    let status = world.client().login(request).await.unwrap_err();
    assert_eq!(reason(&status), "OVERLOADED");
    assert!(status.get_details_retry_info().is_some());
    assert_eq!((world.app().hasher.hashes(), world.count_events("login.failed").await), (0, 0));
}

#[test]
fn a_flood_is_refused_with_a_hint_sqlite() {
    slow_world(Backend::Sqlite, 1, a_flood_is_refused_with_a_hint);
}

#[test]
fn a_flood_is_refused_with_a_hint_postgres() {
    slow_world(Backend::Postgres, 1, a_flood_is_refused_with_a_hint);
}

#[test]
fn a_short_deadline_is_refused_before_the_hash_sqlite() {
    slow_world(Backend::Sqlite, 8, a_short_deadline_is_refused_before_the_hash);
}

#[test]
fn a_short_deadline_is_refused_before_the_hash_postgres() {
    slow_world(Backend::Postgres, 8, a_short_deadline_is_refused_before_the_hash);
}
