//! Content negotiation.

use skep_api::{Reason, Status};

/// What form of an object a client wants.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Form {
    /// The object itself.
    #[default]
    Object,
    /// `metav1.Table`.
    Table,
    /// `metav1.PartialObjectMetadata`.
    Partial,
}

/// How an answer is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Accept {
    /// The form.
    pub(crate) form: Form,
    /// Whether it is called YAML (whose simplest form is JSON).
    pub(crate) yaml: bool,
    /// Whether it is indented for people.
    pub(crate) pretty: bool,
    /// Whether large answers may be compressed.
    pub(crate) gzip: bool,
}

impl Accept {
    /// The media type of the answer.
    pub(crate) fn content_type(&self) -> &'static str {
        if self.yaml { "application/yaml" } else { "application/json" }
    }
}

/// Reads the `Accept` header (empty: JSON); 406 where there is nothing in common.
pub(crate) fn accept(header: &str) -> Result<Accept, Status> {
    let mut candidates: Vec<(f32, &str)> = header
        .split(',')
        .map(str::trim)
        .filter(|part| !part.is_empty())
        .map(|part| {
            let quality = parameters(part).find(|(key, _)| *key == "q").and_then(|(_, q)| q.parse().ok());
            (quality.unwrap_or(1.0), part)
        })
        .collect();
    if candidates.is_empty() {
        return Ok(Accept::default());
    }
    candidates.sort_by(|a, b| b.0.total_cmp(&a.0));
    candidates.into_iter().find_map(|(_, part)| one(part)).ok_or_else(|| {
        Status::new(
            Reason::NotAcceptable,
            "only the following media types are accepted: application/json, application/yaml, \
             application/json;as=Table;v=v1;g=meta.k8s.io, application/json;as=PartialObjectMetadata;v=v1;g=meta.k8s.io",
        )
    })
}

fn parameters(part: &str) -> impl Iterator<Item = (&str, &str)> {
    part.split(';').skip(1).map(|p| {
        let (key, value) = p.split_once('=').unwrap_or((p, ""));
        (key.trim(), value.trim().trim_matches('"'))
    })
}

fn one(part: &str) -> Option<Accept> {
    let yaml = match part.split(';').next()?.trim() {
        "application/json" | "*/*" | "application/*" => false,
        "application/yaml" => true,
        _ => return None,
    };
    let get = |name: &str| parameters(part).find(|(key, _)| *key == name).map(|(_, value)| value);
    let form = match get("as") {
        None | Some("") => Form::Object,
        Some(as_kind) => {
            if get("g") != Some("meta.k8s.io") || get("v") != Some("v1") {
                return None;
            }
            match as_kind {
                "Table" => Form::Table,
                "PartialObjectMetadata" | "PartialObjectMetadataList" => Form::Partial,
                _ => return None,
            }
        }
    };
    let pretty = get("pretty") == Some("1");
    Some(Accept { form, yaml, pretty, gzip: false })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn negotiation() {
        let kubectl = "application/json;as=Table;v=v1;g=meta.k8s.io,application/json;as=Table;v=v1beta1;g=meta.k8s.io,\
                       application/json";
        for (header, form) in [
            ("", Form::Object),
            ("*/*", Form::Object),
            ("application/json", Form::Object),
            ("application/vnd.kubernetes.protobuf, application/json", Form::Object),
            (kubectl, Form::Table),
            ("application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1", Form::Partial),
            ("application/json;q=0.5, application/json;as=Table;g=meta.k8s.io;v=v1", Form::Table),
            ("application/json;stream=watch", Form::Object),
        ] {
            assert_eq!(accept(header).unwrap().form, form, "{header}");
        }
        for header in
            ["text/html", "application/vnd.kubernetes.protobuf", "application/json;as=X;g=meta.k8s.io;v=v1"]
        {
            assert_eq!(accept(header).unwrap_err().code, 406, "{header}");
        }
    }
}
