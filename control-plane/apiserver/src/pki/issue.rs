//! Making certificates, and judging whether one that is there still serves.

use super::PkiError;
use jiff::{SignedDuration, Timestamp};
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, IsCa, Issuer, KeyPair, KeyUsagePurpose,
    PKCS_ECDSA_P256_SHA256, PublicKeyData, SanType, SignatureAlgorithm, SigningKey,
};
use rustls_pki_types::{CertificateDer, pem::PemObject};
use std::collections::BTreeSet;
use std::net::IpAddr;
use time::OffsetDateTime;
use x509_parser::extensions::GeneralName;

const DAY: SignedDuration = SignedDuration::from_hours(24);
/// How long the CA is good for, in days.
const CA_DAYS: i32 = 3650;
/// How long every other certificate is good for, in days.
const LEAF_DAYS: i32 = 365;
/// A kept certificate is made anew when fewer days are left.
const RENEW_DAYS: i32 = 60;
/// Clocks of clients may be behind by so much.
const SKEW: SignedDuration = SignedDuration::from_mins(5);

/// A certificate and its private key, both in PEM.
#[derive(Clone, PartialEq, Eq)]
pub struct Identity {
    /// The certificate.
    pub cert_pem: String,
    /// The key, PKCS#8.
    pub key_pem: String,
}

impl std::fmt::Debug for Identity {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Identity(..)")
    }
}

/// The names a serving certificate answers to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ServingNames {
    dns: BTreeSet<String>,
    ips: BTreeSet<IpAddr>,
}

impl ServingNames {
    /// Adds a DNS name or an address, whichever the text is.
    pub fn add(&mut self, name: &str) -> &mut Self {
        match name.parse() {
            Ok(ip) => self.add_ip(ip),
            Err(_) => {
                self.dns.insert(name.to_ascii_lowercase());
                self
            }
        }
    }

    /// Adds an address.
    pub fn add_ip(&mut self, ip: IpAddr) -> &mut Self {
        self.ips.insert(ip);
        self
    }
}

/// What a leaf certificate is for.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Purpose {
    Client,
    Server,
}

/// A leaf certificate to be made.
pub(super) struct Request {
    common_name: String,
    organizations: Vec<String>,
    names: ServingNames,
    purpose: Purpose,
}

impl Request {
    pub(super) fn client(user: &str, groups: &[String]) -> Result<Request, PkiError> {
        check("user name", user)?;
        for group in groups {
            check("group", group)?;
        }
        if groups.len() > MAX_GROUPS {
            return Err(PkiError::BadName { what: "group", text: groups[MAX_GROUPS].clone() });
        }
        let (common_name, organizations) = (user.to_owned(), groups.to_vec());
        Ok(Request { common_name, organizations, names: ServingNames::default(), purpose: Purpose::Client })
    }

    pub(super) fn serving(common_name: &str, names: &ServingNames) -> Result<Request, PkiError> {
        check("common name", common_name)?;
        let (common_name, names) = (common_name.to_owned(), names.clone());
        Ok(Request { common_name, organizations: Vec::new(), names, purpose: Purpose::Server })
    }
}

fn check(what: &'static str, text: &str) -> Result<(), PkiError> {
    if text.is_empty() || text.len() > 256 || text.chars().any(char::is_control) {
        return Err(PkiError::BadName { what, text: text.to_owned() });
    }
    Ok(())
}

fn instant(at: Timestamp) -> OffsetDateTime {
    OffsetDateTime::from_unix_timestamp(at.as_second()).unwrap_or(OffsetDateTime::UNIX_EPOCH)
}

fn lasting(params: &mut CertificateParams, now: Timestamp, days: i32) {
    params.not_before = instant(now.saturating_sub(SKEW).unwrap_or(now));
    params.not_after = instant(now.saturating_add(DAY * days).unwrap_or(now));
}

pub(super) fn ca_params(now: Timestamp) -> Result<CertificateParams, PkiError> {
    let mut params = CertificateParams::new(Vec::<String>::new())?;
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, "kubernetes");
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages =
        vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::DigitalSignature, KeyUsagePurpose::CrlSign];
    lasting(&mut params, now, CA_DAYS);
    Ok(params)
}

pub(super) fn issue_leaf(
    ca_pem: &str,
    ca_key: &KeyPair,
    request: &Request,
    now: Timestamp,
) -> Result<Identity, PkiError> {
    let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
    let mut params = CertificateParams::new(Vec::<String>::new())?;
    params.distinguished_name = DistinguishedName::new();
    for (i, group) in request.organizations.iter().enumerate() {
        params.distinguished_name.push(placeholder(i), group.as_str());
    }
    params.distinguished_name.push(DnType::CommonName, request.common_name.as_str());
    params.subject_alt_names.extend(request.names.ips.iter().map(|ip| SanType::IpAddress(*ip)));
    for name in &request.names.dns {
        let text = name.as_str().try_into();
        let text = text.map_err(|_| PkiError::BadName { what: "DNS name", text: name.clone() })?;
        params.subject_alt_names.push(SanType::DnsName(text));
    }
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![request.purpose.extended()];
    params.use_authority_key_identifier_extension = true;
    lasting(&mut params, now, LEAF_DAYS);
    let ca = Issuer::from_ca_cert_pem(ca_pem, ManyOrganizations(ca_key))?;
    let der = organizations(params.signed_by(&key, &ca)?.der().to_vec());
    Ok(Identity { cert_pem: pem(&der), key_pem: key.serialize_pem() })
}

