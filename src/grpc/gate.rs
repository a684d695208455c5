//! The gate: the one layer that every call of the gRPC listener goes through.
//!
//! ```text
//! path in METHODS? ─no─► health, reflection? ─no─► METHOD_UNKNOWN
//!      │ yes                    │ yes: straight on
//!      ▼
//! caller, known where it must be ─► token of `authorization` ─► class: subject, if it has one ─► handler, until the deadline
//! ```
//!
//! Default deny: a path that is in neither list does not get in, whatever is served behind the gate. The handler finds what the gate
//! settled as a [`Ctx`] in its request and cannot run without one.
//!
//! Identity comes from `authorization`, `doorward-caller` and the client certificate alone; `x-user-id` and its like are never looked at.
//! Who the caller is, is settled for every method, and a claim that does not hold refuses every call ([`callers`]). Where a caller must be
//! known (`callers.mode = required`), a service account in `authorization` is one for the methods that are for workloads, and what the
//! message of a method with `proves_caller` proves is left to its handler. A method with `needs_no_caller` is for everybody.

use std::{
    convert::Infallible,
    future::{Future, poll_fn},
    panic::{AssertUnwindSafe, catch_unwind},
    pin::{Pin, pin},
    sync::Arc,
    task::{Context, Poll},
    time::{Duration, Instant},
};

use http::{HeaderMap, HeaderValue, Request, Response, header::AUTHORIZATION, uri::PathAndQuery};
use http_body::Body as _;
use tonic::{Status, body::Body};
use tower::Service;

use super::{observe, status};
use crate::{
    app::App,
    config::CallersMode,
    ctx::{self, Bearer, Ctx, Identity, RequestId},
    domain::{
        access::{self, InstanceScope, Principal, workload::Workload},
        callers::{self, Proof},
        memory::Freshness,
    },
    error::{Error, Result},
    methods::{self, Access, Method, Policy},
    server::tls::PeerCertificate,
    store::facts::About,
    values::{permission::Permission, time::Timestamp},
};

/// Where the request id comes in and goes out.
const REQUEST_ID: &str = "x-request-id";
/// Where the calling workload proves itself.
const CALLER: &str = "doorward-caller";
/// Where the deadline comes in (the gRPC over HTTP/2 protocol).
const TIMEOUT: &str = "grpc-timeout";
/// How long a refused call is read on.
const REFUSAL_PATIENCE: Duration = Duration::from_secs(1);

/// A service behind the gate.
#[derive(Clone, Debug)]
pub struct Gate<S> {
    app: Arc<App>,
    inner: S,
}

impl<S> Gate<S> {
    /// Puts the gate before `inner`.
    #[must_use]
    pub const fn new(app: Arc<App>, inner: S) -> Self {
        Self { app, inner }
    }
}

impl<S, B> Service<Request<B>> for Gate<S>
where
    S: Service<Request<Body>, Response = Response<axum::body::Body>, Error = Infallible> + Clone + Send + 'static,
    S::Future: Send,
    B: http_body::Body<Data = tonic::codegen::Bytes> + Send + 'static,
    B::Error: Into<tonic::codegen::StdError>,
{
    type Response = Response<axum::body::Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Infallible>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        // The clone takes the place of the service that was polled ready.
        let ready = self.inner.clone();
        let inner = std::mem::replace(&mut self.inner, ready);
        let app = Arc::clone(&self.app);
        Box::pin(async move { Ok(pass(app, inner, request.map(Body::new)).await) })
    }
}

