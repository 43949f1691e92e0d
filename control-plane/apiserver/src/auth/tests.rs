use super::jwt::{Claims, ISSUER, Keys, LEGACY_ISSUER, LegacyClaims, Token, TokenError, judge};
use super::{account_user, bearer, certificate_user, impersonate, legacy, still_bound, token};
use crate::pki::Pki;
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use http::HeaderMap;
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};
use skep_api::{GroupResource, Object, Status};
use std::collections::HashMap;
use std::sync::Arc;

fn keys() -> Keys {
    let dir = tempfile::tempdir().unwrap();
    Keys::from_pkcs8(&Pki::open_or_create(dir.path(), now()).unwrap().service_account_key().unwrap()).unwrap()
}

fn now() -> Timestamp {
    "2026-05-01T12:00:00Z".parse().unwrap()
}

fn after(seconds: i64) -> Timestamp {
    now().checked_add(SignedDuration::from_secs(seconds)).unwrap()
}

type World = HashMap<(String, String, String), Arc<Object>>;

fn world() -> World {
    let mut world = World::new();
    for (resource, value) in [
        ("serviceaccounts", json!({"metadata": {"name": "bot", "namespace": "d", "uid": "sa-1"}})),
        (
            "pods",
            json!({"metadata": {"name": "p", "namespace": "d", "uid": "pod-1"},
            "spec": {"serviceAccountName": "bot", "nodeName": "n1"}}),
        ),
        (
            "pods",
            json!({"metadata": {"name": "other", "namespace": "d", "uid": "pod-2"},
            "spec": {"serviceAccountName": "default"}}),
        ),
        ("secrets", json!({"metadata": {"name": "s", "namespace": "d", "uid": "sec-1"}})),
        ("nodes", json!({"metadata": {"name": "n1", "uid": "node-1"}})),
    ] {
        put(&mut world, resource, value);
    }
    world
}

fn put(world: &mut World, resource: &str, value: Value) {
    let object = Arc::new(Object::from_value(value, 1, &[]).unwrap());
    let key = (resource.to_owned(), object.meta().namespace.to_string(), object.meta().name.to_string());
    world.insert(key, object);
}

fn find(world: &World, resource: &str, namespace: &str, name: &str) -> Option<Arc<Object>> {
    world.get(&(resource.to_owned(), namespace.to_owned(), name.to_owned())).cloned()
}

fn request(world: &World, spec: Value) -> Result<(Value, Claims), Status> {
    let account = find(world, "serviceaccounts", "d", "bot").unwrap();
    token::prepare(json!({"spec": spec}), &account, now(), |resource, namespace, name| {
        find(world, resource, namespace, name)
            .ok_or_else(|| Status::not_found(&GroupResource::new("", resource.to_owned()), name))
    })
}

fn bound_to(kind: &str, name: &str) -> Value {
    json!({"boundObjectRef": {"apiVersion": "v1", "kind": kind, "name": name}})
}

#[test]
fn a_pod_bound_token_goes_round() {
    let (keys, world) = (keys(), world());
    let mut spec = bound_to("Pod", "p");
    spec["expirationSeconds"] = 3607.into();
    let (answer, claims) = request(&world, spec).unwrap();
    assert_eq!(answer["status"]["expirationTimestamp"], "2026-05-01T13:00:07Z");
    let Ok(Token::Bound(read)) = keys.read(&keys.sign(&claims).unwrap()) else { panic!("not read") };
    assert_eq!(*read, claims);
    assert_eq!(judge(&read, &[ISSUER.into()], after(24 * 3600)).unwrap(), [ISSUER]);
    still_bound(&read, now(), |r, ns, n| find(&world, r, ns, n)).unwrap();
    let user = account_user(&read);
    assert_eq!((user.name.as_str(), user.uid.as_str()), ("system:serviceaccount:d:bot", "sa-1"));
    assert_eq!(user.groups, ["system:serviceaccounts", "system:serviceaccounts:d", "system:authenticated"]);
    let extra = |key: &str| user.extra[&format!("authentication.kubernetes.io/{key}")].join(",");
    assert_eq!(
        [extra("pod-name"), extra("pod-uid"), extra("node-name"), extra("node-uid")],
        ["p", "pod-1", "n1", "node-1"]
    );
    assert_eq!(extra("credential-id"), format!("JTI={}", claims.jti));
}

