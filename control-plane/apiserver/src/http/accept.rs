//! Content negotiation, in upstream's order (`apiserver/pkg/endpoints/handlers/negotiation`).

use http::HeaderMap;
use http::header::{ACCEPT, ACCEPT_ENCODING, HeaderName, USER_AGENT};
use skep_api::status::StatusDetails;
use skep_api::{Reason, Status, protobuf};

/// Clients that people read by eye get indented answers.
const FOR_EYES: [&str; 3] = ["curl", "Wget", "Mozilla/5.0"];

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
    /// `metav1.PartialObjectMetadataList`.
    PartialList,
}

/// In what bytes a client wants it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Media {
    /// JSON.
    #[default]
    Json,
    /// YAML in blocks.
    Yaml,
    /// Protobuf.
    Protobuf,
}

impl Media {
    const ALL: [Media; 3] = [Media::Json, Media::Yaml, Media::Protobuf];

    /// The media type.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Media::Json => "application/json",
            Media::Yaml => "application/yaml",
            Media::Protobuf => protobuf::MEDIA_TYPE,
        }
    }

    /// The media type of a watch; none where there is no such watch.
    pub(crate) fn stream_name(self) -> Option<&'static str> {
        match self {
            Media::Json => Some("application/json"),
            Media::Yaml => None,
            Media::Protobuf => Some("application/vnd.kubernetes.protobuf;stream=watch"),
        }
    }
}

/// How an answer is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Accept {
    /// The form.
    pub(crate) form: Form,
    /// Whether a form of the meta group is that of its version `v1beta1`.
    pub(crate) beta: bool,
    /// The bytes.
    pub(crate) media: Media,
    /// Whether it is indented for people.
    pub(crate) pretty: bool,
    /// Whether large answers may be compressed.
    pub(crate) gzip: bool,
}

impl Accept {
    /// The same for what has no other forms.
    pub(crate) fn plain(self) -> Self {
        Accept { form: Form::Object, ..self }
    }

    /// Whether it is JSON in one line: objects are then written from their own bytes.
    pub(crate) fn is_line(&self) -> bool {
        self.media == Media::Json && !self.pretty
    }

    /// `apiVersion` of a form of the meta group.
    pub(crate) fn meta_version(&self) -> &'static str {
        if self.beta { "meta.k8s.io/v1beta1" } else { "meta.k8s.io/v1" }
    }
}

/// What a place can answer.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Offer {
    /// Whether its kind has a protobuf form.
    pub(crate) protobuf: bool,
    /// Whether it gives `PartialObjectMetadata` and its list.
    pub(crate) partial: bool,
    /// Whether it gives tables.
    pub(crate) table: bool,
    /// Whether it is also watched: named in the refusal.
    pub(crate) watched: bool,
}

impl Offer {
    /// A status: every form of bytes, no other form.
    pub(crate) const STATUS: Offer = Offer { protobuf: true, partial: false, table: false, watched: false };
}

#[derive(Clone, Copy, Debug)]
struct Range {
    quality: f32,
    /// None: any.
    media: Option<Media>,
    /// None: one that nobody gives.
    form: Option<Form>,
    beta: bool,
    stream: bool,
    pretty: bool,
}

/// What a client wants, in its order of preference.
#[derive(Clone, Debug)]
pub(crate) struct Wants {
    /// None where the client says nothing.
    ranges: Option<Vec<Range>>,
    pretty: Option<bool>,
    gzip: bool,
}

fn header<'a>(headers: &'a HeaderMap, name: &HeaderName) -> &'a str {
    headers.get(name).and_then(|v| v.to_str().ok()).unwrap_or_default()
}

