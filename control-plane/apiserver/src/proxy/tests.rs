//! Requests through the proxy to a server that says what it was asked.

use super::*;
use crate::dial::Security;
use crate::pki::Pki;
use crate::tls;
use flate2::read::GzDecoder;
use hyper::service::service_fn;
use std::convert::Infallible;
use std::io::Read;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

const PREFIX: &str = "/api/v1/namespaces/d/pods/p/proxy";
const HTML: &str = r#"<a href="/rewriteme">test</a>"#;

fn gzip(text: &str) -> Vec<u8> {
    let mut zip = GzEncoder::new(Vec::new(), Compression::fast());
    zip.write_all(text.as_bytes()).unwrap();
    zip.finish().unwrap()
}

/// The other side: pages, redirects, streams, upgrades; else it says what it was asked.
async fn backend(mut request: Request<hyper::body::Incoming>) -> Response<Body> {
    let page = |headers: &[(&str, &str)], body: Vec<u8>| {
        let mut out = Response::builder();
        for (name, value) in headers {
            out = out.header(*name, *value);
        }
        out.body(full(body)).unwrap()
    };
    match request.uri().path() {
        "/html" => page(
            &[("content-type", "text/html; charset=utf-8"), ("access-control-allow-origin", "*")],
            HTML.into(),
        ),
        "/zipped" => page(&[("content-type", "text/html"), ("content-encoding", "gzip")], gzip(HTML)),
        "/text" => page(&[("content-type", "text/plain")], HTML.into()),
        "/moved" => {
            let mut answer = page(&[("location", "/there?x=1")], Vec::new());
            *answer.status_mut() = StatusCode::FOUND;
            answer
        }
        "/drip" => {
            let drops = futures::stream::unfold(0, |n| async move {
                if n > 0 {
                    tokio::time::sleep(std::time::Duration::from_secs(3600)).await;
                }
                Some((Ok(Frame::data(Bytes::from_static(b"drop"))), n + 1))
            });
            Response::new(StreamBody::new(drops).boxed_unsync())
        }
        "/refuse" => {
            let mut answer = page(&[], b"no".to_vec());
            *answer.status_mut() = StatusCode::FORBIDDEN;
            answer
        }
        "/echo" => {
            let on = hyper::upgrade::on(&mut request);
            tokio::spawn(async move {
                let mut stream = TokioIo::new(on.await.unwrap());
                let mut buffer = [0; 64];
                while let Ok(n @ 1..) = stream.read(&mut buffer).await {
                    stream.write_all(&buffer[..n].to_ascii_uppercase()).await.unwrap();
                }
            });
            let mut answer =
                page(&[("upgrade", "x"), ("connection", "Upgrade"), ("x-agreed", "1")], Vec::new());
            *answer.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
            answer
        }
        _ => {
            let (parts, body) = request.into_parts();
            let body = body.collect().await.unwrap().to_bytes();
            let header = |name: &str| parts.headers.get(name).map_or("-", |v| v.to_str().unwrap());
            let told = format!(
                "{} {} host={} uri={} auth={} body={}",
                parts.method,
                parts.uri,
                header("host"),
                header("x-forwarded-uri"),
                header("authorization"),
                String::from_utf8_lossy(&body)
            );
            page(&[], told.into_bytes())
        }
    }
}

async fn start() -> Target {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            tokio::spawn(async move {
                let service = service_fn(|request| async { Ok::<_, Infallible>(backend(request).await) });
                let http = hyper::server::conn::http1::Builder::new();
                let _ = http.serve_connection(TokioIo::new(stream), service).with_upgrades().await;
            });
        }
    });
    Target { host: "127.0.0.1".into(), port, security: Security::Plain }
}

fn dialer() -> Dialer {
    let dir = tempfile::tempdir().unwrap();
    let ca = Pki::open_or_create(dir.path(), jiff::Timestamp::now()).unwrap();
    let client = ca.kubelet_client(jiff::Timestamp::now()).unwrap();
    Dialer::new(tls::agent_client(&client, ca.ca_pem()).unwrap()).unwrap()
}

async fn ask(
    target: &Target,
    method: &str,
    path: &str,
    body: &'static str,
) -> Result<Response<Body>, Status> {
    let uri = format!("{PREFIX}{path}");
    let request = Request::builder().method(method).uri(&uri).header("host", "server:6443");
    let request = request.header("authorization", "Bearer secret").body(full(body)).unwrap();
    let route = Route::cut(request.uri().path(), 7);
    carry(&dialer(), target, &route, request).await
}

async fn bytes(answer: Response<Body>) -> Vec<u8> {
    answer.into_body().collect().await.unwrap().to_bytes().to_vec()
}

async fn told(target: &Target, method: &str, path: &str, body: &'static str) -> String {
    String::from_utf8(bytes(ask(target, method, path, body).await.unwrap()).await).unwrap()
}

#[tokio::test]
async fn every_method_with_its_body() {
    let target = start().await;
    for method in ["DELETE", "GET", "OPTIONS", "PATCH", "POST", "PUT"] {
        let got = told(&target, method, "/some/path?a=b", "sent").await;
        let want =
            format!("{method} /some/path?a=b host=server:6443 uri={PREFIX}/some/path auth=- body=sent");
        assert_eq!(got, want);
    }
    let answer = ask(&target, "HEAD", "/x", "").await.unwrap();
    assert_eq!(answer.status(), 200);
    assert!(bytes(answer).await.is_empty());
}

