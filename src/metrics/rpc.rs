//! Calls, under the names that the usual dashboards for gRPC servers ask for (those of go-grpc-middleware's Prometheus provider), and the
//! reasons of refusals under one of our own.
//!
//! A call is counted as started when its head has come, and as handled when its answer is known; one whose caller hangs up before that
//! counts as `Canceled`. A stream is handled when it ends.

use std::{collections::HashMap, sync::Arc, time::Instant};

use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family, histogram::Histogram},
    registry::{Registry, Unit},
};

use super::seconds;
use crate::methods::{Kind, METHODS, OPEN};

/// What paths are counted under that are not served: a label for each would be the caller's to choose.
const UNKNOWN: &str = "unknown";
/// The code of a call whose caller did not wait for the answer.
const CANCELED: &str = "Canceled";

type Seconds = Family<MethodLabels, Histogram, fn() -> Histogram>;

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
#[expect(clippy::struct_field_names, reason = "dashboards ask for the labels by these names")]
struct MethodLabels {
    grpc_type: &'static str,
    grpc_service: &'static str,
    grpc_method: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
#[expect(clippy::struct_field_names, reason = "dashboards ask for the labels by these names")]
struct HandledLabels {
    grpc_type: &'static str,
    grpc_service: &'static str,
    grpc_method: &'static str,
    grpc_code: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RefusedLabels {
    grpc_service: &'static str,
    grpc_method: &'static str,
    reason: String,
}

/// The counters of all methods.
#[derive(Debug)]
pub struct Rpc {
    methods: HashMap<&'static str, Arc<Handles>>,
    unknown: Arc<Handles>,
    handled: Family<HandledLabels, Counter>,
    refused: Family<RefusedLabels, Counter>,
}

/// What every call of one method counts with; looked up once, so that a call takes no lock of a family.
#[derive(Debug)]
struct Handles {
    labels: MethodLabels,
    started: Counter,
    succeeded: Counter,
    seconds: Histogram,
}

/// A call under way. What is dropped without an end was canceled.
#[derive(Debug)]
pub struct Call {
    rpc: Arc<Rpc>,
    handles: Arc<Handles>,
    start: Instant,
    is_over: bool,
}

impl Rpc {
    pub(super) fn register(registry: &mut Registry) -> Self {
        let (started, handled, refused) = (Family::<MethodLabels, Counter>::default(), Family::default(), Family::default());
        let seconds: Seconds = Family::new_with_constructor(seconds as fn() -> Histogram);
        registry.register("grpc_server_started", "Calls that began", started.clone());
        registry.register("grpc_server_handled", "Calls that were answered, by status code", handled.clone());
        registry.register_with_unit("grpc_server_handling", "Time from a call's head to its answer", Unit::Seconds, seconds.clone());
        registry.register("doorward_refusals", "Calls that were answered with an error, by its reason", refused.clone());

        let of_method = |labels: MethodLabels| {
            // From zero on: an alert on its increase does not see the first one of a series that was not there.
            drop(handled.get_or_create_owned(&labels.with_code("Internal")));
            Arc::new(Handles {
                started: started.get_or_create_owned(&labels),
                succeeded: handled.get_or_create_owned(&labels.with_code("OK")),
                seconds: seconds.get_or_create_owned(&labels),
                labels,
            })
        };
        let unary = METHODS.iter().map(|method| (method.path, method.service, method.name, Kind::Unary));
        let open = OPEN.iter().map(|open| (open.path, open.service, open.name, open.kind));
        let methods =
            unary.chain(open).map(|(path, service, name, kind)| (path, of_method(MethodLabels::new(kind, service, name)))).collect();
        let unknown = of_method(MethodLabels::new(Kind::Unary, UNKNOWN, UNKNOWN));
        Self { methods, unknown, handled, refused }
    }

    /// A call of `path` begins.
    #[must_use]
    pub fn begin(self: &Arc<Self>, path: &str, start: Instant) -> Call {
        let handles = Arc::clone(self.methods.get(path).unwrap_or(&self.unknown));
        handles.started.inc();
        Call { rpc: Arc::clone(self), handles, start, is_over: false }
    }
}

impl Call {
    /// The answer is known: its code, by the name that dashboards know, and the reason of an error of ours.
    pub fn end(mut self, code: &'static str, reason: Option<&str>) {
        self.over(code);
        if let Some(reason) = reason {
            let MethodLabels { grpc_service, grpc_method, .. } = self.handles.labels;
            self.rpc.refused.get_or_create(&RefusedLabels { grpc_service, grpc_method, reason: reason.to_owned() }).inc();
        }
    }

    fn over(&mut self, code: &'static str) {
        self.is_over = true;
        self.handles.seconds.observe(self.start.elapsed().as_secs_f64());
        if code == "OK" {
            self.handles.succeeded.inc();
        } else {
            self.rpc.handled.get_or_create(&self.handles.labels.with_code(code)).inc();
        }
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        if !self.is_over {
            self.over(CANCELED);
        }
    }
}

impl MethodLabels {
    const fn new(kind: Kind, grpc_service: &'static str, grpc_method: &'static str) -> Self {
        let grpc_type = match kind {
            Kind::Unary => "unary",
            Kind::ServerStream => "server_stream",
            Kind::BidiStream => "bidi_stream",
        };
        Self { grpc_type, grpc_service, grpc_method }
    }

    const fn with_code(&self, grpc_code: &'static str) -> HandledLabels {
        let Self { grpc_type, grpc_service, grpc_method } = *self;
        HandledLabels { grpc_type, grpc_service, grpc_method, grpc_code }
    }
}
