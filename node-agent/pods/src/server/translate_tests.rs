//! Streams through the agent's own handler, between a client and a runtime's streaming server that stand in for the real ones.

use super::super::stream::{Kind, serve};
use super::*;
use bytes::{BufMut, BytesMut};
use http::HeaderValue;
use hyper_util::rt::TokioIo;
use skep_streams::spdy::Decoder;
use std::convert::Infallible;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_tungstenite::tungstenite::client::IntoClientRequest;

const ALL: Wanted = Wanted { stdin: true, stdout: true, stderr: true, tty: false };

/// Reads the head of a request or answer.
async fn head(stream: &mut TcpStream) -> String {
    let mut seen = Vec::new();
    while !seen.ends_with(b"\r\n\r\n") {
        seen.push(stream.read_u8().await.unwrap());
    }
    String::from_utf8(seen).unwrap().to_ascii_lowercase()
}

/// Takes one upgrade as the runtime's server would; answers the request's head and the connection.
async fn take(listener: &TcpListener) -> (String, TcpStream) {
    let (mut stream, _) = listener.accept().await.unwrap();
    let asked = head(&mut stream).await;
    let answer = b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: SPDY/3.1\r\nX-Stream-Protocol-Version: v4.channel.k8s.io\r\nDate: x\r\n\r\n";
    stream.write_all(answer).await.unwrap();
    (asked, stream)
}

/// A runtime's listener, and an agent's that leads there.
async fn start(kind: Kind) -> (TcpListener, TcpStream) {
    let runtime = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/stream/token", runtime.local_addr().unwrap());
    let agent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let client = TcpStream::connect(agent.local_addr().unwrap()).await.unwrap();
    tokio::spawn(async move {
        let (stream, _) = agent.accept().await.unwrap();
        let service = hyper::service::service_fn(move |request| {
            let url = url.clone();
            async move { Ok::<_, Infallible>(serve(request, &url, kind).await) }
        });
        let http = hyper::server::conn::http1::Builder::new();
        let _ = http.serve_connection(TokioIo::new(stream), service).with_upgrades().await;
    });
    (runtime, client)
}

fn data(id: u32, bytes: &[u8], last: bool) -> Vec<u8> {
    let mut out = BytesMut::new();
    out.put_u32(id);
    out.put_u32((u32::from(last) << 24) | bytes.len() as u32);
    out.put_slice(bytes);
    out.to_vec()
}

async fn socket(client: TcpStream, protocol: &'static str) -> tokio_tungstenite::WebSocketStream<TcpStream> {
    let mut request = "ws://agent/exec".into_client_request().unwrap();
    request.headers_mut().insert("sec-websocket-protocol", HeaderValue::from_static(protocol));
    let (socket, answer) = tokio_tungstenite::client_async(request, client).await.unwrap();
    let offered = protocol.split(", ").collect::<Vec<_>>();
    let chosen = answer.headers()["sec-websocket-protocol"].to_str().unwrap();
    assert!(offered.contains(&chosen));
    socket
}