#[test]
fn tokens_that_are_not_ours_are_refused() {
    let (ours, theirs, world) = (keys(), keys(), world());
    let claims = request(&world, json!({})).unwrap().1;
    let token = ours.sign(&claims).unwrap();
    assert!(ours.read(&token).is_ok());
    assert_eq!(theirs.read(&token), Err(TokenError::Signature));
    for bad in ["", "a", "a.b", "a.b.c", "..", &token[1..], &token.replace('.', "")] {
        assert_eq!(ours.read(bad), Err(TokenError::Malformed), "{bad}");
    }
    let parts: Vec<&str> = token.split('.').collect();
    // Other claims under the same signature.
    let mut forged = claims.clone();
    forged.sub = "system:serviceaccount:kube-system:root".into();
    let payload = URL_SAFE_NO_PAD.encode(serde_json::to_vec(&forged).unwrap());
    assert_eq!(ours.read(&format!("{}.{payload}.{}", parts[0], parts[2])), Err(TokenError::Signature));
    for alg in ["none", "HS256", "RS256"] {
        let header = URL_SAFE_NO_PAD.encode(json!({"alg": alg}).to_string());
        let token = format!("{header}.{}.{}", parts[1], parts[2]);
        assert_eq!(ours.read(&token), Err(TokenError::Algorithm(alg.into())));
    }
    let empty = format!("{}.{}.", parts[0], parts[1]);
    assert_eq!(ours.read(&empty), Err(TokenError::Signature));
    // Signed by us and still wrong.
    assert_eq!(ours.read(&ours.sign(&forged).unwrap()), Err(TokenError::Subject(forged.sub.clone())));
    let foreign = Claims { iss: "https://elsewhere".into(), ..claims };
    assert_eq!(ours.read(&ours.sign(&foreign).unwrap()), Err(TokenError::Issuer("https://elsewhere".into())));
}

#[test]
fn time_and_audience() {
    let world = world();
    let mut claims = request(&world, json!({"expirationSeconds": 600})).unwrap().1;
    let api = [ISSUER.to_owned()];
    for (at, want) in [
        (-61, Err(TokenError::NotValidYet)),
        (-60, Ok(())),
        (0, Ok(())),
        (660, Ok(())),
        (661, Err(TokenError::Expired)),
    ] {
        assert_eq!(judge(&claims, &api, after(at)).map(drop), want, "{at}");
    }
    claims.aud = vec!["vault".into(), "b".into()];
    assert!(matches!(judge(&claims, &api, now()), Err(TokenError::Audience(..))));
    assert_eq!(judge(&claims, &["b".into(), "c".into()], now()).unwrap(), ["b"]);
    claims.aud.clear();
    assert!(matches!(judge(&claims, &api, now()), Err(TokenError::Audience(..))));
}

#[test]
fn what_a_token_is_bound_to_must_still_be_there() {
    for (kind, resource, name) in [
        ("Pod", "pods", "p"),
        ("Secret", "secrets", "s"),
        ("Node", "nodes", "n1"),
        ("", "serviceaccounts", "bot"),
    ] {
        let fresh = world();
        let claims =
            request(&fresh, if kind.is_empty() { json!({}) } else { bound_to(kind, name) }).unwrap().1;
        let judged = |world: &World| still_bound(&claims, now(), |r, ns, n| find(world, r, ns, n));
        assert_eq!(judged(&fresh), Ok(()), "{kind}");
        let namespace = if resource == "nodes" { "" } else { "d" };
        let key = (resource.to_owned(), namespace.to_owned(), name.to_owned());
        let mut gone = fresh.clone();
        gone.remove(&key);
        assert!(judged(&gone).is_err(), "{kind} gone");
        let mut reborn = fresh.clone();
        let mut value = reborn[&key].value();
        value["metadata"]["uid"] = "new".into();
        put(&mut reborn, resource, value);
        assert!(judged(&reborn).unwrap_err().contains("does not match"), "{kind} reborn");
        for (deleted, good) in [(-30, true), (-90, false)] {
            let mut going = fresh.clone();
            let mut value = going[&key].value();
            value["metadata"]["deletionTimestamp"] = after(deleted).to_string().into();
            put(&mut going, resource, value);
            assert_eq!(judged(&going).is_ok(), good, "{kind} deleted {deleted} s");
        }
    }
}

