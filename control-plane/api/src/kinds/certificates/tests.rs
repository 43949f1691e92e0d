use super::*;
use crate::kinds::testing::{complete, context, now, shown};
use rcgen::{CertificateParams, DnType, KeyPair, SanType};

/// A request in base64 of PEM, as clients send it.
fn csr(common_name: &str, organization: &str, names: &[&str]) -> String {
    let mut params =
        CertificateParams::new(names.iter().map(|n| (*n).to_owned()).collect::<Vec<_>>()).unwrap();
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(DnType::OrganizationName, organization);
    params.distinguished_name.push(DnType::CommonName, common_name);
    params.subject_alt_names.push(SanType::URI("spiffe://x".try_into().unwrap()));
    if names.is_empty() {
        params.subject_alt_names.clear();
    }
    let key = KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).unwrap();
    STANDARD.encode(params.serialize_request(&key).unwrap().pem().unwrap())
}

fn object(spec: Value) -> Value {
    let mut object = json!({
        "apiVersion": "certificates.k8s.io/v1", "kind": "CertificateSigningRequest", "metadata": {"name": "c"},
        "spec": {"request": csr("ann", "dev", &[]), "signerName": "example.com/s", "usages": ["client auth"]},
    });
    object["spec"].as_object_mut().unwrap().extend(spec.as_object().unwrap().clone());
    complete(object)
}

fn with_conditions(object: &Value, kinds: &[&str]) -> Value {
    let mut object = object.clone();
    object["status"]["conditions"] =
        kinds.iter().map(|kind| json!({"type": kind, "status": "True", "reason": "r"})).collect();
    object
}

#[test]
fn a_request_is_read() {
    let request = Request::from_base64(&csr("ann", "dev", &["a.example", "10.0.0.1", "::1"])).unwrap();
    assert_eq!(
        (request.common_name.as_str(), request.organizations.as_slice()),
        ("ann", &["dev".to_owned()][..])
    );
    assert_eq!(request.dns, ["a.example"]);
    assert_eq!(request.ips.iter().map(ToString::to_string).collect::<Vec<_>>(), ["10.0.0.1", "::1"]);
    assert_eq!(request.uris, ["spiffe://x"]);
    assert!(request.signed);
    for (text, says) in [
        ("", "PEM block type must be CERTIFICATE REQUEST"),
        ("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", "PEM block type must be"),
        ("-----BEGIN CERTIFICATE REQUEST-----\nAAAA\n-----END CERTIFICATE REQUEST-----\n", "malformed"),
    ] {
        let why = Request::from_pem(text.as_bytes()).unwrap_err().to_string();
        assert!(why.contains(says), "{text}: {why}");
    }
}

#[test]
fn a_request_under_another_signature_is_refused() {
    let pem = STANDARD.decode(csr("ann", "dev", &[])).unwrap();
    let (_, block) = x509_parser::pem::parse_x509_pem(&pem).unwrap();
    let mut der = block.contents;
    // The name is signed too.
    let at = der.windows(3).position(|w| w == b"ann").unwrap();
    der[at] = b'b';
    let forged = format!(
        "-----BEGIN CERTIFICATE REQUEST-----\n{}\n-----END CERTIFICATE REQUEST-----\n",
        STANDARD.encode(der)
    );
    let errors = CertificateSigningRequest {}.validate(&object(json!({"request": STANDARD.encode(forged)})));
    assert!(shown(&errors).contains("the signature is not that of the key"), "{}", shown(&errors));
}

