//! Signing keys: published before they sign, good until their last token has expired, refused everywhere once they are revoked; one at a
//! time, however many replicas there are.

use std::{collections::BTreeSet, time::Duration};

use doorward::{
    domain::{
        keys::{self, KEY_SET_MAX_AGE, KeyOperator, Outlook, PUBLISHED_BEFORE, Resealed, rotation::Step, rotation::due},
        start,
        tokens::{self, claims::ExpiryRule},
    },
    error::Error,
    pb::v1::{self, signing_key::State, signing_key_service_client::SigningKeyServiceClient},
    store::signing_keys::{KeyState, SigningKey},
    values::{
        algorithm::SigningAlgorithm,
        entropy::Entropy,
        ids::SigningKeyId,
        secret,
        time::{Clock, Timestamp},
    },
};
use jsonwebtoken::{DecodingKey, Validation, jwk::Jwk};
use proptest::prelude::*;
use serde_json::{Value, json};
use tonic::transport::Channel;

use crate::{
    harness::{
        proxy::{Fault, Proxy},
        *,
    },
    life::eventually,
    metrics::Samples,
    on_both,
    probe::{self, header, private_key},
    workloads::{instance_account, token},
};

const SECOND: Duration = Duration::from_secs(1);
const MONTH: Duration = Duration::from_hours(30 * 24);
const RIGHTS: [&str; 2] = ["doorward.signing_keys:read", "doorward.signing_keys:write"];

fn kid(token: &str) -> String {
    header(token)["kid"].as_str().unwrap().to_owned()
}

fn published(replica: &Replica) -> Vec<String> {
    replica.app.keys.latest().published.iter().map(|key| key.common.key_id.clone().unwrap()).collect()
}

/// Waits until the replica has looked at its keys again, and done what it found due.
async fn looked_again(world: &World) {
    let looks = async || Samples::of(&world.replica).await.sum("doorward_signing_key_looks_total", &[]);
    let before = looks().await;
    // One may have been under way.
    eventually("further looks", async || looks().await > before + 1.5).await;
}

fn by(world: &World) -> KeyOperator {
    KeyOperator::at_the_command(world.app(), cli())
}

fn client(world: &World) -> SigningKeyServiceClient<Channel> {
    SigningKeyServiceClient::new(world.replica.channel())
}

/// What somebody who has the published keys and nothing else makes of a token.
fn verify_offline(keys: &[Jwk], issuer: &str, token: &str, now: i64) -> Option<Value> {
    let key = keys.iter().find(|key| key.common.key_id.as_deref() == Some(&kid(token)))?;
    let algorithm = key.common.key_algorithm.unwrap().to_string().parse().unwrap();
    let mut rule = Validation::new(algorithm);
    rule.set_issuer(&[issuer]);
    rule.set_audience(&["doorward-clients"]);
    // The tests' clock is not this library's.
    rule.validate_exp = false;
    let claims = jsonwebtoken::decode::<Value>(token, &DecodingKey::from_jwk(key).unwrap(), &rule).ok()?.claims;
    (claims["exp"].as_i64().unwrap() > now).then_some(claims)
}

