//! Each kind of token at every place that takes a token or could be mistaken for one (invariant 30): a golden matrix, and the rule that
//! only the kind that a place is for gets in.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use doorward::pb::v1::{self, service_account_service_client::ServiceAccountServiceClient};
use serde_json::json;

use crate::{golden, harness::*, on_both, probe::*, workloads::*};

/// Every place, with the kinds that are good there.
const PLACES: [(&str, &[&str]); 22] = [
    ("GetMe, authorization", &["access", "narrowed", "workload", "workload, narrowed"]),
    ("ListTenants, authorization", &["access", "narrowed"]),
    ("ChangePassword, authorization", &["access", "must-change"]),
    ("ValidateSession, authorization", &["access", "workload"]),
    ("ValidateSession.access_token", &["access", "workload"]),
    ("Logout, authorization", &["access", "must-change", "expired"]),
    ("Logout.access_token", &["access", "must-change", "expired"]),
    ("Logout.refresh_token", &["refresh"]),
    ("IssueToken.refresh_token", &["refresh"]),
    ("IssueToken.client_credentials", &["client secret"]),
    ("IssueToken.token_exchange", &["access", "narrowed"]),
    ("doorward-caller", &["workload"]),
    ("IssueToken.password", &[]),
    ("Login.password", &[]),
    ("Login.identifier", &[]),
    ("Login.tenant_id", &[]),
    ("ListTenants.page_token", &["page"]),
    ("ListSessions, authorization", &["access"]),
    ("RevokeSession, authorization", &["access"]),
    ("RevokeAllSessions, authorization", &["access"]),
    ("ListSessions.page_token", &[]),
    ("ListServiceAccounts, authorization", &["workload"]),
];

/// One of every kind, fresh and each of a session of its own, so that using one does not spend another.
async fn one_of_every_kind(world: &World, account: &Account) -> Vec<(&'static str, String)> {
    let access = async || world.login("ann@example.com").await.access_token;
    let forced = async || world.login("new@example.com").await.access_token;
    let retyped = |typ, token: &str| mint(world.app(), typ, &payload(token));
    let narrowed = grant(world, "ann@example.com", Ask { audience: &["doorward-clients"], ..Ask::default() }).await.unwrap();
    let mut expired = payload(&access().await);
    for (claim, seconds) in [("iat", -2_000), ("nbf", -2_000), ("auth_time", -2_000), ("exp", -1_000)] {
        expired[claim] = json!(START + seconds);
    }
    let head = json!({ "typ": "pwc+jwt", "alg": "ES256", "kid": world.app().keys.latest().signer().unwrap().kid }).to_string();
    let victim = access().await;
    let (_, rest) = victim.split_once('.').unwrap();
    vec![
        ("access", access().await),
        ("narrowed", narrowed.access_token),
        ("expired", mint(world.app(), "at+jwt", &expired)),
        ("must-change", forced().await),
        ("refresh", world.login("ann@example.com").await.refresh_token),
        ("workload", token(world, account).await),
        ("workload, narrowed", narrow_token(world, account).await),
        ("workload as pwc+jwt", retyped("pwc+jwt", &token(world, account).await)),
        ("client secret", account.secret.clone()),
        ("page", list_tenants(world, &access().await, "").await.unwrap().next_page_token),
        ("access as pwc+jwt", retyped("pwc+jwt", &access().await)),
        ("must-change as at+jwt", retyped("at+jwt", &forced().await)),
        ("access as JWT", retyped("JWT", &access().await)),
        ("access as rt+jwt", retyped("rt+jwt", &access().await)),
        ("access, typ changed", format!("{}.{rest}", URL_SAFE_NO_PAD.encode(head))),
    ]
}

