//! The small HTTP side: what is asked for by plain HTTP instead of gRPC.
//!
//! | module | serves | listener |
//! |---|---|---|
//! | [`discovery`] | the public keys, and the documents that lead to them | `server.http_addr` |
//! | [`ops`] | probes, over HTTP and gRPC on one port, and metrics | `server.ops_addr` |

pub mod discovery;
pub mod ops;
