//! What the watches of one connection write, put together.
//!
//! HTTP/2 flushes after every frame with data, so that one event for fifty watches of a connection is fifty TLS records and
//! fifty system calls. While several watches run on a connection, what is written is therefore gathered, whoever else is
//! ready gets a turn to write as well, and then it goes out in one piece. Connections without watches, or with one, are
//! written to as if nothing stood between.

use parking_lot::Mutex;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// So much is gathered at most, in bytes; larger pieces are not copied.
const ROOM: usize = 64 << 10;

/// The stream of a connection, as HTTP sees it.
pub(super) struct Gathered<S>(Arc<Mutex<Gather<S>>>);

/// The same stream, as the task of the connection sees it.
pub(super) struct Outlet<S> {
    stream: Arc<Mutex<Gather<S>>>,
    /// Whether others have had their turn since something was first gathered.
    yielded: bool,
}

struct Gather<S> {
    stream: S,
    /// What is written but not sent, from `sent` on.
    waiting: Vec<u8>,
    sent: usize,
    gathering: bool,
}

/// Both views of a stream.
pub(super) fn gather<S>(stream: S) -> (Gathered<S>, Outlet<S>) {
    let gather = Gather { stream, waiting: Vec::new(), sent: 0, gathering: false };
    let stream = Arc::new(Mutex::new(gather));
    (Gathered(stream.clone()), Outlet { stream, yielded: false })
}

impl<S: AsyncWrite + Unpin> Outlet<S> {
    /// Goes on with the work of the connection, gathers what it writes if that is asked for, and sends it.
    pub(super) fn poll<T, E: From<io::Error>>(
        &mut self,
        cx: &mut Context<'_>,
        gathering: bool,
        work: Pin<&mut impl Future<Output = Result<T, E>>>,
    ) -> Poll<Result<T, E>> {
        self.stream.lock().gathering = gathering;
        if let Poll::Ready(done) = work.poll(cx) {
            // Whoever has the stream from now on flushes it.
            self.stream.lock().gathering = false;
            return Poll::Ready(done);
        }
        let mut stream = self.stream.lock();
        if stream.waiting.is_empty() {
            self.yielded = false;
        } else if !self.yielded {
            self.yielded = true;
            cx.waker().wake_by_ref();
        } else if stream.poll_out(cx)?.is_ready() {
            self.yielded = false;
        }
        Poll::Pending
    }
}

