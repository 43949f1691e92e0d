//! The way to an agent over real TLS: who it is, who we are, what is copied.

use super::agent::{Agent, Upgrade};
use super::choose::Place;
use crate::hooks::{Body, full};
use crate::pki::{Pki, ServingNames};
use crate::tls;
use http::{HeaderMap, Request, Response, StatusCode};
use http_body_util::BodyExt;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use std::convert::Infallible;
use std::sync::Arc;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

/// An agent's server: logs the path it was asked for, echoes upgraded bytes in upper case.
async fn serve(request: Request<hyper::body::Incoming>) -> Result<Response<Body>, Infallible> {
    let path = request.uri().to_string();
    let mut response = Response::new(full(path.clone()));
    if path.starts_with("/missing") {
        *response.status_mut() = StatusCode::NOT_FOUND;
    } else if path.starts_with("/broken") {
        *response.status_mut() = StatusCode::BAD_GATEWAY;
    } else if let Some(protocol) = request.headers().get("sec-websocket-protocol").cloned() {
        *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
        response.headers_mut().insert("upgrade", "websocket".parse().unwrap());
        response.headers_mut().insert("connection", "Upgrade".parse().unwrap());
        response.headers_mut().insert("sec-websocket-protocol", protocol);
        tokio::spawn(async move {
            let mut stream = TokioIo::new(hyper::upgrade::on(request).await.unwrap());
            let mut buffer = [0; 64];
            loop {
                match stream.read(&mut buffer).await.unwrap() {
                    0 => break,
                    n => stream.write_all(&buffer[..n].to_ascii_uppercase()).await.unwrap(),
                }
            }
        });
    }
    Ok(response)
}

/// Starts the agent's server with a certificate of `ca` for 127.0.0.1, which wants clients of the same CA.
async fn start(ca: &Pki) -> Place {
    let mut names = ServingNames::default();
    names.add("127.0.0.1");
    let identity = ca.server("system:node:n1", &names, jiff::Timestamp::now()).unwrap();
    let acceptor = TlsAcceptor::from(tls::server(&identity, ca.ca_pem()).unwrap());
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            let acceptor = acceptor.clone();
            tokio::spawn(async move {
                let Ok(stream) = acceptor.accept(stream).await else { return };
                let known = stream.get_ref().1.peer_certificates().is_some();
                assert!(known, "the API server shows its certificate");
                let http = hyper::server::conn::http1::Builder::new();
                let _ = http.serve_connection(TokioIo::new(stream), service_fn(serve)).with_upgrades().await;
            });
        }
    });
    Place { host: "127.0.0.1".into(), port }
}

fn agent(ca: &Pki) -> Agent {
    Agent::new(tls::agent_client(&ca.kubelet_client(jiff::Timestamp::now()).unwrap(), ca.ca_pem()).unwrap())
}

fn pki() -> (tempfile::TempDir, Pki) {
    let dir = tempfile::tempdir().unwrap();
    let pki = Pki::open_or_create(dir.path(), jiff::Timestamp::now()).unwrap();
    (dir, pki)
}

#[tokio::test]
async fn answers_come_back_and_refusals_become_statuses() {
    let (_dir, ca) = pki();
    let (place, agent) = (start(&ca).await, agent(&ca));
    let answer = agent.get(&place, "/containerLogs/d/p/c?follow=true").await.unwrap();
    let text = answer.into_body().collect().await.unwrap().to_bytes();
    assert_eq!(&*text, b"/containerLogs/d/p/c?follow=true");
    assert_eq!(agent.get(&place, "/missing").await.unwrap_err().code, 404);
    assert_eq!(agent.get(&place, "/broken").await.unwrap_err().code, 500);
    let nobody = Place { host: "127.0.0.1".into(), port: 1 };
    assert!(
        agent.get(&nobody, "/").await.unwrap_err().message.contains("cannot reach the agent at 127.0.0.1:1")
    );
}

#[tokio::test]
async fn an_agent_of_another_authority_is_not_trusted() {
    let ((_one, ours), (_two, theirs)) = (pki(), pki());
    let place = start(&theirs).await;
    let status = agent(&ours).get(&place, "/").await.unwrap_err();
    assert!(status.message.contains("cannot reach the agent"), "{status}");
}

#[tokio::test]
async fn upgraded_bytes_go_both_ways() {
    let (_dir, ca) = pki();
    let (place, agent) = (start(&ca).await, Arc::new(agent(&ca)));
    // The client's side: a plain HTTP server that hands its requests on as the API server does.
    let (near, far) = tokio::io::duplex(1 << 10);
    tokio::spawn(async move {
        let service = service_fn(move |request: Request<hyper::body::Incoming>| {
            let (agent, place) = (agent.clone(), place.clone());
            async move {
                let mut request = request.map(|body| body.map_err(Into::into).boxed_unsync());
                let upgrade = Upgrade::wanted(request.headers()).unwrap();
                let answer = agent.upgrade(&place, "/exec/d/p/c?command=ls", upgrade, &mut request).await;
                Ok::<_, Infallible>(answer.unwrap())
            }
        });
        let http = hyper::server::conn::http1::Builder::new();
        let _ = http.serve_connection(TokioIo::new(far), service).with_upgrades().await;
    });
    let mut near = near;
    near.write_all(
        b"GET / HTTP/1.1\r\nhost: x\r\nconnection: Upgrade\r\nupgrade: websocket\r\nsec-websocket-protocol: v5.channel.k8s.io\r\n\r\n",
    )
    .await
    .unwrap();
    let mut seen = Vec::new();
    while !seen.ends_with(b"\r\n\r\n") {
        seen.push(near.read_u8().await.unwrap());
    }
    let head = String::from_utf8(seen).unwrap().to_ascii_lowercase();
    assert!(
        head.starts_with("http/1.1 101") && head.contains("sec-websocket-protocol: v5.channel.k8s.io"),
        "{head}"
    );
    near.write_all(b"hello").await.unwrap();
    let mut echo = [0; 5];
    near.read_exact(&mut echo).await.unwrap();
    assert_eq!(&echo, b"HELLO");
}

#[test]
fn headers_of_no_upgrade() {
    assert!(Upgrade::wanted(&HeaderMap::new()).is_err());
}
