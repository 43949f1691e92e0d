//! What the signers of Kubernetes itself sign (KEP-1513), as plain functions.

use super::Request;
use std::collections::BTreeSet;

/// Client certificates for the API server.
pub const CLIENT: &str = "kubernetes.io/kube-apiserver-client";
/// Client certificates of node agents.
pub const KUBELET_CLIENT: &str = "kubernetes.io/kube-apiserver-client-kubelet";
/// Serving certificates of node agents.
pub const KUBELET_SERVING: &str = "kubernetes.io/kubelet-serving";
/// Whatever was asked for before there were signers; no new request may name it.
pub const LEGACY: &str = "kubernetes.io/legacy-unknown";

/// Whether a signer of Kubernetes signs this request; why not, for people. None where the signer is somebody else.
pub fn judge(signer: &str, request: &Request, usages: &[&str]) -> Option<Result<(), String>> {
    match signer {
        CLIENT => Some(client(usages)),
        KUBELET_CLIENT => Some(kubelet_client(request, usages)),
        KUBELET_SERVING => Some(kubelet_serving(request, usages)),
        LEGACY => Some(Ok(())),
        _ => None,
    }
}

fn client(usages: &[&str]) -> Result<(), String> {
    let other =
        usages.iter().find(|u| !matches!(**u, "digital signature" | "key encipherment" | "client auth"));
    match other {
        Some(usage) => Err(format!("invalid usage for client certificate: {usage}")),
        None if usages.contains(&"client auth") => Ok(()),
        None => Err("missing required usage for client certificate: client auth".into()),
    }
}

/// A request of a node agent for the certificate by which it speaks to the API server.
pub fn kubelet_client(request: &Request, usages: &[&str]) -> Result<(), String> {
    of_nodes(request)?;
    let names = [
        (!request.dns.is_empty(), "DNS"),
        (!request.emails.is_empty(), "Email"),
        (!request.ips.is_empty(), "IP"),
        (!request.uris.is_empty(), "URI"),
    ];
    if let Some((_, kind)) = names.iter().find(|(there, _)| *there) {
        return Err(format!("{kind} subjectAltNames are not allowed"));
    }
    of_node(request)?;
    exactly(usages, "client auth")
}

fn kubelet_serving(request: &Request, usages: &[&str]) -> Result<(), String> {
    of_nodes(request)?;
    if request.dns.is_empty() && request.ips.is_empty() {
        return Err("DNS or IP subjectAltName is required".into());
    }
    for (names, kind) in [(&request.emails, "Email"), (&request.uris, "URI")] {
        if !names.is_empty() {
            return Err(format!("{kind} subjectAltNames are not allowed"));
        }
    }
    exactly(usages, "server auth")?;
    of_node(request)
}

fn of_nodes(request: &Request) -> Result<(), String> {
    let right = request.organizations == ["system:nodes"];
    if right { Ok(()) } else { Err("subject organization is not system:nodes".into()) }
}

fn of_node(request: &Request) -> Result<(), String> {
    let right = request.common_name.starts_with("system:node:");
    if right { Ok(()) } else { Err("subject common name does not begin with system:node:".into()) }
}

/// The usage with a signature, and a key's encipherment (of RSA alone) or not.
fn exactly(usages: &[&str], usage: &str) -> Result<(), String> {
    let have: BTreeSet<&str> = usages.iter().copied().collect();
    let mut wanted = BTreeSet::from(["digital signature", usage]);
    if have == wanted {
        return Ok(());
    }
    wanted.insert("key encipherment");
    if have == wanted {
        return Ok(());
    }
    let wanted: Vec<&str> = wanted.into_iter().collect();
    Err(format!("usages did not match [{}]", wanted.join(" ")))
}
