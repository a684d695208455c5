//! Certificates that are replaced while they are in use: no call fails, what is broken is not taken over, and what is taken over is what
//! new connections get.

use std::{
    fs,
    os::unix::fs::{PermissionsExt, symlink},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use doorward::pb::v1::{self, auth_service_client::AuthServiceClient};
use tokio::task::JoinSet;
use tokio_rustls::rustls::DEFAULT_VERSIONS;

use super::{Secured, ask, names, shown};
use crate::{
    harness::{
        Backend, PASSWORD, World,
        pki::{Authority, TlsFiles, channel, connect, trusting, trusting_all},
    },
    life::{eventually, get, soon},
    wire::{Wire, encode},
};

#[tokio::test]
async fn new_connections_get_the_new_certificate_and_old_ones_live_on() {
    let ca = Authority::new("prod");
    let (first, second) = (ca.server(), ca.server());
    let files = TlsFiles::new(&first, Some(&ca));
    let mut listener = Secured::open(&files).await;
    let client = trusting(&ca, None);
    let old = Wire::over(connect(listener.addr, &client).await.unwrap()).await;
    assert_eq!(old.get("/").await, b"-");

    files.put(&second);
    listener.certificates.look();

    assert_eq!(shown(listener.addr, &client).await, second.der());
    assert_eq!(old.get("/").await, b"-");
    assert_eq!((listener.reloads("taken"), listener.reloads("refused")), (1, 0));
    listener.certificates.look();
    assert_eq!(listener.reloads("taken"), 1, "nothing changed");
}

#[tokio::test]
async fn what_cannot_be_used_is_not_taken_over_and_is_told_once() {
    let ca = Authority::new("prod");
    let (first, second, third) = (ca.server(), ca.server(), ca.server());
    let files = TlsFiles::new(&first, None);
    let mut listener = Secured::open(&files).await;
    let client = trusting(&ca, None);
    let broken: [(&str, &dyn Fn()); 9] = [
        ("a certificate whose key is not there yet", &|| files.write("tls.crt", &second.cert)),
        ("another key of somebody else", &|| files.write("tls.key", &third.key)),
        ("half a certificate", &|| files.write("tls.crt", &second.cert[..second.cert.len() / 2])),
        ("an empty file", &|| files.write("tls.crt", "")),
        ("no PEM", &|| files.write("tls.crt", "tls.crt")),
        ("no certificate in PEM", &|| files.write("tls.crt", second.cert.replace("MII", "AII"))),
        ("no file", &|| fs::remove_file(files.path("tls.crt")).unwrap()),
        ("no key either", &|| {
            files.write("tls.crt", &second.cert);
            fs::remove_file(files.path("tls.key")).unwrap();
        }),
        ("a key that others can read", &|| {
            files.write("tls.key", &second.key);
            fs::set_permissions(files.path("tls.key"), fs::Permissions::from_mode(0o644)).unwrap();
        }),
    ];
    for (number, (what, breaks)) in (1..).zip(broken) {
        breaks();
        for _ in 0..3 {
            listener.certificates.look();
            assert_eq!((listener.reloads("taken"), listener.reloads("refused")), (0, number), "{what}");
        }
        assert_eq!(shown(listener.addr, &client).await, first.der(), "{what}");
    }

    files.put(&second);
    listener.certificates.look();
    assert_eq!(shown(listener.addr, &client).await, second.der());
    assert_eq!(listener.reloads("taken"), 1);
}

#[tokio::test]
async fn authorities_are_replaced_too_and_apart_from_the_certificate() {
    let (ca, next) = (Authority::new("prod"), Authority::new("next"));
    let files = TlsFiles::new(&ca.server(), Some(&ca));
    let mut listener = Secured::open(&files).await;
    let of = |authority: &Authority| trusting(&ca, Some(&authority.client(&["spiffe://prod/web"])));
    let (old, new) = (of(&ca), of(&next));
    let connected = Wire::over(connect(listener.addr, &old).await.unwrap()).await;
    assert_eq!(connected.get("/").await, b"spiffe://prod/web");
    ask(listener.addr, &new).await.unwrap_err();

    files.write("ca.crt", ca.pem() + &next.pem());
    listener.certificates.look();
    for client in [&old, &new] {
        assert_eq!(names(listener.addr, client).await, ["spiffe://prod/web"]);
    }

    files.write("ca.crt", next.pem());
    listener.certificates.look();
    ask(listener.addr, &old).await.unwrap_err();
    assert_eq!(names(listener.addr, &new).await, ["spiffe://prod/web"]);
    assert_eq!(connected.get("/").await, b"spiffe://prod/web", "who is connected stays so");

    // A broken file holds nothing else back.
    let renewed = ca.server();
    for broken in ["", "-----BEGIN CERTIFICATE-----", &ca.server().cert] {
        files.write("ca.crt", broken);
        listener.certificates.look();
        assert_eq!(names(listener.addr, &new).await, ["spiffe://prod/web"]);
    }
    assert_eq!((listener.reloads("taken"), listener.reloads("refused")), (2, 3));
    files.put(&renewed);
    listener.certificates.look();
    assert_eq!(shown(listener.addr, &new).await, renewed.der());
    ask(listener.addr, &old).await.unwrap_err();
}

/// A Kubernetes volume: the files are links into a folder that is itself a link, and only that one changes.
#[tokio::test]
async fn a_swapped_link_is_seen() {
    let ca = Authority::new("prod");
    let (first, second) = (ca.server(), ca.server());
    let (old, new) = (TlsFiles::new(&first, None), TlsFiles::new(&second, None));
    let volume = TlsFiles::new(&first, None);
    let data = volume.path("..data");
    symlink(old.path(""), &data).unwrap();
    for name in ["tls.crt", "tls.key"] {
        fs::remove_file(volume.path(name)).unwrap();
        symlink(format!("..data/{name}"), volume.path(name)).unwrap();
    }
    let mut listener = Secured::open(&volume).await;
    let client = trusting(&ca, None);
    assert_eq!(shown(listener.addr, &client).await, first.der());

    symlink(new.path(""), volume.path("..new")).unwrap();
    fs::rename(volume.path("..new"), data).unwrap();
    listener.certificates.look();

    assert_eq!(shown(listener.addr, &client).await, second.der());
}

#[tokio::test]
async fn the_expiry_of_the_current_certificate_is_a_metric() {
    let ca = Authority::new("prod");
    let until = |year| {
        ca.issue(|params| {
            params.subject_alt_names = rcgen::CertificateParams::new(["127.0.0.1".to_owned()]).unwrap().subject_alt_names;
            params.not_after = rcgen::date_time_ymd(year, 1, 1);
        })
    };
    let files = TlsFiles::new(&until(2040), None);
    let mut listener = Secured::open(&files).await;
    assert_eq!(listener.counted("doorward_tls_certificate_expiry_seconds"), 2_208_988_800);
    files.put(&until(2041));
    listener.certificates.look();
    assert_eq!(listener.counted("doorward_tls_certificate_expiry_seconds"), 2_240_611_200);
}

/// What a whole server says about its reloads.
async fn taken(world: &World) -> f64 {
    let page = get(world.replica.ops_addr, "/metrics").await;
    let line = page.lines().find_map(|line| line.strip_prefix("doorward_tls_reloads_total{outcome=\"taken\"} "));
    line.unwrap().parse().unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_call_fails_while_the_certificate_is_replaced() {
    const ROUNDS: usize = 12;
    let (ca, next) = (Authority::new("prod"), Authority::new("next"));
    let files = TlsFiles::new(&ca.server(), Some(&ca));
    let world = World::start_with(Backend::Sqlite, |config| files.set(config)).await;
    world.person("ann@example.com").await;
    // Each half of the replacements is of another authority, so that clients trust both.
    let client = trusting_all(&[&ca, &next], Some(&ca.client(&["spiffe://prod/web"])), DEFAULT_VERSIONS);
    let login = v1::LoginRequest { identifier: "ann@example.com".to_owned(), password: PASSWORD.to_owned(), ..Default::default() };
    let mut people = AuthServiceClient::new(channel(world.replica.grpc_addr, &client));
    let token = people.login(login).await.unwrap().into_inner().tokens.unwrap().access_token;
    let question = encode("doorward.v1.ValidateSessionRequest", serde_json::json!({ "access_token": token }));

    let (is_over, calls) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
    let mut load = JoinSet::new();
    for number in 0..4 {
        let (client, question, is_over, calls) = (Arc::clone(&client), question.clone(), Arc::clone(&is_over), Arc::clone(&calls));
        let addr = world.replica.grpc_addr;
        load.spawn(async move {
            let kept = Wire::over(connect(addr, &client).await.unwrap()).await;
            while !is_over.load(Ordering::Relaxed) {
                // Half of them on one connection, half on a new one each.
                let wire = if number % 2 == 0 { kept.clone() } else { Wire::over(connect(addr, &client).await.unwrap()).await };
                let answer = soon("an answer", wire.call("/doorward.v1.AuthService/ValidateSession", &[], &question)).await;
                assert_eq!(answer.outcome(), "OK");
                calls.fetch_add(1, Ordering::Relaxed);
            }
        });
    }
    for round in 1..=ROUNDS {
        let renewed = if round % 2 == 0 { ca.server() } else { next.server() };
        let (before, taken_before) = (calls.load(Ordering::Relaxed), taken(&world).await);
        // In between they do not fit, and the server may look at any moment.
        files.write("tls.crt", &renewed.cert);
        world.replica.reload.ask();
        files.write("tls.key", &renewed.key);
        world.replica.reload.ask();
        eventually("the new certificate", async || shown(world.replica.grpc_addr, &client).await == renewed.der()).await;
        assert!(taken(&world).await > taken_before);
        eventually("calls with it", async || calls.load(Ordering::Relaxed) >= before + 20).await;
    }
    is_over.store(true, Ordering::Relaxed);
    // Each call's own assertion ends the test here.
    soon("the load's end", load.join_all()).await;
    assert!(calls.load(Ordering::Relaxed) >= 20 * ROUNDS);
}

/// Nobody asks: the server looks by itself.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replaced_certificate_is_found_without_a_signal() {
    let ca = Authority::new("prod");
    let files = TlsFiles::new(&ca.server(), None);
    let world = World::start_with(Backend::Sqlite, |config| files.set(config)).await;
    let renewed = ca.server();
    files.put(&renewed);
    let client = trusting(&ca, None);
    let found = async || shown(world.replica.grpc_addr, &client).await == renewed.der();
    tokio::time::timeout(Duration::from_secs(30), eventually("the new certificate", found)).await.unwrap();
}
