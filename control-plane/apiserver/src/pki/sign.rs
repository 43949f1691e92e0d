//! Certificates for keys of others: what a CertificateSigningRequest asks for, signed by the cluster CA.
//!
//! Subject and key are written as they were sent, whatever their form; names, usages and validity are ours to write.

use super::{Pki, PkiError};
use jiff::Timestamp;
use rcgen::SigningKey as _;
use ring::rand::{SecureRandom, SystemRandom};
use rustls_pki_types::{CertificateDer, pem::PemObject};
use skep_api::kinds::certificates::Request;
use std::net::IpAddr;
use yasna::models::ObjectIdentifier;
use yasna::{DERWriter, Tag};

/// The longest a certificate lasts, in seconds: a year.
const LONGEST: i64 = 365 * 24 * 3600;
/// The shortest, in seconds.
const SHORTEST: i64 = 600;
/// How far back its beginning lies, in seconds: clocks of others may be behind.
const BACKDATE: i64 = 300;
/// One that is asked for fewer seconds lasts as many from now; a longer one from its beginning.
const SHORT: i64 = 8 * 3600;

/// ecdsa-with-SHA256 (RFC 5758).
const ECDSA_SHA256: &[u64] = &[1, 2, 840, 10045, 4, 3, 2];
const KEY_USAGE: &[u64] = &[2, 5, 29, 15];
const ALTERNATIVE_NAMES: &[u64] = &[2, 5, 29, 17];
const BASIC_CONSTRAINTS: &[u64] = &[2, 5, 29, 19];
const AUTHORITY_KEY: &[u64] = &[2, 5, 29, 35];
const EXTENDED_USAGE: &[u64] = &[2, 5, 29, 37];

/// Usages that are bits of keyUsage (RFC 5280, 4.2.1.3), by bit.
const BITS: [(&str, usize); 10] = [
    ("signing", 0),
    ("digital signature", 0),
    ("content commitment", 1),
    ("key encipherment", 2),
    ("data encipherment", 3),
    ("key agreement", 4),
    ("cert sign", 5),
    ("crl sign", 6),
    ("encipher only", 7),
    ("decipher only", 8),
];

/// Usages that are purposes of extKeyUsage, in the order in which they are written.
const PURPOSES: [(&str, &[u64]); 13] = [
    ("any", &[2, 5, 29, 37, 0]),
    ("server auth", &[1, 3, 6, 1, 5, 5, 7, 3, 1]),
    ("client auth", &[1, 3, 6, 1, 5, 5, 7, 3, 2]),
    ("code signing", &[1, 3, 6, 1, 5, 5, 7, 3, 3]),
    ("email protection", &[1, 3, 6, 1, 5, 5, 7, 3, 4]),
    ("s/mime", &[1, 3, 6, 1, 5, 5, 7, 3, 4]),
    ("ipsec end system", &[1, 3, 6, 1, 5, 5, 7, 3, 5]),
    ("ipsec tunnel", &[1, 3, 6, 1, 5, 5, 7, 3, 6]),
    ("ipsec user", &[1, 3, 6, 1, 5, 5, 7, 3, 7]),
    ("timestamping", &[1, 3, 6, 1, 5, 5, 7, 3, 8]),
    ("ocsp signing", &[1, 3, 6, 1, 5, 5, 7, 3, 9]),
    ("microsoft sgc", &[1, 3, 6, 1, 4, 1, 311, 10, 3, 3]),
    ("netscape sgc", &[2, 16, 840, 1, 113_730, 4, 1]),
];

/// From when until when a certificate is good that is asked for so many seconds, in seconds since 1970.
fn validity(now: i64, seconds: Option<i64>, ca_ends: i64) -> (i64, i64) {
    let lasts = seconds.unwrap_or(LONGEST).clamp(SHORTEST, LONGEST);
    let ends = if lasts < SHORT { now + lasts } else { now + lasts - BACKDATE };
    (now - BACKDATE, ends.min(ca_ends))
}