#[test]
fn token_requests_that_are_refused() {
    let world = world();
    for (spec, code, says) in [
        (json!({"expirationSeconds": 599}), 422, "may not specify a duration less than 10 minutes"),
        (json!({"expirationSeconds": 4_294_967_297_i64}), 422, "larger than 2^32 seconds"),
        (bound_to("Pod", "none"), 404, "pods \"none\" not found"),
        (bound_to("Pod", "other"), 400, "different serviceaccount name"),
        (bound_to("ConfigMap", "x"), 400, "cannot bind token to object of type v1, Kind=ConfigMap"),
        (
            json!({"boundObjectRef": {"apiVersion": "v1", "kind": "Pod", "name": "p", "uid": "x"}}),
            409,
            "does not match the UID in record",
        ),
    ] {
        let status = request(&world, spec).unwrap_err();
        assert_eq!(status.code, code, "{status}");
        assert!(status.message.contains(says), "{status}");
    }
}

#[test]
fn certificates_name_users() {
    use rustls_pki_types::{CertificateDer, pem::PemObject};
    let dir = tempfile::tempdir().unwrap();
    let pki = Pki::open_or_create(dir.path(), now()).unwrap();
    let pem = pki.client("jane", &["a".into(), "b".into()], now()).unwrap().cert_pem;
    let user = certificate_user(&CertificateDer::from_pem_slice(pem.as_bytes()).unwrap()).unwrap();
    assert_eq!(
        (user.name.as_str(), user.groups),
        ("jane", vec!["a".into(), "b".into(), "system:authenticated".into()])
    );
    assert_eq!(certificate_user(&CertificateDer::from(vec![1, 2, 3])), None);
}

#[test]
fn headers() {
    let mut headers = HeaderMap::new();
    for (value, want) in
        [("Bearer x.y.z", Some("x.y.z")), ("bearer  t ", Some("t")), ("Basic abc", None), ("Bearer", None)]
    {
        headers.insert("authorization", value.parse().unwrap());
        assert_eq!(bearer(&headers), want, "{value}");
    }
    assert_eq!(impersonate::wanted(&headers).unwrap(), None);
    headers.insert("impersonate-group", "g".parse().unwrap());
    assert_eq!(impersonate::wanted(&headers).unwrap_err().code, 500);
    headers.insert("impersonate-user", "u".parse().unwrap());
    assert!(impersonate::wanted(&headers).unwrap().is_some());
}

#[test]
fn tokens_in_secrets_are_good_while_the_secret_holds_them() {
    let (keys, mut world) = (keys(), world());
    let claims = LegacyClaims {
        iss: LEGACY_ISSUER.into(),
        namespace: "d".into(),
        secret: "s".into(),
        account: "bot".into(),
        uid: "sa-1".into(),
        sub: "system:serviceaccount:d:bot".into(),
    };
    let token = keys.sign(&claims).unwrap();
    assert_eq!(keys.read(&token), Ok(Token::Legacy(claims.clone())));
    let other = LegacyClaims { account: "root".into(), ..claims.clone() };
    assert_eq!(keys.read(&keys.sign(&other).unwrap()), Err(TokenError::Subject(other.sub)));

    let judged = |world: &World| legacy::still_good(&claims, &token, |r, ns, n| find(world, r, ns, n));
    assert_eq!(judged(&world).unwrap_err(), "Token does not match server's copy");
    let encoded = base64::engine::general_purpose::STANDARD.encode(&token);
    let secret =
        json!({"metadata": {"name": "s", "namespace": "d", "uid": "sec-1"}, "data": {"token": encoded}});
    put(&mut world, "secrets", secret.clone());
    assert_eq!(judged(&world), Ok(()));
    assert_eq!(legacy::user(&claims).name, "system:serviceaccount:d:bot");
    let mut invalid = secret;
    invalid["metadata"]["labels"] = json!({"kubernetes.io/legacy-token-invalid-since": "2026-01-01"});
    put(&mut world, "secrets", invalid);
    assert!(judged(&world).unwrap_err().contains("has been marked invalid"));
    world.remove(&("secrets".to_owned(), "d".to_owned(), "s".to_owned()));
    assert_eq!(judged(&world).unwrap_err(), "Token has been invalidated");
}