async fn pass<S>(app: Arc<App>, inner: S, request: Request<Body>) -> Response<axum::body::Body>
where
    S: Service<Request<Body>, Response = Response<axum::body::Body>, Error = Infallible>,
{
    let start = Instant::now();
    let given = request.headers().get(REQUEST_ID).and_then(|id| id.to_str().ok());
    let request_id = RequestId::take(given, &app.entropy, &app.clock);
    // With the query, which no gRPC path has: what the routes would overlook is not let in.
    let path = request.uri().path_and_query().cloned();
    let path = path.as_ref().map_or("", PathAndQuery::as_str);
    let call = app.metrics.rpc.begin(path, start);
    let outcome = match methods::find(path) {
        Some(method) => {
            let deadline = start + allowed(&app, request.headers());
            let call = guarded(&app, method, inner, request, &request_id, deadline);
            tokio::time::timeout_at(deadline.into(), call).await.unwrap_or(Err(Error::Deadline))
        }
        None if methods::find_open(path).is_some() => {
            // Until the answer begins; where that is a stream it may go on.
            let call = open(&app, inner, request);
            tokio::time::timeout(app.config.server.default_deadline, call).await.unwrap_or(Err(Error::Deadline))
        }
        None => refuse(&app, request, Error::MethodUnknown).await,
    };
    let mut response = outcome.unwrap_or_else(|error| status::of(&error, &request_id).into_http());
    normalize(&mut response, path, &request_id);
    report(&response, path, &request_id);
    if let Ok(value) = HeaderValue::from_str(request_id.as_str()) {
        response.headers_mut().insert(REQUEST_ID, value);
    }
    let reason = response.headers().get(status::REASON).and_then(|reason| reason.to_str().ok());
    tracing::debug!(path, request_id = request_id.as_str(), reason, micros = start.elapsed().as_micros(), "a call was answered");
    observe::answered(call, path, response)
}

/// Health and reflection: no subject and no deadline (they stream). Reflection is for known callers where every method is; probes have no
/// identity, so health is for everybody.
async fn open<S>(app: &App, inner: S, request: Request<Body>) -> Result<Response<axum::body::Body>>
where
    S: Service<Request<Body>, Response = Response<axum::body::Body>, Error = Infallible>,
{
    let is_health = request.uri().path().starts_with("/grpc.health.v1.");
    if !is_health {
        let caller = settle_caller(app, Claims::of(&request), Freshness::Bounded, app.clock.now()).await?;
        demand(app, caller.as_deref())?;
    }
    serve(inner, request).await
}

async fn guarded<S>(
    app: &App,
    method: &'static Method,
    inner: S,
    mut request: Request<Body>,
    request_id: &RequestId,
    deadline: Instant,
) -> Result<Response<axum::body::Body>>
where
    S: Service<Request<Body>, Response = Response<axum::body::Body>, Error = Infallible>,
{
    let now = app.clock.now();
    match settle(app, method, Claims::of(&request), now).await {
        Ok((bearer, identity)) => {
            request.extensions_mut().insert(Ctx::new(method, request_id.clone(), now, deadline, bearer, identity));
            serve(inner, request).await
        }
        Err(error) => refuse(app, request, error).await,
    }
}

/// What a call says of who is behind it.
#[derive(Clone, Copy)]
struct Claims<'call> {
    headers: &'call HeaderMap,
    /// The client certificate that the connection was opened with.
    certificate: Option<&'call PeerCertificate>,
}

impl<'call> Claims<'call> {
    fn of(request: &'call Request<Body>) -> Self {
        Self { headers: request.headers(), certificate: request.extensions().get() }
    }
}

/// The caller, the token and, for the method's class, whom it speaks for.
async fn settle(app: &App, method: &Method, claims: Claims<'_>, now: Timestamp) -> Result<(Bearer, Identity)> {
    let caller = match settle_caller(app, claims, needed(&method.policy), now).await {
        // What is for everybody is answered to a known caller too while the database is away.
        Err(Error::Unavailable(_)) if method.policy.needs_no_caller => None,
        other => other?,
    };
    // A PUBLIC method's message carries the credentials; whatever stands in `authorization` is not for it.
    let bearer = if method.policy.access == Access::Public { Bearer::Missing } else { bearer(claims.headers) };
    let identity = admit(app, method, &bearer, caller, now).await?;
    Ok((bearer, identity))
}

/// How current the caller must be: where it is the one who decides what may be done, as the database has it.
fn needed(policy: &Policy) -> Freshness {
    match policy.access {
        Access::Public | Access::Token | Access::Session => Freshness::Bounded,
        Access::Tenant | Access::Service | Access::Operator => Freshness::latest(),
    }
}

