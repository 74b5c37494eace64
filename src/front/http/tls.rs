//! TLS of our own: `TLS_CERT`, `TLS_KEY`, and client certificates by `TLS_CLIENT_CA`.

use std::{path::Path, sync::Arc};

use rustls::{
    RootCertStore, ServerConfig,
    crypto::aws_lc_rs,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
    server::WebPkiClientVerifier,
};
use tokio_rustls::TlsAcceptor;

use crate::{config::Config, error::Error};

/// Nothing where no certificate is set.
///
/// # Errors
/// `config_invalid` for a file that cannot be used.
pub(super) fn acceptor(config: &Config) -> Result<Option<TlsAcceptor>, Error> {
    let (Some(certificate), Some(key)) = (&*config.tls_cert, &*config.tls_key) else { return Ok(None) };
    let provider = Arc::new(aws_lc_rs::default_provider());
    let chain = certificates("TLS_CERT", certificate)?;
    let key = PrivateKeyDer::from_pem_file(key).map_err(|_| {
        Error::config("TLS_KEY", "there is no private key in PEM in that file, or it cannot be read.")
    })?;
    let builder = ServerConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()
        .map_err(|_| Error::Internal { what: "TLS has no versions" })?;
    let builder = match &*config.tls_client_ca {
        None => builder.with_no_client_auth(),
        Some(path) => {
            let mut roots = RootCertStore::empty();
            for authority in certificates("TLS_CLIENT_CA", path)? {
                roots.add(authority).map_err(|_| {
                    Error::config("TLS_CLIENT_CA", "it holds a certificate that is no authority's.")
                })?;
            }
            // Callers with another kind of credential need no certificate.
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider)
                .allow_unauthenticated()
                .build()
                .map_err(|_| Error::config("TLS_CLIENT_CA", "it holds no certificate."))?;
            builder.with_client_cert_verifier(verifier)
        }
    };
    let mut tls = builder.with_single_cert(chain, key).map_err(|_| {
        Error::config("TLS_KEY", "it is not the key of TLS_CERT. Give the two that belong together.")
    })?;
    tls.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Some(TlsAcceptor::from(Arc::new(tls))))
}

fn certificates(setting: &'static str, path: &Path) -> Result<Vec<CertificateDer<'static>>, Error> {
    let unusable =
        || Error::config(setting, "there is no certificate in PEM in that file, or it cannot be read.");
    let read: Result<Vec<_>, _> = CertificateDer::pem_file_iter(path).map_err(|_| unusable())?.collect();
    read.ok().filter(|chain| !chain.is_empty()).ok_or_else(unusable)
}
