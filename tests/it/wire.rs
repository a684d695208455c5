//! The wire without a client library's manners: any path, any headers, any bytes; and messages made from the contract's descriptors
//! instead of the generated types, so that an RPC that is added is covered without a line here.

use std::{future::poll_fn, net::SocketAddr, pin::Pin, sync::LazyLock};

use axum::body::Body;
use doorward::pb::DESCRIPTORS;
use http_body::Body as _;
use hyper::{body::Incoming, client::conn::http2::SendRequest};
use hyper_util::rt::{TokioExecutor, TokioIo};
use prost_reflect::{DescriptorPool, DynamicMessage, MessageDescriptor, prost::Message as _};
use tokio::io::{AsyncRead, AsyncWrite};
use tonic::Status;

use crate::harness::reason;

/// The contract with its options. Decoded once: a test looks messages up thousands of times.
pub fn contract() -> &'static DescriptorPool {
    static CONTRACT: LazyLock<DescriptorPool> = LazyLock::new(|| DescriptorPool::decode(DESCRIPTORS).unwrap());
    &CONTRACT
}

/// A message of the contract by its full name.
pub fn message(name: &str) -> MessageDescriptor {
    contract().get_message_by_name(name).unwrap_or_else(|| panic!("the contract has no message {name}"))
}

/// The bytes of a message that is given as JSON.
pub fn encode(name: &str, json: serde_json::Value) -> Vec<u8> {
    DynamicMessage::deserialize(message(name), json).unwrap_or_else(|error| panic!("no {name}: {error}")).encode_to_vec()
}

/// A gRPC frame around a message.
pub fn frame(message: &[u8]) -> Vec<u8> {
    let length = u32::try_from(message.len()).unwrap();
    [&[0], length.to_be_bytes().as_slice(), message].concat()
}

/// One HTTP/2 connection.
#[derive(Clone)]
pub struct Wire(SendRequest<Body>);

/// What came back.
#[derive(Debug, PartialEq, Eq)]
pub struct Answer {
    pub headers: http::HeaderMap,
    pub trailers: http::HeaderMap,
    pub body: Vec<u8>,
}

impl Wire {
    /// Connects.
    pub async fn connect(address: SocketAddr) -> Self {
        let stream = tokio::net::TcpStream::connect(address).await.unwrap();
        // Else every call waits 40 ms for a delayed acknowledgement.
        stream.set_nodelay(true).unwrap();
        Self::over(stream).await
    }

    /// Over a connection that there is, such as one with TLS.
    pub async fn over(stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static) -> Self {
        let (send, connection) = hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.unwrap();
        tokio::spawn(connection);
        Self(send)
    }

    /// The body of a plain GET.
    pub async fn get(&self, path: &str) -> Vec<u8> {
        self.request(http::Request::get(format!("http://doorward{path}")).body(Body::empty()).unwrap()).await.body
    }

    /// Calls a path with one framed message.
    pub async fn call(&self, path: &str, headers: &[(&str, &str)], message: &[u8]) -> Answer {
        self.send(path, headers, frame(message)).await
    }

    /// Calls a path with any body.
    pub async fn send(&self, path: &str, headers: &[(&str, &str)], body: Vec<u8>) -> Answer {
        let mut request =
            http::Request::post(format!("http://doorward{path}")).header("content-type", "application/grpc").header("te", "trailers");
        for (name, value) in headers {
            request = request.header(*name, http::HeaderValue::from_bytes(value.as_bytes()).unwrap());
        }
        self.request(request.body(Body::from(body)).unwrap()).await
    }

    /// Sends any request.
    pub async fn request(&self, request: http::Request<Body>) -> Answer {
        let mut send = self.0.clone();
        send.ready().await.unwrap();
        let (parts, body) = send.send_request(request).await.unwrap().into_parts();
        let (body, trailers) = read(body).await;
        Answer { headers: parts.headers, trailers, body }
    }
}

async fn read(mut body: Incoming) -> (Vec<u8>, http::HeaderMap) {
    let (mut data, mut trailers) = (Vec::new(), http::HeaderMap::new());
    while let Some(frame) = poll_fn(|cx| Pin::new(&mut body).poll_frame(cx)).await {
        match frame.unwrap().into_data() {
            Ok(bytes) => data.extend_from_slice(&bytes),
            Err(frame) => trailers = frame.into_trailers().unwrap(),
        }
    }
    (data, trailers)
}

impl Answer {
    /// The status, in the trailers or, where there is no body, in the headers.
    pub fn status(&self) -> Status {
        Status::from_header_map(&self.trailers)
            .or_else(|| Status::from_header_map(&self.headers))
            .unwrap_or_else(|| panic!("no grpc-status in {self:?}"))
    }

    /// Whether it is a yes.
    pub fn is_ok(&self) -> bool {
        self.status().code() == tonic::Code::Ok
    }

    /// `OK`, or the code and the reason. The reason must stand in the trailer and in the details alike.
    pub fn outcome(&self) -> String {
        let status = self.status();
        if status.code() == tonic::Code::Ok { "OK".to_owned() } else { format!("{} {}", code(&status), reason(&status)) }
    }

    /// The first message of the body.
    pub fn message(&self) -> &[u8] {
        self.messages()[0]
    }

    /// Every message of the body.
    pub fn messages(&self) -> Vec<&[u8]> {
        let (mut rest, mut messages) = (self.body.as_slice(), Vec::new());
        while let Some((head, after)) = rest.split_first_chunk::<5>() {
            let length = u32::from_be_bytes(head[1..].try_into().unwrap()) as usize;
            let (message, next) = after.split_at(length);
            messages.push(message);
            rest = next;
        }
        messages
    }

    /// The call's name, as the server answers it.
    pub fn request_id(&self) -> &str {
        self.headers.get("x-request-id").unwrap_or_else(|| panic!("no x-request-id in {self:?}")).to_str().unwrap()
    }
}

/// The code as the protocol spells it.
fn code(status: &Status) -> String {
    upper_snake(&format!("{:?}", status.code()))
}

/// `InvalidArgument` → `INVALID_ARGUMENT`.
pub fn upper_snake(camel: &str) -> String {
    let mut text = String::new();
    for letter in camel.chars() {
        if letter.is_ascii_uppercase() && !text.is_empty() {
            text.push('_');
        }
        text.push(letter.to_ascii_uppercase());
    }
    text
}