/// The calling workload, by what the call brings to prove it.
async fn settle_caller(
    app: &App,
    Claims { headers, certificate }: Claims<'_>,
    freshness: Freshness,
    now: Timestamp,
) -> Result<Option<Arc<Workload>>> {
    let claim = read_bearer(headers, CALLER);
    let token = match &claim {
        Bearer::Missing => None,
        Bearer::Malformed => return Err(Error::CallerUnauthenticated),
        Bearer::Token(token) => Some(token.as_str()),
    };
    let proof = Proof { certificate: certificate.map(PeerCertificate::names).unwrap_or_default(), token };
    callers::authenticate(app, proof, freshness, now).await
}

/// A caller must be known where the configuration says so.
fn demand(app: &App, caller: Option<&Workload>) -> Result<()> {
    let is_missing = caller.is_none() && app.config.callers.mode() == CallersMode::Required;
    if is_missing { Err(Error::CallerUnauthenticated) } else { Ok(()) }
}

/// Refuses a call whose message nobody reads. It is read all the same, as far as a message may go and for a moment: an answer before the
/// end of the request makes HTTP/2 reset the stream, and a client with a few hundred resets loses its connection and every other call on
/// it.
async fn refuse<T>(app: &App, request: Request<Body>, error: Error) -> Result<T> {
    let mut body = pin!(request.into_body());
    let mut left = app.config.server.max_message_bytes;
    let read = async {
        while let Some(Ok(frame)) = poll_fn(|cx| body.as_mut().poll_frame(cx)).await {
            let Some(rest) = left.checked_sub(frame.data_ref().map_or(0, tonic::codegen::Bytes::len)) else { break };
            left = rest;
        }
    };
    // Whoever streams keeps their side open until they are answered.
    drop(tokio::time::timeout(REFUSAL_PATIENCE, read).await);
    Err(error)
}

/// What the method's class demands.
async fn admit(app: &App, method: &Method, bearer: &Bearer, caller: Option<Arc<Workload>>, now: Timestamp) -> Result<Identity> {
    let policy = &method.policy;
    match policy.access {
        Access::Public if policy.proves_caller || policy.needs_no_caller => Ok(Identity { principal: None, caller }),
        Access::Public | Access::Token => {
            demand(app, caller.as_deref())?;
            Ok(Identity { principal: None, caller })
        }
        Access::Session => {
            demand(app, caller.as_deref())?;
            Ok(Identity { principal: Some(authenticate(app, method, bearer, now).await?), caller })
        }
        Access::Tenant if !policy.accepts_instance => {
            demand(app, caller.as_deref())?;
            Ok(Identity { principal: Some(authenticate(app, method, bearer, now).await?), caller })
        }
        Access::Tenant | Access::Service | Access::Operator => {
            let identity = admit_workload(app, method, bearer, caller, now).await?;
            judge_workload(method, &identity)?;
            Ok(identity)
        }
    }
}

/// For methods that workloads call for themselves: the token in `authorization` may be theirs, and the caller is known by it.
async fn admit_workload(app: &App, method: &Method, bearer: &Bearer, caller: Option<Arc<Workload>>, now: Timestamp) -> Result<Identity> {
    let principal = match bearer {
        Bearer::Missing => None,
        _ => Some(authenticate(app, method, bearer, now).await.map_err(|error| match demand(app, caller.as_deref()) {
            Ok(()) => error,
            // To nobody whom it does not know does the server say what is wrong with a token.
            Err(_) => callers::unauthenticated(error),
        })?),
    };
    let caller = caller.or_else(|| match &principal {
        Some(Principal::ServiceAccount(workload, _)) => Some(Arc::clone(workload)),
        Some(Principal::User(_)) | None => None,
    });
    demand(app, caller.as_deref())?;
    Ok(Identity { principal, caller })
}

/// Whether whoever calls holds the method's permission; in a tenant, that is the handler's to ask.
fn judge_workload(method: &Method, Identity { principal, caller }: &Identity) -> Result<()> {
    let permission = Permission::parse(method.policy.permission).map_err(Error::internal)?;
    match method.policy.access {
        Access::Service => {
            let workload = caller.as_ref().ok_or(Error::CallerUnauthenticated)?;
            if workload.holds(&permission) { Ok(()) } else { Err(Error::CallerNotAllowed) }
        }
        Access::Operator => InstanceScope::of(principal.as_ref(), caller.as_deref(), &permission).map(drop),
        Access::Public | Access::Token | Access::Session | Access::Tenant => Ok(()),
    }
}

