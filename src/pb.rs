//! The generated code of the contract, `doorward.v1`, and its encoded descriptors.
//!
//! Only `grpc` and `server` use it; `domain` and `store` have types of their own.

/// Messages, enums, clients and servers of the package `doorward.v1`.
#[expect(clippy::all, clippy::pedantic, reason = "generated from proto/, where the comments stand")]
pub mod v1 {
    tonic::include_proto!("doorward.v1");
    include!(concat!(env!("OUT_DIR"), "/redacted.rs"));
}

/// The encoded descriptor set with custom options, as reflection serves it.
pub const DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptors.binpb"));
