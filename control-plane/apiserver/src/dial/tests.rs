//! Dialling over real TLS: who the other end is, and who we are.

use super::*;
use crate::hooks::full;
use crate::pki::{Pki, ServingNames};
use crate::tls;
use hyper::service::service_fn;
use std::convert::Infallible;
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

/// A server with a certificate of `ca` for 127.0.0.1; answers whether its client showed a certificate of the same CA.
async fn start(ca: &Pki) -> u16 {
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
                let service = service_fn(move |_| async move {
                    Ok::<_, Infallible>(Response::new(full(if known { "known" } else { "stranger" })))
                });
                let http = hyper::server::conn::http1::Builder::new();
                let _ = http.serve_connection(TokioIo::new(stream), service).await;
            });
        }
    });
    port
}

fn pki() -> (tempfile::TempDir, Pki) {
    let dir = tempfile::tempdir().unwrap();
    let pki = Pki::open_or_create(dir.path(), jiff::Timestamp::now()).unwrap();
    (dir, pki)
}

fn config(ca: &Pki) -> Arc<rustls::ClientConfig> {
    tls::agent_client(&ca.kubelet_client(jiff::Timestamp::now()).unwrap(), ca.ca_pem()).unwrap()
}

fn request() -> Request<Body> {
    Request::builder().uri("/").header("host", "x").body(full("")).unwrap()
}

fn target(port: u16, security: Security) -> Target {
    Target { host: "127.0.0.1".into(), port, security }
}

async fn text(answer: Response<Incoming>) -> String {
    String::from_utf8(answer.into_body().collect().await.unwrap().to_bytes().to_vec()).unwrap()
}

#[tokio::test]
async fn agents_know_the_server_and_others_do_not() {
    let (_dir, ca) = pki();
    let (port, dialer) = (start(&ca).await, Dialer::new(config(&ca)).unwrap());
    let answer = dialer.send(&target(port, Security::Agent), request()).await.unwrap();
    assert_eq!(text(answer).await, "known");
    let answer = dialer.send(&target(port, Security::Unverified), request()).await.unwrap();
    assert_eq!(text(answer).await, "stranger");
}

#[tokio::test]
async fn an_agent_of_another_authority_is_not_trusted() {
    let ((_one, ours), (_two, theirs)) = (pki(), pki());
    let (port, dialer) = (start(&theirs).await, Dialer::new(config(&ours)).unwrap());
    let why = dialer.send(&target(port, Security::Agent), request()).await.unwrap_err();
    assert!(matches!(why, DialError::Tls { .. }), "{why}");
    let answer = dialer.send(&target(port, Security::Unverified), request()).await.unwrap();
    assert_eq!(answer.status(), 200);
}

#[tokio::test]
async fn verified_by_a_name_that_is_not_the_address() {
    let (_dir, ca) = pki();
    let port = start(&ca).await;
    let named = |name: &'static str| ServerName::try_from(name).unwrap();
    let good = send_verified(("127.0.0.1", port), named("127.0.0.1"), config(&ca), request()).await;
    assert_eq!(good.unwrap().status(), 200);
    let other = send_verified(("127.0.0.1", port), named("s.ns.svc"), config(&ca), request()).await;
    assert!(matches!(other, Err(DialError::Tls { .. })));
}

#[tokio::test]
async fn nobody_is_there() {
    let (_dir, ca) = pki();
    let dialer = Dialer::new(config(&ca)).unwrap();
    let port = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap().port();
    let why = dialer.send(&target(port, Security::Plain), request()).await.unwrap_err();
    assert_eq!(why.to_string(), format!("dial tcp 127.0.0.1:{port}: connect: connection refused"));
}

#[tokio::test]
async fn services_lead_to_their_pods() {
    use serde_json::json;
    let world = crate::tests::world().await;
    let services = Services::new(world.server.registry().caches().clone());
    let told = |id: &str| {
        let target = services.target("d", id);
        target.map(|t| (t.authority(), t.security)).map_err(|s| (s.code, s.message))
    };
    let missing = |kind: &str| (404, format!("{kind} \"s\" not found"));
    assert_eq!(told("s:80").unwrap_err(), missing("services"));
    assert_eq!(told("s:web").unwrap_err(), missing("endpoints"));
    assert_eq!(told("a:b:c:d").unwrap_err(), (400, "invalid service request \"a:b:c:d\"".to_owned()));

    let service = json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "s"},
        "spec": {"ports": [{"name": "web", "port": 80}, {"name": "tls", "port": 443}]}});
    assert_eq!(world.json("POST", "/api/v1/namespaces/d/services", service).await.code, 201);
    let nobody = |id: &str| (503, format!("no endpoints available for service {id:?}"));
    world.server.registry().caches().fresh().await.unwrap();
    assert_eq!(told("s:web").unwrap_err(), nobody("s"));
    assert_eq!(told("s:81").unwrap_err(), (503, "no service port 81 found for service \"s\"".to_owned()));

    let slice = json!({"apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4",
        "metadata": {"name": "s-1", "labels": {"kubernetes.io/service-name": "s"}},
        "ports": [{"name": "web", "port": 8080}],
        "endpoints": [
            {"addresses": ["10.9.0.1"], "targetRef": {"kind": "Pod", "name": "p", "namespace": "d"}},
            {"addresses": ["10.9.0.7"], "targetRef": {"kind": "Pod", "name": "p", "namespace": "d"}},
            {"addresses": ["10.9.0.8"]}]});
    let made = world.json("POST", "/apis/discovery.k8s.io/v1/namespaces/d/endpointslices", slice).await;
    assert_eq!(made.code, 201, "{}", made.body);
    world.server.registry().caches().fresh().await.unwrap();
    // An endpoint that is no pod, or not the one it names, is not proxied to.
    assert_eq!(told("s:web").unwrap_err(), nobody("s:web"));
    let pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p"},
        "spec": {"containers": [{"name": "c", "image": "i"}]}});
    assert_eq!(world.json("POST", "/api/v1/namespaces/d/pods", pod.clone()).await.code, 201);
    let mut running = world.get("/api/v1/namespaces/d/pods/p").await.body;
    running["status"] = json!({"podIP": "10.9.0.1", "podIPs": [{"ip": "10.9.0.1"}]});
    assert_eq!(world.json("PUT", "/api/v1/namespaces/d/pods/p/status", running).await.code, 200);
    world.server.registry().caches().fresh().await.unwrap();
    for id in ["s:web", "s:80", "http:s:web"] {
        assert_eq!(told(id), Ok(("10.9.0.1:8080".to_owned(), Security::Plain)), "{id}");
    }
    assert_eq!(told("https:s:80").unwrap().1, Security::Unverified);
    assert_eq!(told("s:tls").unwrap_err(), nobody("s:tls"));

    // Webhooks go to any ready endpoint, in turn.
    let mut seen: Vec<String> = (0..3).map(|_| services.address("d", "s", 80).unwrap().to_string()).collect();
    seen.sort();
    assert_eq!(seen, ["10.9.0.1:8080", "10.9.0.7:8080", "10.9.0.8:8080"]);
    assert_eq!(services.address("d", "s", 81).unwrap_err().code, 503);
    assert_eq!(services.address("d", "t", 80).unwrap_err().code, 404);
}
