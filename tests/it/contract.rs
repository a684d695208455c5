//! The contract against what is served: reasons, methods, paths, reflection. Below `contract/`: what the build demands of the proto files,
//! what every answer carries, and who the caller may be.

use std::collections::{BTreeMap, BTreeSet};

use doorward::{
    error::{Error, FieldViolation, Taken},
    grpc::gate::Gate,
    methods::METHODS,
};
use prost_reflect::{Kind, prost::Message as _};
use serde_json::json;
use tower::ServiceExt as _;

use crate::{
    harness::*,
    life::eventually,
    on_both,
    recipes::{Caller, recipes},
    wire::{self, Wire, contract, encode, frame, message},
};

mod answers;
mod build_script;
mod callers;
mod secrets;

/// Reasons that the contract has for what later versions serve. When an error gets one of these, take it off.
const LATER: [&str; 5] = ["IDEMPOTENCY_KEY_REUSED", "LAST_OWNER", "SYSTEM_ROLE", "INVITATION_NOT_PENDING", "THROTTLED"];

/// One of every error.
pub fn every_error() -> Vec<Error> {
    let violation = || vec![FieldViolation { field: "email".to_owned(), description: "must not be empty".to_owned() }];
    let taken = [Taken::Email, Taken::Username, Taken::Slug, Taken::TaxId, Taken::ExternalId, Taken::RoleName, Taken::Member];
    let mut errors = vec![
        Error::InvalidField(violation()),
        Error::PasswordRejected(violation()),
        Error::InvalidCredentials,
        Error::TokenMissing,
        Error::TokenExpired,
        Error::TokenInvalid,
        Error::NoBearerToken,
        Error::SessionExpired,
        Error::SessionRevoked,
        Error::PrincipalDisabled,
        Error::AudienceMismatch,
        Error::ReauthenticationRequired,
        Error::PasswordChangeRequired,
        Error::RefreshTokenReused,
        Error::CallerUnauthenticated,
        Error::NotAMember,
        Error::MembershipSuspended,
        Error::TenantSuspended,
        Error::PermissionMissing("sales:write".to_owned()),
        Error::RoleMissing,
        Error::SuperuserRequired,
        Error::GrantExceedsOwn,
        Error::CallerNotAllowed,
        Error::NotFound("role"),
        Error::KeyState("the key is revoked".to_owned()),
        Error::FeatureDisabled("not served"),
        Error::SeatLimit,
        Error::Overloaded { retry_after: std::time::Duration::from_secs(3) },
        Error::Conflict,
        Error::Unavailable("canary-cause".to_owned()),
        Error::Deadline,
        Error::MethodUnknown,
        Error::Internal("canary-cause".to_owned()),
    ];
    errors.extend(taken.map(Error::Taken));
    errors.iter().for_each(is_listed);
    errors
}

/// A new variant does not compile until it is in this match, and belongs into [`every_error`] then.
const fn is_listed(error: &Error) {
    match error {
        Error::InvalidField(_)
        | Error::PasswordRejected(_)
        | Error::InvalidCredentials
        | Error::TokenMissing
        | Error::TokenExpired
        | Error::TokenInvalid
        | Error::NoBearerToken
        | Error::SessionExpired
        | Error::SessionRevoked
        | Error::PrincipalDisabled
        | Error::AudienceMismatch
        | Error::ReauthenticationRequired
        | Error::PasswordChangeRequired
        | Error::RefreshTokenReused
        | Error::CallerUnauthenticated
        | Error::NotAMember
        | Error::MembershipSuspended
        | Error::TenantSuspended
        | Error::PermissionMissing(_)
        | Error::RoleMissing
        | Error::SuperuserRequired
        | Error::GrantExceedsOwn
        | Error::CallerNotAllowed
        | Error::NotFound(_)
        | Error::KeyState(_)
        | Error::FeatureDisabled(_)
        | Error::SeatLimit
        | Error::Overloaded { .. }
        | Error::Conflict
        | Error::Unavailable(_)
        | Error::Deadline
        | Error::MethodUnknown
        | Error::Internal(_) => {}
        Error::Taken(taken) => match taken {
            Taken::Email | Taken::Username | Taken::Slug | Taken::TaxId | Taken::ExternalId | Taken::RoleName | Taken::Member => {}
        },
    }
}

/// The reasons of `errors.proto` and, of each, the gRPC code that its comment begins with.
fn documented_reasons() -> BTreeMap<String, String> {
    let reasons = contract().get_enum_by_name("doorward.v1.ErrorReason").unwrap();
    let file = reasons.parent_file();
    let info = file.file_descriptor_proto().source_code_info.clone().expect("the descriptors have comments");
    let comment = |path: &[i32]| info.location.iter().find(|place| place.path == path).map(|place| place.leading_comments().to_owned());
    let code = |text: String| text.trim().chars().take_while(|c| c.is_ascii_uppercase() || *c == '_').collect::<String>();
    reasons
        .values()
        .filter(|value| value.number() != 0)
        .map(|value| {
            let name = value.name().strip_prefix("ERROR_REASON_").unwrap().to_owned();
            (name, code(comment(value.path()).expect("every reason has a comment")))
        })
        .collect()
}