on_both! {
    async fn a_key_is_published_before_it_signs_and_verifies_what_it_signed(world: World) {
        world.person("ann@example.com").await;
        let first = kid(&world.login("ann@example.com").await.access_token);
        world.pass(MONTH.saturating_sub(PUBLISHED_BEFORE).saturating_sub(SECOND));
        looked_again(&world).await;
        assert_eq!(kid(&world.login("ann@example.com").await.access_token), first);
        assert_eq!(published(&world.replica), [first.as_str()]);

        world.pass(SECOND);
        eventually("the next key", async || published(&world.replica).len() == 2).await;
        let next = published(&world.replica).pop().unwrap();
        world.pass(PUBLISHED_BEFORE.saturating_sub(SECOND));
        looked_again(&world).await;
        let last_of_first = world.login("ann@example.com").await.access_token;
        assert_eq!(kid(&last_of_first), first, "it is published, and does not sign yet");

        world.pass(SECOND);
        eventually("the next key signs", async || world.app().keys.latest().signer().unwrap().kid == next).await;
        let first_of_next = world.login("ann@example.com").await.access_token;
        assert_eq!(kid(&first_of_next), next);
        world.validate(&last_of_first).await.unwrap();
        world.validate(&first_of_next).await.unwrap();
        assert_eq!(published(&world.replica), [first.as_str(), next.as_str()]);

        let longest = world.config.tokens.max_access_lifetime;
        world.pass((longest + KEY_SET_MAX_AGE).saturating_sub(SECOND));
        looked_again(&world).await;
        assert_eq!(published(&world.replica), [first.as_str(), next.as_str()]);
        world.pass(SECOND);
        eventually("the first key is gone", async || published(&world.replica) == [next.as_str()]).await;
        assert_eq!(refused(world.validate(&last_of_first).await), "TOKEN_INVALID");
    }

    async fn replicas_rotate_once_and_follow_each_other(world: World) {
        let replicas = [world.another_replica().await, world.another_replica().await];
        let all = || replicas.iter().chain([&world.replica]);
        let signing = || all().map(|replica| replica.app.keys.latest().signer().unwrap().kid.clone()).collect::<BTreeSet<_>>();
        let sql = world.sql().await;
        for round in 1..=3 {
            world.pass(MONTH.saturating_sub(PUBLISHED_BEFORE));
            eventually("the next key", async || all().all(|replica| published(replica).len() == 2)).await;
            assert_eq!(world.count_events("signing_key.created").await, round + 1, "one a round, and the first");
            let next = published(&world.replica).pop().unwrap();
            world.pass(PUBLISHED_BEFORE);
            eventually("all sign with it", async || signing() == [next.clone()].into()).await;
            assert_eq!(sql.count("SELECT count(*) AS n FROM signing_keys WHERE state = 'active'").await, 1);
            world.pass(Duration::from_hours(2));
            eventually("the one before is gone", async || all().all(|replica| published(replica) == [next.as_str()])).await;
        }
        assert_eq!(sql.count("SELECT count(*) AS n FROM signing_keys").await, 1);
        assert_eq!(world.count_events("signing_key.removed").await, 3);
    }

    async fn a_revoked_key_is_refused_on_every_replica(world: World) {
        let another = world.another_replica().await;
        world.person("ann@example.com").await;
        let sql = world.sql().await;
        let validate = async |replica: &Replica, token: &str| {
            let request = v1::ValidateSessionRequest { access_token: token.to_owned(), ..v1::ValidateSessionRequest::default() };
            replica.client().validate_session(request).await
        };
        for by_hand in [false, true] {
            let tokens = world.login("ann@example.com").await;
            let compromised = kid(&tokens.access_token);
            for replica in [&world.replica, &another] {
                eventually("a replica that knows the key", async || validate(replica, &tokens.access_token).await.is_ok()).await;
            }
            if by_hand {
                sql.execute("UPDATE signing_keys SET state = 'revoked' WHERE state = 'active'").await;
            } else {
                let revoked = keys::revoke(world.app(), by(&world), &compromised).await.unwrap();
                assert_eq!((revoked.state, revoked.sealed_private_key), (KeyState::Revoked, Vec::new()));
            }
            for replica in [&world.replica, &another] {
                eventually("a refusal", async || match validate(replica, &tokens.access_token).await {
                    Err(status) if reason(&status) == "TOKEN_INVALID" => true,
                    Err(status) => panic!("{status:?}"),
                    Ok(_) => false,
                })
                .await;
                assert!(!published(replica).contains(&compromised));
                // It signs with another one by then, and the session lives.
                eventually("another key that signs", async || replica.app.keys.latest().signer().is_ok_and(|signer| signer.kid != compromised)).await;
            }
            let healed = world.refresh(&tokens.refresh_token).await.unwrap();
            assert_ne!(kid(&healed.access_token), compromised);
            eventually("the token of the next key", async || validate(&another, &healed.access_token).await.is_ok()).await;
        }
        assert_eq!(sql.count("SELECT count(*) AS n FROM signing_keys WHERE state = 'active'").await, 1);
    }

    async fn keys_that_were_not_read_in_time_are_not_trusted(world: World) {
        // A replica that nobody tells anything: it is opened, and does not serve.
        let mut config = world.config.clone();
        config.freshness.max_staleness = Duration::from_millis(1);
        let silent = start::open(config, world.clock.clone(), Entropy::system()).await.unwrap();
        let known = silent.keys.latest().signer().unwrap().kid.clone();
        world.person("ann@example.com").await;
        let token = world.login("ann@example.com").await.access_token;
        let judge = async |token: &str| tokens::read(&silent, token, ExpiryRule::Enforced, doorward::domain::memory::Freshness::Bounded, world.clock.now()).await.map(drop);
        judge(&token).await.unwrap();
        keys::revoke(world.app(), by(&world), &known).await.unwrap();
        eventually("keys that are too old", async || silent.keys.trusted().is_none()).await;
        assert!(matches!(judge(&token).await, Err(Error::TokenInvalid)), "it asks the database");
        eventually("a login with the next key", async || world.app().keys.latest().signer().unwrap().kid != known).await;
        let token = world.login("ann@example.com").await.access_token;
        judge(&token).await.unwrap();

        silent.store.close().await;
        eventually("keys that are too old", async || silent.keys.trusted().is_none()).await;
        assert!(matches!(judge(&token).await, Err(Error::Unavailable(_))), "it fails closed");
        assert!(matches!(judge("garbage").await, Err(Error::TokenInvalid)), "what no key could make good needs none");
        assert_eq!(silent.keys.latest().published.len(), 1, "the key set is answered all the same");
    }

    async fn a_token_of_a_key_that_was_made_a_moment_ago_is_good_everywhere(world: World) {
        // A replica that does not look by itself while this test runs.
        let mut config = world.config.clone();
        config.freshness.max_staleness = Duration::from_hours(1);
        let another = Replica::start(config, world.clock.clone()).await;
        world.person("ann@example.com").await;
        for _ in 0..5 {
            let next = keys::rotate(world.app(), by(&world), true).await.unwrap().kid;
            eventually("the next key signs", async || world.app().keys.latest().signer().unwrap().kid == next).await;
            let token = world.login("ann@example.com").await.access_token;
            assert_eq!(kid(&token), next);
            let request = v1::ValidateSessionRequest { access_token: token, ..v1::ValidateSessionRequest::default() };
            another.client().validate_session(request).await.unwrap();
        }
        // Whoever makes up key ids waits for those who did before, and the database is asked once for all of them.
        let ring = another.app.keys.latest();
        let (statements, begun) = (another.app.store.statements(), std::time::Instant::now());
        let claims = probe::payload(&world.login("ann@example.com").await.access_token).to_string();
        let mut asking = tokio::task::JoinSet::new();
        for n in 0..200 {
            let token = probe::forge(world.app(), &json!({ "typ": "at+jwt", "alg": "ES256", "kid": format!("made up {n}") }).to_string(), &claims);
            let mut client = another.client();
            asking.spawn(async move {
                let request = v1::ValidateSessionRequest { access_token: token, ..v1::ValidateSessionRequest::default() };
                client.validate_session(request).await
            });
        }
        for answer in asking.join_all().await {
            assert_eq!(refused(answer), "TOKEN_INVALID");
        }
        let most = u64::try_from(begun.elapsed().as_millis() / 50).unwrap() + 1;
        assert!(another.app.store.statements() - statements <= most, "more than one reading in 50 ms");
        assert_eq!(another.app.keys.latest().published.len(), ring.published.len());
    }

    async fn a_key_that_cannot_be_used_leaves_the_others_in_use(world: World) {
        world.person("ann@example.com").await;
        let token = world.login("ann@example.com").await.access_token;
        let next = keys::rotate(world.app(), by(&world), false).await.unwrap();
        eventually("the next key", async || published(&world.replica).len() == 2).await;
        let sql = world.sql().await;
        // As a newer version would make one.
        sql.execute("UPDATE signing_keys SET algorithm = 'ML-DSA-65', kid = 'of a newer version' WHERE state = 'pending'").await;
        eventually("the end of what it knew of the key", async || published(&world.replica).len() == 1).await;
        world.validate(&token).await.unwrap();
        world.login("ann@example.com").await;
        let claims = probe::payload(&token).to_string();
        let of_newer = json!({ "typ": "at+jwt", "alg": "ES256", "kid": "of a newer version" }).to_string();
        let unknown = probe::forge(world.app(), &of_newer, &claims);
        assert_eq!(refused(world.validate(&unknown).await), "INTERNAL", "it may be a good one: its holder must not throw it away");
        let made_up = of_newer.replace("of a newer version", "made up");
        assert_eq!(refused(world.validate(&probe::forge(world.app(), &made_up, &claims)).await), "TOKEN_INVALID");
        // A start does not fail for it, and an operator can take it away.
        let world = world.restart_with(|_| {}).await;
        world.validate(&token).await.unwrap();
        assert_eq!(keys::list(world.app()).await.unwrap().len(), 2);
        assert_eq!(keys::retire(world.app(), by(&world), "of a newer version").await.unwrap(), None);
        eventually("an end of that", async || reason(&world.validate(&unknown).await.unwrap_err()) == "TOKEN_INVALID").await;
        sql.execute("UPDATE signing_keys SET state = 'of a newer version'").await;
        let strange = kid(&token);
        assert!(matches!(keys::retire(world.app(), by(&world), &strange).await, Err(Error::KeyState(_))));
        assert_eq!(keys::revoke(world.app(), by(&world), &strange).await.unwrap().state, KeyState::Revoked);
        assert_ne!(next.kid, strange);
    }

    async fn a_server_that_does_not_know_the_new_root_goes_on_with_the_keys_that_it_opened(world: World) {
        world.person("ann@example.com").await;
        let token = world.login("ann@example.com").await.access_token;
        let mut config = world.config.clone();
        config.secrets.root = vec![secret::generate_root(&Entropy::system()).into(), root_in_use(&world).into()];
        let operator = start::open(config, world.clock.clone(), Entropy::system()).await.unwrap();
        let by_operator = || KeyOperator::at_the_command(&operator, cli());
        assert_eq!(keys::reseal(&operator, by_operator()).await.unwrap(), Resealed { changed: 1, unchanged: 0 });
        looked_again(&world).await;
        world.validate(&token).await.unwrap();
        assert_eq!(kid(&world.login("ann@example.com").await.access_token), kid(&token));
        // What it cannot open it does not lose: the other key is another matter.
        keys::revoke(&operator, by_operator(), &kid(&token)).await.unwrap();
        eventually("a refusal", async || world.validate(&token).await.is_err()).await;
        assert!(!published(&world.replica).contains(&kid(&token)));
    }

    async fn tokens_of_every_algorithm_verify_by_the_published_keys_alone(world: World) {
        let mut world = world;
        let (mut all, issuer) = (Vec::new(), world.config.tokens.issuer.clone());
        for algorithm in [SigningAlgorithm::EdDsa, SigningAlgorithm::Rs256, SigningAlgorithm::Es256] {
            world = world.restart_with(|config| config.tokens.algorithm = algorithm).await;
            let waits = |key: &SigningKey| key.state == KeyState::Pending && key.algorithm == algorithm.as_str();
            eventually("a key of the new algorithm", async || keys::list(world.app()).await.unwrap().iter().any(waits)).await;
            world.pass(PUBLISHED_BEFORE);
            let is_in_force = async || world.app().keys.latest().signer().unwrap().algorithm == algorithm.into();
            eventually("the new algorithm signs", is_in_force).await;
            if all.is_empty() {
                world.person("ann@example.com").await;
            }
            let token = world.login("ann@example.com").await.access_token;
            assert_eq!(header(&token)["alg"], algorithm.as_str());
            all.push(token);
            for token in &all {
                world.validate(token).await.unwrap();
                let ring = world.app().keys.latest();
                let claims = verify_offline(&ring.published, &issuer, token, world.clock.now().as_unix());
                assert!(claims.is_none_or(|claims| claims["iss"] == issuer.as_str()));
            }
            if all.len() == 2 {
                // The oldest of three would expire in the next round.
                all.remove(0);
            }
        }
    }

    async fn shared_secrets_sign_where_they_are_configured(world: World) {
        let (old, new) = (secret::generate::<64>(&Entropy::system()), secret::generate::<64>(&Entropy::system()));
        world.person("ann@example.com").await;
        let by_key = world.login("ann@example.com").await.access_token;
        let secrets = |secrets: &[&String]| secrets.iter().map(|&secret| secret.clone().into()).collect::<Vec<_>>();
        let mut tokens: Vec<String> = Vec::new();
        let mut world = world;
        for algorithm in [SigningAlgorithm::Hs256, SigningAlgorithm::Hs384, SigningAlgorithm::Hs512] {
            let change = |config: &mut doorward::config::Config| {
                (config.tokens.algorithm, config.tokens.hmac_secret) = (algorithm, secrets(&[&old]));
            };
            world = world.restart_with(change).await;
            let token = world.login("ann@example.com").await.access_token;
            assert_eq!(header(&token)["alg"], algorithm.as_str());
            assert!(kid(&token).starts_with("hmac-"));
            tokens.push(token);
        }
        assert_eq!(tokens.iter().map(|token| kid(token)).collect::<BTreeSet<_>>().len(), 3, "a name for each algorithm");
        let ring = world.app().keys.latest();
        assert_eq!(ring.published.len(), 1, "a secret is not published, and the key of before is as long as it may have tokens");
        assert!(!serde_json::to_string(&ring.published).unwrap().contains("\"k\""));
        let refusal = keys::rotate(world.app(), by(&world), false).await.unwrap_err();
        assert!(matches!(refusal, Error::FeatureDisabled(text) if text.contains("tokens.hmac_secret")), "{refusal:?}");

        let follow_up = |config: &mut doorward::config::Config| config.tokens.hmac_secret = secrets(&[&new, &old]);
        let world = world.restart_with(follow_up).await;
        for token in tokens.iter().chain([&by_key]) {
            world.validate(token).await.unwrap();
        }
        let by_new = world.login("ann@example.com").await.access_token;
        assert!(!tokens.iter().any(|token| kid(token) == kid(&by_new)));
        let world = world.restart_with(|config| config.tokens.hmac_secret = secrets(&[&new])).await;
        world.validate(&by_new).await.unwrap();
        for token in &tokens {
            assert_eq!(refused(world.validate(token).await), "TOKEN_INVALID");
        }
        // Nothing has to take over from a key that does not sign.
        let retired = keys::retire(world.app(), by(&world), &kid(&by_key)).await.unwrap().unwrap();
        assert_eq!(retired.state, KeyState::Retired);
        world.validate(&by_key).await.unwrap();
        let world = world.restart_with(|config| config.tokens.algorithm = SigningAlgorithm::Es256).await;
        world.validate(&by_new).await.unwrap();
        assert_eq!(header(&world.login("ann@example.com").await.access_token)["alg"], "ES256");
    }

    async fn operators_move_keys_on_by_rpc(world: World) {
        let account = instance_account(&world, &RIGHTS).await;
        let token = token(&world, &account).await;
        let mut client = client(&world);
        let list = async |client: &mut SigningKeyServiceClient<Channel>| {
            client.list_signing_keys(bearer(v1::ListSigningKeysRequest {}, &token)).await.unwrap().into_inner().signing_keys
        };
        let [first] = <[v1::SigningKey; 1]>::try_from(list(&mut client).await).unwrap();
        let start = prost_types::Timestamp { seconds: START, nanos: 0 };
        assert_eq!((first.state(), first.algorithm.as_str(), first.create_time, first.activate_time), (State::Active, "ES256", Some(start), Some(start)));
        let named = async |client: &mut SigningKeyServiceClient<Channel>, kid: &str| {
            client.get_signing_key(bearer(v1::GetSigningKeyRequest { kid: kid.to_owned() }, &token)).await.map(|answer| answer.into_inner().signing_key.unwrap())
        };
        assert_eq!(named(&mut client, &first.kid).await.unwrap(), first);
        assert_eq!(refused(named(&mut client, "another").await), "NOT_FOUND");

        let retire = async |client: &mut SigningKeyServiceClient<Channel>, kid: &str| {
            client.retire_signing_key(bearer(v1::RetireSigningKeyRequest { kid: kid.to_owned() }, &token)).await
        };
        let refusal = retire(&mut client, &first.kid).await.unwrap_err();
        assert_eq!(reason(&refusal), "KEY_STATE");
        assert!(refusal.message().contains("rotate"), "{refusal:?}");
        let rotate = async |client: &mut SigningKeyServiceClient<Channel>, activate_at_once| {
            let request = bearer(v1::RotateSigningKeyRequest { activate_at_once }, &token);
            client.rotate_signing_key(request).await.unwrap().into_inner().signing_key.unwrap()
        };
        let next = rotate(&mut client, false).await;
        let due = prost_types::Timestamp { seconds: START + 900, nanos: 0 };
        assert_eq!((next.state(), next.activate_time), (State::Pending, Some(due)));
        assert_eq!(rotate(&mut client, false).await, next, "one waits already");
        let refusal = retire(&mut client, &first.kid).await.unwrap_err();
        assert!(refusal.message().contains("2027-01-15T08:15:00Z"), "{refusal:?}");
        assert_eq!(retire(&mut client, &next.kid).await.unwrap().into_inner().signing_key, None, "it signed nothing, and is gone");
        assert_eq!(list(&mut client).await, std::slice::from_ref(&first));

        let next = rotate(&mut client, true).await;
        assert_eq!((next.state(), next.activate_time), (State::Active, Some(start)));
        let before = named(&mut client, &first.kid).await.unwrap();
        let gone = prost_types::Timestamp { seconds: START + 3_600 + 300, nanos: 0 };
        assert_eq!((before.state(), before.retire_time, before.remove_time), (State::Retired, Some(start), Some(gone)));
        assert_eq!(retire(&mut client, &first.kid).await.unwrap().into_inner().signing_key, Some(before), "twice is no error");

        let request = bearer(v1::RevokeSigningKeyRequest { kid: first.kid.clone() }, &token);
        let revoked = client.revoke_signing_key(request).await.unwrap().into_inner().signing_key.unwrap();
        assert_eq!((revoked.state(), revoked.revoke_time), (State::Revoked, Some(start)));
        let states = keys::list(world.app()).await.unwrap();
        assert!(states.iter().any(|key| key.kid == next.kid && key.state == KeyState::Active), "another one signed: nothing takes over");
        // Its own token was signed by the key that is revoked.
        let gone = async || client.clone().list_signing_keys(bearer(v1::ListSigningKeysRequest {}, &token)).await.is_err();
        eventually("the end of the operator's own token", gone).await;
    }

    async fn only_who_may_moves_keys_on(world: World) {
        let reader = instance_account(&world, &RIGHTS[..1]).await;
        let reader = token(&world, &reader).await;
        let mut client = client(&world);
        client.list_signing_keys(bearer(v1::ListSigningKeysRequest {}, &reader)).await.unwrap();
        let rotate = || v1::RotateSigningKeyRequest { activate_at_once: true };
        assert_eq!(refused(client.rotate_signing_key(bearer(rotate(), &reader)).await), "PERMISSION_MISSING");
        world.person("ann@example.com").await;
        let ann = world.login("ann@example.com").await.access_token;
        assert_eq!(refused(client.rotate_signing_key(bearer(rotate(), &ann)).await), "SUPERUSER_REQUIRED");
        world.superuser("root@example.com").await;
        let root = world.login("root@example.com").await.access_token;
        client.rotate_signing_key(bearer(rotate(), &root)).await.unwrap();
        let flagged = "SELECT count(*) AS n FROM audit_events WHERE event = 'signing_key.activated' AND details LIKE '%superuser_access%'";
        let cast = if world.backend == Backend::Postgres { flagged.replace("details LIKE", "details::text LIKE") } else { flagged.to_owned() };
        assert_eq!(world.sql().await.count(&cast).await, 1);
        world.pass(Duration::from_mins(11));
        assert_eq!(refused(client.rotate_signing_key(bearer(rotate(), &root)).await), "REAUTHENTICATION_REQUIRED");
        client.list_signing_keys(bearer(v1::ListSigningKeysRequest {}, &root)).await.unwrap();
    }

    async fn a_root_secret_is_replaced(world: World) {
        world.person("ann@example.com").await;
        let token = world.login("ann@example.com").await.access_token;
        let (old, new) = (root_in_use(&world), secret::generate_root(&Entropy::system()));
        let list = |roots: [&String; 2]| roots.map(|root| root.clone().into()).to_vec();
        let (appended, in_front) = (list([&old, &new]), list([&new, &old]));
        let world = world.restart_with(|config| config.secrets.root = appended).await;
        let unchanged = keys::reseal(world.app(), by(&world)).await.unwrap();
        assert_eq!(unchanged, Resealed { changed: 0, unchanged: 1 }, "the old one is still in front");
        let world = world.restart_with(|config| config.secrets.root = in_front).await;
        let private = private_key(world.app()).await;
        assert_eq!(keys::reseal(world.app(), by(&world)).await.unwrap(), Resealed { changed: 1, unchanged: 0 });
        assert_eq!(keys::reseal(world.app(), by(&world)).await.unwrap(), Resealed { changed: 0, unchanged: 1 });
        let world = world.restart_with(|config| config.secrets.root = vec![new.clone().into()]).await;
        assert_eq!(private_key(world.app()).await, private, "the same key");
        world.validate(&token).await.unwrap();
        world.login("ann@example.com").await;
    }
}