#[tokio::test]
async fn a_command_that_echoes_more_than_anybody_holds() {
    const MUCH: usize = 24 << 20;
    let (runtime, client) = start(Kind::Command(ALL)).await;
    let cat = tokio::spawn(async move {
        let (asked, mut stream) = take(&runtime).await;
        assert!(asked.starts_with("post /stream/token") && asked.contains("spdy/3.1"), "{asked}");
        assert!(asked.contains("x-stream-protocol-version: v4.channel.k8s.io"), "{asked}");
        let mut decoder = Decoder::default();
        // Streams are numbered as they are opened: error 1, stdin 3, stdout 5, stderr 7.
        loop {
            let Some(event) = decoder.event().unwrap() else {
                assert!(stream.read_buf(decoder.buffer()).await.unwrap() > 0);
                continue;
            };
            let Event::Data { id: 3, data: piece, last } = event else { panic!("{event:?}") };
            stream.write_all(&data(5, &piece, false)).await.unwrap();
            if last {
                break;
            }
        }
        stream.write_all(&data(7, b"done", true)).await.unwrap();
        stream.write_all(&data(5, b"", true)).await.unwrap();
        stream.write_all(&data(1, br#"{"status":"Success"}"#, true)).await.unwrap();
        stream
    });
    let (mut sink, mut source) = socket(client, "v4.channel.k8s.io, v5.channel.k8s.io").await.split();
    let typing = tokio::spawn(async move {
        for _ in 0..MUCH / (1 << 20) {
            sink.send(frame(STDIN, &vec![b'x'; 1 << 20])).await.unwrap();
        }
        sink.send(Message::Binary(Bytes::from_static(&[CLOSE, STDIN]))).await.unwrap();
        sink
    });
    let (mut echoed, mut errors, mut status) = (0, Vec::new(), Vec::new());
    while let Some(Ok(message)) = source.next().await {
        match message {
            Message::Binary(bytes) => match bytes[0] {
                STDOUT => echoed += bytes.len() - 1,
                STDERR => errors.extend_from_slice(&bytes[1..]),
                ERROR => status.extend_from_slice(&bytes[1..]),
                other => panic!("channel {other}"),
            },
            Message::Close(why) => {
                assert_eq!(u16::from(why.unwrap().code), 1000);
                break;
            }
            other => panic!("{other:?}"),
        }
    }
    assert_eq!((echoed, &*errors, &*status), (MUCH, &b"done"[..], &br#"{"status":"Success"}"#[..]));
    drop(typing.await.unwrap());
    cat.await.unwrap();
}

#[tokio::test]
async fn a_runtime_that_breaks_off_is_told_of() {
    let (runtime, client) = start(Kind::Command(ALL)).await;
    let (mut socket, (_, stream)) = tokio::join!(socket(client, "v5.channel.k8s.io"), take(&runtime));
    drop(stream);
    let mut last = Vec::new();
    while let Some(Ok(Message::Binary(bytes))) = socket.next().await {
        last = bytes.to_vec();
    }
    assert_eq!(last[0], ERROR);
    assert_eq!(serde_json::from_slice::<serde_json::Value>(&last[1..]).unwrap()["status"], "Failure");
}

#[tokio::test]
async fn a_client_that_is_gone_ends_the_runtimes_streams() {
    let (runtime, client) = start(Kind::Command(ALL)).await;
    let (socket, (_, mut stream)) = tokio::join!(socket(client, "v5.channel.k8s.io"), take(&runtime));
    drop(socket);
    let mut rest = Vec::new();
    // Ends, after the frames that open the streams.
    let _ = stream.read_to_end(&mut rest).await;
    assert!(rest.starts_with(&[0x80, 3, 0, 1]));
}

#[tokio::test]
async fn spdy_passes_as_bytes() {
    let (runtime, mut client) = start(Kind::Command(ALL)).await;
    let ask = b"POST /exec HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: SPDY/3.1\r\nX-Stream-Protocol-Version: v3.channel.k8s.io\r\nX-Stream-Protocol-Version: v4.channel.k8s.io\r\nContent-Length: 0\r\n\r\n";
    client.write_all(ask).await.unwrap();
    let (asked, mut stream) = take(&runtime).await;
    assert!(asked.starts_with("post /stream/token"), "{asked}");
    assert_eq!(asked.matches("x-stream-protocol-version: v").count(), 2, "{asked}");
    let answer = head(&mut client).await;
    assert!(
        answer.starts_with("http/1.1 101") && answer.contains("x-stream-protocol-version: v4"),
        "{answer}"
    );
    client.write_all(b"there").await.unwrap();
    let mut got = [0; 5];
    stream.read_exact(&mut got).await.unwrap();
    assert_eq!(&got, b"there");
    stream.write_all(b"again").await.unwrap();
    client.read_exact(&mut got).await.unwrap();
    assert_eq!(&got, b"again");
    drop(client);
    assert_eq!(stream.read(&mut got).await.unwrap(), 0);
}

#[tokio::test]
async fn spdy_within_websocket() {
    let (runtime, client) = start(Kind::Ports).await;
    let (mut socket, (asked, mut stream)) =
        tokio::join!(socket(client, "SPDY/3.1+portforward.k8s.io"), take(&runtime));
    assert!(asked.contains("x-stream-protocol-version: portforward.k8s.io"), "{asked}");
    assert!(!asked.contains("sec-websocket"), "{asked}");
    socket.send(Message::Binary(Bytes::from_static(b"one"))).await.unwrap();
    socket.send(Message::Binary(Bytes::from_static(b"two"))).await.unwrap();
    let mut got = [0; 6];
    stream.read_exact(&mut got).await.unwrap();
    assert_eq!(&got, b"onetwo");
    stream.write_all(b"back").await.unwrap();
    assert_eq!(socket.next().await.unwrap().unwrap(), Message::Binary(Bytes::from_static(b"back")));
    drop(stream);
    assert!(
        matches!(socket.next().await, Some(Ok(Message::Close(Some(frame)))) if u16::from(frame.code) == 1000)
    );
}

#[tokio::test]
async fn a_refusal_of_the_runtime_comes_back() {
    let (runtime, mut client) = start(Kind::Ports).await;
    let ask = b"GET /x HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: SPDY/3.1\r\n\r\n";
    client.write_all(ask).await.unwrap();
    let (mut stream, _) = runtime.accept().await.unwrap();
    head(&mut stream).await;
    stream.write_all(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 7\r\n\r\nbecause").await.unwrap();
    let answer = head(&mut client).await;
    assert!(answer.starts_with("http/1.1 403"), "{answer}");
    let mut why = [0; 7];
    client.read_exact(&mut why).await.unwrap();
    assert_eq!(&why, b"because");
}
