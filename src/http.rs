//! The small HTTP side: what is asked for by plain HTTP instead of gRPC.
//!
//! | module | serves | listener |
//! |---|---|---|
//! | [`ops`] | probes, over HTTP and gRPC on one port, and metrics | `server.ops_addr` |

pub mod ops;
