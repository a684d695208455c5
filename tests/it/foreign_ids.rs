//! Invariant 19: whatever RPC, whatever id field: the id of another tenant gets, byte for byte, the answer of a random one.
//!
//! The cases are made from the descriptors of the contract: every RPC of `METHODS`, every string field of its request, however deep,
//! that is called `…_id`. So a new RPC is covered as soon as [`whole_request`] knows how to call it, and the test fails until it does.

use std::collections::BTreeMap;

use doorward::{
    domain,
    methods::{Access, METHODS, Method},
    pb,
};
use prost_reflect::{DescriptorPool, DynamicMessage, FieldDescriptor, Kind, MessageDescriptor, ReflectMessage, Value};
use tonic::{
    Request, Status,
    client::Grpc,
    codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder},
    codegen::http::uri::PathAndQuery,
};
use uuid::Uuid;

use crate::{
    access::{Refusal, literal, random_id},
    harness::*,
    on_both,
};

/// Bytes as they are.
#[derive(Clone, Default)]
struct Raw;

impl Codec for Raw {
    type Encode = Vec<u8>;
    type Decode = Vec<u8>;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        Self
    }

    fn decoder(&mut self) -> Self {
        Self
    }
}

impl Encoder for Raw {
    type Item = Vec<u8>;
    type Error = Status;

    fn encode(&mut self, item: Vec<u8>, buffer: &mut EncodeBuf<'_>) -> Result<(), Status> {
        prost::bytes::BufMut::put_slice(buffer, &item);
        Ok(())
    }
}

impl Decoder for Raw {
    type Item = Vec<u8>;
    type Error = Status;

    fn decode(&mut self, buffer: &mut DecodeBuf<'_>) -> Result<Option<Vec<u8>>, Status> {
        let mut item = vec![0; prost::bytes::Buf::remaining(buffer)];
        prost::bytes::Buf::copy_to_slice(buffer, &mut item);
        Ok(Some(item))
    }
}

/// Tenant A's caller: a way to be known.
struct Caller {
    access_token: String,
    refresh_token: String,
}