impl Wants {
    /// Reads the headers and the query of a request.
    pub(crate) fn read(headers: &HeaderMap, query: &str) -> Self {
        let mut texts = headers.get_all(ACCEPT).iter().filter_map(|v| v.to_str().ok()).peekable();
        let ranges = texts.peek().is_some().then(|| {
            let parts = texts.flat_map(|text| text.split(',')).map(str::trim).filter(|part| !part.is_empty());
            let mut ranges: Vec<Range> = parts.filter_map(range).collect();
            ranges.sort_by(|a, b| {
                b.quality.total_cmp(&a.quality).then(a.media.is_none().cmp(&b.media.is_none()))
            });
            ranges
        });
        let asked = crate::request::param(query, "pretty").filter(|text| !text.is_empty());
        let pretty = match asked {
            Some(text) => Some(matches!(text.as_str(), "1" | "t" | "T" | "true" | "TRUE" | "True")),
            None => {
                let agent = header(headers, &USER_AGENT);
                FOR_EYES.iter().any(|known| agent.starts_with(known)).then_some(true)
            }
        };
        let codings = header(headers, &ACCEPT_ENCODING).split(',');
        let gzip = { codings }.any(|coding| coding.trim() == "gzip" || coding.trim().starts_with("gzip;"));
        Wants { ranges, pretty, gzip }
    }

    /// How a place answers; 406 where it has nothing that is wanted.
    pub(crate) fn choose(&self, offer: Offer) -> Result<Accept, Status> {
        let accept = |media, form, beta, pretty| Accept {
            form,
            beta,
            media,
            pretty: self.pretty.unwrap_or(pretty) && media != Media::Protobuf,
            gzip: self.gzip,
        };
        let Some(ranges) = &self.ranges else { return Ok(accept(Media::Json, Form::Object, false, false)) };
        for range in ranges {
            let media = range.media.unwrap_or_default();
            let given = match range.form {
                Some(Form::Object) => offer.protobuf || media != Media::Protobuf,
                Some(Form::Table) => offer.table && media != Media::Protobuf,
                Some(Form::Partial | Form::PartialList) => offer.partial,
                None => false,
            };
            let streams = !range.stream || media.stream_name().is_some();
            if let (true, true, Some(form)) = (given, streams, range.form) {
                return Ok(accept(media, form, range.beta, range.pretty));
            }
        }
        Err(self.refusal(offer))
    }

    /// How a status is written: as is wanted, or else as JSON.
    pub(crate) fn for_status(&self) -> Accept {
        let json = Accept { pretty: true, gzip: self.gzip, ..Accept::default() };
        self.choose(Offer::STATUS).unwrap_or(json)
    }

    fn refusal(&self, offer: Offer) -> Status {
        let names = Media::ALL.map(Media::name).join(", ");
        if self.ranges.as_ref().is_some_and(|ranges| !ranges.is_empty()) {
            let why = format!("only the following media types are accepted: {names}");
            return Status::new(Reason::NotAcceptable, why);
        }
        let watched = if offer.watched { format!(", {}", streams()) } else { String::new() };
        let why = format!("406: Not Acceptable\n\nAvailable representations: {names}{watched}");
        let mut status = Status::new(Reason::NotAcceptable, why);
        status.details = Some(Box::<StatusDetails>::default());
        status
    }
}

/// The media types of watches.
fn streams() -> String {
    format!("{};stream=watch, {};stream=watch", Media::Json.name(), Media::Protobuf.name())
}

/// 406 for a watch in bytes that there is no watch in.
pub(crate) fn no_stream() -> Status {
    Status::new(Reason::NotAcceptable, format!("only the following media types are accepted: {}", streams()))
}

fn parameters(part: &str) -> impl Iterator<Item = (&str, &str)> {
    part.split(';').skip(1).map(|p| {
        let (key, value) = p.split_once('=').unwrap_or((p, ""));
        (key.trim(), value.trim().trim_matches('"'))
    })
}