/// A flow that fell silent is given up: what follows the keys does not wait for it until the kernel does.
#[test]
fn keys_are_followed_through_a_silent_database() {
    run(Backend::Postgres, async |world| {
        let mut config = world.config.clone();
        let mut proxy = Proxy::before(&mut config).await;
        let replica = Replica::start(config, world.clock.clone()).await;
        for _ in 0..2 {
            let known = replica.app.keys.latest().signer().unwrap().kid.clone();
            proxy.set(Fault::BlackHole).await;
            eventually("keys that are too old", async || replica.app.keys.trusted().is_none()).await;
            keys::revoke(world.app(), by(&world), &known).await.unwrap();
            let since = tokio::time::Instant::now();
            let (one, other) = tokio::join!(replica.app.keys.since(&replica.app, since), replica.app.keys.since(&replica.app, since));
            assert!(matches!((one, other), (Err(Error::Unavailable(_)), Err(Error::Unavailable(_)))));
            assert_eq!(published(&replica), [known.as_str()], "the key set is answered all the same");
            proxy.set(Fault::None).await;
            eventually("the next key", async || replica.app.keys.latest().signer().is_ok_and(|signer| signer.kid != known)).await;
        }
    });
}

/// What a set of keys comes to when everything that is due is done.
fn settle(keys: &mut Vec<SigningKey>, outlook: &Outlook, now: Timestamp, made: &mut u8) {
    for _ in 0..8 {
        let steps = due(keys, outlook, now);
        if steps.is_empty() {
            return;
        }
        for step in steps {
            match step {
                Step::Make(state) => {
                    *made += 1;
                    let activated_at = (state == KeyState::Active).then_some(now);
                    let (kid, id) = (format!("key {made}"), SigningKeyId::generate(&Entropy::system(), &Clock::manual(now)));
                    let (algorithm, sealed_private_key) = ("ES256".to_owned(), Vec::new());
                    let (retired_at, revoked_at) = (None, None);
                    keys.push(SigningKey {
                        id,
                        kid,
                        algorithm,
                        state,
                        sealed_private_key,
                        created_at: now,
                        activated_at,
                        retired_at,
                        revoked_at,
                    });
                }
                Step::Activate(id) => {
                    let key = keys.iter_mut().find(|key| key.id == id).unwrap();
                    assert_eq!(key.state, KeyState::Pending);
                    (key.state, key.activated_at) = (KeyState::Active, Some(now));
                }
                Step::Retire(id) => {
                    let key = keys.iter_mut().find(|key| key.id == id).unwrap();
                    assert_eq!(key.state, KeyState::Active);
                    (key.state, key.retired_at) = (KeyState::Retired, Some(now));
                }
                Step::Remove(id) => keys.retain(|key| key.id != id),
            }
        }
    }
    panic!("it does not come to rest: {keys:?}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    /// Whatever is revoked, retired by hand or looked at late: one key signs, it was published before unless there was no other, and a
    /// retired one stays as long as it may have good tokens.
    #[test]
    fn one_key_signs_whatever_happens(moves in proptest::collection::vec((0_u8..8, 1_u64..4_000_000), 1..60)) {
        let tokens = doorward::config::Tokens::default();
        let outlook = Outlook::new(&tokens);
        let (mut keys, mut now, mut made) = (Vec::new(), Timestamp::from_unix(START), 0);
        settle(&mut keys, &outlook, now, &mut made);
        for (what, seconds) in moves {
            // Mostly little time passes.
            now = now.plus(Duration::from_secs(if what < 4 { seconds % 1_200 } else { seconds }));
            let before = keys.clone();
            let victim = usize::try_from(seconds).unwrap() % keys.len();
            let was_signing = keys[victim].state == KeyState::Active;
            if what % 4 == 0 {
                (keys[victim].state, keys[victim].revoked_at) = (KeyState::Revoked, Some(now));
            }
            settle(&mut keys, &outlook, now, &mut made);
            let active: Vec<&SigningKey> = keys.iter().filter(|key| key.state == KeyState::Active).collect();
            prop_assert_eq!(active.len(), 1);
            let signs = active[0];
            let signed_before = before.iter().any(|key| key.id == signs.id && key.state == KeyState::Active);
            let had_to = what % 4 == 0 && was_signing;
            if !signed_before && !had_to {
                prop_assert!(signs.created_at.plus(PUBLISHED_BEFORE) <= now, "it signs before it was published long enough");
            }
            for key in before.iter().filter(|key| key.state == KeyState::Retired && !keys.iter().any(|k| k.id == key.id)) {
                prop_assert!(key.retired_at.unwrap().plus(tokens.max_access_lifetime) < now, "it went while a token of it was good");
            }
            prop_assert!(keys.iter().filter(|key| key.state == KeyState::Pending).count() <= 1);
        }
    }
}

#[test]
fn a_state_of_a_later_version_is_none_of_ours() {
    assert!(!KeyState::Unknown.verifies() && !KeyState::Revoked.verifies());
    let all = SigningAlgorithm::ALL.map(|algorithm| algorithm.as_str().parse::<SigningAlgorithm>().unwrap());
    assert_eq!(all, SigningAlgorithm::ALL);
    for other in ["none", "es256", "ES384", "PS256", "", "HS1"] {
        other.parse::<SigningAlgorithm>().unwrap_err();
    }
    assert_eq!(json!(SigningAlgorithm::EdDsa.as_str()), "EdDSA");
}