impl<S: AsyncWrite + Unpin> Gather<S> {
    /// Sends all that waits.
    fn poll_out(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while self.sent < self.waiting.len() {
            match ready!(Pin::new(&mut self.stream).poll_write(cx, &self.waiting[self.sent..]))? {
                0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                more => self.sent += more,
            }
        }
        (self.waiting, self.sent) = (Vec::new(), 0);
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    /// Keeps pieces of this length together, if they are to be gathered and fit; nothing waits any more where they are not.
    fn poll_keep(
        &mut self,
        cx: &mut Context<'_>,
        length: usize,
        pieces: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<bool>> {
        let keeps = self.gathering && length < ROOM;
        let fits = keeps && self.waiting.len() + length <= ROOM;
        if !fits && !self.waiting.is_empty() {
            ready!(self.poll_out(cx))?;
        }
        if keeps {
            self.waiting.reserve(length);
            pieces.iter().for_each(|piece| self.waiting.extend_from_slice(piece));
        }
        Poll::Ready(Ok(keeps))
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Gathered<S> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0.lock().stream).poll_read(cx, buf)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Gathered<S> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(cx, &[io::IoSlice::new(buf)])
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let mut this = self.0.lock();
        let length = bufs.iter().map(|buf| buf.len()).sum();
        if ready!(this.poll_keep(cx, length, bufs))? {
            return Poll::Ready(Ok(length));
        }
        Pin::new(&mut this.stream).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.0.lock().stream.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut this = self.0.lock();
        // What is gathered is sent when the connection's task has done its work.
        if this.gathering { Poll::Ready(Ok(())) } else { this.poll_out(cx) }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut this = self.0.lock();
        ready!(this.poll_out(cx))?;
        Pin::new(&mut this.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::future::{pending, poll_fn, ready};
    use std::task::Waker;
    use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};

    /// Goes on with a connection whose task writes these pieces, once, and never ends.
    fn turn(
        outlet: &mut Outlet<DuplexStream>,
        stream: &mut Gathered<DuplexStream>,
        gathering: bool,
        pieces: &[&[u8]],
    ) {
        let mut cx = Context::from_waker(Waker::noop());
        let work = poll_fn(|cx| {
            for piece in pieces {
                assert!(
                    matches!(Pin::new(&mut *stream).poll_write(cx, piece), Poll::Ready(Ok(n)) if n == piece.len())
                );
                assert!(matches!(Pin::new(&mut *stream).poll_flush(cx), Poll::Ready(Ok(()))));
            }
            Poll::<io::Result<()>>::Pending
        });
        assert!(outlet.poll(&mut cx, gathering, Box::pin(work).as_mut()).is_pending());
    }

    /// What has arrived by now.
    fn arrived(far: &mut DuplexStream) -> Vec<u8> {
        let mut buf = vec![0; 1 << 20];
        let mut read = ReadBuf::new(&mut buf);
        let _ = Pin::new(far).poll_read(&mut Context::from_waker(Waker::noop()), &mut read);
        read.filled().to_vec()
    }

    #[test]
    fn what_is_gathered_goes_out_after_the_others_turn() {
        let (near, mut far) = duplex(1 << 20);
        let (mut stream, mut outlet) = gather(near);
        turn(&mut outlet, &mut stream, true, &[b"a", b"b"]);
        assert_eq!(arrived(&mut far), b"");
        turn(&mut outlet, &mut stream, true, &[b"c"]);
        assert_eq!(arrived(&mut far), b"abc");
        // Then it begins anew.
        turn(&mut outlet, &mut stream, true, &[b"d"]);
        assert_eq!(arrived(&mut far), b"");
        turn(&mut outlet, &mut stream, true, &[]);
        assert_eq!(arrived(&mut far), b"d");
    }

    #[test]
    fn without_several_watches_nothing_waits() {
        let (near, mut far) = duplex(1 << 20);
        let (mut stream, mut outlet) = gather(near);
        turn(&mut outlet, &mut stream, false, &[b"a", b"b"]);
        assert_eq!(arrived(&mut far), b"ab");
        // Nor does what waited when the others went; it stays before what comes later.
        turn(&mut outlet, &mut stream, true, &[b"c"]);
        turn(&mut outlet, &mut stream, false, &[b"d"]);
        assert_eq!(arrived(&mut far), b"cd");
    }

    #[test]
    fn more_than_fits_goes_out_at_once_and_in_order() {
        let (near, mut far) = duplex(1 << 20);
        let (mut stream, mut outlet) = gather(near);
        let (half, large) = (vec![b'x'; ROOM / 2 + 1], vec![b'y'; ROOM]);
        turn(&mut outlet, &mut stream, true, &[&half, &half, &large, b"z"]);
        assert_eq!(arrived(&mut far), [&half[..], &half, &large].concat());
        turn(&mut outlet, &mut stream, true, &[]);
        assert_eq!(arrived(&mut far), b"z");
    }

    #[tokio::test]
    async fn a_reader_who_is_slow_gets_everything() {
        let (near, mut far) = duplex(10);
        let (mut stream, mut outlet) = gather(near);
        let written = async move {
            for at in 0..2_000_u32 {
                stream.write_all(&at.to_be_bytes()).await?;
                stream.flush().await?;
                if at % 7 == 0 {
                    tokio::task::yield_now().await;
                }
            }
            stream.shutdown().await
        };
        let mut written = Box::pin(written);
        let connection = poll_fn(|cx| outlet.poll(cx, true, written.as_mut()));
        let mut all = Vec::new();
        let (sent, read) = tokio::join!(connection, far.read_to_end(&mut all));
        assert!(sent.is_ok() && read.is_ok());
        assert_eq!(all, (0..2_000_u32).flat_map(u32::to_be_bytes).collect::<Vec<_>>());
    }

    #[tokio::test]
    async fn a_connection_that_is_gone_ends_the_work() {
        let (near, far) = duplex(10);
        let (mut stream, mut outlet) = gather(near);
        drop(far);
        let mut work = Box::pin(async move {
            stream.write_all(b"a").await?;
            pending::<io::Result<()>>().await
        });
        let ended = poll_fn(|cx| outlet.poll(cx, true, work.as_mut())).await;
        assert_eq!(ended.unwrap_err().kind(), io::ErrorKind::BrokenPipe);
        let done = poll_fn(|cx| outlet.poll(cx, true, Pin::new(&mut ready(Ok::<_, io::Error>(7))))).await;
        assert_eq!(done.unwrap(), 7);
    }
}
