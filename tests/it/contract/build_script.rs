//! What the build demands of the contract: an RPC that does not say who may call it does not build. The build script itself is taken in
//! as a module, and is fed broken contracts.

use std::path::{Path, PathBuf};

use protox::{
    Compiler,
    file::{ChainFileResolver, File, FileResolver, GoogleFileResolver, IncludeFileResolver},
};

#[path = "../../../build.rs"]
#[expect(dead_code, clippy::print_stdout, reason = "its `main` is cargo's to call; a build script talks to cargo on standard output")]
mod script;

use script::contract;

const NAME: &str = "doorward/v1/broken.proto";

/// One proto file that lies nowhere.
struct Text(String);

impl FileResolver for Text {
    fn resolve_path(&self, path: &Path) -> Option<String> {
        path.to_str().map(str::to_owned)
    }

    fn open_file(&self, name: &str) -> Result<File, protox::Error> {
        if name == NAME { File::from_source(name, &self.0) } else { Err(protox::Error::file_not_found(name)) }
    }
}

/// What the build says to a service with these RPCs.
fn build(rpcs: &str) -> Result<Vec<contract::Method>, String> {
    let source = format!(
        "syntax = \"proto3\"; package doorward.v1; import \"doorward/v1/options.proto\";
         message Empty {{}} message InTenant {{ string tenant_id = 1; }} message OddTenant {{ int32 tenant_id = 1; }}
         service BrokenService {{ {rpcs} }}"
    );
    contract::methods(&compile(source))
}

fn compile(source: String) -> prost_reflect::DescriptorPool {
    let mut files = ChainFileResolver::new();
    files.add(Text(source));
    files.add(IncludeFileResolver::new(PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("proto")));
    files.add(GoogleFileResolver::new());
    let mut compiler = Compiler::with_file_resolver(files);
    compiler.open_file(NAME).unwrap_or_else(|error| panic!("{error:?}"));
    compiler.descriptor_pool()
}

/// What the build says to one RPC; `policy` is the body of the option.
fn one(request: &str, policy: &str) -> Result<Vec<contract::Method>, String> {
    build(&format!("rpc Do({request}) returns (Empty) {{ option (doorward.v1.policy) = {{ {policy} }}; }}"))
}

#[track_caller]
fn complains(outcome: Result<Vec<contract::Method>, String>, about: &str) {
    let problem = outcome.expect_err("should not build");
    assert!(problem.contains("doorward.v1.BrokenService.Do"), "the method is not named: {problem}");
    assert!(problem.contains(about), "{about:?} is not said: {problem}");
}

#[test]
fn a_method_without_a_policy_does_not_build() {
    complains(build("rpc Do(Empty) returns (Empty);"), "has no (doorward.v1.policy) option");
    complains(build("rpc Do(Empty) returns (Empty) { option deprecated = true; }"), "has no (doorward.v1.policy) option");
}

#[test]
fn a_method_without_a_class_does_not_build() {
    complains(one("Empty", ""), "access class 0");
    complains(one("Empty", "access: ACCESS_UNSPECIFIED"), "access class 0");
    complains(one("InTenant", "permission: \"sales:write\""), "access class 0");
}

#[test]
fn a_tenant_method_whose_request_names_no_tenant_does_not_build() {
    complains(one("Empty", "access: ACCESS_TENANT permission: \"a:b\""), "no string tenant_id");
    complains(one("OddTenant", "access: ACCESS_TENANT permission: \"a:b\""), "no string tenant_id");
}

#[test]
fn a_permission_stands_where_it_is_needed_and_nowhere_else() {
    for class in ["ACCESS_TENANT", "ACCESS_SERVICE", "ACCESS_OPERATOR"] {
        complains(one("InTenant", &format!("access: {class}")), "names no permission");
    }
    for class in ["ACCESS_PUBLIC", "ACCESS_TOKEN", "ACCESS_SESSION"] {
        complains(one("InTenant", &format!("access: {class} permission: \"a:b\"")), "its class ignores");
    }
}

