//! Secrets in the contract: every field that holds one says so (`debug_redact`), and no message with one prints it.

use doorward::pb::v1;
use prost_reflect::{DynamicMessage, Kind, MessageDescriptor, Value, prost::Message};

use super::build_script::{secretive, secretive_types};
use crate::wire::contract;

const CANARY: &str = "canary-0f9c";

/// Whether a field holds a secret, by its name. `…_type` is a word of RFC 6749 or 8693; an id names a secret and does not tell it; a page
/// token opens nothing.
fn sounds_secret(name: &str) -> bool {
    let is_harmless = ["_type", "_id", "page_token"].iter().any(|end| name.ends_with(end));
    ["password", "token", "secret"].iter().any(|word| name.contains(word)) && !is_harmless
}

#[test]
fn every_field_that_sounds_like_a_secret_is_marked_as_one() {
    let redacted = secretive();
    let mut seen = 0;
    for message in contract().all_messages().filter(|message| message.package_name() == "doorward.v1") {
        for field in message.fields().filter(|field| field.kind() == Kind::String && sounds_secret(field.name())) {
            seen += 1;
            let marked = field.options().get_field_by_name("debug_redact").is_some_and(|value| *value == Value::Bool(true));
            assert!(marked, "{} sounds like a secret: mark it `[debug_redact = true]` in the proto", field.full_name());
            let path = format!(".{}", message.full_name());
            assert!(redacted.contains(&path), "{path} holds {}, but build.rs leaves it its derived Debug", field.name());
        }
    }
    assert!(seen >= 14, "only {seen} were looked at");
}

/// What each type with a secret prints when all its strings are canaries.
fn printed(name: &str, bytes: &[u8]) -> String {
    macro_rules! print {
        ($($type:ident)+) => {
            match name {
                $(stringify!($type) => { let message = v1::$type::decode(bytes).unwrap(); format!("{message:?} {message:#?}") })+
                _ => panic!("{name} holds a secret: add it to the list in tests/it/contract/secrets.rs"),
            }
        };
    }
    print! {
        LoginRequest LoginResponse PasswordGrant RefreshTokenGrant ClientCredentialsGrant TokenExchangeGrant ValidateSessionRequest
        LogoutRequest ChangePasswordRequest ClientInfo TokenSet CreateServiceAccountResponse AddServiceAccountSecretResponse
        CheckAccessRequest BatchCheckAccessRequest ListEffectivePermissionsRequest
    }
}

/// A message whose every string holds a canary; of a oneof the field `choice` from its end.
fn full_of_canaries(message: &MessageDescriptor, choice: usize) -> DynamicMessage {
    let mut filled = DynamicMessage::new(message.clone());
    let fields: Vec<_> = message.fields().collect();
    for index in (0..fields.len()).map(|index| (index + choice) % fields.len()) {
        let field = &fields[index];
        match field.kind() {
            Kind::String if field.is_list() => filled.set_field(field, Value::List(vec![Value::String(CANARY.to_owned())])),
            Kind::String => filled.set_field(field, Value::String(CANARY.to_owned())),
            Kind::Message(inner) if inner.package_name() == "doorward.v1" && !field.is_list() => {
                filled.set_field(field, Value::Message(full_of_canaries(&inner, choice)));
            }
            _ => {}
        }
    }
    filled
}

#[test]
fn a_message_with_a_secret_prints_none() {
    let (plain, of_oneofs): (Vec<_>, Vec<_>) = secretive_types().into_iter().partition(|name| !name.contains("::"));
    for name in &plain {
        for choice in 0..2 {
            let bytes = full_of_canaries(&crate::wire::message(&format!("doorward.v1.{name}")), choice).encode_to_vec();
            let text = printed(name, &bytes);
            assert!(text.contains(name) && !text.contains(CANARY), "{name} prints a secret: {text}");
        }
    }
    assert_eq!(of_oneofs, ["logout_request::Credential"], "print the new one below");
    let access = v1::logout_request::Credential::AccessToken(CANARY.to_owned());
    let refresh = v1::logout_request::Credential::RefreshToken(CANARY.to_owned());
    assert!(!format!("{access:?} {refresh:#?}").contains(CANARY));
}

#[test]
fn a_message_around_one_with_a_secret_prints_none() {
    for choice in 0..4 {
        let bytes = full_of_canaries(&crate::wire::message("doorward.v1.IssueTokenRequest"), choice).encode_to_vec();
        let v1::IssueTokenRequest { grant, client_info, .. } = v1::IssueTokenRequest::decode(bytes.as_slice()).unwrap();
        assert!(grant.is_some() && client_info.is_some(), "the message is not filled");
        let text = format!("{:?}", v1::IssueTokenRequest { grant, client_info, ..Default::default() });
        assert!(!text.contains(CANARY), "{text}");
    }
    let bytes = full_of_canaries(&crate::wire::message("doorward.v1.IssueTokenResponse"), 0).encode_to_vec();
    let answer = v1::IssueTokenResponse::decode(bytes.as_slice()).unwrap();
    assert!(answer.tokens.is_some() && !format!("{answer:?}").contains(CANARY));
}