#[test]
fn the_reasons_of_the_contract_are_those_of_the_errors() {
    let documented: BTreeSet<String> = documented_reasons().into_keys().collect();
    let built: BTreeSet<String> = every_error().iter().map(|error| error.reason().0.to_owned()).collect();
    let later: BTreeSet<String> = LATER.map(str::to_owned).into();
    let missing: Vec<_> = built.difference(&documented).collect();
    assert!(missing.is_empty(), "reasons that errors.proto does not have: add them there: {missing:?}");
    let unused: Vec<_> = documented.iter().filter(|reason| !built.contains(*reason) && !later.contains(*reason)).collect();
    assert!(
        unused.is_empty(),
        "reasons of errors.proto that no error has: give them a variant of `Error`, or list them in LATER: {unused:?}"
    );
    let both: Vec<_> = built.intersection(&later).collect();
    assert!(both.is_empty(), "these are served now: take them out of LATER: {both:?}");
}

#[test]
fn the_comment_of_each_reason_begins_with_its_code() {
    let documented = documented_reasons();
    for error in every_error() {
        let (reason, code) = error.reason();
        assert_eq!(documented[reason], wire::upper_snake(&format!("{code:?}")), "{reason} in errors.proto");
    }
}

on_both! {
    async fn every_method_is_served_under_the_name_of_its_service(world: World) {
        let acme = world.tenant("acme").await;
        let wire = Wire::connect(world.replica.grpc_addr).await;
        for method in METHODS {
            let caller = Caller::member(&world, &acme, &format!("{}@example.com", method.name), &["owner"]).await;
            let outcome = wire.call(method.path, &[("authorization", &caller.bearer())], &[]).await.outcome();
            assert!(!outcome.starts_with("UNIMPLEMENTED"), "{} is in the contract, but `server::routes` does not serve it", method.path);
            let check = encode_health(method.service);
            // HealthCheckResponse { status: SERVING }, as soon as the database was asked for the first time.
            let serves = async || {
                let health = wire.call("/grpc.health.v1.Health/Check", &[], &check).await;
                health.status().code() == tonic::Code::Ok && health.message() == [8, 1]
            };
            eventually(&format!("the health of {}", method.service), serves).await;
        }
    }

    async fn only_the_exact_path_of_a_listed_method_is_let_in(world: World) {
        let wire = Wire::connect(world.replica.grpc_addr).await;
        world.person("ann@example.com").await;
        let good = encode("doorward.v1.LoginRequest", json!({ "identifier": "ann@example.com", "password": PASSWORD }));
        assert_eq!(wire.call("/doorward.v1.AuthService/Login", &[], &good).await.outcome(), "OK");
        let tricks = [
            "/", "/doorward.v1.AuthService", "/doorward.v1.AuthService/", "/doorward.v1.AuthService/Nothing",
            "/doorward.v1.AuthService/login", "/doorward.v1.AuthService/LOGIN", "/doorward.v1.authservice/Login",
            "/doorward.v1.AuthService/Login/", "//doorward.v1.AuthService/Login", "/doorward.v1.AuthService//Login",
            "/./doorward.v1.AuthService/Login", "/x/../doorward.v1.AuthService/Login", "/doorward.v1.AuthService/Login/.",
            "/doorward.v1.AuthService/%4cogin", "/doorward%2ev1.AuthService/Login", "/doorward.v1.AuthService%2fLogin",
            "/doorward.v1.AuthService/Login?", "/doorward.v1.AuthService/Login?a=b", "/doorward.v1.AuthService/Login;a=b",
            "/doorward.v1.AuthService/Login%00", "/doorward.v1.AuthService/Login%20", "/doorward.v1.AuthService/Login.",
            "/doorward.v2.AuthService/Login", "/doorward.v1.UserService/Login", "/AuthService/Login", "/v1.AuthService/Login",
            "/grpc.health.v1.Health/Nothing", "/grpc.health.v1.Health/Check/", "/grpc.health.v1.Health/Check?a=b",
            "/grpc.reflection.v1.ServerReflection/serverreflectioninfo", "/metrics", "/healthz",
        ];
        let let_in: Vec<_> = {
            let mut found = Vec::new();
            for path in tricks {
                let status = wire.call(path, &[], &good).await.status();
                if status.metadata().get("doorward-reason").is_none_or(|reason| reason != "METHOD_UNKNOWN") {
                    found.push((path, status.code()));
                }
            }
            found
        };
        assert_eq!(let_in, [], "the gate must look at the whole path and query, and find it in METHODS or OPEN literally");
    }

    async fn an_enum_value_that_the_contract_does_not_know_is_refused(world: World) {
        let acme = world.tenant("acme").await;
        world.role(&acme, "seller", &["sales:write"]).await;
        let wire = Wire::connect(world.replica.grpc_addr).await;
        let mut fields = 0;
        for method in METHODS {
            for field in message(method.input).fields().filter(|field| matches!(field.kind(), Kind::Enum(_))) {
                let caller = Caller::member(&world, &acme, &format!("{}-{}@example.com", method.name, field.name()), &["seller"]).await;
                let mut request = recipes(method, &caller).swap_remove(0).json;
                request[field.name()] = json!(9999);
                let request = encode(method.input, request);
                let answer = wire.call(method.path, &[("authorization", &caller.bearer())], &request).await;
                assert_eq!(answer.outcome(), "INVALID_ARGUMENT INVALID_FIELD", "{}: {}", method.path, field.name());
                fields += 1;
            }
        }
        assert!(fields > 0, "ValidateSession.freshness is one");
    }

    async fn a_service_that_is_served_but_not_in_the_contract_is_refused(world: World) {
        use axum::{Router, body::Body, routing::any};
        let hidden = ["/doorward.v1.HiddenService/Do", "/doorward.v1.AuthService/Hidden", "/grpc.health.v1.Health/List"];
        let router = hidden.iter().fold(Router::new(), |router, path| router.route(path, any(async || "let in")));
        let gate = Gate::new(std::sync::Arc::clone(&world.replica.app), router);
        for path in hidden {
            let request = http::Request::post(path).body(Body::from(frame(&[]))).unwrap();
            let response = gate.clone().oneshot(request).await.unwrap();
            assert_eq!(response.headers()["doorward-reason"], "METHOD_UNKNOWN", "{path}");
        }
    }

    async fn reflection_answers_the_services_and_the_policies_in_both_versions(world: World) {
        let wire = Wire::connect(world.replica.grpc_addr).await;
        for version in ["v1", "v1alpha"] {
            let listed: BTreeSet<String> = reflect(&wire, version, 7, "*").await.services().into_iter().collect();
            let reflection = format!("grpc.reflection.{version}.ServerReflection");
            let ours = METHODS.iter().map(|method| method.service.to_owned());
            let expected: BTreeSet<String> = ours.chain(["grpc.health.v1.Health".to_owned(), reflection]).collect();
            assert_eq!(listed, expected, "{version}");

            let mut pool = prost_reflect::DescriptorPool::new();
            for file in ["descriptor", "timestamp", "duration", "struct"].map(|name| format!("google/protobuf/{name}.proto")) {
                pool.decode_file_descriptor_proto(reflect(&wire, version, 3, &file).await.file()).unwrap();
            }
            for file in ["options", "errors", "freshness", "user", "tenant", "service_account", "principal", "session", "token"] {
                pool.decode_file_descriptor_proto(reflect(&wire, version, 3, &format!("doorward/v1/{file}.proto")).await.file()).unwrap();
            }
            for service in METHODS.iter().map(|method| method.service).collect::<BTreeSet<_>>() {
                pool.decode_file_descriptor_proto(reflect(&wire, version, 4, service).await.file()).unwrap();
            }
            let policy = pool.get_extension_by_name("doorward.v1.policy").unwrap();
            for method in METHODS {
                let service = pool.get_service_by_name(method.service).unwrap();
                let described = service.methods().find(|found| found.name() == method.name).unwrap();
                assert!(described.options().has_extension(&policy), "{version} serves {} without its policy", method.path);
            }
        }
    }
}