/// rcgen holds one value an attribute type; a user may be in several groups, each an organization of its own. Groups
/// go in under unassigned types of the same encoded length (2.5.4.100 and on) and become 2.5.4.10 (organizationName)
/// before the certificate is signed, and likewise in the signed certificate.
struct ManyOrganizations<'a>(&'a KeyPair);

const FIRST_PLACEHOLDER: u8 = 100;
const MAX_GROUPS: usize = 28;

fn placeholder(i: usize) -> DnType {
    DnType::CustomDnType(vec![2, 5, 4, u64::from(FIRST_PLACEHOLDER) + i as u64])
}

/// Object identifier 2.5.4.x, up to x. Names hold no control characters, so it stands nowhere but in front of a name.
const ATTRIBUTE_TYPE: &[u8] = &[0x06, 0x03, 0x55, 0x04];

fn organizations(mut der: Vec<u8>) -> Vec<u8> {
    const ORGANIZATION: u8 = 10;
    let ends: Vec<usize> = der
        .windows(ATTRIBUTE_TYPE.len() + 2)
        .enumerate()
        // 0x0c: a UTF8String follows, as rcgen writes names.
        .filter(|(_, w)| {
            w.starts_with(ATTRIBUTE_TYPE) && (FIRST_PLACEHOLDER..128).contains(&w[4]) && w[5] == 0x0c
        })
        .map(|(at, _)| at + ATTRIBUTE_TYPE.len())
        .collect();
    for at in ends {
        der[at] = ORGANIZATION;
    }
    der
}

impl PublicKeyData for ManyOrganizations<'_> {
    fn der_bytes(&self) -> &[u8] {
        self.0.der_bytes()
    }

    fn algorithm(&self) -> &'static SignatureAlgorithm {
        PublicKeyData::algorithm(self.0)
    }
}

impl SigningKey for ManyOrganizations<'_> {
    fn sign(&self, msg: &[u8]) -> Result<Vec<u8>, rcgen::Error> {
        self.0.sign(&organizations(msg.to_vec()))
    }
}

pub(super) fn pem(der: &[u8]) -> String {
    use base64::{Engine, engine::general_purpose::STANDARD};
    let text = STANDARD.encode(der);
    let mut out = String::from("-----BEGIN CERTIFICATE-----\n");
    for line in text.as_bytes().chunks(64) {
        out.push_str(&String::from_utf8_lossy(line));
        out.push('\n');
    }
    out.push_str("-----END CERTIFICATE-----\n");
    out
}

/// Whether a kept certificate is what `request` asks for, belongs to its key and to the CA, and lasts a while yet.
pub(super) fn still_serves(found: &Identity, request: &Request, ca_pem: &str, now: Timestamp) -> bool {
    judge(found, request, ca_pem, now).unwrap_or(false)
}

fn judge(found: &Identity, request: &Request, ca_pem: &str, now: Timestamp) -> Option<bool> {
    let der = CertificateDer::from_pem_slice(found.cert_pem.as_bytes()).ok()?;
    let (_, cert) = x509_parser::parse_x509_certificate(&der).ok()?;
    let ca_der = CertificateDer::from_pem_slice(ca_pem.as_bytes()).ok()?;
    let (_, ca) = x509_parser::parse_x509_certificate(&ca_der).ok()?;
    let key = KeyPair::from_pem(&found.key_pem).ok()?;
    let mut names = ServingNames::default();
    if let Ok(Some(extension)) = cert.subject_alternative_name() {
        for name in &extension.value.general_names {
            match name {
                GeneralName::DNSName(text) => names.add(text),
                GeneralName::IPAddress([a, b, c, d]) => names.add_ip(IpAddr::from([*a, *b, *c, *d])),
                GeneralName::IPAddress(bytes) => names.add_ip(<[u8; 16]>::try_from(*bytes).ok()?.into()),
                _ => return None,
            };
        }
    }
    let lasts = cert.validity().not_after.timestamp() - now.as_second() > i64::from(RENEW_DAYS) * 86_400;
    Some(
        lasts
            && names == request.names
            && cert.public_key().subject_public_key.data.as_ref() == key.public_key_raw()
            && cert.verify_signature(Some(ca.public_key())).is_ok(),
    )
}

/// Whether a certificate is that of a key.
pub(super) fn certifies(cert_pem: &str, key: &KeyPair) -> bool {
    let Ok(der) = CertificateDer::from_pem_slice(cert_pem.as_bytes()) else { return false };
    x509_parser::parse_x509_certificate(&der)
        .is_ok_and(|(_, cert)| cert.public_key().subject_public_key.data.as_ref() == key.public_key_raw())
}
