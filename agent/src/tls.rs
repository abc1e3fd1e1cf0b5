//! TLS by rustls with ring: what a listener shows and whom it lets in, what a sender trusts and shows.
//!
//! Files are PEM, leaf certificate first, and are read again without a restart ([`Acceptor::reload`]); one that is wrong
//! changes nothing then. TLS 1.2 and 1.3, rustls' own choice of ciphers. Certificates that were revoked are not looked
//! up: give short-lived ones, or take the authority away.
//!
//! No cryptography is installed for the whole process: each configuration names it.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::connect::HttpConnector;
use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{VerifierBuilderError, WebPkiClientVerifier};
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use serde::{Deserialize, Serialize};

#[cfg(test)]
pub(crate) mod testing;

/// A bundle of all public authorities is a fifth of it.
const MAX_FILE_BYTES: u64 = 1 << 20;

/// What a listener needs: `[http.tls]`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Server {
    /// Its certificate and those between it and its authority. Empty: no TLS.
    pub cert: PathBuf,
    /// The certificate's private key.
    pub key: PathBuf,
    /// Authorities of clients: with one, only clients that show a certificate of theirs get in.
    pub client_ca: PathBuf,
}

/// What a sender needs: `[forward.tls]`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Client {
    /// Authorities that are trusted; empty means the system's.
    pub ca: PathBuf,
    /// The certificate that is shown to whoever asks for one; empty means none.
    pub cert: PathBuf,
    /// Its private key.
    pub key: PathBuf,
}

