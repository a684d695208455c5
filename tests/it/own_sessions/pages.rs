//! Paging through `ListSessions`, and whose sessions a page can have: its subject's, whatever page token came.

use doorward::values::page::PageToken;
use tonic::Status;
use uuid::Uuid;

use super::*;
use crate::probe;

const LIST: &[u8] = b"doorward.v1.AuthService/ListSessions";

async fn page(world: &World, tokens: &v1::TokenSet, page_size: i32, page_token: &str) -> Result<v1::ListSessionsResponse, Status> {
    let request = v1::ListSessionsRequest { page_size, page_token: page_token.to_owned() };
    world.client().list_sessions(bearer(request, &tokens.access_token)).await.map(tonic::Response::into_inner)
}

/// All pages, each of which but the last must be full.
async fn read_through(world: &World, tokens: &v1::TokenSet, size: i32) -> Vec<String> {
    let (mut all, mut page_token) = (Vec::new(), String::new());
    loop {
        let answer = page(world, tokens, size, &page_token).await.unwrap();
        all.extend(ids(&answer).into_iter().map(str::to_owned));
        if answer.next_page_token.is_empty() {
            return all;
        }
        assert_eq!(i32::try_from(answer.sessions.len()).unwrap(), size);
        page_token = answer.next_page_token;
    }
}

async fn assert_refused(world: &World, tokens: &v1::TokenSet, page_token: &str) {
    let status = page(world, tokens, 2, page_token).await.expect_err(page_token);
    assert_eq!(fields(&status), ["page_token"], "{page_token:?}");
}

/// Two people who are alike in everything but who they are, with sessions of the same seconds: theirs, newest first.
async fn twins(world: &World, each: usize) -> [Vec<v1::TokenSet>; 2] {
    let acme = world.tenant("acme").await;
    let emails = ["ann@example.com", "bob@example.com"];
    for email in emails {
        let person = world.person(email).await;
        world.member(&acme, &person, &["member"]).await;
    }
    let mut sets = [Vec::new(), Vec::new()];
    for number in 0..each {
        world.pass(Duration::from_secs(1));
        for (email, sets) in emails.iter().zip(&mut sets) {
            sets.insert(0, if number % 2 == 0 { world.login(email).await } else { world.login_to(email, &acme).await });
        }
    }
    sets
}

