//! What an agent answers, and logs as WebSocket.

use super::*;
use crate::dial::Security;
use crate::pki::Pki;
use crate::tls;
use futures::StreamExt;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use skep_streams::websocket::Message;
use std::convert::Infallible;
use tokio::net::{TcpListener, TcpStream};
use tokio_tungstenite::tungstenite::client::IntoClientRequest;

/// A server of this handler on the loopback address, each connection by itself.
async fn serve<F, A>(handler: F) -> u16
where
    F: Fn(Request<hyper::body::Incoming>) -> A + Clone + Send + 'static,
    A: Future<Output = Response<Body>> + Send + 'static,
{
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            let handler = handler.clone();
            let service = service_fn(move |request| {
                let answer = handler(request);
                async move { Ok::<_, Infallible>(answer.await) }
            });
            tokio::spawn(async move {
                let http = hyper::server::conn::http1::Builder::new();
                let _ = http.serve_connection(TokioIo::new(stream), service).with_upgrades().await;
            });
        }
    });
    port
}

fn dialer() -> Dialer {
    let dir = tempfile::tempdir().unwrap();
    let ca = Pki::open_or_create(dir.path(), jiff::Timestamp::now()).unwrap();
    let client = ca.kubelet_client(jiff::Timestamp::now()).unwrap();
    Dialer::new(tls::agent_client(&client, ca.ca_pem()).unwrap()).unwrap()
}

#[tokio::test]
async fn answers_come_back_and_refusals_become_statuses() {
    let port = serve(|request| async move {
        let path = request.uri().to_string();
        let code = match path.as_str() {
            "/missing" => 404,
            "/bad" => 400,
            "/broken" => 502,
            _ => 200,
        };
        Response::builder().status(code).body(full(path)).unwrap()
    })
    .await;
    let target = Target { host: "127.0.0.1".into(), port, security: Security::Plain };
    let dialer = dialer();
    let answer = read(&dialer, &target, "/containerLogs/d/p/c?follow=true").await.unwrap();
    let text = answer.into_body().collect().await.unwrap().to_bytes();
    assert_eq!(&*text, b"/containerLogs/d/p/c?follow=true");
    let code = |path: &'static str| {
        let (dialer, target) = (&dialer, &target);
        async move { read(dialer, target, path).await.unwrap_err().code }
    };
    assert_eq!((code("/missing").await, code("/bad").await, code("/broken").await), (404, 400, 500));
    let nobody = Target { port: 1, ..target };
    let status = read(&dialer, &nobody, "/").await.unwrap_err();
    assert!(status.message.starts_with("error dialing backend: dial tcp 127.0.0.1:1:"), "{status}");
}

#[tokio::test]
async fn logs_over_websocket() {
    let port = serve(|request| async move {
        let request = request.map(|body| body.map_err(Into::into).boxed_unsync());
        let log = plain("one\ntwo\n".to_owned()).unwrap();
        logs::answer(request, log).unwrap_or_else(|status| {
            Response::builder().status(status.code).body(full(status.message)).unwrap()
        })
    })
    .await;
    let ask = |protocol: &'static str| async move {
        let mut request = "ws://server/log".into_client_request().unwrap();
        if !protocol.is_empty() {
            request.headers_mut().insert("sec-websocket-protocol", protocol.parse().unwrap());
        }
        let stream = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
        tokio_tungstenite::client_async(request, stream).await
    };
    for protocol in ["binary.k8s.io", ""] {
        let (socket, answer) = ask(protocol).await.unwrap();
        assert_eq!(answer.headers().get("sec-websocket-protocol").is_some(), !protocol.is_empty());
        let messages: Vec<Message> = socket.map(Result::unwrap).collect().await;
        assert_eq!(messages[0], Message::Binary(Bytes::new()));
        assert_eq!(messages[1], Message::Binary(Bytes::from_static(b"one\ntwo\n")));
        assert!(matches!(messages[2], Message::Close(_)));
    }
    let (socket, _) = ask("base64.binary.k8s.io").await.unwrap();
    let messages: Vec<Message> = socket.map(Result::unwrap).collect().await;
    assert_eq!(messages[1], Message::text("b25lCnR3bwo="));
    assert!(ask("v4.channel.k8s.io").await.is_err());
}