#[test]
fn a_recent_login_is_demanded_only_where_somebody_has_logged_in() {
    for class in ["ACCESS_PUBLIC", "ACCESS_TOKEN"] {
        complains(one("Empty", &format!("access: {class} recent_auth: true")), "no subject that could have logged in");
    }
    assert!(one("Empty", "access: ACCESS_SESSION recent_auth: true").unwrap()[0].recent_auth);
}

#[test]
fn a_flag_about_workloads_stands_where_it_means_something() {
    let classes = [
        ("PUBLIC", "Empty", ""),
        ("TOKEN", "Empty", ""),
        ("SESSION", "Empty", ""),
        ("TENANT", "InTenant", "permission: \"a:b\""),
        ("SERVICE", "Empty", "permission: \"a:b\""),
        ("OPERATOR", "Empty", "permission: \"a:b\""),
    ];
    for (flag, good) in [
        ("accepts_service_accounts", &["SESSION", "TOKEN"][..]),
        ("accepts_instance", &["TENANT"]),
        ("proves_caller", &["PUBLIC"]),
        ("needs_no_caller", &["PUBLIC"]),
    ] {
        for (class, request, permission) in classes {
            let outcome = one(request, &format!("access: ACCESS_{class} {permission} {flag}: true"));
            if good.contains(&class) {
                let method = outcome.unwrap().pop().unwrap();
                let flags = [method.accepts_service_accounts, method.accepts_instance, method.proves_caller, method.needs_no_caller];
                assert_eq!(flags.iter().filter(|set| **set).count(), 1);
            } else {
                complains(outcome, flag);
            }
        }
    }
}

#[test]
fn every_problem_is_told_at_once() {
    let problems = build(
        "rpc Do(Empty) returns (Empty);
         rpc Other(Empty) returns (Empty) { option (doorward.v1.policy) = { access: ACCESS_TENANT }; }",
    )
    .expect_err("should not build");
    for said in ["BrokenService.Do has no", "BrokenService.Other is a TENANT method", "BrokenService.Other names no permission"] {
        assert!(problems.contains(said), "{said:?} is not in: {problems}");
    }
}

#[test]
fn a_contract_without_the_option_does_not_build() {
    let pool = compile("syntax = \"proto3\"; package doorward.v1; message Empty {}".to_owned());
    assert!(contract::methods(&pool).expect_err("should not build").contains("(doorward.v1.policy) is not defined"));
}

#[test]
fn a_good_policy_is_taken_over_whole() {
    let policy = "access: ACCESS_TENANT permission: \"sales:write\" recent_auth: true accepts_narrowed: true accepts_must_change: true";
    let method = one("InTenant", policy).unwrap().pop().unwrap();
    assert_eq!((method.service.as_str(), method.name.as_str()), ("doorward.v1.BrokenService", "Do"));
    assert_eq!((method.input.as_str(), method.output.as_str()), ("doorward.v1.InTenant", "doorward.v1.Empty"));
    assert_eq!((method.access, method.permission.as_str()), ("Tenant", "sales:write"));
    assert!(method.recent_auth && method.accepts_narrowed && method.accepts_must_change);

    let method = one("Empty", "access: ACCESS_PUBLIC").unwrap().pop().unwrap();
    assert!(!method.recent_auth && !method.accepts_narrowed && !method.accepts_must_change, "the default is to accept nothing");
}

/// The messages that the build makes print nothing but their name, by the paths that prost knows them by.
pub fn secretive() -> Vec<String> {
    contract::messages_with_secrets(crate::wire::contract()).iter().flat_map(contract::Secretive::paths).collect()
}

/// The Rust types of the same.
pub fn secretive_types() -> Vec<String> {
    contract::messages_with_secrets(crate::wire::contract()).iter().flat_map(contract::Secretive::rust_types).collect()
}
