//! Which container of which node a request is for, as plain functions of pod and node.

use crate::request::{is_true, param, params};
use serde_json::Value;
use skep_api::{FieldError, GroupVersionKind, Status};

fn text<'a>(tree: &'a Value, pointer: &str) -> &'a str {
    tree.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
}

fn names<'a>(pod: &'a Value, list: &str) -> Vec<&'a str> {
    let list = pod.pointer(&format!("/spec/{list}")).and_then(Value::as_array);
    list.into_iter().flatten().map(|c| text(c, "/name")).collect()
}

/// The container that was asked for; without a name the only one.
pub(super) fn container(pod: &Value, asked: &str) -> Result<String, Status> {
    let name = text(pod, "/metadata/name");
    let [main, init, ephemeral] =
        ["containers", "initContainers", "ephemeralContainers"].map(|list| names(pod, list));
    if !asked.is_empty() {
        let known = [&main, &init, &ephemeral].iter().any(|list| list.contains(&asked));
        return if known {
            Ok(asked.to_owned())
        } else {
            Err(Status::bad_request(format!("container {asked} is not valid for pod {name}")))
        };
    }
    match main.as_slice() {
        [] => Err(Status::bad_request(format!("a container name must be specified for pod {name}"))),
        [only] => Ok((*only).to_owned()),
        _ => {
            let mut why = format!(
                "a container name must be specified for pod {name}, choose one of: [{}]",
                main.join(" ")
            );
            for (what, list) in [("init", &init), ("ephemeral", &ephemeral)] {
                if !list.is_empty() {
                    why.push_str(&format!(" or one of the {what} containers: [{}]", list.join(" ")));
                }
            }
            Err(Status::bad_request(why))
        }
    }
}

/// The node of a pod that has one.
pub(super) fn node_of(pod: &Value) -> Option<&str> {
    Some(text(pod, "/spec/nodeName")).filter(|n| !n.is_empty())
}

/// The node of a pod that has been given one.
pub(super) fn runs_on<'a>(pod: &'a Value, name: &str) -> Result<&'a str, Status> {
    node_of(pod).ok_or_else(|| Status::bad_request(format!("pod {name} does not have a host assigned")))
}

/// The options of a stream, as the agent takes them: the kubelet's words.
pub(super) fn stream_query(query: &str) -> String {
    const FLAGS: [(&str, &str); 4] =
        [("stdin", "input"), ("stdout", "output"), ("stderr", "error"), ("tty", "tty")];
    let mut out: Vec<String> = Vec::new();
    for (name, word) in FLAGS {
        if param(query, name).is_some_and(|v| is_true(&v)) {
            out.push(format!("{word}=1"));
        }
    }
    for (name, word) in [("command", "command"), ("ports", "port")] {
        out.extend(params(query, name).iter().map(|value| format!("{word}={}", escape(value))));
    }
    out.join("&")
}

/// Percent-encodes a query's value.
fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte) {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
    out
}