/// `HealthCheckRequest { service }`.
fn encode_health(service: &str) -> Vec<u8> {
    tonic_health::pb::HealthCheckRequest { service: service.to_owned() }.encode_to_vec()
}

/// An answer of reflection; both versions have one form.
struct Reflected(tonic_reflection::pb::v1::server_reflection_response::MessageResponse);

/// Asks one question: 3 is a file by its name, 4 a file by a symbol, 7 the services.
async fn reflect(wire: &Wire, version: &str, question: u32, text: &str) -> Reflected {
    use tonic_reflection::pb::v1::{ServerReflectionRequest, ServerReflectionResponse, server_reflection_request::MessageRequest as Ask};
    let ask = match question {
        3 => Ask::FileByFilename(text.to_owned()),
        4 => Ask::FileContainingSymbol(text.to_owned()),
        _ => Ask::ListServices(text.to_owned()),
    };
    let request = ServerReflectionRequest { host: String::new(), message_request: Some(ask) }.encode_to_vec();
    let answer = wire.call(&format!("/grpc.reflection.{version}.ServerReflection/ServerReflectionInfo"), &[], &request).await;
    assert!(answer.is_ok(), "{version} {text}: {answer:?}");
    Reflected(ServerReflectionResponse::decode(answer.message()).unwrap().message_response.unwrap())
}

impl Reflected {
    fn services(self) -> Vec<String> {
        use tonic_reflection::pb::v1::server_reflection_response::MessageResponse::ListServicesResponse;
        let ListServicesResponse(list) = self.0 else { panic!("no list") };
        list.service.into_iter().map(|service| service.name).collect()
    }

    fn file(self) -> axum::body::Bytes {
        use tonic_reflection::pb::v1::server_reflection_response::MessageResponse::FileDescriptorResponse;
        let FileDescriptorResponse(files) = self.0 else { panic!("no file") };
        assert_eq!(files.file_descriptor_proto.len(), 1);
        files.file_descriptor_proto[0].clone().into()
    }
}
