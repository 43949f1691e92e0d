//! The server over loopback, with real clients and another server to ask.

#![allow(missing_docs, clippy::unwrap_used)]

mod common;

use common::{
    Other, addresses, datagram, name, over_tcp, over_udp, pipelined, question, server, server_with, zone,
};
use hickory_proto::op::{Message, ResponseCode};
use hickory_proto::rr::RecordType;
use skep_dns::handler::{Decision, Transport};
use std::net::SocketAddr;
use std::sync::atomic::Ordering;

const A: RecordType = RecordType::A;

fn closed() -> SocketAddr {
    // Bound and dropped: nobody listens there.
    std::net::UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

#[tokio::test]
async fn names_of_the_cluster_over_both_transports() {
    let server = server(Some(zone()), Vec::new()).await;
    for answer in [
        over_udp(server.at, "web.default.svc.cluster.local", A).await,
        over_tcp(server.at, "web.default.svc.cluster.local", A).await,
    ] {
        assert_eq!(addresses(&answer), ["10.96.0.7"]);
        assert!(answer.metadata.authoritative && answer.metadata.recursion_available);
    }
    let missing = over_udp(server.at, "nothing.default.svc.cluster.local", A).await;
    assert_eq!((missing.metadata.response_code, missing.authorities.len()), (ResponseCode::NXDomain, 1));
    let service = over_udp(server.at, "_http._tcp.web.default.svc.cluster.local", RecordType::SRV).await;
    assert_eq!(service.answers[0].data.to_string(), "0 100 80 web.default.svc.cluster.local.");
    assert_eq!(service.additionals[0].name, name("web.default.svc.cluster.local"));
    let reverse = over_tcp(server.at, "7.0.96.10.in-addr.arpa", RecordType::PTR).await;
    assert_eq!(reverse.answers[0].data.to_string(), "web.default.svc.cluster.local.");
}

#[tokio::test]
async fn a_connection_carries_many_questions() {
    let other = Other::start().await;
    let server = server(Some(zone()), vec![other.at]).await;
    let names = ["web.default.svc.cluster.local", "a.example", "web.default.svc.cluster.local"];
    let questions: Vec<Vec<u8>> = names.iter().map(|name| question(name, A, None)).collect();
    let answers = pipelined(server.at, &questions).await;
    let got: Vec<String> = answers.iter().flat_map(addresses).collect();
    assert_eq!(got, ["10.96.0.7", "192.0.2.1", "10.96.0.7"]);
}

#[tokio::test]
async fn an_answer_is_as_long_as_the_client_can_take() {
    let server = server(Some(zone()), Vec::new()).await;
    let text = "many.default.svc.cluster.local";
    for (payload, limit) in [(None, 512), (Some(100), 512), (Some(1232), 1232)] {
        let bytes = datagram(server.at, &question(text, A, payload)).await;
        let answer = Message::from_vec(&bytes).unwrap();
        assert!(bytes.len() <= limit && bytes.len() > limit - 32, "{} of {limit}", bytes.len());
        assert!(answer.metadata.truncation && answer.edns.is_some() == payload.is_some());
        assert!(addresses(&answer).len() > 20);
    }
    let bytes = datagram(server.at, &question(text, A, Some(65_535))).await;
    let answer = Message::from_vec(&bytes).unwrap();
    assert_eq!((answer.metadata.truncation, addresses(&answer).len()), (false, 100));
    assert_eq!(addresses(&over_tcp(server.at, text, A).await).len(), 100);
    // Addresses that were not asked for do not make an answer too long.
    let one = question(&format!("pod-1.{text}"), RecordType::SRV, None);
    let answer = Message::from_vec(&datagram(server.at, &one).await).unwrap();
    assert_eq!((answer.metadata.truncation, answer.answers.len(), answer.additionals.len()), (false, 1, 1));
    let all = question(&format!("_http._tcp.{text}"), RecordType::SRV, Some(4096));
    let answer = Message::from_vec(&datagram(server.at, &all).await).unwrap();
    assert_eq!((answer.metadata.truncation, answer.additionals.len()), (true, 0));
    let answer = over_tcp(server.at, &format!("_http._tcp.{text}"), RecordType::SRV).await;
    assert_eq!((answer.answers.len(), answer.additionals.len()), (100, 100));
}

#[tokio::test]
async fn answers_begin_with_every_address_in_turn() {
    let server = server(Some(zone()), Vec::new()).await;
    let mut first = std::collections::HashSet::new();
    for _ in 0..10 {
        first.insert(addresses(&over_udp(server.at, "many.default.svc.cluster.local", A).await)[0].clone());
    }
    assert_eq!(first.len(), 10);
}

#[tokio::test]
async fn other_names_are_asked_once_and_kept() {
    let other = Other::start().await;
    let server = server(Some(zone()), vec![other.at]).await;
    for _ in 0..3 {
        let answer = over_udp(server.at, "a.example", A).await;
        assert_eq!(
            (addresses(&answer), answer.metadata.authoritative),
            (vec!["192.0.2.1".to_owned()], false)
        );
        assert!((1..=60).contains(&answer.answers[0].ttl));
        let none = over_udp(server.at, "A.Example", RecordType::AAAA).await;
        assert_eq!((none.metadata.response_code, none.authorities.len()), (ResponseCode::NoError, 1));
        let gone = over_tcp(server.at, "gone.example", A).await;
        assert_eq!((gone.metadata.response_code, gone.authorities.len()), (ResponseCode::NXDomain, 1));
    }
    assert_eq!([other.asked("a.example.", "udp"), other.asked("gone.example.", "udp")], [2, 1]);
    assert_eq!(server.handler.metrics.hits.load(Ordering::Relaxed), 6);
    // What failed is asked again.
    for _ in 0..2 {
        let failed = over_udp(server.at, "fail.example", A).await;
        assert_eq!(failed.metadata.response_code, ResponseCode::ServFail);
    }
    assert_eq!(other.asked("fail.example.", "udp"), 2);
}

#[tokio::test]
async fn what_does_not_fit_a_datagram_is_fetched_over_a_connection() {
    let other = Other::start().await;
    let server = server(Some(zone()), vec![other.at]).await;
    assert_eq!(addresses(&over_tcp(server.at, "big.example", A).await).len(), 200);
    let cut = Message::from_vec(&datagram(server.at, &question("big.example", A, Some(1232))).await).unwrap();
    assert!(cut.metadata.truncation);
    assert_eq!(
        [other.asked("big.example.", "udp"), other.asked("big.example.", "tcp")],
        [1, 1],
        "kept whole"
    );
}

#[tokio::test]
async fn a_dead_server_is_passed_over() {
    let other = Other::start().await;
    let both = server(Some(zone()), vec![closed(), other.at]).await;
    assert_eq!(addresses(&over_udp(both.at, "a.example", A).await), ["192.0.2.1"]);
    let gone = over_udp(both.at, "gone.example", A).await;
    assert_eq!(gone.metadata.response_code, ResponseCode::NXDomain);
    let alone = server(Some(zone()), vec![closed()]).await;
    assert_eq!(over_udp(alone.at, "a.example", A).await.metadata.response_code, ResponseCode::ServFail);
    assert_eq!(alone.handler.metrics.unanswered.load(Ordering::Relaxed), 1);
    let nobody = server(Some(zone()), Vec::new()).await;
    assert_eq!(over_udp(nobody.at, "a.example", A).await.metadata.response_code, ResponseCode::ServFail);
    assert_eq!(addresses(&over_udp(nobody.at, "web.default.svc.cluster.local", A).await), ["10.96.0.7"]);
}

#[tokio::test]
async fn silence_ends_before_the_client_gives_up() {
    let other = Other::start().await;
    let server = server(Some(zone()), vec![other.at]).await;
    let answer = over_udp(server.at, "silent.example", A).await;
    assert_eq!(answer.metadata.response_code, ResponseCode::ServFail);
    assert!(other.asked("silent.example.", "udp") >= 2, "a datagram may be lost: it is sent again");
}

#[tokio::test]
async fn an_alias_is_followed_to_another_server() {
    let other = Other::start().await;
    let server = server(Some(zone()), vec![other.at]).await;
    let answer = over_udp(server.at, "ext.default.svc.cluster.local", A).await;
    assert_eq!(answer.answers[0].data.to_string(), "a.example.");
    assert_eq!(addresses(&answer), ["192.0.2.1"]);
    let none = over_udp(server.at, "ext.default.svc.cluster.local", RecordType::AAAA).await;
    assert_eq!((none.metadata.response_code, none.answers.len()), (ResponseCode::NoError, 1));
    let cname = over_udp(server.at, "ext.default.svc.cluster.local", RecordType::CNAME).await;
    assert_eq!(cname.answers.len(), 1);
    let dead = over_udp(server.at, "dead.default.svc.cluster.local", A).await;
    assert_eq!((dead.metadata.response_code, dead.answers.len()), (ResponseCode::NoError, 1));
}

#[tokio::test]
async fn a_server_that_asks_itself_notices() {
    let server = server_with(Some(zone()), |own| vec![own]).await;
    let answer = over_udp(server.at, "a.example", A).await;
    assert_eq!(answer.metadata.response_code, ResponseCode::ServFail);
    assert!(server.handler.metrics.loops.load(Ordering::Relaxed) >= 1);
}

#[tokio::test]
async fn without_a_view_nobody_is_told_that_a_name_is_not_there() {
    let other = Other::start().await;
    let server = server(None, vec![other.at]).await;
    for text in ["web.default.svc.cluster.local", "cluster.local"] {
        let code = over_udp(server.at, text, A).await.metadata.response_code;
        assert_eq!(code, ResponseCode::ServFail, "{text}");
    }
    assert_eq!(addresses(&over_udp(server.at, "a.example", A).await), ["192.0.2.1"]);
}

#[tokio::test]
async fn strangers_and_nonsense_are_turned_away() {
    let server = server(Some(zone()), Vec::new()).await;
    let decide = |bytes: &[u8], peer: &str| match server.handler.decide(
        bytes,
        peer.parse().unwrap(),
        Transport::Udp,
    ) {
        Decision::Ignore => None,
        Decision::Send(answer) => Some(Message::from_vec(&answer).unwrap().metadata.response_code),
        Decision::Ask(_) => panic!("nobody is asked"),
    };
    let good = question("web.default.svc.cluster.local", A, Some(1232));
    let (pod, stranger) = ("10.244.3.3:999", "198.51.100.1:999");
    assert_eq!(decide(&good, pod), Some(ResponseCode::NoError));
    assert_eq!(decide(&good, stranger), Some(ResponseCode::Refused));
    let changed = |at: usize, byte: u8| {
        let mut bytes = good.clone();
        bytes[at] = byte;
        bytes
    };
    assert_eq!(decide(&changed(2, 0x81), pod), None, "an answer");
    assert_eq!(decide(&changed(2, 0x28), pod), Some(ResponseCode::NotImp), "an update");
    assert_eq!(decide(&changed(5, 2), pod), Some(ResponseCode::FormErr), "two questions");
    assert_eq!(decide(&changed(5, 0), pod), Some(ResponseCode::FormErr), "no question");
    assert_eq!(decide(&good[..20], pod), Some(ResponseCode::FormErr));
    assert_eq!(decide(&good[..11], pod), None);
    let end = good.len();
    // The number of BADVERS has two names.
    assert_eq!(decide(&changed(end - 5, 1), pod).map(u16::from), Some(16), "a later EDNS");
    let mut chaos = question("web.default.svc.cluster.local", A, None);
    *chaos.last_mut().unwrap() = 3;
    assert_eq!(decide(&chaos, pod), Some(ResponseCode::Refused));
    let transfer = question("cluster.local", RecordType::AXFR, None);
    assert_eq!(decide(&transfer, pod), Some(ResponseCode::Refused));
    // Every byte changed to a few others: whatever comes of it, nothing breaks.
    for at in 0..good.len() {
        for byte in [0, 1, 0x3f, 0x40, 0xc0, 0xff] {
            let _ = server.handler.decide(&changed(at, byte), pod.parse().unwrap(), Transport::Udp);
        }
    }
}
