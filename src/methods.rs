//! The table of every RPC with its policy, made by `build.rs` from the options in `proto/`.
//!
//! What is not in [`METHODS`] does not exist for the gate: an RPC that is added to the contract without a policy does not build, and one
//! that is served without being in the contract is refused.

/// One RPC of the contract.
#[derive(Debug)]
pub struct Method {
    /// The HTTP/2 path, `/doorward.v1.AuthService/Login`.
    pub path: &'static str,
    /// The full name of the service.
    pub service: &'static str,
    /// The method's own name.
    pub name: &'static str,
    /// The full name of the request message.
    pub input: &'static str,
    /// The full name of the answer message.
    pub output: &'static str,
    /// Who may call it.
    pub policy: Policy,
}

/// Who may call a method; the comments of `proto/doorward/v1/options.proto` say what each field means.
#[derive(Debug)]
#[expect(clippy::struct_excessive_bools, reason = "each is an option of the contract, and any of them goes with any other")]
pub struct Policy {
    /// The class of callers.
    pub access: Access,
    /// The permission that TENANT, SERVICE and OPERATOR methods demand.
    pub permission: &'static str,
    /// The login must not be older than ten minutes.
    pub recent_auth: bool,
    /// Narrowed tokens are good here.
    pub accepts_narrowed: bool,
    /// Tokens of a login that must change its password are good here.
    pub accepts_must_change: bool,
    /// A SESSION or TOKEN method that is good for service accounts too.
    pub accepts_service_accounts: bool,
    /// A TENANT method that is about the instance where it names no tenant.
    pub accepts_instance: bool,
    /// A PUBLIC method whose message can prove the caller.
    pub proves_caller: bool,
    /// A PUBLIC method that is for everybody.
    pub needs_no_caller: bool,
}

/// What an RPC's two sides send.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// One message each.
    Unary,
    /// One request, any number of answers.
    ServerStream,
    /// Any number each.
    BidiStream,
}

/// An RPC that is served without a policy of ours.
#[derive(Debug)]
pub struct Open {
    /// The HTTP/2 path.
    pub path: &'static str,
    /// The full name of the service.
    pub service: &'static str,
    /// The method's own name.
    pub name: &'static str,
    /// What its two sides send.
    pub kind: Kind,
}

/// Everything that is served without a policy of ours, by its exact path: health and reflection.
pub static OPEN: [Open; 4] = [
    Open { path: "/grpc.health.v1.Health/Check", service: "grpc.health.v1.Health", name: "Check", kind: Kind::Unary },
    Open { path: "/grpc.health.v1.Health/Watch", service: "grpc.health.v1.Health", name: "Watch", kind: Kind::ServerStream },
    Open {
        path: "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo",
        service: "grpc.reflection.v1.ServerReflection",
        name: "ServerReflectionInfo",
        kind: Kind::BidiStream,
    },
    Open {
        path: "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo",
        service: "grpc.reflection.v1alpha.ServerReflection",
        name: "ServerReflectionInfo",
        kind: Kind::BidiStream,
    },
];

/// The class of callers that a method is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Nobody is known yet.
    Public,
    /// Whoever holds the token.
    Token,
    /// A logged-in user.
    Session,
    /// A subject with a permission in the request's tenant.
    Tenant,
    /// A registered workload.
    Service,
    /// A superuser or an instance-wide service account.
    Operator,
}

include!(concat!(env!("OUT_DIR"), "/methods.rs"));

/// The method that a path names, if the contract has it. Only the exact path does: no trailing slash, no other case.
#[must_use]
pub fn find(path: &str) -> Option<&'static Method> {
    METHODS.iter().find(|method| method.path == path)
}

/// The method without a policy that a path names.
#[must_use]
pub fn find_open(path: &str) -> Option<&'static Open> {
    OPEN.iter().find(|open| open.path == path)
}
