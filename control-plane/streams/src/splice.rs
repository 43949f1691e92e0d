//! Bytes from one connection to another and back.

use std::io;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, split};

/// How long one direction may go on after the other has ended.
const LINGER: Duration = Duration::from_secs(10);
/// What is held of one direction, in bytes.
const BUFFER: usize = 32 << 10;

/// Copies both ways until both sides have ended, one has failed, or one has ended and the other does not within some
/// seconds. Holds 32 KiB each way; who does not read is not written to.
///
/// # Errors
/// Those of the connections.
pub async fn splice<A, B>(one: A, other: B) -> io::Result<()>
where
    A: AsyncRead + AsyncWrite,
    B: AsyncRead + AsyncWrite,
{
    let (one_in, one_out) = split(one);
    let (other_in, other_out) = split(other);
    let there = pump(one_in, other_out);
    let back = pump(other_in, one_out);
    tokio::pin!(there, back);
    tokio::select! {
        ended = &mut there => { ended?; linger(back).await }
        ended = &mut back => { ended?; linger(there).await }
    }
}

async fn linger(rest: impl Future<Output = io::Result<()>>) -> io::Result<()> {
    tokio::time::timeout(LINGER, rest).await.unwrap_or(Ok(()))
}

/// Copies one way; passes the end on.
async fn pump(mut from: impl AsyncRead + Unpin, mut to: impl AsyncWrite + Unpin) -> io::Result<()> {
    let mut buffer = vec![0; BUFFER];
    loop {
        let read = from.read(&mut buffer).await?;
        let Some(part) = buffer.get(..read).filter(|part| !part.is_empty()) else { break };
        to.write_all(part).await?;
        to.flush().await?;
    }
    to.shutdown().await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn both_ways_and_half_closed() {
        let (mut client, near) = tokio::io::duplex(64);
        let (far, mut server) = tokio::io::duplex(64);
        let spliced = tokio::spawn(splice(near, far));
        client.write_all(b"question").await.unwrap();
        client.shutdown().await.unwrap();
        let mut asked = Vec::new();
        server.read_to_end(&mut asked).await.unwrap();
        assert_eq!(asked, b"question");
        // The client has said all it will; the answer still comes.
        let answer = vec![7; 100_000];
        let (sent, got) = tokio::join!(
            async {
                server.write_all(&answer).await.unwrap();
                server.shutdown().await.unwrap();
                answer.len()
            },
            async {
                let mut got = Vec::new();
                client.read_to_end(&mut got).await.unwrap();
                got.len()
            }
        );
        assert_eq!(sent, got);
        spliced.await.unwrap().unwrap();
    }

    #[tokio::test]
    async fn one_that_is_gone_ends_the_other() {
        let (client, near) = tokio::io::duplex(64);
        let (far, mut server) = tokio::io::duplex(64);
        let spliced = tokio::spawn(splice(near, far));
        drop(client);
        assert_eq!(server.read(&mut [0; 8]).await.unwrap(), 0, "the end is passed on");
        drop(server);
        let _ = spliced.await.unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn who_never_ends_is_left_after_a_while() {
        let (client, near) = tokio::io::duplex(64);
        let (far, _server_that_hangs) = tokio::io::duplex(64);
        let spliced = tokio::spawn(splice(near, far));
        drop(client);
        spliced.await.unwrap().unwrap();
    }

    #[tokio::test]
    async fn who_does_not_read_is_not_written_to() {
        let (mut client, near) = tokio::io::duplex(64);
        let (far, _server_that_does_not_read) = tokio::io::duplex(64);
        tokio::spawn(splice(near, far));
        let mut taken = 0;
        while let Ok(written) =
            tokio::time::timeout(Duration::from_millis(200), client.write(&[0; 1024])).await
        {
            taken += written.unwrap();
            assert!(taken < 4 * BUFFER, "more is held than a buffer");
        }
        assert!(taken >= 64);
    }
}
