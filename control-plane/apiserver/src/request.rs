//! What a request is about and who asks: [`RequestInfo`] by upstream's rules (`apiserver/pkg/endpoints/request`), and
//! [`UserInfo`].

use std::collections::BTreeMap;

/// Who asks (`authentication.k8s.io` `UserInfo`).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct UserInfo {
    /// `system:serviceaccount:NS:NAME`, `system:node:N`, a certificate's common name.
    pub name: String,
    /// Unique id, where the authenticator knows one.
    pub uid: String,
    /// Groups, `system:authenticated` or `system:unauthenticated` among them.
    pub groups: Vec<String>,
    /// What else the authenticator says.
    pub extra: BTreeMap<String, Vec<String>>,
}

impl UserInfo {
    /// A user of these groups, `system:authenticated` added.
    pub fn new(name: impl Into<String>, groups: &[&str]) -> Self {
        let mut groups: Vec<String> = groups.iter().map(|g| (*g).to_owned()).collect();
        if !groups.iter().any(|g| g == "system:authenticated") {
            groups.push("system:authenticated".into());
        }
        UserInfo { name: name.into(), groups, ..UserInfo::default() }
    }

    /// Whether the user is in a group.
    pub fn in_group(&self, group: &str) -> bool {
        self.groups.iter().any(|g| g == group)
    }
}

/// The attributes of a request that authorization, routing and metrics go by.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RequestInfo {
    /// `get`, `list`, `watch`, `create`, `update`, `patch`, `delete`, `deletecollection`; the lower-case method of a path
    /// that names no resource.
    pub verb: String,
    /// API group, empty for core.
    pub group: String,
    /// API version.
    pub version: String,
    /// Plural lower-case name.
    pub resource: String,
    /// What lies below the object, or empty.
    pub subresource: String,
    /// Namespace, or empty.
    pub namespace: String,
    /// Name of the object, or empty.
    pub name: String,
    /// The URL path.
    pub path: String,
    /// Whether the path names a resource; otherwise only `verb` and `path` are set.
    pub is_resource: bool,
    /// What follows the subresource (`proxy/metrics` → `metrics`), without a leading slash.
    pub rest: String,
    /// The field selector of a list, a watch or the deletion of a collection, as it was sent; or empty.
    pub fields: String,
}

impl RequestInfo {
    /// Reads method, path (percent-encoded or not: segments are decoded) and query.
    pub fn parse(method: &str, path: &str, query: &str) -> Self {
        let mut info =
            RequestInfo { verb: method.to_lowercase(), path: path.to_owned(), ..RequestInfo::default() };
        let decoded: Vec<String> = path.split('/').filter(|s| !s.is_empty()).map(decode).collect();
        let mut parts: &[String] = &decoded;
        match parts {
            [prefix, rest @ ..] if prefix == "api" && rest.len() >= 2 => parts = rest,
            [prefix, group, rest @ ..] if prefix == "apis" && rest.len() >= 2 => {
                info.group.clone_from(group);
                parts = rest;
            }
            _ => return info,
        }
        info.is_resource = true;
        info.version.clone_from(&parts[0]);
        parts = &parts[1..];
        info.verb = match method {
            "POST" => "create",
            "GET" | "HEAD" => "get",
            "PUT" => "update",
            "PATCH" => "patch",
            "DELETE" => "delete",
            _ => "",
        }
        .to_owned();
        if parts[0] == "watch" && parts.len() > 1 {
            info.verb = "watch".into();
            parts = &parts[1..];
        }
        if parts[0] == "namespaces" && parts.len() > 1 {
            info.namespace.clone_from(&parts[1]);
            if parts.len() > 2 && !matches!(parts[2].as_str(), "status" | "finalize") {
                parts = &parts[2..];
            }
        }
        info.resource.clone_from(&parts[0]);
        info.name = parts.get(1).cloned().unwrap_or_default();
        info.subresource = parts.get(2).cloned().unwrap_or_default();
        info.rest = parts.get(3..).unwrap_or_default().join("/");
        if info.name.is_empty() {
            match info.verb.as_str() {
                "get" => {
                    let watch = param(query, "watch").is_some_and(|v| is_true(&v));
                    info.verb = if watch { "watch" } else { "list" }.into();
                }
                "delete" => info.verb = "deletecollection".into(),
                _ => {}
            }
        }
        if matches!(info.verb.as_str(), "list" | "watch" | "deletecollection") {
            info.fields = param(query, "fieldSelector").unwrap_or_default();
        }
        // A selector that names one object is a request about that object.
        if info.name.is_empty()
            && let Ok(selector) = skep_api::FieldSelector::parse(&info.fields)
            && let Some(name) = selector.required("metadata.name")
            && skep_api::names::path_segment(name, false).is_empty()
        {
            info.name = name.to_owned();
        }
        info
    }

