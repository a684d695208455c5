//! A calling workload: by its token in `doorward-caller`, or by its certificate. The sessions of its calls are its own.

use doorward::{
    domain::{
        callers::{self, Proof},
        service_accounts::{self, NewAccount},
    },
    store::service_accounts::AccountState,
};

use super::*;

async fn login(world: &World, caller: &str) -> Result<v1::LoginResponse, Status> {
    let request = v1::LoginRequest { identifier: "ann@example.com".to_owned(), password: PASSWORD.to_owned(), ..Default::default() };
    world.client().login(by_caller(request, caller)).await.map(tonic::Response::into_inner)
}

async fn refresh(world: &World, refresh_token: &str, caller: &str) -> Result<v1::TokenSet, Status> {
    let grant = v1::issue_token_request::Grant::RefreshToken(v1::RefreshTokenGrant { refresh_token: refresh_token.to_owned() });
    let request = v1::IssueTokenRequest { grant: Some(grant), ..Default::default() };
    world.client().issue_token(by_caller(request, caller)).await.map(|answer| answer.into_inner().tokens.unwrap())
}

on_both! {
    async fn a_session_is_its_callers_and_so_are_its_refresh_tokens(world: World) {
        world.person("ann@example.com").await;
        let acme = world.tenant("acme").await;
        let (shop, robot) = (instance_account(&world, &[]).await, tenant_account(&world, &acme, &["member"]).await);
        for (own, other) in [(&shop, &robot), (&robot, &shop)] {
            let (caller, stranger) = (token(&world, own).await, token(&world, other).await);
            let opened = login(&world, &caller).await.unwrap();
            assert_eq!(opened.session.unwrap().client_id, own.id);
            let tokens = opened.tokens.unwrap();
            assert_eq!(payload(&tokens.access_token)["client_id"], own.id.as_str());
            for wrong in [refresh(&world, &tokens.refresh_token, &stranger).await, world.refresh(&tokens.refresh_token).await] {
                assert_eq!(refused(wrong), "TOKEN_INVALID");
            }
            let next = refresh(&world, &tokens.refresh_token, &caller).await.unwrap();
            refresh(&world, &next.refresh_token, &caller).await.unwrap();
        }
        let query = "SELECT count(*) AS n FROM audit_events WHERE event = 'login.succeeded' AND client_id <> 'doorward'";
        assert_eq!(world.sql().await.count(query).await, 2);
    }

    async fn what_does_not_prove_a_caller_is_refused_whatever_is_wrong(world: World) {
        world.person("ann@example.com").await;
        let account = instance_account(&world, &[]).await;
        let good = token(&world, &account).await;
        let person = world.login("ann@example.com").await;
        for bad in [person.access_token.as_str(), &person.refresh_token, &account.secret, "garbage", &good[1..], &format!("{good}A")] {
            assert_eq!(refused(login(&world, bad).await), "CALLER_UNAUTHENTICATED", "{bad}");
        }
        login(&world, &good).await.unwrap();
        service_accounts::set_state(world.app(), operator(&world, None), account.key(), AccountState::Disabled).await.unwrap();
        assert_eq!(refused(login(&world, &good).await), "CALLER_UNAUTHENTICATED");
        service_accounts::set_state(world.app(), operator(&world, None), account.key(), AccountState::Active).await.unwrap();
        assert_eq!(refused(login(&world, &good).await), "CALLER_UNAUTHENTICATED");
        let fresh = token(&world, &account).await;
        login(&world, &fresh).await.unwrap();
        world.pass(std::time::Duration::from_mins(16));
        assert_eq!(refused(login(&world, &fresh).await), "CALLER_UNAUTHENTICATED");
    }

    async fn where_callers_must_be_known_a_secret_is_enough_to_become_one(world: World) {
        world.person("ann@example.com").await;
        let account = instance_account(&world, &BOTH).await;
        let world = world.restart_with(|config| config.callers.mode = Some(doorward::config::CallersMode::Required)).await;
        assert_eq!(refused(world.try_login("ann@example.com", PASSWORD, "").await), "CALLER_UNAUTHENTICATED");
        let caller = token(&world, &account).await;
        login(&world, &caller).await.unwrap();
        assert_eq!(refused(credentials(&world, &account.id, "wrong", Ask::default()).await), "INVALID_CREDENTIALS");
        // In `authorization` it is known too, where the method is for workloads; to others it is not told what is wrong with a token.
        let by_itself = Desk { world: &world, token: caller.clone(), tenant_id: String::new() };
        by_itself.get(&account.id).await.unwrap();
        assert_eq!(refused(by_itself.with_token("garbage".to_owned()).get(&account.id).await), "CALLER_UNAUTHENTICATED");
        assert_eq!(refused(get_me(&world, &caller).await), "CALLER_UNAUTHENTICATED");
        let mut both = by_caller(v1::GetMeRequest {}, &caller);
        both.metadata_mut().insert("authorization", format!("Bearer {caller}").parse().unwrap());
        world.client().get_me(both).await.unwrap();
    }

    async fn a_certificate_stands_for_the_account_that_has_its_name(world: World) {
        let name = "spiffe://example.org/shop".to_owned();
        let new = |names: Vec<String>| NewAccount { name: "shop".to_owned(), certificate_names: names, ..NewAccount::default() };
        let shop = new_account(&world, None, new(vec![name.clone(), "dns:shop.example.org".to_owned()])).await;
        let web = new_account(&world, None, new(vec!["dns:web.example.org".to_owned()])).await;
        let who = async |names: &[&str], token: Option<&str>| {
            let names: Vec<String> = names.iter().map(|&name| name.to_owned()).collect();
            let caller = callers::authenticate(world.app(), Proof { certificate: &names, token }, doorward::domain::memory::Freshness::Bounded, world.clock.now()).await;
            caller.map(|caller| caller.map(|caller| caller.account().id.to_string())).map_err(|error| error.reason().0)
        };
        for names in [&[name.as_str()][..], &["dns:shop.example.org"], &[&name, "dns:shop.example.org", "dns:unknown.example.org"]] {
            assert_eq!(who(names, None).await, Ok(Some(shop.id.clone())));
        }
        for nobody in [&[][..], &["dns:unknown.example.org"], &["SPIFFE://example.org/shop"], &["spiffe://example.org/shop/"], &[""]] {
            assert_eq!(who(nobody, None).await, Ok(None));
        }
        // The names of two, a token of another, or one that is good for nothing: no caller.
        let (shops, webs) = (token(&world, &shop).await, token(&world, &web).await);
        assert_eq!(who(&[&name, "dns:web.example.org"], None).await, Err("CALLER_UNAUTHENTICATED"));
        assert_eq!(who(&[&name], Some(&webs)).await, Err("CALLER_UNAUTHENTICATED"));
        assert_eq!(who(&[&name], Some("garbage")).await, Err("CALLER_UNAUTHENTICATED"));
        assert_eq!(who(&[&name], Some(&shops)).await, Ok(Some(shop.id.clone())));
        assert_eq!(who(&["dns:unknown.example.org"], Some(&webs)).await, Ok(Some(web.id.clone())));
        service_accounts::set_state(world.app(), operator(&world, None), shop.key(), AccountState::Disabled).await.unwrap();
        assert_eq!(who(&[&name], None).await, Err("CALLER_UNAUTHENTICATED"));
        service_accounts::set_state(world.app(), operator(&world, None), shop.key(), AccountState::Deleted).await.unwrap();
        assert_eq!(who(&[&name], None).await, Ok(None));
    }
}