/// Why there is no TLS.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file cannot be read.
    #[error("{}", file.display())]
    Read {
        /// The file.
        file: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// A file holds something else.
    #[error("{}: {words}", file.display())]
    Content {
        /// The file.
        file: PathBuf,
        /// What is wrong with it.
        words: String,
    },
    /// One of two files that belong together is missing.
    #[error("{0}")]
    Half(&'static str),
    /// The system has no authorities.
    #[error("the system has no certificates of authorities: set ca ({0})")]
    NoSystem(String),
    /// The certificate and the key do not go together, or neither is of a known kind.
    #[error("{}: not with this key", cert.display())]
    Pair {
        /// The certificate.
        cert: PathBuf,
        /// Why.
        #[source]
        source: rustls::Error,
    },
    /// The library refuses.
    #[error("no TLS with these settings")]
    Rustls(#[from] rustls::Error),
    /// The library refuses the authorities of clients.
    #[error("client_ca is of no use")]
    Verifier(#[from] VerifierBuilderError),
}

impl Server {
    /// There is to be TLS.
    ///
    /// # Errors
    /// A key or an authority without a certificate, a certificate without a key.
    pub fn wanted(&self) -> Result<bool, Error> {
        match (is_set(&self.cert), is_set(&self.key), is_set(&self.client_ca)) {
            (true, true, _) => Ok(true),
            (false, false, false) => Ok(false),
            (false, false, true) => Err(Error::Half("client_ca needs cert and key beside it")),
            _ => Err(Error::Half("cert and key go together")),
        }
    }

    /// The files that it is made of.
    pub fn files(&self) -> Vec<PathBuf> {
        set([&self.cert, &self.key, &self.client_ca])
    }

    fn read(&self) -> Result<ServerConfig, Error> {
        let builder =
            ServerConfig::builder_with_provider(provider()).with_safe_default_protocol_versions()?;
        let builder = if is_set(&self.client_ca) {
            let roots = Arc::new(authorities(&self.client_ca)?);
            let verifier = WebPkiClientVerifier::builder_with_provider(roots, provider()).build()?;
            builder.with_client_cert_verifier(verifier)
        } else {
            builder.with_no_client_auth()
        };
        let (chain, key) = (certificates(&self.cert)?, private_key(&self.key)?);
        let pair = |source| Error::Pair { cert: self.cert.clone(), source };
        let mut config = builder.with_single_cert(chain, key).map_err(pair)?;
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(config)
    }
}

impl Client {
    /// Something of it is set.
    pub fn is_set(&self) -> bool {
        *self != Self::default()
    }

    /// The files that it is made of.
    pub fn files(&self) -> Vec<PathBuf> {
        set([&self.ca, &self.cert, &self.key])
    }

    /// Reads the files.
    ///
    /// # Errors
    /// [`Error`].
    pub fn read(&self) -> Result<ClientConfig, Error> {
        let roots = if is_set(&self.ca) { authorities(&self.ca)? } else { system()? };
        let builder = ClientConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()?
            .with_root_certificates(roots);
        match (is_set(&self.cert), is_set(&self.key)) {
            (false, false) => Ok(builder.with_no_client_auth()),
            (true, true) => {
                let (chain, key) = (certificates(&self.cert)?, private_key(&self.key)?);
                let pair = |source| Error::Pair { cert: self.cert.clone(), source };
                builder.with_client_auth_cert(chain, key).map_err(pair)
            }
            _ => Err(Error::Half("cert and key go together")),
        }
    }
}

impl Client {
    /// Connections to one server, with TLS or without; the files are read now.
    ///
    /// # Errors
    /// [`Error`].
    pub fn connector(
        &self,
        over_tls: bool,
        timeout: Duration,
    ) -> Result<HttpsConnector<HttpConnector>, Error> {
        let tls = if over_tls { self.read()? } else { trusting_nobody()? };
        let mut tcp = HttpConnector::new();
        tcp.enforce_http(false);
        tcp.set_nodelay(true);
        tcp.set_connect_timeout(Some(timeout));
        let builder = HttpsConnectorBuilder::new().with_tls_config(tls);
        Ok(builder.https_or_http().enable_http1().wrap_connector(tcp))
    }
}

/// For connections that use no TLS and take the same way.
fn trusting_nobody() -> Result<ClientConfig, Error> {
    let builder = ClientConfig::builder_with_provider(provider()).with_safe_default_protocol_versions()?;
    Ok(builder.with_root_certificates(RootCertStore::empty()).with_no_client_auth())
}

/// What takes connections in; clones share it.
#[derive(Clone, Debug)]
pub struct Acceptor {
    files: Arc<Server>,
    config: Arc<ArcSwap<ServerConfig>>,
}

impl Acceptor {
    /// From its files, or none where there is to be no TLS.
    ///
    /// # Errors
    /// [`Error`].
    pub fn new(server: &Server) -> Result<Option<Self>, Error> {
        if !server.wanted()? {
            return Ok(None);
        }
        let config = Arc::new(ArcSwap::from_pointee(server.read()?));
        Ok(Some(Self { files: Arc::new(server.clone()), config }))
    }

    /// Reads the files again; connections that stand keep what they began with.
    ///
    /// # Errors
    /// As for [`Acceptor::new`]; then everything stays as it was.
    pub fn reload(&self) -> Result<(), Error> {
        // A new configuration has no sessions to resume: whoever comes back is looked at anew.
        self.config.store(Arc::new(self.files.read()?));
        Ok(())
    }

    /// The files that it is made of.
    pub fn files(&self) -> Vec<PathBuf> {
        self.files.files()
    }

    /// For one connection.
    pub fn accept<S>(&self, stream: S) -> tokio_rustls::Accept<S>
    where
        S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin,
    {
        tokio_rustls::TlsAcceptor::from(self.config.load_full()).accept(stream)
    }
}

/// An error and what is behind it, in one line.
pub fn words(error: &Error) -> String {
    let source = std::error::Error::source(error);
    source.map_or_else(|| error.to_string(), |source| format!("{error}: {source}"))
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(ring::default_provider())
}

fn is_set(path: &Path) -> bool {
    !path.as_os_str().is_empty()
}

fn set(files: [&PathBuf; 3]) -> Vec<PathBuf> {
    files.into_iter().filter(|file| is_set(file)).cloned().collect()
}

fn read(file: &Path) -> Result<Vec<u8>, Error> {
    let failed = |source| Error::Read { file: file.to_owned(), source };
    let size_bytes = std::fs::metadata(file).map_err(failed)?.len();
    if size_bytes > MAX_FILE_BYTES {
        return Err(content(file, format!("larger than {MAX_FILE_BYTES} bytes")));
    }
    std::fs::read(file).map_err(failed)
}

fn content(file: &Path, words: impl Into<String>) -> Error {
    Error::Content { file: file.to_owned(), words: words.into() }
}

fn certificates(file: &Path) -> Result<Vec<CertificateDer<'static>>, Error> {
    let pem = read(file)?;
    let all: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&pem).collect();
    let all = all.map_err(|error| content(file, error.to_string()))?;
    if all.is_empty() { Err(content(file, "no certificate in PEM")) } else { Ok(all) }
}

fn private_key(file: &Path) -> Result<PrivateKeyDer<'static>, Error> {
    // The library's words name the kind of the fault and nothing of the key.
    PrivateKeyDer::from_pem_slice(&read(file)?).map_err(|_| content(file, "no private key in PEM"))
}

fn authorities(file: &Path) -> Result<RootCertStore, Error> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates(file)? {
        roots.add(certificate).map_err(|error| content(file, error.to_string()))?;
    }
    Ok(roots)
}

fn system() -> Result<RootCertStore, Error> {
    let found = rustls_native_certs::load_native_certs();
    let mut roots = RootCertStore::empty();
    let (taken, _odd) = roots.add_parsable_certificates(found.certs);
    let words = || found.errors.first().map_or_else(|| "none found".to_owned(), ToString::to_string);
    if taken == 0 { Err(Error::NoSystem(words())) } else { Ok(roots) }
}

#[cfg(test)]
mod tests;
