//! Bad input: every string that people and scanners try, in every string field of every request, with good credentials elsewhere. The
//! fields come from the contract's descriptors, so a new RPC is covered by its recipe.
//!
//! The rule: an answer, or a refusal with a reason; never a defect; and what is refused as `INVALID_FIELD` wrote nothing.

use std::{collections::BTreeSet, sync::Arc};

use doorward::{
    methods::{Access, METHODS, Method},
    store::tenants::Tenant,
};
use prost_reflect::{DynamicMessage, FieldDescriptor, Kind, MessageDescriptor, ReflectMessage as _, Value, prost::Message as _};
use tokio::task::JoinSet;

use crate::{
    harness::*,
    on_both,
    recipes::{Caller, recipes},
    wire::{Answer, Wire, frame, message},
};

/// The names of fields from the request down to a string.
pub type Path = Vec<String>;

/// One string field of one way to call one method.
#[derive(Clone)]
struct Target {
    method: &'static Method,
    way: usize,
    path: Path,
    /// Tells the persons of one target from those of another.
    number: usize,
}

impl Target {
    fn name(&self) -> String {
        format!("{} ({}) {}", self.method.name, self.way(), self.path.join("."))
    }

    fn way(&self) -> &'static str {
        recipes(self.method, &Caller::default())[self.way].way
    }

    /// Whether a yes uses its caller up.
    fn consumes(&self) -> bool {
        recipes(self.method, &Caller::default())[self.way].consumes
    }

    /// Whether the field is what a person logs in with: there a bad string is a wrong one.
    fn is_login_credential(&self) -> bool {
        let name = self.path.join(".");
        match self.method.name {
            "Login" => ["identifier", "password"].contains(&name.as_str()),
            "IssueToken" => ["password.username", "password.password"].contains(&name.as_str()),
            _ => false,
        }
    }
}

/// Every string field of a message, and of the messages in it that `filled` has or that no oneof shuts out.
pub fn string_fields(descriptor: &MessageDescriptor, filled: Option<&DynamicMessage>) -> Vec<Path> {
    let mut paths = Vec::new();
    for field in descriptor.fields() {
        let inner = filled.filter(|message| message.has_field(&field)).map(|message| message.get_field(&field).into_owned());
        match field.kind() {
            Kind::String => paths.push(vec![field.name().to_owned()]),
            Kind::Message(kind) if kind.package_name() == "doorward.v1" => {
                let inner = inner.as_ref().and_then(Value::as_message);
                if inner.is_some() || field.containing_oneof().is_none() {
                    let below = string_fields(&kind, inner);
                    paths.extend(below.into_iter().map(|path| [vec![field.name().to_owned()], path].concat()));
                }
            }
            _ => {}
        }
    }
    paths
}

/// Every string field of every request, once for each way to call in which it plays a part.
fn targets() -> Vec<Target> {
    let mut targets: Vec<Target> = Vec::new();
    for method in METHODS {
        for (way, recipe) in recipes(method, &Caller::default()).into_iter().enumerate() {
            let request = DynamicMessage::deserialize(message(method.input), recipe.json).unwrap();
            for path in string_fields(&request.descriptor(), Some(&request)) {
                let number = targets.len();
                targets.push(Target { method, way, path, number });
            }
        }
    }
    targets
}

/// Puts a text into a field.
pub fn put(request: &mut DynamicMessage, path: &[String], text: &str) {
    let field: FieldDescriptor = request.descriptor().get_field_by_name(&path[0]).unwrap();
    if let [_, rest @ ..] = path
        && !rest.is_empty()
    {
        let inner = match request.get_field_mut(&field) {
            // The recipes have one at least.
            Value::List(list) => list[0].as_message_mut(),
            other => other.as_message_mut(),
        };
        return put(inner.unwrap(), rest, text);
    }
    let text = Value::String(text.to_owned());
    request.set_field(&field, if field.is_list() { Value::List(vec![text]) } else { text });
}

