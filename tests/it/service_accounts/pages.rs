//! Pages of service accounts.

use doorward::values::{entropy::Entropy, ids::ServiceAccountId, page::PageToken};

use super::*;
use crate::access::fields;

async fn read_through(desk: &Desk<'_>, size: i32) -> Vec<String> {
    let (mut all, mut page_token) = (Vec::new(), String::new());
    loop {
        let answer = desk.list(size, &page_token).await.unwrap();
        all.extend(answer.service_accounts.into_iter().map(|details| details.service_account.unwrap().id));
        if answer.next_page_token.is_empty() {
            return all;
        }
        page_token = answer.next_page_token;
    }
}

on_both! {
    async fn a_list_has_the_accounts_of_its_place_alone_in_pages_of_any_size(world: World) {
        let (acme, beta) = (world.tenant("acme").await, world.tenant("beta").await);
        let (mut own, mut wide) = (Vec::new(), Vec::new());
        for number in 0..7 {
            world.pass(std::time::Duration::from_secs(1));
            own.push(tenant_account(&world, &acme, &["member"]).await);
            tenant_account(&world, &beta, &["admin", "member"]).await;
            wide.push(instance_account(&world, if number % 2 == 0 { &BOTH } else { &[] }).await);
        }
        let ann = Desk::member(&world, &acme, "ann@example.com", &["admin"]).await;
        let root = Desk::superuser(&world).await;
        // A disabled one is listed, a deleted one is not.
        ann.disable(&own[1].id).await.unwrap();
        ann.delete(&own.remove(3).id).await.unwrap();
        root.delete(&wide.remove(0).id).await.unwrap();
        let ids = |accounts: &[Account]| accounts.iter().map(|account| account.id.clone()).collect::<Vec<_>>();
        for size in [1, 2, 3, 6, 7, 0, 100, 101, i32::MAX] {
            assert_eq!(read_through(&ann, size).await, ids(&own), "{size}");
            assert_eq!(read_through(&root, size).await, ids(&wide), "{size}");
        }
        for negative in [-1, i32::MIN] {
            assert_eq!(fields(&ann.list(negative, "").await.unwrap_err()), ["page_size"]);
        }
        // Each with what is its own.
        for details in root.list(0, "").await.unwrap().service_accounts {
            let id = details.service_account.unwrap().id;
            let account = wide.iter().find(|account| account.id == id).unwrap();
            assert_eq!(details.secrets.iter().map(|secret| secret.id.as_str()).collect::<Vec<_>>(), [account.secret_id.as_str()]);
            assert!(details.roles.is_empty());
        }
    }

    async fn a_page_token_is_its_callers_and_its_place_s(world: World) {
        let (acme, beta) = (world.tenant("acme").await, world.tenant("beta").await);
        for _ in 0..3 {
            tenant_account(&world, &acme, &["member"]).await;
            tenant_account(&world, &beta, &["member"]).await;
            instance_account(&world, &BOTH).await;
        }
        let ann = Desk::member(&world, &acme, "ann@example.com", &["admin"]).await;
        let bob = Desk::member(&world, &acme, "bob@example.com", &["admin"]).await;
        let person = doorward::domain::users::resolve(world.app(), "ann@example.com").await.unwrap();
        world.member(&beta, &person, &["admin"]).await;
        let root = Desk::superuser(&world).await;
        let wide = root.with_token(token(&world, &instance_account(&world, &BOTH).await).await);

        let anns = ann.list(1, "").await.unwrap().next_page_token;
        ann.list(1, &anns).await.unwrap();
        ann.at("ext:crm-acme").list(2, &anns).await.unwrap();
        for other in [&bob, &ann.at(&beta.id.to_string()), &root, &root.at(&acme.id.to_string()), &wide] {
            assert_eq!(fields(&other.list(1, &anns).await.unwrap_err()), ["page_token"]);
        }
        let roots = root.list(1, "").await.unwrap().next_page_token;
        for other in [&ann, &root.at(&acme.id.to_string()), &wide] {
            assert_eq!(fields(&other.list(1, &roots).await.unwrap_err()), ["page_token"]);
        }
        // One of our own making, but of another list; and every near miss.
        let cursor = ServiceAccountId::generate(&Entropy::system(), &world.clock).as_uuid();
        let strange = PageToken::encode(&world.app().roots, &[b"doorward.v1.AuthService/ListTenants"], cursor);
        let mut misses = vec![strange, ".".repeat(48), format!("{anns}A"), anns[1..].to_owned(), anns.to_uppercase()];
        for at in 0..anns.len() {
            let other = if anns.as_bytes()[at] == b'A' { "B" } else { "A" };
            misses.push(format!("{}{other}{}", &anns[..at], &anns[at + 1..]));
        }
        for miss in misses {
            assert_eq!(fields(&ann.list(1, &miss).await.unwrap_err()), ["page_token"], "{miss}");
        }
    }
}
