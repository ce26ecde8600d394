//! Certificate authority and certificates for test servers and clients, in PEM format.

use openssl::asn1::Asn1Time;
use openssl::bn::{BigNum, MsbOption};
use openssl::ec::{EcGroup, EcKey};
use openssl::error::ErrorStack;
use openssl::hash::MessageDigest;
use openssl::nid::Nid;
use openssl::pkey::{PKey, Private};
use openssl::symm::Cipher;
use openssl::x509::extension::{BasicConstraints, ExtendedKeyUsage, KeyUsage, SubjectAlternativeName};
use openssl::x509::{X509, X509Builder, X509Name, X509NameBuilder};

use crate::error::StackError;

const VALID_DAYS: u32 = 2;

/// A self-signed certificate authority.
#[derive(Debug, Clone)]
pub struct Authority {
    certificate: X509,
    key: PKey<Private>,
}

/// A certificate with its private key.
#[derive(Debug, Clone)]
pub struct Identity {
    certificate: X509,
    key: PKey<Private>,
}

impl Authority {
    /// Creates an authority with the given common name.
    pub fn new(name: &str) -> Result<Self, StackError> {
        let issue = || {
            let key = new_key()?;
            let mut builder = builder(name, &key)?;
            builder.set_issuer_name(common_name(name)?.as_ref())?;
            builder.append_extension(BasicConstraints::new().critical().ca().build()?)?;
            builder.append_extension(KeyUsage::new().critical().key_cert_sign().crl_sign().build()?)?;
            builder.sign(&key, MessageDigest::sha256())?;
            Ok(Self { certificate: builder.build(), key })
        };
        issue().map_err(StackError::Certificate)
    }

    /// Issues a certificate for a server or client. The first name is its common name; all names are subject
    /// alternative names, of type IP address if they parse as one.
    pub fn issue(&self, names: &[&str]) -> Result<Identity, StackError> {
        let issue = || {
            let key = new_key()?;
            let mut builder = builder(names.first().unwrap_or(&"nobody"), &key)?;
            builder.set_issuer_name(self.certificate.subject_name())?;
            let mut alternatives = SubjectAlternativeName::new();
            for name in names {
                match name.parse::<std::net::IpAddr>() {
                    Ok(_) => alternatives.ip(name),
                    Err(_) => alternatives.dns(name),
                };
            }
            let alternatives = alternatives.build(&builder.x509v3_context(Some(&self.certificate), None))?;
            builder.append_extension(alternatives)?;
            builder.append_extension(ExtendedKeyUsage::new().server_auth().client_auth().build()?)?;
            builder.sign(&self.key, MessageDigest::sha256())?;
            Ok(Identity { certificate: builder.build(), key })
        };
        issue().map_err(StackError::Certificate)
    }

    /// Returns the authority's certificate, for a trust store.
    pub fn certificate(&self) -> Result<String, StackError> {
        pem(self.certificate.to_pem())
    }
}

impl Identity {
    /// Returns the certificate.
    pub fn certificate(&self) -> Result<String, StackError> {
        pem(self.certificate.to_pem())
    }

    /// Returns the private key in PKCS #8 format.
    pub fn key(&self) -> Result<String, StackError> {
        pem(self.key.private_key_to_pem_pkcs8())
    }

    /// Returns the private key in PKCS #8 format, encrypted with AES-256.
    pub fn encrypted_key(&self, password: &str) -> Result<String, StackError> {
        pem(self.key.private_key_to_pem_pkcs8_passphrase(Cipher::aes_256_cbc(), password.as_bytes()))
    }
}

fn pem(made: Result<Vec<u8>, ErrorStack>) -> Result<String, StackError> {
    made.map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).map_err(StackError::Certificate)
}

fn new_key() -> Result<PKey<Private>, ErrorStack> {
    let curve = EcGroup::from_curve_name(Nid::X9_62_PRIME256V1)?;
    PKey::from_ec_key(EcKey::generate(&curve)?)
}

/// Returns a builder with the fields common to both kinds; the caller adds the issuer, the extensions and the
/// signature.
fn builder(name: &str, key: &PKey<Private>) -> Result<X509Builder, ErrorStack> {
    let mut serial = BigNum::new()?;
    serial.rand(127, MsbOption::MAYBE_ZERO, false)?;
    let mut builder = X509::builder()?;
    builder.set_version(2)?;
    builder.set_serial_number(serial.to_asn1_integer()?.as_ref())?;
    builder.set_subject_name(common_name(name)?.as_ref())?;
    builder.set_pubkey(key)?;
    builder.set_not_before(Asn1Time::days_from_now(0)?.as_ref())?;
    builder.set_not_after(Asn1Time::days_from_now(VALID_DAYS)?.as_ref())?;
    Ok(builder)
}

fn common_name(name: &str) -> Result<X509Name, ErrorStack> {
    let mut builder: X509NameBuilder = X509Name::builder()?;
    builder.append_entry_by_nid(Nid::COMMONNAME, name)?;
    Ok(builder.build())
}