/// The strings of the common list, of which only every so many are tried where each costs a new person, and our own.
fn bad_strings(every: usize) -> Vec<String> {
    let mut strings = naughty_strings().into_iter().step_by(every).collect::<Vec<_>>();
    strings.extend(
        [
            "\0",
            "\0\0\0",
            "ann\0@example.com",
            "\u{7f}\u{80}\u{9f}",
            "a\r\nb\tc\u{2028}d\u{2029}e",
            "\u{1b}[31m",
            "🦀🚪👩‍👩‍👧‍👦🇨🇱",
            "\u{202e}drowrood\u{202c}",
            "مرحبا",
            "\u{feff}\u{200b}\u{2060}",
            "\u{fffe}\u{10ffff}",
            "Ａｎｎ＠ｅｘａｍｐｌｅ．ｃｏｍ",
            "ı@example.com",
            "00000000-0000-0000-0000-000000000000",
            "ffffffff-ffff-ffff-ffff-ffffffffffff",
            "01890000-0000-7000-8000-00000000000",
            "01890000-0000-7000-8000-0000000000000",
            "{01890000-0000-7000-8000-000000000000}",
            "urn:uuid:01890000-0000-7000-8000-000000000000",
            "01890000000070008000000000000000",
            "ext:",
            "ext: ",
            "ext:\0",
            "ext:nobody",
            "EXT:crm-acme",
            "' OR 1=1; --",
            "%",
            "_",
            "*:*",
            "eyJhbGciOiJub25lIn0.e30.",
            "dw_rt_",
            "dw_rt_AAAA",
            "-1",
        ]
        .map(str::to_owned),
    );
    strings.extend([".".repeat(5_000), "é".repeat(5_000), "a@".repeat(2_500), "e\u{301}".repeat(1_000), ".".repeat(1 << 20)]);
    strings
}

/// The list of the vectors; nothing where they are not at hand.
fn naughty_strings() -> Vec<String> {
    let Some(folder) = std::env::var_os("DOORWARD_VECTORS_DIR") else {
        assert!(std::env::var_os("CI").is_none(), "DOORWARD_VECTORS_DIR is not set: CI does not skip the vectors");
        eprintln!("note: DOORWARD_VECTORS_DIR is not set, naughty-strings.json is not read");
        return Vec::new();
    };
    let text = std::fs::read_to_string(std::path::Path::new(&folder).join("naughty-strings.json")).unwrap();
    let strings: Vec<String> = serde_json::from_str(&text).unwrap();
    assert!(strings.len() > 500);
    strings
}

/// Where the strings are tried.
struct Scene {
    world: World,
    wire: Wire,
    acme: Tenant,
}

impl Scene {
    async fn new(world: World) -> Arc<Self> {
        let acme = world.tenant("acme").await;
        world.role(&acme, "seller", &["sales:write"]).await;
        Arc::new(Self { wire: Wire::connect(world.replica.grpc_addr).await, world, acme })
    }

    /// Whoever may call the target's method: what is refused for want of a right is not looked at.
    async fn caller(&self, target: &Target, email: &str) -> Caller {
        let Self { world, acme, .. } = self;
        match target.way() {
            "instance" => {
                world.superuser(email).await;
                Caller { tenant: acme.id.to_string(), ..Caller::logged_in(world, email).await }.with_accounts(world, acme).await
            }
            "tenant" => Caller::member(world, acme, email, &["owner"]).await.with_accounts(world, acme).await,
            _ => Caller::who_may(target.method, world, acme, email, &["seller"]).await,
        }
    }

    async fn call(&self, target: &Target, caller: &Caller, text: &str) -> Answer {
        let recipe = recipes(target.method, caller).swap_remove(target.way);
        let mut request = DynamicMessage::deserialize(message(target.method.input), recipe.json).unwrap();
        put(&mut request, &target.path, text);
        self.wire.call(target.method.path, &[("authorization", &caller.bearer())], &request.encode_to_vec()).await
    }

