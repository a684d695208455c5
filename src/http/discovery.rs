//! What is public over HTTP: the keys behind the tokens, and where they are.
//!
//! | request | answer |
//! |---|---|
//! | `GET /.well-known/jwks.json` | the public keys (RFC 7517), `application/jwk-set+json` |
//! | `GET /.well-known/openid-configuration` | issuer and place of the keys (OpenID Connect Discovery 1.0), for libraries that begin there |
//! | `GET /.well-known/oauth-authorization-server` | the same (RFC 8414) |
//! | any other path | 404 |
//!
//! An issuer with a path has its documents where the two texts want them too: `PATH/.well-known/openid-configuration`, and
//! `/.well-known/oauth-authorization-server` followed by `PATH`. Nobody logs in here: there is no authorization and no token endpoint, the
//! lists of what they could do are empty, and tokens come over gRPC.
//!
//! Every answer says how long it may be kept, and has an `ETag`: who asks again with `If-None-Match` gets 304 while nothing changed. Pages
//! of any origin may read it. Plain text: nothing here is secret, but who verifies tokens by it must know that it comes from here, so
//! across a network put something in front that speaks TLS, under the issuer's name.

use std::sync::Arc;

use axum::{
    Router,
    body::Body,
    http::{
        HeaderMap, HeaderValue, Method, Request, StatusCode,
        header::{ACCESS_CONTROL_ALLOW_ORIGIN, ALLOW, CACHE_CONTROL, CONTENT_TYPE, ETAG, IF_NONE_MATCH},
    },
    response::{IntoResponse, Response},
};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use jsonwebtoken::jwk::KeyAlgorithm;
use serde_json::{Value, json};

use crate::{
    app::App,
    domain::keys::{KEY_SET_MAX_AGE, KeyRing},
    values::secret::sha256,
};

const JWKS: &str = "/.well-known/jwks.json";
const OPENID: &str = "/.well-known/openid-configuration";
const OAUTH: &str = "/.well-known/oauth-authorization-server";

/// What the listener answers.
pub fn router(app: Arc<App>) -> Router {
    let places: Arc<[(String, Document)]> = places(&app.config.tokens.issuer).into();
    // Not by axum's routes: they read a path of the configuration as a pattern.
    Router::new().fallback(async move |request: Request<Body>| {
        let found = places.iter().find(|(path, _)| path == request.uri().path());
        found.map_or_else(
            || StatusCode::NOT_FOUND.into_response(),
            |(_, document)| document.page(&app).answer(request.method(), request.headers()),
        )
    })
}

#[derive(Clone, Copy)]
enum Document {
    Keys,
    Metadata,
}

/// Every path with what is there.
fn places(issuer: &str) -> Vec<(String, Document)> {
    let mut places: Vec<(String, Document)> =
        [(JWKS, Document::Keys), (OPENID, Document::Metadata), (OAUTH, Document::Metadata)].map(|(at, what)| (at.to_owned(), what)).into();
    let path = issuer.parse::<http::Uri>().map(|issuer| issuer.path().trim_end_matches('/').to_owned()).unwrap_or_default();
    if !path.is_empty() {
        places.push((format!("{path}{JWKS}"), Document::Keys));
        places.push((format!("{path}{OPENID}"), Document::Metadata));
        places.push((format!("{OAUTH}{path}"), Document::Metadata));
    }
    places
}

impl Document {
    fn page(self, app: &App) -> Page {
        let ring = app.keys.latest();
        match self {
            Self::Keys => Page::new("application/jwk-set+json", &json!({ "keys": ring.published })),
            Self::Metadata => Page::new("application/json", &metadata(&app.config.tokens.issuer, &ring)),
        }
    }
}

/// What both kinds of discovery want to hear, as far as there is something to tell.
fn metadata(issuer: &str, ring: &KeyRing) -> Value {
    // Those of the keys that are published: whoever verifies by a shared secret knows which algorithm that is for.
    let mut algorithms: Vec<KeyAlgorithm> = ring.published.iter().filter_map(|key| key.common.key_algorithm).collect();
    algorithms.sort_by_key(ToString::to_string);
    algorithms.dedup();
    json!({
        "issuer": issuer,
        "jwks_uri": format!("{}{JWKS}", issuer.trim_end_matches('/')),
        "response_types_supported": [],
        "grant_types_supported": [],
        "subject_types_supported": ["public"],
        "id_token_signing_alg_values_supported": algorithms,
    })
}

/// A document as it is at one moment.
struct Page {
    kind: &'static str,
    body: String,
    etag: String,
}

impl Page {
    fn new(kind: &'static str, document: &Value) -> Self {
        // A line, for whoever looks at it in a terminal.
        let body = format!("{document}\n");
        let etag = format!("\"{}\"", URL_SAFE_NO_PAD.encode(sha256(body.as_bytes())));
        Self { kind, body, etag }
    }

    fn answer(self, method: &Method, headers: &HeaderMap) -> Response {
        if *method != Method::GET && *method != Method::HEAD {
            return (StatusCode::METHOD_NOT_ALLOWED, [(ALLOW, "GET, HEAD")]).into_response();
        }
        let common = [
            (ETAG, self.etag.clone()),
            (CACHE_CONTROL, format!("public, max-age={}", KEY_SET_MAX_AGE.as_secs())),
            (ACCESS_CONTROL_ALLOW_ORIGIN, "*".to_owned()),
        ];
        if headers.get_all(IF_NONE_MATCH).iter().any(|value| self.is_among(value)) {
            return (StatusCode::NOT_MODIFIED, common).into_response();
        }
        // What a HEAD is not to have, the connection leaves out.
        (common, [(CONTENT_TYPE, self.kind)], self.body).into_response()
    }

    /// RFC 9110, section 13.1.2: a list of tags, compared weakly, or anything at all.
    fn is_among(&self, value: &HeaderValue) -> bool {
        let tags = value.to_str().unwrap_or_default();
        tags.split(',').map(str::trim).any(|tag| tag == "*" || tag.strip_prefix("W/").unwrap_or(tag) == self.etag)
    }
}
