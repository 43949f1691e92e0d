//! Kubeconfig files, and the credentials of a node.

use super::{Identity, Pki, PkiError, ServingNames, files::make_dir, files::write_file};
use base64::{Engine, engine::general_purpose::STANDARD};
use jiff::Timestamp;
use std::net::IpAddr;
use std::path::Path;

/// A kubeconfig with everything embedded, for one cluster and one user. `user` names the entry for people.
fn render(ca_pem: &str, server: &str, user: &str, identity: &Identity) -> String {
    // JSON strings are YAML strings: nothing in a name can break out.
    let quoted = |text: &str| serde_json::Value::from(text).to_string();
    let (server, user) = (quoted(server), quoted(user));
    let [ca, cert, key] = [ca_pem, &identity.cert_pem, &identity.key_pem].map(|pem| STANDARD.encode(pem));
    format!(
        "apiVersion: v1\nkind: Config\nclusters:\n- name: skep\n  cluster:\n    server: {server}\n    \
         certificate-authority-data: {ca}\nusers:\n- name: {user}\n  user:\n    client-certificate-data: {cert}\n    \
         client-key-data: {key}\ncontexts:\n- name: skep\n  context:\n    cluster: skep\n    user: {user}\n\
         current-context: skep\n"
    )
}

/// A kubeconfig for a user in groups, with a new certificate.
pub fn kubeconfig(
    pki: &Pki,
    user: &str,
    groups: &[String],
    server: &str,
    now: Timestamp,
) -> Result<String, PkiError> {
    Ok(render(pki.ca_pem(), server, user, &pki.client(user, groups, now)?))
}

/// Writes the kubeconfig of an administrator (group `system:masters`) to `path`.
pub fn admin_kubeconfig(pki: &Pki, server: &str, path: &Path, now: Timestamp) -> Result<(), PkiError> {
    let text = kubeconfig(pki, "kubernetes-admin", &["system:masters".to_owned()], server, now)?;
    write_file(path, text.as_bytes(), 0o600)
}

/// Writes what a node needs into `out`: for the agent `kubeconfig` (user `system:node:NAME`, group `system:nodes`), the
/// serving certificate of its own port as `tls.crt` and `tls.key`, and the cluster CA as `ca.crt`; for its DNS server
/// `dns.kubeconfig` (user `skep:dns:NAME`, group `skep:dns`).
pub fn node_credentials(
    pki: &Pki,
    node: &str,
    node_ips: &[IpAddr],
    server: &str,
    out: &Path,
    now: Timestamp,
) -> Result<(), PkiError> {
    make_dir(out)?;
    let user = format!("system:node:{node}");
    let config = kubeconfig(pki, &user, &["system:nodes".to_owned()], server, now)?;
    let mut names = ServingNames::default();
    names.add(node);
    for ip in node_ips {
        names.add_ip(*ip);
    }
    let serving = pki.server(&user, &names, now)?;
    write_file(&out.join("tls.key"), serving.key_pem.as_bytes(), 0o600)?;
    write_file(&out.join("tls.crt"), serving.cert_pem.as_bytes(), 0o644)?;
    write_file(&out.join("ca.crt"), pki.ca_pem().as_bytes(), 0o644)?;
    let dns = kubeconfig(pki, &format!("skep:dns:{node}"), &["skep:dns".to_owned()], server, now)?;
    write_file(&out.join("dns.kubeconfig"), dns.as_bytes(), 0o600)?;
    write_file(&out.join("kubeconfig"), config.as_bytes(), 0o600)
}