    /// Tries every string in one field; answers those that were refused as an invalid field.
    async fn try_all(&self, target: &Target, strings: &[String]) -> (Caller, Vec<String>) {
        let mut refused = Vec::new();
        let mut person = 0;
        let mut caller = None;
        for text in strings {
            let known = if let Some(known) = caller.take() {
                known
            } else {
                person += 1;
                self.caller(target, &format!("p{person}-{}@example.com", target.number)).await
            };
            let answer = self.call(target, &known, text).await;
            let outcome = answer.outcome();
            judge(target, text, &answer, &outcome);
            if outcome.ends_with(" INVALID_FIELD") {
                refused.push(text.clone());
            }
            // A yes may have changed the password or used the tokens up.
            let is_used_up = outcome == "OK" && target.consumes();
            caller = (!is_used_up).then_some(known);
        }
        let last = match caller {
            Some(caller) => caller,
            None => self.caller(target, &format!("last-{}@example.com", target.number)).await,
        };
        (last, refused)
    }
}

/// What every answer to a bad string must be.
fn judge(target: &Target, text: &str, answer: &Answer, outcome: &str) {
    let shown: String = text.chars().take(60).collect();
    let place = format!("{}: {shown:?} answered {outcome}: {:?}", target.name(), answer.status());
    let is_clean = ["OK", "INVALID_ARGUMENT ", "UNAUTHENTICATED ", "PERMISSION_DENIED ", "NOT_FOUND ", "FAILED_PRECONDITION "];
    assert!(is_clean.iter().any(|start| outcome.starts_with(start)), "{place}");
    let too_long = text.len() > 65_536;
    if too_long {
        assert_eq!(outcome, "INVALID_ARGUMENT INVALID_FIELD", "{place}");
    } else if target.is_login_credential() {
        assert_eq!(outcome, "UNAUTHENTICATED INVALID_CREDENTIALS", "{place}");
    }
    // A refusal repeats nothing that was sent; the missing permission is named on purpose.
    let is_echo =
        text.len() > 12 && outcome != "OK" && !outcome.ends_with("PERMISSION_MISSING") && answer.status().message().contains(text);
    assert!(!is_echo, "{place}");
}

