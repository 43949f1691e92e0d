//! Reading bodies.

use crate::hooks::Body;
use crate::registry::meta;
use bytes::Bytes;
use http::HeaderMap;
use http::header::{CONTENT_LENGTH, CONTENT_TYPE};
use http_body_util::{BodyExt, LengthLimitError, Limited};
use serde_json::Value;
use skep_api::protobuf::{self, ProtobufError};
use skep_api::schema::{Format, decode};
use skep_api::{GroupVersionKind, Status};

const ACCEPTED: [&str; 3] = ["application/json", "application/yaml", protobuf::MEDIA_TYPE];

/// Reads a whole body of at most `limit` bytes; 413 beyond. What comes as protobuf is handed on as JSON.
pub(crate) async fn read(headers: &HeaderMap, body: Body, limit: usize) -> Result<Bytes, Status> {
    let too_large = || Status::too_large(format!("Request entity too large: limit is {limit}"));
    let announced =
        headers.get(CONTENT_LENGTH).and_then(|v| v.to_str().ok()).and_then(|v| v.parse::<u64>().ok());
    if announced.is_some_and(|length| length > limit as u64) {
        return Err(too_large());
    }
    match Limited::new(body, limit).collect().await {
        Ok(collected) if media_type(headers) == protobuf::MEDIA_TYPE => {
            let bytes = collected.to_bytes();
            if bytes.is_empty() { Ok(bytes) } else { from_protobuf(&bytes) }
        }
        Ok(collected) => Ok(collected.to_bytes()),
        Err(why) if why.is::<LengthLimitError>() => Err(too_large()),
        Err(why) => Err(Status::bad_request(format!("the body could not be read: {why}"))),
    }
}

/// The JSON of a body in protobuf form; 415 for kinds that have no such form, as custom resources.
fn from_protobuf(bytes: &[u8]) -> Result<Bytes, Status> {
    match protobuf::decode(bytes) {
        Ok(decoded) => Ok(decoded.value.to_string().into()),
        Err(ProtobufError::UnknownKind { .. }) => Err(Status::unsupported_media_type(&ACCEPTED[..2])),
        Err(why) => Err(Status::bad_request(format!("the body could not be read: {why}"))),
    }
}

/// The media type of a body without its parameters, lower case; JSON where none is named.
pub(crate) fn media_type(headers: &HeaderMap) -> String {
    let text = headers.get(CONTENT_TYPE).and_then(|v| v.to_str().ok()).unwrap_or_default();
    let plain = text.split(';').next().unwrap_or_default().trim().to_lowercase();
    if plain.is_empty() { ACCEPTED[0].into() } else { plain }
}

/// How a body that [`read`] gave is written; 415 for what is none of JSON, YAML and protobuf.
pub(crate) fn format(headers: &HeaderMap) -> Result<Format, Status> {
    match media_type(headers).as_str() {
        "application/json" | protobuf::MEDIA_TYPE => Ok(Format::Json),
        "application/yaml" => Ok(Format::Yaml),
        _ => Err(Status::unsupported_media_type(&ACCEPTED)),
    }
}

/// Reads the bytes of an object: decoded, of the expected kind, checked and pruned by `check`, which is given the paths of
/// keys that stand twice. Answers warnings beside.
pub(crate) fn object(
    gvk: &GroupVersionKind,
    bytes: &[u8],
    format: Format,
    check: impl FnOnce(&mut Value, &[String]) -> Result<Vec<String>, Status>,
) -> Result<(Value, Vec<String>), Status> {
    let decoded = decode(bytes, format).map_err(|e| e.to_status(gvk))?;
    let mut value = decoded.value;
    meta::check_kind(&mut value, gvk)?;
    let warnings = check(&mut value, &decoded.duplicates)?;
    Ok((value, warnings))
}