/// Reads one media range; none for what is never given.
fn range(part: &str) -> Option<Range> {
    let name = part.split(';').next()?.trim();
    let media = match name {
        "*/*" | "application/*" => None,
        name => Some(Media::ALL.into_iter().find(|media| media.name() == name)?),
    };
    let mut range =
        Range { quality: 1.0, media, form: Some(Form::Object), beta: false, stream: false, pretty: false };
    let (mut kind, mut group, mut version) = (None, "", "");
    for (key, value) in parameters(part) {
        match key {
            "as" => kind = Some(value),
            "g" => group = value,
            "v" => version = value,
            "q" => range.quality = value.parse().unwrap_or(1.0),
            "pretty" => range.pretty = value == "1",
            "stream" => match value {
                "" => {}
                "watch" => range.stream = true,
                _ => return None,
            },
            _ => {}
        }
    }
    if kind.is_some() || !group.is_empty() || !version.is_empty() {
        range.beta = version == "v1beta1";
        let known = group == "meta.k8s.io" && matches!(version, "v1" | "v1beta1");
        range.form = match kind {
            Some("Table") if known => Some(Form::Table),
            Some("PartialObjectMetadata") if known => Some(Form::Partial),
            Some("PartialObjectMetadataList") if known => Some(Form::PartialList),
            _ => None,
        };
    }
    Some(range)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: Offer = Offer { protobuf: true, partial: true, table: true, watched: true };
    const PB: &str = "application/vnd.kubernetes.protobuf";

    fn wants(accept: &str, query: &str) -> Wants {
        let mut headers = HeaderMap::new();
        if !accept.is_empty() {
            headers.insert(ACCEPT, accept.parse().unwrap());
        }
        Wants::read(&headers, query)
    }

    #[test]
    fn negotiation() {
        use Form::*;
        use Media::*;
        let kubectl = "application/json;as=Table;v=v1;g=meta.k8s.io,application/json;as=Table;v=v1beta1;g=meta.k8s.io,\
                       application/json";
        let custom = Offer { protobuf: false, ..ALL };
        for (header, offer, form, media) in [
            ("", ALL, Object, Json),
            ("*/*", ALL, Object, Json),
            ("application/json", ALL, Object, Json),
            ("application/vnd.kubernetes.protobuf,application/json", ALL, Object, Protobuf),
            ("application/vnd.kubernetes.protobuf,application/json", custom, Object, Json),
            ("application/vnd.kubernetes.protobuf,*/*", custom, Object, Json),
            ("*/*,application/vnd.kubernetes.protobuf", ALL, Object, Protobuf),
            ("application/vnd.kubernetes.protobuf;stream=watch", ALL, Object, Protobuf),
            ("application/cbor, application/yaml", ALL, Object, Yaml),
            ("application/yaml;stream=watch, application/json", ALL, Object, Json),
            (kubectl, ALL, Table, Json),
            (kubectl, Offer::STATUS, Object, Json),
            ("application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1", ALL, PartialList, Json),
            ("application/json;q=0.5, application/json;as=Table;g=meta.k8s.io;v=v1", ALL, Table, Json),
            ("application/json;stream=watch", ALL, Object, Json),
        ] {
            let accept = wants(header, "").choose(offer).unwrap();
            assert_eq!((accept.form, accept.media), (form, media), "{header}");
        }
        let partial = format!("{PB};as=PartialObjectMetadata;g=meta.k8s.io;v=v1beta1, application/json");
        let accept = wants(&partial, "").choose(custom).unwrap();
        assert_eq!((accept.form, accept.media, accept.beta), (Partial, Protobuf, true));
        assert_eq!(wants(&partial, "").for_status().media, Json);
        let table = format!("{PB};as=Table;v=v1;g=meta.k8s.io");
        for header in ["text/html", PB, "application/json;as=X;g=meta.k8s.io;v=v1", &table] {
            assert_eq!(wants(header, "").choose(custom).unwrap_err().code, 406, "{header}");
        }
        let message = |header: &str| wants(header, "").choose(ALL).unwrap_err().message;
        assert_eq!(
            message("application/cbor"),
            "406: Not Acceptable\n\nAvailable representations: application/json, application/yaml, \
             application/vnd.kubernetes.protobuf, application/json;stream=watch, \
             application/vnd.kubernetes.protobuf;stream=watch"
        );
        assert_eq!(
            message(&table),
            "only the following media types are accepted: application/json, application/yaml, \
             application/vnd.kubernetes.protobuf"
        );
    }

    #[test]
    fn indentation_is_for_eyes() {
        for (accept, query, agent, pretty) in [
            ("", "", "kubectl/v1", false),
            ("", "", "curl/8", true),
            ("", "pretty=false", "curl/8", false),
            ("", "pretty=1", "", true),
            ("", "pretty=yes", "", false),
            ("", "pretty=", "curl/8", true),
            ("application/json;pretty=1", "", "", true),
            (PB, "pretty=1", "", false),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(USER_AGENT, agent.parse().unwrap());
            if !accept.is_empty() {
                headers.insert(ACCEPT, accept.parse().unwrap());
            }
            let accept = Wants::read(&headers, query).choose(ALL).unwrap();
            assert_eq!(accept.pretty, pretty, "{accept:?} {query} {agent}");
        }
    }
}