impl Pki {
    /// A certificate for a request, in PEM. It lasts as long as is asked for, at most a year and not longer than the CA.
    pub fn certify(
        &self,
        request: &Request,
        usages: &[&str],
        seconds: Option<i64>,
        now: Timestamp,
    ) -> Result<String, PkiError> {
        let unusable = |why: &str| PkiError::Unusable { path: self.dir.join("ca.crt"), why: why.to_owned() };
        if !request.signed {
            return Err(unusable("the request is not signed by its key"));
        }
        if *self.ca_key.algorithm() != rcgen::PKCS_ECDSA_P256_SHA256 {
            return Err(unusable("its key is not of P-256"));
        }
        let der =
            CertificateDer::from_pem_slice(self.ca_pem.as_bytes()).map_err(|_| unusable("it is no PEM"))?;
        let (_, ca) =
            x509_parser::parse_x509_certificate(&der).map_err(|_| unusable("it is no certificate"))?;
        let ca_ends = ca.validity().not_after.timestamp();
        if ca_ends <= now.as_second() {
            return Err(unusable("it has expired"));
        }
        let key_id = ca.extensions().iter().find_map(|extension| match extension.parsed_extension() {
            x509_parser::extensions::ParsedExtension::SubjectKeyIdentifier(id) => Some(id.0.to_vec()),
            _ => None,
        });
        let mut serial = [0_u8; 16];
        SystemRandom::new().fill(&mut serial).map_err(|_| unusable("there is no randomness"))?;
        let (from, until) = validity(now.as_second(), seconds, ca_ends);
        let body = yasna::construct_der(|writer| {
            writer.write_sequence(|writer| {
                writer.next().write_tagged(Tag::context(0), |writer| writer.write_u8(2));
                writer.next().write_bigint_bytes(&serial, true);
                algorithm(writer.next());
                writer.next().write_der(ca.subject().as_raw());
                writer.next().write_sequence(|writer| {
                    writer.next().write_der(&time(from));
                    writer.next().write_der(&time(until));
                });
                writer.next().write_der(&request.subject);
                writer.next().write_der(&request.public_key);
                let all = extensions(request, usages, key_id.as_deref());
                writer.next().write_tagged(Tag::context(3), |writer| {
                    writer.write_sequence(|writer| all.iter().for_each(|one| writer.next().write_der(one)));
                });
            });
        });
        let signature = self.ca_key.sign(&body)?;
        let whole = yasna::construct_der(|writer| {
            writer.write_sequence(|writer| {
                writer.next().write_der(&body);
                algorithm(writer.next());
                writer.next().write_bitvec_bytes(&signature, signature.len() * 8);
            });
        });
        Ok(super::issue::pem(&whole))
    }
}

fn algorithm(writer: DERWriter<'_>) {
    writer.write_sequence(|writer| writer.next().write_oid(&ObjectIdentifier::from_slice(ECDSA_SHA256)));
}

/// An instant (RFC 5280, 4.1.2.5): two digits of the year up to 2049, four after it.
fn time(seconds: i64) -> Vec<u8> {
    let at = Timestamp::from_second(seconds).unwrap_or_default().to_zoned(jiff::tz::TimeZone::UTC);
    let (tag, text) = match at.year() {
        ..=2049 => (0x17, at.strftime("%y%m%d%H%M%SZ").to_string()),
        _ => (0x18, at.strftime("%Y%m%d%H%M%SZ").to_string()),
    };
    let mut out = vec![tag, text.len() as u8];
    out.extend_from_slice(text.as_bytes());
    out
}

fn extension(id: &[u64], critical: bool, value: &[u8]) -> Vec<u8> {
    yasna::construct_der(|writer| {
        writer.write_sequence(|writer| {
            writer.next().write_oid(&ObjectIdentifier::from_slice(id));
            if critical {
                writer.next().write_bool(true);
            }
            writer.next().write_bytes(value);
        });
    })
}