async fn authenticate(app: &App, method: &Method, bearer: &Bearer, now: Timestamp) -> Result<Principal> {
    let policy = &method.policy;
    let principal = access::authenticate(app, bearer.token()?, ctx::accepts(policy), About::Own, Freshness::latest(), now).await?;
    match &principal {
        // Where the method may be about a tenant, it is known later whether it is.
        Principal::User(subject) if policy.recent_auth && !policy.accepts_instance => subject.require_recent_login(now)?,
        Principal::User(_) | Principal::ServiceAccount(..) => {}
    }
    Ok(principal)
}

/// The token in `authorization`.
fn bearer(headers: &HeaderMap) -> Bearer {
    read_bearer(headers, AUTHORIZATION.as_str())
}

/// The token in a header of the form of RFC 6750, section 2.1.
fn read_bearer(headers: &HeaderMap, name: &str) -> Bearer {
    let mut values = headers.get_all(name).iter();
    let Some(value) = values.next() else { return Bearer::Missing };
    match value.to_str().ok().and_then(|text| text.split_once(' ')) {
        Some((scheme, token)) if scheme.eq_ignore_ascii_case("bearer") && !token.trim().is_empty() && values.next().is_none() => {
            Bearer::Token(token.trim().to_owned())
        }
        _ => Bearer::Malformed,
    }
}

/// How long the call may take: what it asks for, within the server's limit.
fn allowed(app: &App, headers: &HeaderMap) -> Duration {
    let server = &app.config.server;
    let asked = headers.get(TIMEOUT).and_then(|value| value.to_str().ok()).and_then(parse_timeout);
    asked.unwrap_or(server.default_deadline).min(server.max_deadline)
}

/// `grpc-timeout`: at most eight digits and a unit.
fn parse_timeout(text: &str) -> Option<Duration> {
    let (digits, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    if digits.is_empty() || digits.len() > 8 || !digits.bytes().all(|digit| digit.is_ascii_digit()) {
        return None;
    }
    let amount: u64 = digits.parse().ok()?;
    match unit {
        "H" => Some(Duration::from_secs(amount * 3600)),
        "M" => Some(Duration::from_secs(amount * 60)),
        "S" => Some(Duration::from_secs(amount)),
        "m" => Some(Duration::from_millis(amount)),
        "u" => Some(Duration::from_micros(amount)),
        "n" => Some(Duration::from_nanos(amount)),
        _ => None,
    }
}

/// Runs the handler. A panic in it is one call's INTERNAL, not the end of its connection and of the calls beside it.
async fn serve<S>(mut inner: S, request: Request<Body>) -> Result<Response<axum::body::Body>>
where
    S: Service<Request<Body>, Response = Response<axum::body::Body>, Error = Infallible>,
{
    let mut call = pin!(inner.call(request));
    let answer = poll_fn(|cx| match catch_unwind(AssertUnwindSafe(|| call.as_mut().poll(cx))) {
        Ok(Poll::Ready(answer)) => Poll::Ready(Ok(answer)),
        Ok(Poll::Pending) => Poll::Pending,
        Err(_) => Poll::Ready(Err(Error::internal("a handler panicked"))),
    })
    .await?;
    let Ok(response) = answer;
    Ok(response)
}

/// An error that tonic made gets a reason like every other. Health and reflection keep their own.
fn normalize(response: &mut Response<axum::body::Body>, path: &str, request_id: &RequestId) {
    if methods::find_open(path).is_some() || response.headers().contains_key(status::REASON) {
        return;
    }
    let Some(made) = Status::from_header_map(response.headers()).filter(|made| made.code() != tonic::Code::Ok) else { return };
    *response = status::foreign(&made, request_id).into_http();
}

/// Refusals for want of a right are security events, each one logged, whoever refused.
fn report(response: &Response<axum::body::Body>, path: &str, request_id: &RequestId) {
    let headers = response.headers();
    let code = headers.get(Status::GRPC_STATUS).map(|code| tonic::Code::from_bytes(code.as_bytes()));
    if code == Some(tonic::Code::PermissionDenied) {
        let reason = headers.get(status::REASON).and_then(|reason| reason.to_str().ok());
        tracing::info!(target: "doorward::security", path, request_id = request_id.as_str(), reason, "permission denied");
    }
}
