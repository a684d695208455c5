//! Turns `proto/` into Rust without `protoc`, and checks the contract while it does.
//!
//! Three things land in `OUT_DIR`: the tonic/prost code, the encoded descriptor set (with our own options, for reflection), and
//! `methods.rs`, the static table of every RPC with its policy. The build fails where the contract is not whole; see
//! [`contract::methods`].

use std::{env, fmt::Write, fs, io, path::PathBuf};

use prost_reflect::{DescriptorPool, MessageDescriptor, Value};
use protox::Compiler;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    // tonic's own `emit_rerun_if_changed` does nothing for descriptor sets.
    println!("cargo:rerun-if-changed=proto");
    println!("cargo:rerun-if-changed=build.rs");
    #[expect(clippy::disallowed_methods, reason = "cargo tells a build script where to write by this variable alone")]
    let out = PathBuf::from(env::var_os("OUT_DIR").ok_or("OUT_DIR is not set")?);

    let mut files: Vec<PathBuf> =
        fs::read_dir("proto/doorward/v1")?.map(|entry| entry.map(|entry| entry.path())).collect::<io::Result<_>>()?;
    files.retain(|path| path.extension().is_some_and(|extension| extension == "proto"));
    files.sort();
    let mut compiler = Compiler::new(["proto"])?;
    compiler.include_imports(true).include_source_info(true).open_files(files)?;

    // The *encoded* set keeps the custom options; prost-types would drop them.
    fs::write(out.join("descriptors.binpb"), compiler.encode_file_descriptor_set())?;
    let pool = compiler.descriptor_pool();
    fs::write(out.join("methods.rs"), render_methods(&contract::methods(&pool)?))?;
    let secrets = contract::messages_with_secrets(&pool);
    fs::write(out.join("redacted.rs"), render_redactions(&secrets))?;

    tonic_prost_build::configure()
        .build_transport(false)
        .skip_debug(secrets.iter().flat_map(contract::Secretive::paths).collect::<Vec<_>>())
        .compile_fds(compiler.file_descriptor_set())?;
    Ok(())
}

fn render_methods(methods: &[contract::Method]) -> String {
    let mut text = String::from("/// Every RPC of the contract with its policy, in the order of the proto files.\n");
    text.push_str("pub static METHODS: &[Method] = &[\n");
    for method in methods {
        let contract::Method { service, name, input, output, access, permission, .. } = method;
        // Writing to a string cannot fail.
        let _ = writeln!(
            text,
            "    Method {{ path: \"/{service}/{name}\", service: {service:?}, name: {name:?}, input: {input:?}, output: {output:?}, \
             policy: Policy {{ access: Access::{access}, permission: {permission:?}, recent_auth: {}, accepts_narrowed: {}, \
             accepts_must_change: {}, accepts_service_accounts: {}, accepts_instance: {}, proves_caller: {}, \
             needs_no_caller: {} }} }},",
            method.recent_auth,
            method.accepts_narrowed,
            method.accepts_must_change,
            method.accepts_service_accounts,
            method.accepts_instance,
            method.proves_caller,
            method.needs_no_caller,
        );
    }
    text.push_str("];\n");
    text
}

/// Messages with secrets get a `Debug` that shows their name alone: whoever logs a request cannot log a password.
fn render_redactions(secrets: &[contract::Secretive]) -> String {
    let mut text = String::new();
    for name in secrets.iter().flat_map(contract::Secretive::rust_types) {
        let _ = writeln!(
            text,
            "impl ::core::fmt::Debug for {name} {{\n    fn fmt(&self, f: &mut ::core::fmt::Formatter<'_>) -> ::core::fmt::Result {{\n        \
             f.debug_struct({name:?}).finish_non_exhaustive()\n    }}\n}}"
        );
    }
    text
}

/// What the build demands of the contract. A module of its own so that a test can feed it broken contracts.
pub mod contract {
    use super::{DescriptorPool, MessageDescriptor, Value};

    /// The extension that carries a method's policy.
    const POLICY: &str = "doorward.v1.policy";
    const PACKAGE: &str = "doorward.v1";

