//! `AWS_CA_BUNDLE`, with the meaning that the AWS CLI gives it: only the certificates in that file are trusted.

use std::fs;
use std::path::Path;

use aws_sdk_s3::config::SharedHttpClient;
use aws_smithy_http_client::Builder;
use aws_smithy_http_client::tls::rustls_provider::CryptoMode;
use aws_smithy_http_client::tls::{Provider, TlsContext, TrustStore};
use rustls::RootCertStore;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;

use crate::error::LakeError;

/// Returns an HTTP client for the SDK that trusts the certificates in a file and no others.
pub(super) fn client_that_trusts(path: &Path) -> Result<SharedHttpClient, LakeError> {
    let unusable = |cause: String| LakeError::CaBundle { path: path.to_owned(), cause };
    let pem = fs::read(path).map_err(|error| unusable(error.to_string()))?;
    check(&pem).map_err(unusable)?;
    let trust = TrustStore::empty().with_pem_certificate(pem);
    let context = TlsContext::builder().with_trust_store(trust).build();
    let context = context.map_err(|error| unusable(error.to_string()))?;
    Ok(Builder::new().tls_provider(Provider::Rustls(CryptoMode::AwsLc)).tls_context(context).build_https())
}

/// Validates the certificates in advance, because the SDK panics on one that it cannot read.
fn check(pem: &[u8]) -> Result<(), String> {
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(pem) {
        let certificate = certificate.map_err(|error| error.to_string())?;
        roots.add(certificate).map_err(|error| error.to_string())?;
    }
    if roots.is_empty() { Err("it contains no certificate".to_owned()) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_without_certificates_is_refused() {
        let broken = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
        for pem in ["", "nonsense", broken, "-----BEGIN CERTIFICATE-----\nAAAA"] {
            assert!(check(pem.as_bytes()).is_err(), "{pem}");
        }
        assert!(client_that_trusts(Path::new("/no/such")).is_err_and(|error| error.to_string().contains("/no/such")));
    }
}