#[test]
fn what_may_be_asked_for() {
    assert_eq!(CertificateSigningRequest {}.validate(&object(json!({}))), []);
    for (spec, wrong) in [
        (json!({"request": ""}), "spec.request: Invalid value: \"\": PEM block type must be"),
        (json!({"usages": []}), "spec.usages: Required value"),
        (
            json!({"usages": ["a"]}),
            "spec.usages[0]: Unsupported value: \"a\": supported values: \"any\", \"cert sign\"",
        ),
        (json!({"usages": ["any", "any"]}), "spec.usages[1]: Duplicate value: \"any\""),
        (json!({"signerName": ""}), "spec.signerName: Required value"),
        (
            json!({"signerName": "a"}),
            "spec.signerName: Invalid value: \"a\": must be a fully qualified domain and path",
        ),
        (
            json!({"signerName": "a/b"}),
            "spec.signerName: Invalid value: \"a\": should be a domain with at least two",
        ),
        (
            json!({"signerName": "a.b/C"}),
            "spec.signerName: Invalid value: \"C\": validating label \"C\": a lowercase",
        ),
        (
            json!({"signerName": "kubernetes.io/legacy-unknown"}),
            "spec.signerName: Invalid value: \"kubernetes.io/legacy",
        ),
        (
            json!({"expirationSeconds": 599}),
            "spec.expirationSeconds: Invalid value: 599: may not specify a duration",
        ),
    ] {
        let text = shown(&CertificateSigningRequest {}.validate(&object(spec)));
        assert!(text.starts_with(wrong), "{text}");
    }
}

#[test]
fn who_asked_is_not_for_the_client_to_say() {
    let mut new =
        object(json!({"username": "root", "groups": ["system:masters"], "uid": "u", "extra": {"a": ["b"]}}));
    new["status"] = json!({"certificate": "AAAA"});
    CertificateSigningRequest {}.prepare_create(&mut new, &context());
    assert!(ASKED_BY.iter().all(|key| new["spec"].get(key).is_none()));
    assert_eq!(new["status"], json!({}));
}

#[test]
fn each_way_changes_its_own_part() {
    let strategy = CertificateSigningRequest {};
    let old = with_conditions(&object(json!({})), &["Approved"]);
    let mut new = object(json!({"signerName": "example.com/other"}));
    strategy.prepare_update(&mut new, &old);
    assert_eq!((&new["spec"], &new["status"]), (&old["spec"], &old["status"]));

    // Approval: conditions and nothing else.
    let fresh = object(json!({}));
    let mut approved = with_conditions(&object(json!({"signerName": "example.com/other"})), &["Approved"]);
    approved["status"]["certificate"] = "AAAA".into();
    strategy.prepare_subresource_update("approval", &mut approved, &fresh);
    assert_eq!(approved["spec"], fresh["spec"]);
    assert_eq!(approved["status"].get("certificate"), None);
    assert_eq!(strategy.validate_subresource_update("approval", &approved, &fresh), []);
    let both = with_conditions(&fresh, &["Approved", "Denied"]);
    let text = shown(&strategy.validate_subresource_update("approval", &both, &fresh));
    assert!(text.contains(
        "status.conditions: Invalid value: \"Denied\": Approved and Denied conditions are mutually"
    ));
    let text = shown(&strategy.validate_subresource_update("approval", &fresh, &approved));
    assert_eq!(text, "status.conditions: Forbidden: updates may not remove a condition of type \"Approved\"");

    // Status: the certificate, once, and other conditions.
    let mut changed = approved.clone();
    changed["status"]["conditions"][0]["reason"] = "mine".into();
    strategy.prepare_status_update(&mut changed, &approved);
    assert_eq!(changed, approved);
    let text = shown(&strategy.validate_status_update(&approved, &fresh));
    assert_eq!(text, "status.conditions: Forbidden: updates may not add a condition of type \"Approved\"");
    assert_eq!(strategy.validate_status_update(&with_conditions(&fresh, &["Failed"]), &fresh), []);
    let mut issued = approved.clone();
    let key = KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).unwrap();
    let pem = CertificateParams::default().self_signed(&key).unwrap().pem();
    issued["status"]["certificate"] = STANDARD.encode(&pem).into();
    assert_eq!(strategy.validate_status_update(&issued, &approved), []);
    assert!(ends(pem.as_bytes()).is_some());
    let text = shown(&strategy.validate_subresource_update("approval", &issued, &approved));
    assert_eq!(text, "status.certificate: Forbidden: updates may not set certificate content");
    let mut again = issued.clone();
    again["status"]["certificate"] = STANDARD.encode(format!("{pem}{pem}")).into();
    let text = shown(&strategy.validate_status_update(&again, &issued));
    assert_eq!(text, "status.certificate: Forbidden: updates may not modify existing certificate content");
    for (text, says) in [
        ("nothing", "must contain at least one CERTIFICATE PEM block"),
        (
            "-----BEGIN KEY-----\nAAAA\n-----END KEY-----\n",
            "only CERTIFICATE PEM blocks are allowed, found \"KEY\"",
        ),
    ] {
        issued["status"]["certificate"] = STANDARD.encode(text).into();
        let shown = shown(&strategy.validate_status_update(&issued, &approved));
        assert_eq!(shown, format!("status.certificate: Invalid value: \"<certificate data>\": {says}"));
    }
}

