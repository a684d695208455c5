//! A socket that is watched on both sides.
//!
//! **Reading**: hyper waits for ever for a peer's first bytes. [`Watched`] follows them, and its [`Opening`] tells the
//! connection's task how far they came:
//!
//! ```text
//! silent ──first byte──▶ begun ──33 bytes of HTTP/2, or anything that is not HTTP/2──▶ done
//! ```
//!
//! 33 bytes are the HTTP/2 connection preface (24) and the header of the SETTINGS frame that must follow it (9), RFC 9113
//! section 3.4. What is not HTTP/2 is done at its first foreign byte: the HTTP/1 side of hyper has a header timeout of its own,
//! and the HTTP/2 side answers with an error at once.
//!
//! **Writing**: a peer that never reads keeps a connection alive past keepalive and age, because the GOAWAY that would end it
//! cannot be written either. A write that makes no progress for the write timeout is therefore an error.

use std::{
    io::{self, IoSlice},
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU8, Ordering},
    },
    task::{Context, Poll, ready},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::{Sleep, sleep},
};

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const FRAME_HEADER_LEN: usize = 9;

const SILENT: u8 = 0;
const BEGUN: u8 = 1;
const DONE: u8 = 2;

/// How far a peer's first bytes came; shared by a [`Watched`] socket and the task that serves it.
#[derive(Clone, Debug, Default)]
pub struct Opening(Arc<AtomicU8>);

impl Opening {
    /// No byte has arrived.
    #[must_use]
    pub fn is_silent(&self) -> bool {
        self.0.load(Ordering::Relaxed) == SILENT
    }

    /// The peer has said what it speaks: the HTTP/2 preface and a first frame header, or something else altogether.
    #[must_use]
    pub fn is_done(&self) -> bool {
        self.0.load(Ordering::Relaxed) == DONE
    }
}

/// A byte stream whose first bytes and stalled writes are watched; see the module.
#[derive(Debug)]
pub struct Watched<I> {
    inner: I,
    opening: Opening,
    /// Bytes read so far; not counted further once the opening is done.
    read: usize,
    write_timeout: Duration,
    /// Runs while a write is pending.
    stall: Option<Pin<Box<Sleep>>>,
}

impl<I> Watched<I> {
    /// Watches `inner`; a write without progress for `write_timeout` fails with [`io::ErrorKind::TimedOut`].
    pub fn new(inner: I, write_timeout: Duration) -> Self {
        Self { inner, opening: Opening::default(), read: 0, write_timeout, stall: None }
    }

    /// The handle that tells how far the peer's first bytes came.
    pub fn opening(&self) -> Opening {
        self.opening.clone()
    }

    fn see(&mut self, bytes: &[u8]) {
        if bytes.is_empty() {
            return;
        }
        let is_http2 = PREFACE.iter().skip(self.read).zip(bytes).all(|(expected, byte)| expected == byte);
        self.read = self.read.saturating_add(bytes.len());
        let done = !is_http2 || self.read >= PREFACE.len() + FRAME_HEADER_LEN;
        self.opening.0.store(if done { DONE } else { BEGUN }, Ordering::Relaxed);
    }

    fn fail_when_stalled(&mut self, cx: &mut Context<'_>, written: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        if written.is_ready() {
            self.stall = None;
            return written;
        }
        let limit = self.write_timeout;
        let stall = self.stall.get_or_insert_with(|| Box::pin(sleep(limit)));
        ready!(stall.as_mut().poll(cx));
        Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, "the peer does not read")))
    }
}

impl<I: AsyncRead + Unpin> AsyncRead for Watched<I> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let result = Pin::new(&mut self.inner).poll_read(cx, buf);
        if !self.opening.is_done() {
            self.see(buf.filled().get(before..).unwrap_or_default());
        }
        result
    }
}

impl<I: AsyncWrite + Unpin> AsyncWrite for Watched<I> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.inner).poll_write(cx, buf);
        self.fail_when_stalled(cx, written)
    }

    fn poll_write_vectored(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bufs: &[IoSlice<'_>]) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.inner).poll_write_vectored(cx, bufs);
        self.fail_when_stalled(cx, written)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}
