//! Signed tokens of service accounts (JWS compact form, ES256) as plain functions: signing, reading, judging the claims.

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use jiff::Timestamp;
use ring::rand::SystemRandom;
use ring::signature::{
    ECDSA_P256_SHA256_FIXED, ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair, UnparsedPublicKey,
};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

/// Who signs the cluster's tokens, and the audience they are for unless another is asked for.
pub const ISSUER: &str = "https://kubernetes.default.svc.cluster.local";
/// Who signs the tokens that are kept in Secrets and never end.
pub const LEGACY_ISSUER: &str = "kubernetes/serviceaccount";
/// Clocks may differ by so many seconds.
pub const LEEWAY: i64 = 60;

/// Why a token is not accepted.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    /// Not of three base64url parts with JSON in the first two.
    #[error("token is malformed")]
    Malformed,
    /// Signed with another algorithm than ours.
    #[error("token is signed with algorithm {0:?}")]
    Algorithm(String),
    /// The signature is not that of the cluster's key.
    #[error("invalid signature")]
    Signature,
    /// From somebody else.
    #[error("token issuer {0:?} is invalid")]
    Issuer(String),
    /// For somebody else.
    #[error("token audiences [{}] is invalid for the target audiences [{}]", quoted(.0), quoted(.1))]
    Audience(Vec<String>, Vec<String>),
    /// Too old.
    #[error("service account token has expired")]
    Expired,
    /// Too new.
    #[error("service account token is not valid yet")]
    NotValidYet,
    /// Subject and claims name different accounts.
    #[error("token subject {0:?} does not match its claims")]
    Subject(String),
}

fn quoted(texts: &[String]) -> String {
    texts.iter().map(|text| format!("{text:?}")).collect::<Vec<_>>().join(" ")
}

/// Name and uid of an object.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ref {
    /// Name.
    pub name: String,
    /// Uid; empty where the object was not there when the token was made.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub uid: String,
}

/// The claims under `kubernetes.io`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bound {
    /// Namespace of account, pod and secret.
    pub namespace: String,
    /// The node the pod is on, or the node the token is bound to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node: Option<Ref>,
    /// The pod the token is bound to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pod: Option<Ref>,
    /// The secret the token is bound to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret: Option<Ref>,
    /// The account.
    pub serviceaccount: Ref,
    /// When the holder should have asked for a new token (seconds since 1970).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub warnafter: Option<i64>,
}

/// The claims of a token. Times are seconds since 1970.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Claims {
    /// Whom it is for.
    pub aud: Vec<String>,
    /// Not good after.
    pub exp: i64,
    /// Made at.
    pub iat: i64,
    /// Who made it.
    pub iss: String,
    /// Unique id.
    pub jti: String,
    /// What it is bound to.
    #[serde(rename = "kubernetes.io")]
    pub bound: Bound,
    /// Not good before.
    pub nbf: i64,
    /// `system:serviceaccount:NS:NAME`.
    pub sub: String,
}

impl Claims {
    /// The user name of the account.
    pub fn user(&self) -> String {
        format!("system:serviceaccount:{}:{}", self.bound.namespace, self.bound.serviceaccount.name)
    }
}

/// The claims of a token that is kept in a Secret (of type `kubernetes.io/service-account-token`).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LegacyClaims {
    /// Who made it.
    pub iss: String,
    /// Namespace of account and Secret.
    #[serde(rename = "kubernetes.io/serviceaccount/namespace")]
    pub namespace: String,
    /// Name of the Secret.
    #[serde(rename = "kubernetes.io/serviceaccount/secret.name")]
    pub secret: String,
    /// Name of the account.
    #[serde(rename = "kubernetes.io/serviceaccount/service-account.name")]
    pub account: String,
    /// Uid of the account.
    #[serde(rename = "kubernetes.io/serviceaccount/service-account.uid")]
    pub uid: String,
    /// `system:serviceaccount:NS:NAME`.
    pub sub: String,
}

impl LegacyClaims {
    /// The user name of the account.
    pub fn user(&self) -> String {
        format!("system:serviceaccount:{}:{}", self.namespace, self.account)
    }
}

/// A token that this cluster signed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Token {
    /// Made on request, for a while and perhaps bound to an object.
    Bound(Box<Claims>),
    /// Kept in a Secret.
    Legacy(LegacyClaims),
}

/// The cluster's token key.
pub struct Keys {
    pair: EcdsaKeyPair,
    random: SystemRandom,
    id: String,
}

impl std::fmt::Debug for Keys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Keys").field("id", &self.id).finish_non_exhaustive()
    }
}

/// The key cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("the service-account key is not a usable P-256 key: {0}")]
pub struct KeyError(String);

