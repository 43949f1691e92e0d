//! Continue tokens, in upstream's form.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Deserialize, Serialize};
use skep_api::Status;

const VERSION: &str = "meta.k8s.io/v1";

/// Where a list goes on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Token {
    /// Key of the first object that may follow, below the resource's prefix.
    pub start: String,
    /// The moment of the list; none to go on with the latest state.
    pub revision: Option<u64>,
}

#[derive(Serialize, Deserialize)]
struct Wire {
    v: String,
    #[serde(default)]
    rv: i64,
    #[serde(default)]
    start: String,
}

impl Token {
    /// The opaque text.
    pub fn encode(&self) -> String {
        let rv = self.revision.and_then(|r| i64::try_from(r).ok()).unwrap_or(-1);
        let wire = Wire { v: VERSION.into(), rv, start: self.start.clone() };
        URL_SAFE_NO_PAD.encode(serde_json::to_vec(&wire).unwrap_or_default())
    }

    /// Reads the text; 400 in upstream's words for what is none.
    pub fn decode(text: &str) -> Result<Self, Status> {
        let refuse = |why: String| Status::bad_request(format!("invalid continue token: {why}"));
        let bytes = URL_SAFE_NO_PAD
            .decode(text.trim_end_matches('='))
            .map_err(|e| refuse(format!("continue key is not valid: {e}")))?;
        let wire: Wire =
            serde_json::from_slice(&bytes).map_err(|e| refuse(format!("continue key is not valid: {e}")))?;
        if wire.v != VERSION {
            return Err(refuse(format!(
                "continue key is not valid: server does not recognize this encoded version {}",
                wire.v
            )));
        }
        if wire.rv == 0 {
            return Err(refuse(format!(
                "continue key is not valid: incorrect encoded start resourceVersion (version {VERSION})"
            )));
        }
        if wire.start.is_empty() {
            return Err(refuse(format!(
                "continue key is not valid: encoded start key empty (version {VERSION})"
            )));
        }
        Ok(Token { start: wire.start, revision: u64::try_from(wire.rv).ok() })
    }
}

/// The key under which a status carries a token until it is written (`metadata.continue` of the Status).
const CONTINUE_FIELD: &str = "metadata.continue";

/// Puts a token into a status: clients look for it in `metadata.continue`.
pub(crate) fn with_continue(mut status: Status, token: &Token) -> Status {
    let mut details = status.details.take().unwrap_or_default();
    details.causes.push(skep_api::StatusCause {
        reason: String::new(),
        message: token.encode(),
        field: CONTINUE_FIELD.into(),
    });
    status.details = Some(details);
    status
}

/// The wire form of a status, a token of [`with_continue`] in its place.
pub(crate) fn status_value(status: &Status) -> serde_json::Value {
    let mut status = status.clone();
    let mut token = None;
    if let Some(details) = &mut status.details
        && let Some(at) = details.causes.iter().position(|c| c.field == CONTINUE_FIELD)
    {
        token = Some(details.causes.remove(at).message);
    }
    if token.is_some() && status.details.as_deref() == Some(&Default::default()) {
        status.details = None;
    }
    let mut value = status.to_value();
    if let Some(token) = token {
        value["metadata"]["continue"] = token.into();
    }
    value
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens() {
        for revision in [Some(7), None] {
            let token = Token { start: "d/a\0".into(), revision };
            assert_eq!(Token::decode(&token.encode()).unwrap(), token);
        }
        // As upstream writes it.
        let upstream = URL_SAFE_NO_PAD.encode(r#"{"v":"meta.k8s.io/v1","rv":5,"start":"d/x\u0000"}"#);
        assert_eq!(Token::decode(&upstream).unwrap(), Token { start: "d/x\0".into(), revision: Some(5) });
        for bad in ["", "!", "e30", &URL_SAFE_NO_PAD.encode(r#"{"v":"v2","rv":1,"start":"a"}"#)] {
            assert_eq!(Token::decode(bad).unwrap_err().code, 400, "{bad}");
        }
    }

    #[test]
    fn an_expired_status_offers_to_go_on() {
        let token = Token { start: "a".into(), revision: None };
        let value = status_value(&with_continue(Status::expired("old"), &token));
        assert_eq!(value["metadata"]["continue"], token.encode());
        assert!(value.get("details").is_none());
    }
}