    /// One RPC as the contract states it.
    #[derive(Debug)]
    #[expect(clippy::struct_excessive_bools, reason = "each is an option of the contract, and any of them goes with any other")]
    pub struct Method {
        /// The full name of its service.
        pub service: String,
        /// Its own name.
        pub name: String,
        /// The full name of the request.
        pub input: String,
        /// The full name of the answer.
        pub output: String,
        /// The variant's name of the crate's `Access`.
        pub access: &'static str,
        /// `Policy.permission`.
        pub permission: String,
        /// `Policy.recent_auth`.
        pub recent_auth: bool,
        /// `Policy.accepts_narrowed`.
        pub accepts_narrowed: bool,
        /// `Policy.accepts_must_change`.
        pub accepts_must_change: bool,
        /// `Policy.accepts_service_accounts`.
        pub accepts_service_accounts: bool,
        /// `Policy.accepts_instance`.
        pub accepts_instance: bool,
        /// `Policy.proves_caller`.
        pub proves_caller: bool,
        /// `Policy.needs_no_caller`.
        pub needs_no_caller: bool,
    }

    /// A message that holds a `debug_redact` field itself, and those of its oneofs that do.
    #[derive(Debug)]
    pub struct Secretive {
        message: String,
        oneofs: Vec<String>,
    }

    impl Secretive {
        /// The paths that prost-build knows the types by.
        #[must_use]
        pub fn paths(&self) -> Vec<String> {
            let of_oneof = |oneof: &String| format!(".{PACKAGE}.{}.{oneof}", self.message);
            std::iter::once(format!(".{PACKAGE}.{}", self.message)).chain(self.oneofs.iter().map(of_oneof)).collect()
        }

        /// The names of the generated Rust types.
        #[must_use]
        pub fn rust_types(&self) -> Vec<String> {
            let of_oneof = |oneof: &String| format!("{}::{}", snake(&self.message), camel(oneof));
            std::iter::once(self.message.clone()).chain(self.oneofs.iter().map(of_oneof)).collect()
        }
    }

    /// Every method of the package with its policy.
    ///
    /// # Errors
    /// Names all methods that have no policy or access class, and all TENANT methods whose request has no `string tenant_id`.
    pub fn methods(pool: &DescriptorPool) -> Result<Vec<Method>, String> {
        let policy = pool.get_extension_by_name(POLICY).ok_or_else(|| format!("the extension ({POLICY}) is not defined"))?;
        let mut methods = Vec::new();
        let mut problems = Vec::new();
        for method in pool.services().filter(|service| service.package_name() == PACKAGE).flat_map(|s| s.methods().collect::<Vec<_>>()) {
            let options = method.options();
            if !options.has_extension(&policy) {
                problems.push(format!("{} has no ({POLICY}) option: say who may call it", method.full_name()));
                continue;
            }
            let value = options.get_extension(&policy);
            let Some(message) = value.as_message() else { continue };
            let flag = |name: &str| message.get_field_by_name(name).and_then(|v| v.as_bool()).unwrap_or_default();
            let number = message.get_field_by_name("access").and_then(|v| v.as_enum_number()).unwrap_or_default();
            let permission = message.get_field_by_name("permission").and_then(|v| v.as_str().map(str::to_owned)).unwrap_or_default();
            let access = match access(number) {
                Ok(access) => access,
                Err(problem) => {
                    problems.push(format!("{} {problem}", method.full_name()));
                    continue;
                }
            };
            let input = method.input();
            let found = class_problems(&input, access, &permission, flag("recent_auth"));
            let misplaced = misplaced_flags(access, &flag);
            problems.extend(found.chain(misplaced).map(|problem| format!("{} {problem}", method.full_name())));
            methods.push(Method {
                service: method.parent_service().full_name().to_owned(),
                name: method.name().to_owned(),
                input: input.full_name().to_owned(),
                output: method.output().full_name().to_owned(),
                access,
                permission,
                recent_auth: flag("recent_auth"),
                accepts_narrowed: flag("accepts_narrowed"),
                accepts_must_change: flag("accepts_must_change"),
                accepts_service_accounts: flag("accepts_service_accounts"),
                accepts_instance: flag("accepts_instance"),
                proves_caller: flag("proves_caller"),
                needs_no_caller: flag("needs_no_caller"),
            });
        }
        if problems.is_empty() { Ok(methods) } else { Err(problems.join("\n")) }
    }