/// DER of a P-256 SubjectPublicKeyInfo up to the point (RFC 5480).
const SPKI_PREFIX: [u8; 26] = [
    0x30, 0x59, 0x30, 0x13, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01, 0x06, 0x08, 0x2a, 0x86,
    0x48, 0xce, 0x3d, 0x03, 0x01, 0x07, 0x03, 0x42, 0x00,
];

impl Keys {
    /// Reads a PKCS#8 key.
    pub fn from_pkcs8(der: &[u8]) -> Result<Self, KeyError> {
        let random = SystemRandom::new();
        let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, der, &random)
            .map_err(|e| KeyError(e.to_string()))?;
        // Upstream's key id: the digest of the public key as SubjectPublicKeyInfo.
        let spki = [&SPKI_PREFIX, pair.public_key().as_ref()].concat();
        let id = URL_SAFE_NO_PAD.encode(ring::digest::digest(&ring::digest::SHA256, &spki));
        Ok(Keys { pair, random, id })
    }

    /// Signs claims.
    pub fn sign(&self, claims: &impl Serialize) -> Result<String, KeyError> {
        let header = json!({"alg": "ES256", "kid": self.id}).to_string();
        let payload = serde_json::to_vec(claims).map_err(|e| KeyError(e.to_string()))?;
        let mut token = format!("{}.{}", URL_SAFE_NO_PAD.encode(header), URL_SAFE_NO_PAD.encode(payload));
        let signature =
            self.pair.sign(&self.random, token.as_bytes()).map_err(|e| KeyError(e.to_string()))?;
        token.push('.');
        URL_SAFE_NO_PAD.encode_string(signature.as_ref(), &mut token);
        Ok(token)
    }

    /// The claims of a token that this cluster signed. Time, audience and bound objects are the caller's to judge.
    pub fn read(&self, token: &str) -> Result<Token, TokenError> {
        #[derive(Deserialize)]
        struct Header {
            alg: String,
        }
        let (signed, signature) = token.rsplit_once('.').ok_or(TokenError::Malformed)?;
        let (header, payload) = signed.split_once('.').ok_or(TokenError::Malformed)?;
        let bytes = |text: &str| URL_SAFE_NO_PAD.decode(text).map_err(|_| TokenError::Malformed);
        let header: Header = serde_json::from_slice(&bytes(header)?).map_err(|_| TokenError::Malformed)?;
        if header.alg != "ES256" {
            return Err(TokenError::Algorithm(header.alg));
        }
        UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, self.pair.public_key().as_ref())
            .verify(signed.as_bytes(), &bytes(signature)?)
            .map_err(|_| TokenError::Signature)?;
        #[derive(Deserialize)]
        struct Issued {
            #[serde(default)]
            iss: String,
        }
        let payload = bytes(payload)?;
        let issued: Issued = serde_json::from_slice(&payload).map_err(|_| TokenError::Malformed)?;
        match issued.iss.as_str() {
            ISSUER => {
                let claims: Claims = serde_json::from_slice(&payload).map_err(|_| TokenError::Malformed)?;
                let right = claims.sub == claims.user();
                if right { Ok(Token::Bound(Box::new(claims))) } else { Err(TokenError::Subject(claims.sub)) }
            }
            LEGACY_ISSUER => {
                let claims: LegacyClaims =
                    serde_json::from_slice(&payload).map_err(|_| TokenError::Malformed)?;
                let right = claims.sub == claims.user();
                if right { Ok(Token::Legacy(claims)) } else { Err(TokenError::Subject(claims.sub)) }
            }
            _ => Err(TokenError::Issuer(issued.iss)),
        }
    }

    /// The public key as a JSON Web Key Set (`/openid/v1/jwks`).
    pub fn jwks(&self) -> Value {
        let point = self.pair.public_key().as_ref();
        let coordinate = |range: std::ops::Range<usize>| point.get(range).map(|b| URL_SAFE_NO_PAD.encode(b));
        json!({"keys": [{
            "use": "sig", "kty": "EC", "kid": self.id, "crv": "P-256", "alg": "ES256",
            "x": coordinate(1..33), "y": coordinate(33..65),
        }]})
    }
}

/// Whether claims hold now and for one of `audiences`; the audiences that both name.
pub fn judge(claims: &Claims, audiences: &[String], now: Timestamp) -> Result<Vec<String>, TokenError> {
    let now = now.as_second();
    if now - LEEWAY > claims.exp {
        return Err(TokenError::Expired);
    }
    if now + LEEWAY < claims.nbf {
        return Err(TokenError::NotValidYet);
    }
    common(&claims.aud, audiences)
}

/// The audiences that a token is for and that are asked for; there must be one.
pub fn common(token: &[String], asked: &[String]) -> Result<Vec<String>, TokenError> {
    let both: Vec<String> = token.iter().filter(|a| asked.contains(a)).cloned().collect();
    if both.is_empty() {
        return Err(TokenError::Audience(token.to_vec(), asked.to_vec()));
    }
    Ok(both)
}