on_both! {
    async fn every_page_size_reads_every_session_once_the_newest_first_and_nobody_elses(world: World) {
        let people = twins(&world, 7).await;
        for sets in &people {
            let expected: Vec<String> = sets.iter().map(sid).collect();
            for size in 1..=8 {
                assert_eq!(read_through(&world, &sets[0], size).await, expected, "pages of {size}");
            }
            assert_eq!(ids(&page(&world, &sets[0], 0, "").await.unwrap()), expected);
            for negative in [-1, i32::MIN] {
                assert_eq!(fields(&page(&world, &sets[0], negative, "").await.unwrap_err()), ["page_size"]);
            }
        }
    }

    async fn a_page_has_fifty_sessions_where_no_size_is_asked_and_a_hundred_at_most(world: World) {
        let world = world.restart_with(|config| config.tokens.max_sessions = 1_000).await;
        world.person("ann@example.com").await;
        let mut sets = Vec::new();
        for _ in 0..103 {
            sets.insert(0, world.login("ann@example.com").await);
            world.pass(Duration::from_secs(1));
        }
        let all: Vec<String> = sets.iter().map(sid).collect();
        for (asked, given) in [(0, 50), (49, 49), (100, 100), (101, 100), (i32::MAX, 100)] {
            let answer = page(&world, &sets[0], asked, "").await.unwrap();
            assert_eq!(ids(&answer), all[..given], "{asked}");
            let rest = page(&world, &sets[0], 100, &answer.next_page_token).await.unwrap();
            assert_eq!((ids(&rest), rest.next_page_token.as_str()), (all[given..].iter().map(String::as_str).collect(), ""), "{asked}");
        }
    }

    async fn a_page_token_is_good_for_its_subject_and_method_alone(world: World) {
        let [anns, bobs] = twins(&world, 4).await;
        let next = page(&world, &anns[0], 2, "").await.unwrap().next_page_token;
        assert_refused(&world, &bobs[0], &next).await;
        // Another session of the same person, and another replica, may go on.
        assert_eq!(ids(&page(&world, &anns[3], 2, &next).await.unwrap()), [sid(&anns[2]), sid(&anns[3])]);
        let other = world.another_replica().await;
        let request = bearer(v1::ListSessionsRequest { page_size: 2, page_token: next.clone() }, &anns[0].access_token);
        assert_eq!(ids(other.client().list_sessions(request).await.unwrap().get_ref()), [sid(&anns[2]), sid(&anns[3])]);
        other.stop().await;
        assert_eq!(fields(&probe::list_tenants(&world, &anns[0].access_token, &next).await.unwrap_err()), ["page_token"]);
        let user: Uuid = payload(&anns[0].access_token)["sub"].as_str().unwrap().parse().unwrap();
        let tenants = PageToken::encode(&world.app().roots, &[b"doorward.v1.AuthService/ListTenants", b"user", user.as_bytes(), b""], Uuid::nil());
        probe::list_tenants(&world, &anns[0].access_token, &tenants).await.unwrap();
        assert_refused(&world, &anns[0], &tenants).await;
        for at in 0..next.len() {
            let mut touched = next.clone().into_bytes();
            touched[at] = if touched[at] == b'A' { b'B' } else { b'A' };
            assert_refused(&world, &anns[0], &String::from_utf8(touched).unwrap()).await;
        }
        for page_token in ["0", "garbage", &sid(&anns[0]), &anns[0].access_token, &anns[0].refresh_token, &next[1..], &format!("{next}A")] {
            assert_refused(&world, &anns[0], page_token).await;
        }
    }

    /// Even a token that the server itself made, with whatever cursor: nothing but the subject decides whose sessions there are.
    async fn no_cursor_leads_to_another_persons_sessions(world: World) {
        let [anns, bobs] = twins(&world, 5).await;
        let user: Uuid = payload(&anns[0].access_token)["sub"].as_str().unwrap().parse().unwrap();
        let own: Vec<String> = anns.iter().map(sid).collect();
        let mut chance = Chance::new();
        let mut cursors = vec![Uuid::nil(), Uuid::max(), user];
        cursors.extend(anns.iter().chain(&bobs).map(|tokens| sid(tokens).parse::<Uuid>().unwrap()));
        cursors.extend((0..20).map(|_| Uuid::from_u64_pair(chance.next(), chance.next())));
        for cursor in cursors {
            let token = PageToken::encode(&world.app().roots, &[LIST, b"user", user.as_bytes(), b""], cursor);
            for size in [1, 3, 100] {
                let answer = page(&world, &anns[0], size, &token).await.unwrap();
                assert!(ids(&answer).iter().all(|id| own.iter().any(|own| own == id)), "{cursor}: {answer:?}");
                assert!(ids(&answer).iter().all(|id| id.parse::<Uuid>().unwrap() < cursor), "{cursor}");
            }
        }
    }

    async fn pages_neither_repeat_nor_skip_while_sessions_open_and_end(world: World) {
        let [anns, _] = twins(&world, 8).await;
        let all: Vec<String> = anns.iter().map(sid).collect();
        let first = page(&world, &anns[0], 3, "").await.unwrap();
        assert_eq!(ids(&first), all[..3]);
        // One more at the front; one gone that was read, one that the token stands on, one to come.
        login_later(&world, "ann@example.com", None).await;
        for gone in [1, 2, 5] {
            world.logout(&anns[gone].access_token).await.unwrap();
        }
        let rest = page(&world, &anns[0], 100, &first.next_page_token).await.unwrap();
        assert_eq!((ids(&rest), rest.next_page_token.as_str()), (vec![all[3].as_str(), &all[4], &all[6], &all[7]], ""));
    }
}
