//! Paging through `ListTenants`, and what page tokens are good for.

use doorward::values::secret::RootSecrets;
use doorward::values::{entropy::Entropy, page::PageToken, secret};
use tonic::{Status, transport::Channel};

use super::*;
use crate::{
    access::fields,
    probe::{Ask, grant},
};

type Client = v1::auth_service_client::AuthServiceClient<Channel>;

async fn page(client: &mut Client, token: &str, page_size: i32, page_token: &str) -> Result<v1::ListTenantsResponse, Status> {
    let request = v1::ListTenantsRequest { page_size, page_token: page_token.to_owned() };
    client.list_tenants(bearer(request, token)).await.map(tonic::Response::into_inner)
}

/// All pages, each of which but the last must be full.
async fn read_through(client: &mut Client, token: &str, size: i32) -> Vec<String> {
    let (mut all, mut page_token) = (Vec::new(), String::new());
    loop {
        let answer = page(client, token, size, &page_token).await.unwrap();
        all.extend(slugs(&answer.tenants));
        if answer.next_page_token.is_empty() {
            return all;
        }
        assert_eq!(i32::try_from(answer.tenants.len()).unwrap(), size);
        assert_ne!(answer.next_page_token, page_token);
        page_token = answer.next_page_token;
    }
}

/// Whether the page token of another query is refused.
async fn assert_refused(client: &mut Client, token: &str, page_token: &str) {
    let status = page(client, token, 2, page_token).await.expect_err(page_token);
    assert_eq!(fields(&status), ["page_token"], "{page_token:?}");
}

/// Changes a list while somebody reads it, and answers what they read: three entries, then the change, then the rest.
async fn read_across(client: &mut Client, token: &str, change: impl Future<Output = ()>) -> Vec<String> {
    let first = page(client, token, 3, "").await.unwrap();
    change.await;
    let mut read = slugs(&first.tenants);
    let rest = page(client, token, 100, &first.next_page_token).await.unwrap();
    assert_eq!(rest.next_page_token, "");
    read.extend(slugs(&rest.tenants));
    read
}

fn names(numbers: impl IntoIterator<Item = usize>) -> Vec<String> {
    numbers.into_iter().map(|number| format!("t-{number}")).collect()
}