on_both! {
    async fn no_string_in_any_field_is_more_than_refused(world: World) {
        let all = if world.backend == Backend::Sqlite { 1 } else { 9 };
        let (many, few): (Arc<[String]>, Arc<[String]>) = (bad_strings(all).into(), bad_strings(9).into());
        let scene = Scene::new(world).await;
        let mut waiting = targets().into_iter();
        let (mut running, mut refused) = (JoinSet::new(), Vec::new());
        loop {
            while running.len() < 6 && let Some(target) = waiting.next() {
                // Both places have one reader of each field.
                let strings = Arc::clone(if target.consumes() || target.way() == "instance" { &few } else { &many });
                let scene = Arc::clone(&scene);
                running.spawn(async move {
                    let (caller, refused) = scene.try_all(&target, &strings).await;
                    (target, caller, refused)
                });
            }
            let Some(done) = running.join_next().await else { break };
            refused.push(done.unwrap());
        }
        // Once more what was refused, all of it together, between two looks at every table.
        let before = rows(&scene.world).await;
        let mut again = 0;
        for (target, caller, strings) in &refused {
            for text in strings {
                assert!(scene.call(target, caller, text).await.outcome().ends_with(" INVALID_FIELD"), "{}", target.name());
                again += 1;
            }
        }
        assert!(again > 100, "only {again} strings were refused");
        assert_eq!(rows(&scene.world).await, before, "a request that is refused as INVALID_FIELD must write nothing");
    }

    async fn bytes_that_are_no_text_are_refused_in_every_field(world: World) {
        let scene = Scene::new(world).await;
        let caller = Caller::member(&scene.world, &scene.acme, "ann@example.com", &["seller"]).await;
        scene.world.superuser("root@example.com").await;
        let root = Caller::logged_in(&scene.world, "root@example.com").await;
        let before = rows(&scene.world).await;
        for target in targets() {
            let recipe = recipes(target.method, &caller).swap_remove(target.way);
            let mut request = DynamicMessage::deserialize(message(target.method.input), recipe.json).unwrap();
            put(&mut request, &target.path, "PLACEHOLDER");
            let mut bytes = request.encode_to_vec();
            let at = bytes.windows(11).position(|window| window == b"PLACEHOLDER").unwrap();
            bytes[at..at + 4].copy_from_slice(&[0xff, 0xfe, 0xc0, 0x80]);
            let by = if target.method.policy.access == Access::Operator { &root } else { &caller };
            let answer = scene.wire.send(target.method.path, &[("authorization", &by.bearer())], frame(&bytes)).await;
            assert_eq!(answer.outcome(), "INVALID_ARGUMENT INVALID_FIELD", "{}", target.name());
        }
        assert_eq!(rows(&scene.world).await, before);
    }

    async fn no_header_is_more_than_refused(world: World) {
        let scene = Scene::new(world).await;
        let fits = |text: &&String| !text.is_empty() && text.len() < 8_000 && http::HeaderValue::from_bytes(text.as_bytes()).is_ok();
        let strings = bad_strings(1);
        for text in strings.iter().filter(fits) {
            for (header, value) in [
                ("authorization", text.clone()), ("authorization", format!("Bearer {text}")), ("doorward-caller", text.clone()),
                ("x-request-id", text.clone()), ("grpc-timeout", text.clone()), ("user-agent", text.clone()),
            ] {
                let answer = scene.wire.call("/doorward.v1.AuthService/GetMe", &[(header, &value)], &[]).await;
                assert!(answer.outcome().starts_with("UNAUTHENTICATED "), "{header}: {value:?}: {answer:?}");
            }
        }
    }
}

#[test]
fn the_recipes_reach_every_string_field_of_every_request() {
    let reached: BTreeSet<(&str, Path)> = targets().into_iter().map(|target| (target.method.path, target.path)).collect();
    for method in METHODS {
        for path in everything(&message(method.input)) {
            let name = path.join(".");
            assert!(
                reached.contains(&(method.path, path)),
                "no recipe of {} fills the oneof that {name} belongs to: add a way to tests/it/recipes.rs",
                method.path
            );
        }
    }
}

/// Every string field, whatever stands between.
fn everything(descriptor: &MessageDescriptor) -> Vec<Path> {
    let mut paths = Vec::new();
    for field in descriptor.fields() {
        match field.kind() {
            Kind::String => paths.push(vec![field.name().to_owned()]),
            Kind::Message(kind) if kind.package_name() == "doorward.v1" => {
                paths.extend(everything(&kind).into_iter().map(|path| [vec![field.name().to_owned()], path].concat()));
            }
            _ => {}
        }
    }
    paths
}

/// How many rows each table has.
pub async fn rows(world: &World) -> Vec<(String, i64)> {
    let sql = world.sql().await;
    let list = match world.backend {
        Backend::Sqlite => "SELECT name AS t FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite_%' ORDER BY 1",
        Backend::Postgres => "SELECT tablename::text AS t FROM pg_catalog.pg_tables WHERE schemaname = current_schema() ORDER BY 1",
    };
    let mut counts = Vec::new();
    for row in sql.query(list).await {
        let table: String = row.try_get("", "t").unwrap();
        let count = sql.count(&format!("SELECT count(*) AS n FROM \"{table}\"")).await;
        counts.push((table, count));
    }
    assert!(counts.len() >= 10, "{counts:?}");
    counts
}
