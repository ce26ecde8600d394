//! The HTTP client of the SDK: TLS by rustls with ring, proxies from the environment, trust from the system or `AWS_CA_BUNDLE`.

use std::fs;
use std::path::Path;

use aws_sdk_s3::config::SharedHttpClient;
use aws_smithy_http_client::proxy::ProxyConfig;
use aws_smithy_http_client::tls::rustls_provider::CryptoMode;
use aws_smithy_http_client::tls::{Provider, TlsContext, TrustStore};
use aws_smithy_http_client::{Builder, ConnectorBuilder};
use rustls::RootCertStore;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;

use crate::error::LakeError;

/// Returns an HTTP client that trusts the system's certificates.
pub(super) fn client() -> SharedHttpClient {
    client_with(TlsContext::default(), ProxyConfig::from_env())
}

/// Returns an HTTP client for the local stack, which no proxy can reach.
pub(super) fn client_without_proxy() -> SharedHttpClient {
    client_with(TlsContext::default(), ProxyConfig::disabled())
}

/// Returns an HTTP client that trusts only the certificates in a file, as `AWS_CA_BUNDLE` does in the AWS CLI.
pub(super) fn client_that_trusts(path: &Path) -> Result<SharedHttpClient, LakeError> {
    let unusable = |cause: String| LakeError::CaBundle { path: path.to_owned(), cause };
    let pem = fs::read(path).map_err(|error| unusable(error.to_string()))?;
    check(&pem).map_err(unusable)?;
    let trust = TrustStore::empty().with_pem_certificate(pem);
    let context = TlsContext::builder().with_trust_store(trust).build();
    let context = context.map_err(|error| unusable(error.to_string()))?;
    Ok(client_with(context, ProxyConfig::from_env()))
}

/// Builds what the SDK's `default-https-client` builds, with ring, which compiles in a fraction of aws-lc's time.
fn client_with(context: TlsContext, proxy: ProxyConfig) -> SharedHttpClient {
    Builder::new().build_with_connector_fn(move |settings, components| {
        let mut connector = ConnectorBuilder::default()
            .tls_provider(Provider::Rustls(CryptoMode::Ring))
            .tls_context(context.clone())
            .proxy_config(proxy.clone());
        connector.set_connector_settings(settings.cloned());
        if let Some(components) = components {
            connector.set_sleep_impl(components.sleep_impl());
        }
        connector.build()
    })
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