async fn present(world: &World, account: &Account, place: &str, token: &str) -> String {
    let mut client = world.client();
    let own = token.to_owned();
    let login = |identifier: &str, password: &str, tenant_id: &str| v1::LoginRequest {
        identifier: identifier.to_owned(),
        password: password.to_owned(),
        tenant_id: tenant_id.to_owned(),
        client_info: Some(v1::ClientInfo { device_token: token.to_owned(), ..Default::default() }),
    };
    match place {
        "GetMe, authorization" => word(get_me(world, token).await),
        "ListServiceAccounts, authorization" => {
            let mut accounts = ServiceAccountServiceClient::new(world.replica.channel());
            word(accounts.list_service_accounts(bearer(v1::ListServiceAccountsRequest::default(), token)).await)
        }
        "ListTenants, authorization" => word(list_tenants(world, token, "").await),
        "ChangePassword, authorization" => match word(world.change_password(token, WRONG, "another good long password").await) {
            // The token was admitted, the password was not.
            answer if answer == "INVALID_CREDENTIALS" => "OK".to_owned(),
            answer => answer,
        },
        "ValidateSession, authorization" => word(client.validate_session(bearer(v1::ValidateSessionRequest::default(), token)).await),
        "ValidateSession.access_token" => word(world.validate(token).await),
        "Logout, authorization" => word(client.logout(bearer(v1::LogoutRequest::default(), token)).await),
        "Logout.access_token" => word(world.logout(token).await),
        "Logout.refresh_token" => word(logout_by_refresh(world, token).await),
        "IssueToken.refresh_token" => word(world.refresh(token).await),
        "IssueToken.client_credentials" => word(credentials(world, &account.id, &own, Ask::default()).await),
        "IssueToken.token_exchange" => {
            let subject_token_type = "urn:ietf:params:oauth:token-type:access_token".to_owned();
            let grant = v1::TokenExchangeGrant { subject_token: own, subject_token_type, requested_token_type: String::new() };
            let grant = Some(v1::issue_token_request::Grant::TokenExchange(grant));
            word(client.issue_token(v1::IssueTokenRequest { grant, ..Default::default() }).await)
        }
        "doorward-caller" => word(client.login(called_by(tonic::Request::new(login("ann@example.com", PASSWORD, "")), token)).await),
        "IssueToken.password" => {
            let grant = v1::PasswordGrant { username: "ann@example.com".to_owned(), password: own };
            let grant = Some(v1::issue_token_request::Grant::Password(grant));
            word(client.issue_token(v1::IssueTokenRequest { grant, ..Default::default() }).await)
        }
        "Login.password" => word(client.login(login("ann@example.com", token, "")).await),
        "Login.identifier" => word(client.login(login(token, PASSWORD, "")).await),
        "Login.tenant_id" => word(client.login(login("ann@example.com", PASSWORD, token)).await),
        "ListTenants.page_token" => {
            let access = world.login("ann@example.com").await.access_token;
            word(list_tenants(world, &access, token).await)
        }
        "ListSessions, authorization" => word(list_sessions(world, token, "").await),
        "RevokeSession, authorization" => match word(revoke_session(world, token, &uuid::Uuid::nil().to_string()).await) {
            // The token was admitted; there is no such session.
            answer if answer == "NOT_FOUND" => "OK".to_owned(),
            answer => answer,
        },
        "RevokeAllSessions, authorization" => word(revoke_all_sessions(world, token, false).await),
        "ListSessions.page_token" => {
            let access = world.login("ann@example.com").await.access_token;
            word(list_sessions(world, &access, token).await)
        }
        other => panic!("no such place: {other}"),
    }
}

const LEGEND: &str = "\
# Each kind of token, presented at each place. In Logout, OK is also the answer to a token that means nothing (RFC 7009); the last column
# counts the sessions that were ended there. ChangePassword is called with a wrong current password, RevokeSession with the id of no
# session, and OK says that the token was admitted.

";

on_both! {
    async fn every_kind_at_every_place(world: World) {
        let ann = world.person("ann@example.com").await;
        world.new_person(Person { email: Some("new@example.com"), must_change: true, ..Person::default() }).await;
        for slug in ["acme", "blue"] {
            world.member(&world.tenant(slug).await, &ann, &["member"]).await;
        }
        let account = instance_account(&world, &["doorward.service_accounts:read"]).await;
        let mut table = LEGEND.to_owned();
        for (place, good) in PLACES {
            for (kind, token) in one_of_every_kind(&world, &account).await {
                let ended = world.count_events("session.revoked").await;
                let answer = present(&world, &account, place, &token).await;
                let ended = world.count_events("session.revoked").await - ended;
                let is_logout = place.starts_with("Logout");
                let got_in = if is_logout { ended == 1 } else { answer == "OK" };
                assert_eq!(got_in, good.contains(&kind), "{kind} at {place}: {answer}, {ended} sessions ended");
                let count = if is_logout { ended.to_string() } else { String::new() };
                table += format!("{place:<32} {kind:<22} {answer:<24} {count}").trim_end();
                table.push('\n');
            }
        }
        golden::check("token_kinds.txt", &table);
    }

    async fn a_page_token_is_its_subject_s_alone(world: World) {
        let (ann, bob) = (world.person("ann@example.com").await, world.person("bob@example.com").await);
        for slug in ["acme", "blue"] {
            let tenant = world.tenant(slug).await;
            world.member(&tenant, &ann, &["member"]).await;
            world.member(&tenant, &bob, &["member"]).await;
        }
        let (anns, bobs) = (world.login("ann@example.com").await, world.login("bob@example.com").await);
        let page = list_tenants(&world, &anns.access_token, "").await.unwrap().next_page_token;
        assert_eq!(refused(list_tenants(&world, &bobs.access_token, &page).await), "INVALID_FIELD");
        list_tenants(&world, &anns.access_token, &page).await.unwrap();
    }
}