#[tokio::test]
async fn the_root_needs_a_slash_to_be_read() {
    let target = start().await;
    for method in ["GET", "HEAD"] {
        let answer = ask(&target, method, "?a=b", "").await.unwrap();
        assert_eq!(answer.status(), 301);
        assert_eq!(answer.headers()["location"], format!("{PREFIX}/?a=b"));
    }
    assert!(told(&target, "POST", "", "x").await.starts_with("POST / host=server:6443"));
    assert!(told(&target, "GET", "/", "").await.starts_with("GET / "));
}

#[tokio::test]
async fn links_lead_back_through_the_proxy() {
    let target = start().await;
    let want = HTML.replace("/rewriteme", &format!("{PREFIX}/rewriteme"));
    let answer = ask(&target, "GET", "/html", "").await.unwrap();
    assert!(!answer.headers().contains_key("content-length"));
    assert!(!answer.headers().contains_key("access-control-allow-origin"));
    assert_eq!(bytes(answer).await, want.as_bytes());
    let answer = ask(&target, "GET", "/zipped", "").await.unwrap();
    assert_eq!(answer.headers()["content-encoding"], "gzip");
    let mut page = String::new();
    GzDecoder::new(&bytes(answer).await[..]).read_to_string(&mut page).unwrap();
    assert_eq!(page, want);
    assert_eq!(told(&target, "GET", "/text", "").await, HTML);
    let answer = ask(&target, "GET", "/moved", "").await.unwrap();
    assert_eq!(answer.status(), 302);
    assert_eq!(answer.headers()["location"], format!("{PREFIX}/there?x=1"));
}

#[tokio::test]
async fn what_streams_is_not_kept() {
    let target = start().await;
    let mut body = ask(&target, "GET", "/drip", "").await.unwrap().into_body();
    let first = body.frame().await.unwrap().unwrap().into_data().unwrap();
    assert_eq!(first, "drop", "the first piece comes while the second is an hour away");
}

#[tokio::test]
async fn nobody_answers() {
    let target = Target { port: 1, ..start().await };
    let status = ask(&target, "GET", "/", "").await.unwrap_err();
    let want = "error trying to reach service: dial tcp 127.0.0.1:1: connect: connection refused";
    assert_eq!((status.code, status.message.as_str()), (503, want));
}

/// A connection to a front server that passes everything on.
async fn front(target: Target) -> tokio::io::DuplexStream {
    let (near, far) = tokio::io::duplex(1 << 16);
    tokio::spawn(async move {
        let service = service_fn(move |request: Request<hyper::body::Incoming>| {
            let target = target.clone();
            async move {
                let request = request.map(|body| body.map_err(Into::into).boxed_unsync());
                let route = Route::cut(request.uri().path(), 7);
                let answer = carry(&dialer(), &target, &route, request).await;
                Ok::<_, Infallible>(answer.unwrap_or_else(|status| {
                    Response::builder().status(status.code).body(full(status.message)).unwrap()
                }))
            }
        });
        let http = hyper::server::conn::http1::Builder::new();
        let _ = http.serve_connection(TokioIo::new(far), service).with_upgrades().await;
    });
    near
}

async fn upgrade_head(near: &mut tokio::io::DuplexStream, path: &str) -> String {
    let ask = format!("GET {PREFIX}{path} HTTP/1.1\r\nhost: x\r\nconnection: Upgrade\r\nupgrade: x\r\n\r\n");
    near.write_all(ask.as_bytes()).await.unwrap();
    let mut seen = Vec::new();
    while !seen.ends_with(b"\r\n\r\n") {
        seen.push(near.read_u8().await.unwrap());
    }
    String::from_utf8(seen).unwrap().to_ascii_lowercase()
}

#[tokio::test]
async fn upgraded_bytes_are_copied_both_ways() {
    let mut near = front(start().await).await;
    let head = upgrade_head(&mut near, "/echo").await;
    assert!(head.starts_with("http/1.1 101") && head.contains("x-agreed: 1"), "{head}");
    near.write_all(b"hello").await.unwrap();
    let mut echo = [0; 5];
    near.read_exact(&mut echo).await.unwrap();
    assert_eq!(&echo, b"HELLO");
    near.shutdown().await.unwrap();
    assert_eq!(near.read(&mut echo).await.unwrap(), 0, "the other side ends too");
}

#[tokio::test]
async fn who_does_not_upgrade() {
    let target = start().await;
    assert!(upgrade_head(&mut front(target.clone()).await, "/refuse").await.starts_with("http/1.1 403"));
    let head = upgrade_head(&mut front(target).await, "/other").await;
    assert!(head.starts_with("http/1.1 500"), "{head}");
}

#[test]
fn nothing_is_tried_out() {
    let code = |uri: &str| {
        let request = Request::builder().uri(uri).body(full("")).unwrap();
        refuse_dry_run(&request).map_err(|status| status.code)
    };
    assert_eq!(code("/x?dryRun=All"), Err(400));
    assert_eq!(code("/x?dry=All"), Ok(()));
}