#[test]
fn a_table_says_what_became_of_it() {
    let mut made = object(json!({"username": "ann", "expirationSeconds": 86400}));
    made["metadata"]["creationTimestamp"] = "2026-05-01T11:59:00Z".into();
    let cells = |object: &Value| CertificateSigningRequest {}.cells(object, now());
    assert_eq!(cells(&made), ["c", "60s", "example.com/s", "ann", "24h", "Pending"]);
    let mut issued = with_conditions(&made, &["Approved", "Failed"]);
    issued["status"]["certificate"] = "AAAA".into();
    assert_eq!(cells(&issued)[5], "Approved,Failed,Issued");
    assert_eq!(cells(&with_conditions(&made, &["Denied"]))[5], "Denied");
    assert_eq!(cells(&object(json!({})))[4], "<none>");
}

#[test]
fn signers_sign_what_is_theirs() {
    use signers::{CLIENT, KUBELET_CLIENT, KUBELET_SERVING, judge};
    let read = |common_name: &str, organization: &str, names: &[&str]| {
        let mut request = Request::from_base64(&csr(common_name, organization, names)).unwrap();
        request.uris.clear();
        request
    };
    let node = read("system:node:n", "system:nodes", &[]);
    let serving = read("system:node:n", "system:nodes", &["n", "10.0.0.1"]);
    let client = ["digital signature", "client auth"];
    let rsa = ["key encipherment", "client auth", "digital signature"];
    let server = ["digital signature", "server auth"];
    for (signer, request, usages, says) in [
        (CLIENT, &node, &client[..], ""),
        (CLIENT, &node, &server[..], "invalid usage for client certificate: server auth"),
        (
            CLIENT,
            &node,
            &["digital signature"][..],
            "missing required usage for client certificate: client auth",
        ),
        (KUBELET_CLIENT, &node, &client[..], ""),
        (KUBELET_CLIENT, &node, &rsa[..], ""),
        (KUBELET_CLIENT, &serving, &client[..], "DNS subjectAltNames are not allowed"),
        (
            KUBELET_CLIENT,
            &node,
            &server[..],
            "usages did not match [client auth digital signature key encipherment]",
        ),
        (
            KUBELET_CLIENT,
            &read("system:node:n", "x", &[]),
            &client[..],
            "subject organization is not system:nodes",
        ),
        (
            KUBELET_CLIENT,
            &read("n", "system:nodes", &[]),
            &client[..],
            "subject common name does not begin with",
        ),
        (KUBELET_SERVING, &serving, &server[..], ""),
        (KUBELET_SERVING, &node, &server[..], "DNS or IP subjectAltName is required"),
    ] {
        let got = judge(signer, request, usages).unwrap();
        let why = got.err().unwrap_or_default();
        assert_eq!((why.is_empty(), why.starts_with(says)), (says.is_empty(), true), "{signer}: {why}");
    }
    assert_eq!(judge("example.com/x", &node, &client), None);
}