fn extensions(request: &Request, usages: &[&str], key_id: Option<&[u8]>) -> Vec<Vec<u8>> {
    let mut out = Vec::new();
    let bits: Vec<usize> =
        BITS.iter().filter(|(name, _)| usages.contains(name)).map(|(_, bit)| *bit).collect();
    if let Some(last) = bits.iter().max() {
        let mut bytes = vec![0_u8; last / 8 + 1];
        for bit in &bits {
            bytes[bit / 8] |= 0x80 >> (bit % 8);
        }
        let value = yasna::construct_der(|writer| writer.write_bitvec_bytes(&bytes, last + 1));
        out.push(extension(KEY_USAGE, true, &value));
    }
    let mut purposes: Vec<&[u64]> =
        PURPOSES.iter().filter(|(name, _)| usages.contains(name)).map(|(_, id)| *id).collect();
    purposes.dedup();
    if !purposes.is_empty() {
        let value = yasna::construct_der(|writer| {
            writer.write_sequence(|writer| {
                purposes.iter().for_each(|id| writer.next().write_oid(&ObjectIdentifier::from_slice(id)));
            });
        });
        out.push(extension(EXTENDED_USAGE, false, &value));
    }
    // Not a CA, which is what an empty sequence says.
    out.push(extension(
        BASIC_CONSTRAINTS,
        true,
        &yasna::construct_der(|writer| writer.write_sequence(|_| {})),
    ));
    if let Some(id) = key_id {
        let value = yasna::construct_der(|writer| {
            writer.write_sequence(|writer| {
                writer.next().write_tagged_implicit(Tag::context(0), |writer| writer.write_bytes(id));
            });
        });
        out.push(extension(AUTHORITY_KEY, false, &value));
    }
    let named = !(request.dns.is_empty()
        && request.ips.is_empty()
        && request.emails.is_empty()
        && request.uris.is_empty());
    if named {
        let value = yasna::construct_der(|writer| {
            writer.write_sequence(|writer| {
                let texts = [(1, &request.emails), (2, &request.dns), (6, &request.uris)];
                for (tag, text) in
                    texts.iter().flat_map(|(tag, all)| all.iter().map(move |text| (*tag, text)))
                {
                    let write = |writer: DERWriter<'_>| writer.write_bytes(text.as_bytes());
                    writer.next().write_tagged_implicit(Tag::context(tag), write);
                }
                for ip in &request.ips {
                    let bytes = match ip {
                        IpAddr::V4(ip) => ip.octets().to_vec(),
                        IpAddr::V6(ip) => ip.octets().to_vec(),
                    };
                    let write = |writer: DERWriter<'_>| writer.write_bytes(&bytes);
                    writer.next().write_tagged_implicit(Tag::context(7), write);
                }
            });
        });
        let nameless = request.subject == [0x30, 0];
        out.push(extension(ALTERNATIVE_NAMES, nameless, &value));
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use rcgen::{CertificateParams, DnType, KeyPair, PublicKeyData as _};
    use x509_parser::extensions::{GeneralName, ParsedExtension};

    fn now() -> Timestamp {
        "2026-05-01T12:00:00Z".parse().unwrap()
    }

    fn request(algorithm: &'static rcgen::SignatureAlgorithm) -> (Request, KeyPair) {
        let names = vec!["a.example".to_owned(), "10.0.0.1".to_owned()];
        let mut params = CertificateParams::new(names).unwrap();
        params.distinguished_name = rcgen::DistinguishedName::new();
        params.distinguished_name.push(DnType::OrganizationName, "dev");
        params.distinguished_name.push(DnType::CommonName, "ann");
        let key = KeyPair::generate_for(algorithm).unwrap();
        let pem = params.serialize_request(&key).unwrap().pem().unwrap();
        (Request::from_pem(pem.as_bytes()).unwrap(), key)
    }

    #[test]
    fn certificates_are_what_was_asked_for() {
        let dir = tempfile::tempdir().unwrap();
        let pki = Pki::open_or_create(dir.path(), now()).unwrap();
        for algorithm in
            [&rcgen::PKCS_ECDSA_P256_SHA256, &rcgen::PKCS_ECDSA_P384_SHA384, &rcgen::PKCS_ED25519]
        {
            let (request, key) = request(algorithm);
            let usages = ["client auth", "digital signature", "key encipherment"];
            let pem = pki.certify(&request, &usages, Some(3600), now()).unwrap();
            let der = CertificateDer::from_pem_slice(pem.as_bytes()).unwrap();
            let (_, made) = x509_parser::parse_x509_certificate(&der).unwrap();
            let ca = CertificateDer::from_pem_slice(pki.ca_pem().as_bytes()).unwrap();
            let (_, ca) = x509_parser::parse_x509_certificate(&ca).unwrap();
            made.verify_signature(Some(ca.public_key())).unwrap();
            assert_eq!(made.issuer(), ca.subject());
            assert_eq!(made.subject().to_string(), "O=dev, CN=ann");
            assert_eq!(made.public_key().subject_public_key.data, key.der_bytes());
            let usage = made.key_usage().unwrap().unwrap();
            assert!(usage.critical && usage.value.digital_signature() && usage.value.key_encipherment());
            assert!(!usage.value.key_cert_sign());
            let purposes = made.extended_key_usage().unwrap().unwrap().value;
            assert!(purposes.client_auth && !purposes.server_auth);
            assert!(!made.basic_constraints().unwrap().unwrap().value.ca);
            let names = &made.subject_alternative_name().unwrap().unwrap().value.general_names;
            assert_eq!(
                names[..],
                [GeneralName::DNSName("a.example"), GeneralName::IPAddress(&[10, 0, 0, 1])]
            );
            let issuer = made.extensions().iter().any(|extension| {
                matches!(extension.parsed_extension(), ParsedExtension::AuthorityKeyIdentifier(_))
            });
            assert!(issuer);
            assert_eq!(made.validity().not_after.timestamp() - now().as_second(), 3600);
            assert_eq!(crate::auth::certificate_user(&der).unwrap().name, "ann");
        }
    }

    #[test]
    fn nobody_is_certified_for_the_key_of_another() {
        let dir = tempfile::tempdir().unwrap();
        let pki = Pki::open_or_create(dir.path(), now()).unwrap();
        let forged = Request { signed: false, ..request(&rcgen::PKCS_ECDSA_P256_SHA256).0 };
        assert!(pki.certify(&forged, &["client auth"], None, now()).is_err());
    }

    #[test]
    fn certificates_last_as_long_as_they_may() {
        let ca = 10 * LONGEST;
        assert_eq!(validity(1000, None, ca), (700, 1000 + LONGEST - 300));
        assert_eq!(validity(1000, Some(1), ca), (700, 1600));
        assert_eq!(validity(1000, Some(3600), ca), (700, 4600));
        assert_eq!(validity(1000, Some(SHORT), ca), (700, 1000 + SHORT - 300));
        assert_eq!(validity(1000, Some(2 * LONGEST), ca), (700, 1000 + LONGEST - 300));
        assert_eq!(validity(1000, None, 5000), (700, 5000));
    }

    #[test]
    fn instants_are_written_as_rfc_5280_wants() {
        assert_eq!(time(now().as_second()), b"\x17\x0d260501120000Z");
        assert_eq!(
            time("2050-01-01T00:00:00Z".parse::<Timestamp>().unwrap().as_second()),
            b"\x18\x0f20500101000000Z"
        );
    }
}