    fn access(number: i32) -> Result<&'static str, String> {
        match number {
            1 => Ok("Public"),
            2 => Ok("Token"),
            3 => Ok("Session"),
            4 => Ok("Tenant"),
            5 => Ok("Service"),
            6 => Ok("Operator"),
            other => Err(format!("has the access class {other}, which is none")),
        }
    }

    /// What the class demands of the request and of the policy.
    fn class_problems(input: &MessageDescriptor, access: &str, permission: &str, recent_auth: bool) -> impl Iterator<Item = String> {
        let has_tenant = input.get_field_by_name("tenant_id").is_some_and(|field| field.kind() == prost_reflect::Kind::String);
        let tenant =
            (access == "Tenant" && !has_tenant).then(|| format!("is a TENANT method, but {} has no string tenant_id", input.name()));
        let needs_permission = matches!(access, "Tenant" | "Service" | "Operator");
        let missing = (needs_permission && permission.is_empty()).then(|| "names no permission".to_owned());
        let needless = (!needs_permission && !permission.is_empty()).then(|| "names a permission that its class ignores".to_owned());
        let unseen = (recent_auth && matches!(access, "Public" | "Token"))
            .then(|| "demands recent_auth, but its class has no subject that could have logged in".to_owned());
        [tenant, missing, needless, unseen].into_iter().flatten()
    }

    /// Flags that say nothing, or more than meant, of a method of this class.
    fn misplaced_flags(access: &str, flag: &impl Fn(&str) -> bool) -> impl Iterator<Item = String> {
        let needless = [
            ("accepts_service_accounts", ["Session", "Token"].as_slice()),
            ("accepts_instance", &["Tenant"]),
            ("proves_caller", &["Public"]),
            ("needs_no_caller", &["Public"]),
        ];
        let is_misplaced = |(name, classes): &(&str, &[&str])| flag(name) && !classes.contains(&access);
        let found: Vec<_> = needless.into_iter().filter(is_misplaced).collect();
        found.into_iter().map(|(name, classes)| format!("has {name}, which is for {} methods", classes.join(" and ")))
    }

    /// The messages of the package that hold a secret.
    #[must_use]
    pub fn messages_with_secrets(pool: &DescriptorPool) -> Vec<Secretive> {
        pool.all_messages()
            .filter(|message| message.package_name() == PACKAGE && message.parent_message().is_none())
            .filter_map(|message| {
                let secret: Vec<_> = message.fields().filter(is_secret).collect();
                let mut oneofs: Vec<_> = secret
                    .iter()
                    .filter_map(prost_reflect::FieldDescriptor::containing_oneof)
                    .map(|oneof| oneof.name().to_owned())
                    .collect();
                oneofs.dedup();
                (!secret.is_empty()).then(|| Secretive { message: message.name().to_owned(), oneofs })
            })
            .collect()
    }

    fn is_secret(field: &prost_reflect::FieldDescriptor) -> bool {
        field.options().get_field_by_name("debug_redact").is_some_and(|value| matches!(*value, Value::Bool(true)))
    }

    fn snake(camel: &str) -> String {
        let mut text = String::new();
        for (index, letter) in camel.chars().enumerate() {
            if letter.is_uppercase() && index > 0 {
                text.push('_');
            }
            text.extend(letter.to_lowercase());
        }
        text
    }

    fn camel(snake: &str) -> String {
        let capital = |word: &str| word.chars().next().map(|c| c.to_uppercase().to_string() + word.get(c.len_utf8()..).unwrap_or_default());
        snake.split('_').filter_map(capital).collect()
    }
}