/// Requests that would be answered, but for the id field that is going to be set: (what the case is, the request's fields by their
/// path). **A new RPC**: say here how it is called by a member of tenant A who may.
fn whole_request(method: &Method, caller: &Caller) -> Vec<(&'static str, BTreeMap<&'static str, String>)> {
    let fields = |pairs: &[(&'static str, &str)]| pairs.iter().map(|&(path, value)| (path, value.to_owned())).collect();
    let password = fields(&[("password.username", "ann@example.com"), ("password.password", PASSWORD)]);
    match method.name {
        "Login" => vec![("login", fields(&[("identifier", "ann@example.com"), ("password", PASSWORD)]))],
        "IssueToken" => vec![
            ("password grant", password),
            ("refresh grant", fields(&[("refresh_token.refresh_token", &caller.refresh_token)])),
            ("client credentials", fields(&[("client_credentials.client_id", "x"), ("client_credentials.client_secret", "y")])),
        ],
        "ValidateSession" => {
            vec![("token in the message", fields(&[("access_token", &caller.access_token)])), ("token in authorization", fields(&[]))]
        }
        "GetMe" | "ListTenants" => vec![("plain", fields(&[]))],
        "Logout" => vec![("unknown token", fields(&[("access_token", "x")]))],
        "ChangePassword" => vec![("wrong password", fields(&[("current_password", "wrong"), ("new_password", "a new long password")]))],
        other => panic!("{other} is new: say in `whole_request` how a member who may calls it, so that invariant 19 covers it"),
    }
}

/// Sets a field by its path, making the messages on the way.
fn set(message: &mut DynamicMessage, path: &str, value: &str) {
    match path.split_once('.') {
        None => {
            let field = message.descriptor().get_field_by_name(path).unwrap_or_else(|| panic!("no field {path}"));
            let value = Value::String(value.to_owned());
            message.set_field(&field, if field.is_list() { Value::List(vec![value]) } else { value });
        }
        Some((outer, rest)) => match message.get_field_by_name_mut(outer) {
            Some(Value::Message(inner)) => set(inner, rest, value),
            other => panic!("{outer} is no message but {other:?}"),
        },
    }
}

fn is_id(field: &FieldDescriptor) -> bool {
    let name = field.name();
    field.kind() == Kind::String && (name == "id" || name.ends_with("_id") || name.ends_with("_ids"))
}

/// The paths of all id fields of a message.
fn id_fields(message: &MessageDescriptor, prefix: &str, depth: usize) -> Vec<String> {
    let mut paths = Vec::new();
    for field in message.fields() {
        let path = format!("{prefix}{}", field.name());
        match field.kind() {
            _ if is_id(&field) => paths.push(path),
            Kind::Message(inner) if depth < 4 && !field.is_list() && !field.is_map() && inner.full_name() != "google.protobuf.Struct" => {
                paths.extend(id_fields(&inner, &format!("{path}."), depth + 1));
            }
            _ => {}
        }
    }
    paths
}

/// The field that the message's path begins with belongs to a oneof, of which the request has chosen another member.
fn is_excluded(request: &DynamicMessage, path: &str) -> bool {
    let head = path.split('.').next().unwrap();
    let field = request.descriptor().get_field_by_name(head).unwrap();
    field.containing_oneof().is_some() && !request.has_field(&field)
}

/// Everything that a caller sees of an answer: the message of a good one, or the refusal.
async fn answer(world: &World, method: &Method, caller: &Caller, request: &DynamicMessage) -> Result<Vec<u8>, Refusal> {
    let mut message = Request::new(prost::Message::encode_to_vec(request));
    message.metadata_mut().insert("x-request-id", "the-same".parse().unwrap());
    if method.policy.access != Access::Public {
        message.metadata_mut().insert("authorization", format!("Bearer {}", caller.access_token).parse().unwrap());
    }
    let mut client = Grpc::new(world.replica.channel());
    client.ready().await.unwrap();
    let answer = client.unary(message, PathAndQuery::from_static(method.path), Raw).await;
    answer.map(tonic::Response::into_inner).map_err(|status| Refusal::of(&status))
}

/// Ids of everything that tenant B has.
async fn ids_of(world: &World, tenant: &doorward::store::tenants::Tenant) -> Vec<String> {
    let id = literal(world, tenant.id.as_uuid());
    let mut ids = vec![tenant.id.to_string(), "ext:crm-globex".to_owned()];
    let tables =
        ["roles WHERE tenant_id =", "memberships WHERE tenant_id =", "sessions WHERE tenant_id =", "audit_events WHERE tenant_id ="];
    for table in tables {
        let rows = world.sql().await.query(&format!("SELECT id FROM {table} {id}")).await;
        assert!(!rows.is_empty(), "{table}");
        ids.extend(rows.iter().map(|row| row.try_get::<Uuid>("", "id").unwrap().to_string()));
    }
    ids.push(domain::users::resolve(world.app(), "bob@example.com").await.unwrap().id.to_string());
    ids
}

on_both! {
    async fn the_id_of_another_tenant_gets_the_answer_of_a_random_one(world: World) {
        let pool = DescriptorPool::decode(pb::DESCRIPTORS).unwrap();
        let (ann, bob) = (world.person("ann@example.com").await, world.person("bob@example.com").await);
        let (acme, globex) = (world.tenant("acme").await, world.tenant("globex").await);
        world.member(&acme, &ann, &["owner"]).await;
        world.member(&globex, &bob, &["owner"]).await;
        world.login_to("bob@example.com", &globex).await;
        let foreign = ids_of(&world, &globex).await;

        let mut covered = Vec::new();
        for bound_to in ["", "ext:crm-acme"] {
            let set_of = world.try_login("ann@example.com", PASSWORD, bound_to).await.unwrap().tokens.unwrap();
            let caller = Caller { access_token: set_of.access_token, refresh_token: set_of.refresh_token };
            for method in METHODS {
                let descriptor = pool.get_message_by_name(method.input).unwrap();
                for (case, given) in whole_request(method, &caller) {
                    let mut request = DynamicMessage::new(descriptor.clone());
                    for (path, value) in &given {
                        set(&mut request, path, value);
                    }
                    for path in id_fields(&descriptor, "", 0).into_iter().filter(|path| !is_excluded(&request, path)) {
                        let with = |id: &str| {
                            let mut request = request.clone();
                            set(&mut request, &path, id);
                            request
                        };
                        let what = format!("{}, {case}, {path}, caller of {bound_to:?}", method.path);
                        let random = answer(&world, method, &caller, &with(&random_id().to_string())).await;
                        assert!(random.is_err(), "{what}: a random id was answered with {random:?}");
                        for id in &foreign {
                            assert_eq!(answer(&world, method, &caller, &with(id)).await, random, "{what}: {id}");
                        }
                        covered.push(format!("{}.{path}", method.name));
                    }
                }
            }
        }
        // The walk finds what it must; others may come.
        for known in ["Login.tenant_id", "IssueToken.tenant_id", "IssueToken.client_credentials.client_id", "ValidateSession.tenant_id"] {
            assert!(covered.iter().any(|path| path == known), "{known} is not among {covered:?}");
        }
    }

    async fn the_cases_themselves_are_answered_without_the_foreign_id(world: World) {
        let pool = DescriptorPool::decode(pb::DESCRIPTORS).unwrap();
        let ann = world.person("ann@example.com").await;
        let acme = world.tenant("acme").await;
        world.member(&acme, &ann, &["owner"]).await;
        let set_of = world.try_login("ann@example.com", PASSWORD, "ext:crm-acme").await.unwrap().tokens.unwrap();
        let caller = Caller { access_token: set_of.access_token, refresh_token: set_of.refresh_token };
        // With the own tenant's id each is a yes: what refuses in the test above is the id, and nothing else.
        for method in METHODS.iter().filter(|method| ["Login", "IssueToken", "ValidateSession"].contains(&method.name)) {
            let descriptor = pool.get_message_by_name(method.input).unwrap();
            for (case, given) in whole_request(method, &caller).into_iter().filter(|(case, _)| *case != "client credentials") {
                let mut request = DynamicMessage::new(descriptor.clone());
                for (path, value) in &given {
                        set(&mut request, path, value);
                    }
                set(&mut request, "tenant_id", &acme.id.to_string());
                let answer = answer(&world, method, &caller, &request).await;
                assert!(answer.is_ok(), "{}, {case}: {answer:?}", method.path);
            }
        }
    }
}

#[test]
fn every_kind_of_id_field_is_found() {
    let pool = DescriptorPool::decode(pb::DESCRIPTORS).unwrap();
    let message = pool.get_message_by_name("doorward.v1.IssueTokenRequest").unwrap();
    assert_eq!(id_fields(&message, "", 0), ["client_credentials.client_id", "tenant_id"]);
    // Answers have more kinds of fields than requests do so far.
    let message = pool.get_message_by_name("doorward.v1.ValidateSessionResponse").unwrap();
    let found = id_fields(&message, "", 0);
    for expected in ["principal.user.id", "principal.user.external_id", "session.tenant_id", "tenant.id"] {
        assert!(found.iter().any(|path| path == expected), "{found:?}");
    }
}
