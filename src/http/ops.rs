//! The ops listener's routes: metrics, and probes over HTTP and over gRPC on one port, always in plain text, and nothing else.
//!
//! | request | answer |
//! |---|---|
//! | `GET /healthz` | liveness |
//! | `GET /readyz` | readiness |
//! | `GET /startupz` | start-up |
//! | `GET /metrics` | what is counted, in the OpenMetrics text format |
//! | `application/grpc…` to any other path | the gRPC routes (`grpc.health.v1.Health`) |
//! | any other path | 404 |
//!
//! A probe answers 200 `ok` or 503 `not serving`, each with a line feed. Kubernetes' own gRPC probe speaks no TLS: hence a
//! listener apart from the one that takes credentials.

use axum::{
    Router,
    extract::{Request, State},
    http::{HeaderMap, StatusCode, header::CONTENT_TYPE},
    response::{IntoResponse, Response},
    routing::get,
};
use tonic::service::Routes;
use tower::ServiceExt;

use crate::server::{health::HealthView, metrics::MetricsPage};

/// What Prometheus knows the format by.
const OPENMETRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// The routes of the ops listener: HTTP probes from `health`, metrics from their page, everything that is gRPC from `grpc`.
pub fn router(health: HealthView, metrics: MetricsPage, grpc: impl Into<Routes>) -> Router {
    let grpc = grpc.into().into_axum_router();
    Router::new()
        .route("/healthz", get(async |State(health): State<HealthView>| answer(health.now().is_live())))
        .route("/readyz", get(async |State(health): State<HealthView>| answer(health.now().is_ready())))
        .route("/startupz", get(async |State(health): State<HealthView>| answer(health.now().is_started())))
        .route("/metrics", get(async move || page(&metrics)))
        // Not `merge`: tonic's routes bring a fallback of their own, which answers a plain HTTP request with 200.
        .fallback(async move |request: Request| other(grpc, request).await)
        .with_state(health)
}

fn page(metrics: &MetricsPage) -> Response {
    match metrics.render() {
        Ok(page) => ([(CONTENT_TYPE, OPENMETRICS)], page).into_response(),
        Err(_) => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
    }
}

fn answer(serving: bool) -> (StatusCode, &'static str) {
    if serving { (StatusCode::OK, "ok\n") } else { (StatusCode::SERVICE_UNAVAILABLE, "not serving\n") }
}

async fn other(grpc: Router, request: Request) -> Response {
    if is_grpc(request.headers()) { grpc.oneshot(request).await.into_response() } else { StatusCode::NOT_FOUND.into_response() }
}

fn is_grpc(headers: &HeaderMap) -> bool {
    headers.get(CONTENT_TYPE).is_some_and(|kind| kind.as_bytes().starts_with(b"application/grpc"))
}
