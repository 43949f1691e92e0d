use super::*;
use std::os::unix::fs::PermissionsExt;
use x509_parser::prelude::*;

fn now() -> Timestamp {
    Timestamp::now()
}

fn names(list: &[&str]) -> ServingNames {
    let mut names = ServingNames::default();
    for name in list {
        names.add(name);
    }
    names
}

/// CN, all O, and whether the CA's signature holds.
fn subject(pki: &Pki, pem: &str) -> (String, Vec<String>, bool) {
    use rustls_pki_types::{CertificateDer, pem::PemObject};
    let der = CertificateDer::from_pem_slice(pem.as_bytes()).unwrap();
    let ca = CertificateDer::from_pem_slice(pki.ca_pem().as_bytes()).unwrap();
    let (_, cert) = X509Certificate::from_der(&der).unwrap();
    let (_, ca) = X509Certificate::from_der(&ca).unwrap();
    let cn = cert.subject().iter_common_name().next().unwrap().as_str().unwrap().to_owned();
    let o = cert.subject().iter_organization().map(|o| o.as_str().unwrap().to_owned()).collect();
    let issued = cert.issuer() == ca.subject() && cert.verify_signature(Some(ca.public_key())).is_ok();
    (cn, o, issued)
}

#[test]
fn opening_twice_keeps_everything() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path().join("pki");
    let first = Pki::open_or_create(&dir, now()).unwrap();
    let serving = first.serving(&names(&["kubernetes", "10.96.0.1"]), now()).unwrap();
    let sa = first.service_account_key().unwrap();
    let kubelet = first.kubelet_client(now()).unwrap();
    let second = Pki::open_or_create(&dir, now()).unwrap();
    assert_eq!(first.ca_pem(), second.ca_pem());
    assert_eq!(serving, second.serving(&names(&["10.96.0.1", "kubernetes"]), now()).unwrap());
    assert_eq!(sa, second.service_account_key().unwrap());
    assert_eq!(kubelet, second.kubelet_client(now()).unwrap());
    for key in ["ca.key", "apiserver.key", "sa.key", "apiserver-kubelet-client.key"] {
        assert_eq!(std::fs::metadata(dir.join(key)).unwrap().permissions().mode() & 0o777, 0o600, "{key}");
    }
}

#[test]
fn a_serving_certificate_is_remade_for_other_names_near_expiry_and_for_a_foreign_key() {
    let dir = tempfile::tempdir().unwrap();
    let pki = Pki::open_or_create(dir.path(), now()).unwrap();
    let first = pki.serving(&names(&["a", "fd00::1"]), now()).unwrap();
    assert_eq!(first, pki.serving(&names(&["a", "fd00::1"]), now()).unwrap());
    let second = pki.serving(&names(&["a", "b"]), now()).unwrap();
    assert_ne!(first, second);
    let later = now().checked_add(jiff::SignedDuration::from_hours(24 * 320)).unwrap();
    let third = pki.serving(&names(&["a", "b"]), later).unwrap();
    assert_ne!(second, third);
    // A crash between key and certificate leaves a pair that does not match.
    std::fs::write(dir.path().join("apiserver.key"), &first.key_pem).unwrap();
    let fourth = pki.serving(&names(&["a", "b"]), now()).unwrap();
    assert_ne!(fourth.cert_pem, third.cert_pem);
}

#[test]
fn a_crash_between_ca_key_and_certificate_is_completed_and_a_lost_key_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let first = Pki::open_or_create(dir.path(), now()).unwrap();
    let client = first.client("u", &[], now()).unwrap();
    std::fs::remove_file(dir.path().join("ca.crt")).unwrap();
    let second = Pki::open_or_create(dir.path(), now()).unwrap();
    assert!(subject(&second, &client.cert_pem).2, "the key is the same, so what it signed still holds");
    std::fs::remove_file(dir.path().join("ca.key")).unwrap();
    assert!(matches!(Pki::open_or_create(dir.path(), now()), Err(PkiError::Unusable { .. })));
    assert!(matches!(Pki::open(&dir.path().join("none")), Err(PkiError::NoCa(_))));
}

#[test]
fn a_client_carries_its_name_and_all_its_groups() {
    let dir = tempfile::tempdir().unwrap();
    let pki = Pki::open_or_create(dir.path(), now()).unwrap();
    for groups in [vec![], vec!["one"], vec!["one", "two", "system:masters", "gruppe-ü"]] {
        let groups: Vec<String> = groups.into_iter().map(str::to_owned).collect();
        let made = pki.client("jane", &groups, now()).unwrap();
        assert_eq!(subject(&pki, &made.cert_pem), ("jane".into(), groups, true));
    }
    for bad in ["", "a\nb", "\u{6}\u{3}U\u{4}d"] {
        assert!(matches!(pki.client(bad, &[], now()), Err(PkiError::BadName { .. })), "{bad:?}");
    }
}

#[test]
fn node_credentials_are_complete() {
    let dir = tempfile::tempdir().unwrap();
    let pki = Pki::open_or_create(&dir.path().join("pki"), now()).unwrap();
    let out = dir.path().join("node");
    node_credentials(
        &pki,
        "n1",
        &["10.0.0.7".parse().unwrap(), "fd00::7".parse().unwrap()],
        "https://[fd00::1]:6443",
        &out,
        now(),
    )
    .unwrap();
    for (file, user, group) in
        [("kubeconfig", "system:node:n1", "system:nodes"), ("dns.kubeconfig", "skep:dns:n1", "skep:dns")]
    {
        let config = std::fs::read_to_string(out.join(file)).unwrap();
        assert!(config.contains("server: \"https://[fd00::1]:6443\""));
        let field = config.split("client-certificate-data: ").nth(1).unwrap().lines().next().unwrap();
        use base64::{Engine, engine::general_purpose::STANDARD};
        let cert = String::from_utf8(STANDARD.decode(field).unwrap()).unwrap();
        assert_eq!(subject(&pki, &cert), (user.into(), vec![group.into()], true));
    }
    let serving = std::fs::read_to_string(out.join("tls.crt")).unwrap();
    assert!(subject(&pki, &serving).2);
    assert_eq!(std::fs::read_to_string(out.join("ca.crt")).unwrap(), pki.ca_pem());
}