/// The options of a log request, checked, as the agent takes them.
pub(super) fn log_query(query: &str) -> Result<String, Status> {
    const FLAGS: [&str; 3] = ["follow", "previous", "timestamps"];
    // Name, least value, what is said below it.
    const NUMBERS: [(&str, i64, &str); 3] = [
        ("sinceSeconds", 1, "must be greater than 0"),
        ("tailLines", 0, "must be greater than or equal to 0"),
        ("limitBytes", 1, "must be greater than 0"),
    ];
    let mut out: Vec<String> = Vec::new();
    let mut errors = Vec::new();
    for name in FLAGS {
        if param(query, name).is_some_and(|v| is_true(&v)) {
            out.push(format!("{name}=true"));
        }
    }
    for (name, least, below) in NUMBERS {
        let Some(value) = param(query, name).filter(|v| !v.is_empty()) else { continue };
        match value.parse::<i64>() {
            Ok(n) if n >= least => out.push(format!("{name}={n}")),
            Ok(n) => errors.push(FieldError::invalid(name, n.into(), below)),
            Err(_) => {
                return Err(Status::bad_request(format!(
                    "unable to decode query parameter {name}: {value:?} is not a number"
                )));
            }
        }
    }
    if let Some(since) = param(query, "sinceTime").filter(|v| !v.is_empty()) {
        let at: jiff::Timestamp = since.parse().map_err(|_| {
            Status::bad_request(format!(
                "unable to decode query parameter sinceTime: {since:?} is not a time"
            ))
        })?;
        if out.iter().any(|o| o.starts_with("sinceSeconds=")) {
            errors.push(FieldError::forbidden(
                "",
                "at most one of `sinceTime` or `sinceSeconds` may be specified",
            ));
        }
        out.push(format!("sinceTime={at}"));
    }
    if let Some(stream) = param(query, "stream").filter(|v| !v.is_empty()) {
        match stream.as_str() {
            "Stdout" | "Stderr" if out.iter().any(|o| o.starts_with("tailLines=")) => {
                let why = "`tailLines` and specific `stream` are mutually exclusive for now";
                errors.push(FieldError::forbidden("", why));
            }
            "All" | "Stdout" | "Stderr" => out.push(format!("stream={stream}")),
            _ => {
                errors.push(FieldError::not_supported("stream", stream.into(), &["All", "Stdout", "Stderr"]))
            }
        }
    }
    if errors.is_empty() {
        return Ok(out.join("&"));
    }
    Err(Status::invalid(&GroupVersionKind::new("", "v1", "PodLogOptions"), "", &errors))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn which_container() {
        let one = json!({"metadata": {"name": "p"}, "spec": {"containers": [{"name": "a"}], "initContainers": [{"name": "i"}]}});
        let two = json!({"metadata": {"name": "p"}, "spec": {"containers": [{"name": "a"}, {"name": "b"}]}});
        let more = json!({"metadata": {"name": "p"}, "spec": {"containers": [{"name": "a"}, {"name": "b"}], "initContainers": [{"name": "i"}, {"name": "j"}]}});
        for (pod, asked, want) in [
            (&one, "", Ok("a")),
            (&one, "i", Ok("i")),
            (&two, "b", Ok("b")),
            (&two, "", Err("a container name must be specified for pod p, choose one of: [a b]")),
            (
                &more,
                "",
                Err(
                    "a container name must be specified for pod p, choose one of: [a b] or one of the init containers: [i j]",
                ),
            ),
            (&two, "c", Err("container c is not valid for pod p")),
        ] {
            let got = container(pod, asked).map_err(|s| (s.code, s.message));
            assert_eq!(got, want.map(str::to_owned).map_err(|m: &str| (400, m.to_owned())), "{asked}");
        }
    }

    #[test]
    fn where_it_runs() {
        assert_eq!(runs_on(&json!({"spec": {"nodeName": "n"}}), "p").unwrap(), "n");
        assert_eq!(runs_on(&json!({}), "p").unwrap_err().message, "pod p does not have a host assigned");
    }

    #[test]
    fn what_an_agent_is_asked_for() {
        for (query, want) in [
            ("stdin=True&stdout=true&stderr=false&tty=0", "input=1&output=1"),
            ("command=ls&command=-l%20a%26b&container=c&stdout=1", "output=1&command=ls&command=-l%20a%26b"),
            ("stderr&stdout=", "output=1&error=1"),
            ("ports=80&ports=443", "port=80&port=443"),
            ("ports=80%2C443", "port=80%2C443"),
            ("", ""),
        ] {
            assert_eq!(stream_query(query), want, "{query}");
        }
    }

    #[test]
    fn log_options() {
        for (query, want) in [
            ("", Ok("")),
            ("container=a&follow=true&tailLines=5&pretty=1", Ok("follow=true&tailLines=5")),
            ("follow=false&timestamps=1&tailLines=0", Ok("timestamps=true&tailLines=0")),
            ("sinceTime=2026-01-01T00:00:00%2B01:00", Ok("sinceTime=2025-12-31T23:00:00Z")),
            ("tailLines=-1", Err(422)),
            ("limitBytes=0", Err(422)),
            ("sinceSeconds=5&sinceTime=2026-01-01T00:00:00Z", Err(422)),
            ("tailLines=x", Err(400)),
            ("sinceTime=yesterday", Err(400)),
            ("stream=stderr", Err(422)),
            ("stream=Stderr", Ok("stream=Stderr")),
            ("stream=Stderr&tailLines=3", Err(422)),
        ] {
            assert_eq!(log_query(query).map_err(|s| s.code), want.map(str::to_owned), "{query}");
        }
    }
}