    /// Group and plural name.
    pub fn group_resource(&self) -> skep_api::GroupResource {
        skep_api::GroupResource::new(self.group.clone(), self.resource.clone())
    }

    /// Whether the request only reads.
    pub fn is_read_only(&self) -> bool {
        matches!(self.verb.as_str(), "get" | "list" | "watch" | "head" | "options")
    }
}

/// The first value of a query parameter, decoded.
pub fn param(query: &str, name: &str) -> Option<String> {
    query.split('&').find_map(|pair| {
        let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
        (decode_plus(key) == name).then(|| decode_plus(value))
    })
}

/// All values of a query parameter, decoded, in their order.
pub fn params(query: &str, name: &str) -> Vec<String> {
    query
        .split('&')
        .filter_map(|pair| {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            (decode_plus(key) == name).then(|| decode_plus(value))
        })
        .collect()
}

/// How the API machinery reads a boolean parameter: present and neither `0` nor `false`.
pub fn is_true(text: &str) -> bool {
    !matches!(text, "0" | "false" | "False" | "FALSE" | "f" | "F")
}

fn decode_plus(text: &str) -> String {
    if text.contains('+') { decode(&text.replace('+', " ")) } else { decode(text) }
}

/// Percent-decoding; what is no valid escape stays as it is.
pub fn decode(text: &str) -> String {
    if !text.contains('%') {
        return text.to_owned();
    }
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        let hex = |b: u8| (b as char).to_digit(16);
        match (bytes[at], bytes.get(at + 1).copied().and_then(hex), bytes.get(at + 2).copied().and_then(hex))
        {
            (b'%', Some(high), Some(low)) => {
                out.push((high * 16 + low) as u8);
                at += 3;
            }
            (byte, _, _) => {
                out.push(byte);
                at += 1;
            }
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn upstreams_rules() {
        // method, path, query → verb, group, version, namespace, resource, subresource, name
        for (method, path, query, want) in [
            ("GET", "/api/v1/namespaces/d/pods/a", "", "get//v1/d/pods//a"),
            ("GET", "/api/v1/namespaces/d/pods", "", "list//v1/d/pods//"),
            ("GET", "/api/v1/pods", "watch=true", "watch//v1//pods//"),
            ("GET", "/api/v1/pods", "watch=0", "list//v1//pods//"),
            ("GET", "/api/v1/watch/pods", "", "watch//v1//pods//"),
            ("GET", "/api/v1/namespaces", "", "list//v1//namespaces//"),
            ("GET", "/api/v1/namespaces/d", "", "get//v1/d/namespaces//d"),
            ("PUT", "/api/v1/namespaces/d/finalize", "", "update//v1/d/namespaces/finalize/d"),
            ("PUT", "/api/v1/namespaces/d/status", "", "update//v1/d/namespaces/status/d"),
            ("POST", "/apis/apps/v1/namespaces/d/deployments", "", "create/apps/v1/d/deployments//"),
            (
                "PATCH",
                "/apis/apps/v1/namespaces/d/deployments/a/scale",
                "",
                "patch/apps/v1/d/deployments/scale/a",
            ),
            ("DELETE", "/api/v1/namespaces/d/pods", "", "deletecollection//v1/d/pods//"),
            ("GET", "/api/v1/nodes/n/proxy/a/b", "", "get//v1//nodes/proxy/n"),
            ("GET", "/api/v1/pods", "fieldSelector=metadata.name%3Da&watch=1", "watch//v1//pods//a"),
        ] {
            let i = RequestInfo::parse(method, path, query);
            let got = [&i.verb, &i.group, &i.version, &i.namespace, &i.resource, &i.subresource, &i.name]
                .map(String::as_str)
                .join("/");
            assert_eq!(got, want, "{method} {path}?{query}");
            assert!(i.is_resource);
        }
        for path in ["/", "/healthz", "/api", "/api/v1", "/apis", "/apis/apps", "/apis/apps/v1", "/version"] {
            let i = RequestInfo::parse("GET", path, "");
            assert!(!i.is_resource, "{path}");
            assert_eq!((i.verb.as_str(), i.path.as_str()), ("get", path));
        }
    }

    #[test]
    fn the_rest_of_a_proxy_path_is_kept() {
        assert_eq!(RequestInfo::parse("GET", "/api/v1/nodes/n/proxy/a/b", "").rest, "a/b");
    }

    #[test]
    fn escapes() {
        assert_eq!(decode("a%2Fb%zz%4"), "a/b%zz%4");
        assert_eq!(param("a=1&b=x+y%2C", "b").as_deref(), Some("x y,"));
        assert_eq!(params("c=a&c=b", "c"), ["a", "b"]);
        assert_eq!(RequestInfo::parse("GET", "/api/v1/namespaces/d/pods/a%2Fb", "").name, "a/b");
    }
}
