//! What is asked to be certified: a PKCS#10 request (RFC 2986), read as far as signers look at it.

use base64::{Engine, engine::general_purpose::STANDARD};
use std::net::IpAddr;
use x509_parser::certification_request::X509CertificationRequest;
use x509_parser::extensions::{GeneralName, ParsedExtension};
use x509_parser::prelude::FromDer;

/// Why a request cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RequestError {
    /// No PEM, or PEM of something else.
    #[error("PEM block type must be CERTIFICATE REQUEST")]
    Label,
    /// The block holds no request.
    #[error("the certificate request is malformed: {0}")]
    Malformed(String),
    /// An address is neither 4 nor 16 bytes.
    #[error("x509: cannot parse IP address of length {0}")]
    Address(usize),
}

/// A request for a certificate.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Request {
    /// The last common name of the subject; empty where there is none.
    pub common_name: String,
    /// The organizations of the subject, in their order.
    pub organizations: Vec<String>,
    /// DNS names it wants to answer to.
    pub dns: Vec<String>,
    /// Addresses it wants to answer to.
    pub ips: Vec<IpAddr>,
    /// E-mail addresses.
    pub emails: Vec<String>,
    /// URIs.
    pub uris: Vec<String>,
    /// The subject as it was encoded (DER of a Name).
    pub subject: Vec<u8>,
    /// The public key as it was encoded (DER of a SubjectPublicKeyInfo).
    pub public_key: Vec<u8>,
    /// Whether it is signed by the key it wants certified.
    pub signed: bool,
}

impl Request {
    /// Reads the request in `spec.request`: base64 of PEM.
    pub fn from_base64(text: &str) -> Result<Request, RequestError> {
        let pem = STANDARD.decode(text).map_err(|_| RequestError::Label)?;
        Request::from_pem(&pem)
    }

    /// Reads a request in PEM.
    pub fn from_pem(pem: &[u8]) -> Result<Request, RequestError> {
        let (_, block) = x509_parser::pem::parse_x509_pem(pem).map_err(|_| RequestError::Label)?;
        if block.label != "CERTIFICATE REQUEST" {
            return Err(RequestError::Label);
        }
        let malformed = |why: &dyn std::fmt::Display| RequestError::Malformed(why.to_string());
        let (rest, request) =
            X509CertificationRequest::from_der(&block.contents).map_err(|why| malformed(&why))?;
        if !rest.is_empty() {
            return Err(malformed(&"trailing data"));
        }
        let info = &request.certification_request_info;
        let text = |value: &x509_parser::x509::AttributeTypeAndValue<'_>| {
            value.as_str().map(str::to_owned).map_err(|why| malformed(&why))
        };
        let mut out = Request {
            subject: info.subject.as_raw().to_vec(),
            public_key: info.subject_pki.raw.to_vec(),
            signed: request.verify_signature().is_ok(),
            organizations: info.subject.iter_organization().map(text).collect::<Result<_, _>>()?,
            ..Request::default()
        };
        for name in info.subject.iter_common_name() {
            out.common_name = text(name)?;
        }
        let extensions = request.requested_extensions().into_iter().flatten();
        let names = extensions.filter_map(|extension| match extension {
            ParsedExtension::SubjectAlternativeName(names) => Some(&names.general_names),
            _ => None,
        });
        for name in names.flatten() {
            match name {
                GeneralName::DNSName(name) => out.dns.push((*name).to_owned()),
                GeneralName::RFC822Name(name) => out.emails.push((*name).to_owned()),
                GeneralName::URI(name) => out.uris.push((*name).to_owned()),
                GeneralName::IPAddress(bytes) => out.ips.push(address(bytes)?),
                _ => {}
            }
        }
        Ok(out)
    }
}

fn address(bytes: &[u8]) -> Result<IpAddr, RequestError> {
    let four = <[u8; 4]>::try_from(bytes).map(IpAddr::from);
    let sixteen = <[u8; 16]>::try_from(bytes).map(IpAddr::from);
    four.or(sixteen).map_err(|_| RequestError::Address(bytes.len()))
}

/// What is wrong with a chain of certificates in PEM, for people; none where nothing is, or where there is none.
pub(super) fn chain_fault(pem: &[u8]) -> Option<String> {
    if pem.is_empty() {
        return None;
    }
    let mut blocks = 0;
    for block in x509_parser::pem::Pem::iter_from_buffer(pem) {
        let block = match block {
            Ok(block) => block,
            Err(why) => return Some(why.to_string()),
        };
        if block.label != "CERTIFICATE" {
            return Some(format!("only CERTIFICATE PEM blocks are allowed, found {:?}", block.label));
        }
        blocks += 1;
        match x509_parser::parse_x509_certificate(&block.contents) {
            Ok(([], _)) => {}
            Ok(_) => return Some("x509: trailing data".into()),
            Err(why) => return Some(why.to_string()),
        }
    }
    let headers = String::from_utf8_lossy(pem).split("-----BEGIN ").skip(1).any(|block| {
        block
            .split("-----END")
            .next()
            .is_some_and(|inner| inner.lines().skip(1).any(|line| line.contains(':')))
    });
    match blocks {
        0 => Some("must contain at least one CERTIFICATE PEM block".into()),
        _ if headers => Some("no PEM block headers are permitted".into()),
        _ => None,
    }
}

/// When the first certificate of a chain in PEM ends, in seconds since 1970; none where it cannot be read.
pub fn ends(pem: &[u8]) -> Option<i64> {
    let (_, block) = x509_parser::pem::parse_x509_pem(pem).ok()?;
    let (_, certificate) = x509_parser::parse_x509_certificate(&block.contents).ok()?;
    Some(certificate.validity().not_after.timestamp())
}
