//! The program itself, while there is no API server: it answers from what an earlier process knew.

#![allow(missing_docs, clippy::unwrap_used)]

mod common;

use common::{Other, addresses, over_tcp, over_udp, zone};
use hickory_proto::op::ResponseCode;
use hickory_proto::rr::RecordType;
use skep_dns::view::View;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// A process that does not outlive its test.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn free_port() -> u16 {
    loop {
        let tcp = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let at = tcp.local_addr().unwrap();
        if std::net::UdpSocket::bind(at).is_ok() {
            return at.port();
        }
    }
}

/// Credentials for a server that is not there.
fn kubeconfig(dir: &Path) -> PathBuf {
    let authority = rcgen::generate_simple_self_signed(vec!["nobody".to_owned()]).unwrap();
    std::fs::write(dir.join("ca.crt"), authority.cert.pem()).unwrap();
    let file = dir.join("kubeconfig");
    let text = format!(
        "apiVersion: v1\nkind: Config\nclusters:\n- name: c\n  cluster:\n    server: https://127.0.0.1:{}\n    \
         certificate-authority: ca.crt\nusers:\n- name: u\n  user:\n    token: t\ncontexts:\n- name: c\n  context:\n    \
         cluster: c\n    user: u\ncurrent-context: c\n",
        free_port()
    );
    std::fs::write(&file, text).unwrap();
    file
}

fn start(dir: &Path, upstream: SocketAddr) -> (Running, SocketAddr, SocketAddr) {
    let (port, http) = (free_port(), free_port());
    let mut command = Command::new(env!("CARGO_BIN_EXE_skep-dns"));
    command.arg("--kubeconfig").arg(kubeconfig(dir)).arg("--data-dir").arg(dir.join("data"));
    command.args(["--bind-address", "127.0.0.1", "--upstream", &upstream.to_string()]);
    command.args(["--port", &port.to_string(), "--http-port", &http.to_string()]);
    let child = command.stdin(Stdio::null()).spawn().unwrap();
    let local = |port| SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    (Running(child), local(port), local(http))
}

async fn get(at: SocketAddr, path: &str) -> std::io::Result<String> {
    let mut stream = TcpStream::connect(at).await?;
    let request = format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut text = String::new();
    stream.read_to_string(&mut text).await?;
    Ok(text)
}

async fn up(at: SocketAddr) {
    let begun = Instant::now();
    while get(at, "/healthz").await.is_err() {
        assert!(begun.elapsed() < common::PATIENCE, "the program does not come up");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn names_are_answered_from_the_last_view() {
    let dir = tempfile::tempdir().unwrap();
    let other = Other::start().await;
    let web = "web.default.svc.cluster.local";

    let (first, at, http) = start(dir.path(), other.at);
    up(http).await;
    assert!(get(http, "/readyz").await.unwrap().starts_with("HTTP/1.1 503 "));
    assert_eq!(over_udp(at, web, RecordType::A).await.metadata.response_code, ResponseCode::ServFail);
    assert_eq!(addresses(&over_udp(at, "a.example", RecordType::A).await), ["192.0.2.1"]);
    drop(first);

    let view = View::open(&dir.path().join("data"));
    view.publish(zone());
    view.save().unwrap();
    // Killed, and begun again, as often as one likes.
    for _ in 0..3 {
        let (second, at, http) = start(dir.path(), other.at);
        up(http).await;
        assert!(get(http, "/readyz").await.unwrap().starts_with("HTTP/1.1 200 "));
        assert_eq!(addresses(&over_udp(at, web, RecordType::A).await), ["10.96.0.7"]);
        assert_eq!(addresses(&over_tcp(at, web, RecordType::A).await), ["10.96.0.7"]);
        let missing = over_udp(at, "nothing.default.svc.cluster.local", RecordType::A).await;
        assert_eq!(missing.metadata.response_code, ResponseCode::NXDomain);
        let figures = get(http, "/metrics").await.unwrap();
        assert!(figures.contains("skep_dns_view{source=\"snapshot\"} 1"), "{figures}");
        assert!(figures.contains("skep_dns_requests_total{proto=\"udp\",type=\"A\"} 2"), "{figures}");
        drop(second);
    }
}