on_both! {
    async fn every_page_size_reads_every_entry_once_in_the_same_order(world: World) {
        let (ann, bob) = (world.person("ann@example.com").await, world.person("bob@example.com").await);
        // The rows of two people stand between one another, and some of hers do not count.
        for round in 0..4 {
            many_memberships(&world, &bob, &format!("b{round}"), 2).await;
            many_memberships(&world, &ann, &format!("a{round}"), 3).await;
        }
        let sql = world.sql().await;
        for (slug, what) in [("a0-1", "removed"), ("a2-0", "invited"), ("a2-1", "removed")] {
            sql.execute(&format!("UPDATE memberships SET state = '{what}' WHERE tenant_id = (SELECT id FROM tenants WHERE slug = '{slug}')")).await;
        }
        sql.execute("UPDATE tenants SET state = 'deleted' WHERE slug = 'a3-2'").await;
        sql.execute("UPDATE tenants SET state = 'suspended' WHERE slug = 'a1-1'").await;
        let expected = ["a0-0", "a0-2", "a1-0", "a1-1", "a1-2", "a2-2", "a3-0", "a3-1"];

        let token = world.login("ann@example.com").await.access_token;
        let mut client = world.client();
        for size in 1..=10 {
            assert_eq!(read_through(&mut client, &token, size).await, expected, "pages of {size}");
        }
    }

    async fn a_page_has_fifty_entries_where_no_size_is_asked_and_a_hundred_at_most(world: World) {
        let ann = world.person("ann@example.com").await;
        let all = many_memberships(&world, &ann, "t", 103).await;
        let token = world.login("ann@example.com").await.access_token;
        let mut client = world.client();
        for (asked, given) in [(0, 50), (49, 49), (100, 100), (101, 100), (102, 100), (1_000, 100), (i32::MAX, 100)] {
            let answer = page(&mut client, &token, asked, "").await.unwrap();
            assert_eq!(slugs(&answer.tenants), all[..given], "{asked}");
            let rest = page(&mut client, &token, 100, &answer.next_page_token).await.unwrap();
            assert_eq!(slugs(&rest.tenants), all[given..], "{asked}");
            assert_eq!(rest.next_page_token, "");
        }
        for negative in [-1, -50, i32::MIN] {
            assert_eq!(fields(&page(&mut client, &token, negative, "").await.unwrap_err()), ["page_size"]);
        }
    }

    async fn a_page_token_is_its_subjects_own(world: World) {
        let (ann, bob) = (world.person("ann@example.com").await, world.person("bob@example.com").await);
        many_memberships(&world, &ann, "t", 5).await;
        many_memberships(&world, &bob, "b", 5).await;
        let (of_ann, of_bob) = (world.login("ann@example.com").await.access_token, world.login("bob@example.com").await.access_token);
        let mut client = world.client();
        let next = page(&mut client, &of_ann, 2, "").await.unwrap().next_page_token;
        assert_refused(&mut client, &of_bob, &next).await;
        // It is the subject's, not the session's or the page size's: another login may go on.
        let later = world.login("ann@example.com").await.access_token;
        assert_eq!(slugs(&page(&mut client, &later, 100, &next).await.unwrap().tenants), names(2..5));
        // On another replica too.
        let other = world.another_replica().await;
        assert_eq!(slugs(&page(&mut other.client(), &of_ann, 100, &next).await.unwrap().tenants), names(2..5));
        other.stop().await;
    }

    async fn a_page_token_is_bound_to_what_the_token_may_see(world: World) {
        let world = world.restart_with(|config| config.tokens.audience = texts(&["shop"])).await;
        let ann = world.person("ann@example.com").await;
        let (acme, globex) = (world.tenant("acme").await, world.tenant("globex").await);
        for tenant in [&acme, &globex] {
            world.member(tenant, &ann, &[]).await;
        }
        let narrowed = async |tenant_id: &str| {
            grant(&world, "ann@example.com", Ask { tenant_id, audience: &["shop"], ..Ask::default() }).await.unwrap().access_token
        };
        let full = world.login("ann@example.com").await.access_token;
        let (to_acme, to_globex, to_none) =
            (narrowed("ext:crm-acme").await, narrowed("ext:crm-globex").await, narrowed("").await);
        let mut client = world.client();
        let of_full = page(&mut client, &full, 1, "").await.unwrap().next_page_token;
        assert_ne!(of_full, "");
        for token in [&to_acme, &to_globex] {
            assert_refused(&mut client, token, &of_full).await;
        }
        // No list of one ends with a token, so one is made here as the server would.
        let (id, only) = (ann.id.as_bytes(), acme.id.as_bytes());
        let binding: [&[u8]; 4] = [b"doorward.v1.AuthService/ListTenants", b"user", &id, &only];
        let of_acme = PageToken::encode(&world.app().roots, &binding, uuid::Uuid::nil());
        assert_eq!(slugs(&page(&mut client, &to_acme, 1, &of_acme).await.unwrap().tenants), ["acme"]);
        for token in [&full, &to_globex, &to_none] {
            assert_refused(&mut client, token, &of_acme).await;
        }
    }

    async fn a_page_token_that_was_touched_is_none(world: World) {
        let seed: [u8; 8] = Entropy::system().bytes();
        eprintln!("seed {seed:?}");
        let ann = world.person("ann@example.com").await;
        many_memberships(&world, &ann, "t", 3).await;
        let set = world.login("ann@example.com").await;
        let mut client = world.client();
        let good = page(&mut client, &set.access_token, 2, "").await.unwrap().next_page_token;
        assert_eq!(good.len(), 48);
        page(&mut client, &set.access_token, 2, &good).await.unwrap();

        let mut bad = Vec::new();
        for at in 0..good.len() {
            // Every byte changed by its lowest bit or to the next letter, and every length.
            let mut other = good.clone().into_bytes();
            other[at] = match other[at] {
                b'A' => b'B',
                b'_' | b'-' => b'A',
                byte if byte.is_ascii_digit() => b'x',
                byte if seed[at % 8].is_multiple_of(2) => byte ^ 0x20,
                _ => b'A',
            };
            bad.push(String::from_utf8(other).unwrap());
            if at > 0 {
                bad.push(good[..at].to_owned());
                bad.push(good[at..].to_owned());
            }
        }
        let random: [u8; 48] = Entropy::system().bytes();
        bad.push(random.iter().map(|byte| char::from(b'a' + byte % 26)).collect());
        bad.extend([format!("{good}A"), format!("{good}="), format!(" {good}"), format!("{good} "), format!("{good}{good}")]);
        bad.extend([good.to_uppercase(), good.to_lowercase(), good.chars().rev().collect(), good.replace(&good[..6], "AAAAAA")]);
        bad.extend([set.access_token.clone(), set.refresh_token.clone(), ann.id.to_string(), "0".to_owned(), "a\0b".to_owned(), "x".repeat(5_000)]);
        for page_token in bad {
            assert_ne!(page_token, good);
            assert_refused(&mut client, &set.access_token, &page_token).await;
        }
    }

    async fn a_page_token_of_another_instance_or_method_is_none(world: World) {
        let ann = world.person("ann@example.com").await;
        many_memberships(&world, &ann, "t", 3).await;
        let token = world.login("ann@example.com").await.access_token;
        let id = ann.id.as_bytes();
        let foreign = RootSecrets::parse(&[secret::generate_root(&Entropy::system())]).unwrap();
        let (own, cursor) = (&world.app().roots, uuid::Uuid::nil());
        let mut client = world.client();
        let binding: [&[u8]; 4] = [b"doorward.v1.AuthService/ListTenants", b"user", &id, b""];
        page(&mut client, &token, 2, &PageToken::encode(own, &binding, cursor)).await.unwrap();
        assert_refused(&mut client, &token, &PageToken::encode(&foreign, &binding, cursor)).await;
        for binding in [
            [b"doorward.v1.AuthService/ListSessions".as_slice(), b"user", &id, b""],
            [b"doorward.v1.AuthService/ListTenants", b"service_account", &id, b""],
        ] {
            assert_refused(&mut client, &token, &PageToken::encode(own, &binding, cursor)).await;
        }
    }

    async fn pages_neither_repeat_nor_skip_while_the_list_changes(world: World) {
        let ann = world.person("ann@example.com").await;
        many_memberships(&world, &ann, "t", 6).await;
        let token = world.login("ann@example.com").await.access_token;
        let mut client = world.client();
        let set_state = async |slug: &str, state: &str| {
            let sql = format!("UPDATE memberships SET state = '{state}' WHERE tenant_id = (SELECT id FROM tenants WHERE slug = '{slug}')");
            assert_eq!(world.sql().await.execute(&sql).await, 1);
        };
        // Joined later: at the end.
        let join = Box::pin(async { drop(many_memberships(&world, &ann, "late", 2).await) });
        let read = read_across(&mut client, &token, join).await;
        assert_eq!(read, [names(0..6), texts(&["late-0", "late-1"])].concat());
        world.sql().await.execute("UPDATE memberships SET state = 'removed' WHERE tenant_id IN (SELECT id FROM tenants WHERE slug LIKE 'late%')").await;
        // Gone on a page that was read: nothing moves up.
        assert_eq!(read_across(&mut client, &token, set_state("t-0", "removed")).await, names(0..6));
        // The very entry that the page token stands on.
        assert_eq!(read_across(&mut client, &token, set_state("t-3", "removed")).await, names([1, 2, 3, 4, 5]));
        // Gone on a page to come, and back on one that was read.
        assert_eq!(read_across(&mut client, &token, set_state("t-5", "removed")).await, names([1, 2, 4]));
        assert_eq!(read_through(&mut client, &token, 2).await, names([1, 2, 4]));
    }
}
