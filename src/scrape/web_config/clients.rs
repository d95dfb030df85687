//! Who connects: certificates of clients, and the names in them.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use rustls::client::danger::HandshakeSignatureValid;
use rustls::crypto::{CryptoProvider, WebPkiSupportedAlgorithms, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, UnixTime};
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{CertificateError, DigitallySignedStruct, DistinguishedName, Error, RootCertStore, SignatureScheme};
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::FromDer;
use x509_parser::time::ASN1Time;

/// Which certificates are taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Policy {
    None,
    Request,
    RequireAny,
    VerifyIfGiven,
    RequireAndVerify,
}

impl Policy {
    pub(super) const NAMES: [(&'static str, Self); 6] = [
        ("NoClientCert", Self::None),
        ("RequestClientCert", Self::Request),
        ("RequireAnyClientCert", Self::RequireAny),
        ("VerifyClientCertIfGiven", Self::VerifyIfGiven),
        ("RequireAndVerifyClientCert", Self::RequireAndVerify),
        // What the one above it was called once.
        ("RequireClientCert", Self::RequireAny),
    ];

    pub(super) fn verifies(self) -> bool {
        matches!(self, Self::VerifyIfGiven | Self::RequireAndVerify)
    }
}

/// Takes certificates of clients, or refuses them.
pub(super) struct Clients {
    policy: Policy,
    /// The names of which a certificate must have one; without any all are taken.
    names: Vec<String>,
    authorities: Vec<CertificateDer<'static>>,
    /// Nothing where there are no authorities.
    chains: Option<Arc<dyn ClientCertVerifier>>,
    subjects: Vec<DistinguishedName>,
    algorithms: WebPkiSupportedAlgorithms,
}

impl fmt::Debug for Clients {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Clients").field("policy", &self.policy).field("names", &self.names).finish_non_exhaustive()
    }
}

impl Clients {
    /// # Errors
    ///
    /// When an authority's certificate cannot be used.
    pub(super) fn new(
        policy: Policy,
        names: Vec<String>,
        authorities: Vec<CertificateDer<'static>>,
        provider: &Arc<CryptoProvider>,
    ) -> Result<Self, String> {
        let mut roots = RootCertStore::empty();
        for certificate in &authorities {
            roots.add(certificate.clone()).map_err(|error| error.to_string())?;
        }
        let subjects = roots.subjects();
        let chains = match roots.is_empty() {
            true => None,
            false => {
                let builder = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(provider));
                Some(builder.build().map_err(|error| error.to_string())?)
            }
        };
        let algorithms = provider.signature_verification_algorithms;
        Ok(Self { policy, names, authorities, chains, subjects, algorithms })
    }

    /// Whether nobody is let in whose certificate is not verified.
    pub(super) fn authenticates(&self) -> bool {
        self.policy.verifies() && self.client_auth_mandatory()
    }

    fn verify(
        &self,
        certificate: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<(), Error> {
        // A certificate that stands itself in the file of authorities needs nobody else to vouch for it. A chain of that
        // one alone is none to rustls, which wants no authority as a client.
        if self.authorities.contains(certificate) {
            return is_usable(certificate, now).map_err(Error::InvalidCertificate);
        }
        let chains = self.chains.as_ref().ok_or(Error::InvalidCertificate(CertificateError::UnknownIssuer))?;
        chains.verify_client_cert(certificate, intermediates, now).map(drop)
    }
}

impl ClientCertVerifier for Clients {
    fn client_auth_mandatory(&self) -> bool {
        // Without a certificate there is no name that could be among those allowed.
        matches!(self.policy, Policy::RequireAny | Policy::RequireAndVerify) || !self.names.is_empty()
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &self.subjects
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        if self.policy.verifies() {
            self.verify(end_entity, intermediates, now)?;
        }
        if !self.names.is_empty() {
            let names =
                names(&parsed(end_entity).map_err(Error::InvalidCertificate)?).map_err(Error::InvalidCertificate)?;
            if !names.iter().any(|name| self.names.contains(name)) {
                return Err(Error::InvalidCertificate(CertificateError::NotValidForName));
            }
        }
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, cert, dss, &self.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, cert, dss, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}

pub(super) fn parsed<'a>(certificate: &'a CertificateDer<'_>) -> Result<X509Certificate<'a>, CertificateError> {
    match X509Certificate::from_der(certificate) {
        Ok((_, parsed)) => Ok(parsed),
        Err(_) => Err(CertificateError::BadEncoding),
    }
}

/// Whether a certificate is one of a client, today.
fn is_usable(certificate: &CertificateDer<'_>, now: UnixTime) -> Result<(), CertificateError> {
    let certificate = parsed(certificate)?;
    let now = i64::try_from(now.as_secs()).ok().and_then(|now| ASN1Time::from_timestamp(now).ok());
    let now = now.ok_or(CertificateError::Expired)?;
    let validity = certificate.validity();
    if now < validity.not_before {
        return Err(CertificateError::NotValidYet);
    }
    if now > validity.not_after {
        return Err(CertificateError::Expired);
    }
    match certificate.extended_key_usage() {
        Ok(None) => Ok(()),
        Ok(Some(usage)) if usage.value.any || usage.value.client_auth => Ok(()),
        Ok(Some(_)) => Err(CertificateError::InvalidPurpose),
        Err(_) => Err(CertificateError::BadEncoding),
    }
}

/// The alternative names, as people write them.
fn names(certificate: &X509Certificate<'_>) -> Result<Vec<String>, CertificateError> {
    let Some(names) = certificate.subject_alternative_name().map_err(|_| CertificateError::BadEncoding)? else {
        return Ok(Vec::new());
    };
    let name = |name: &GeneralName<'_>| match name {
        GeneralName::DNSName(name) | GeneralName::RFC822Name(name) | GeneralName::URI(name) => Some((*name).to_owned()),
        GeneralName::IPAddress(bytes) => address(bytes).map(|address| address.to_string()),
        _ => None,
    };
    Ok(names.value.general_names.iter().filter_map(name).collect())
}

fn address(bytes: &[u8]) -> Option<IpAddr> {
    let v4 = <[u8; 4]>::try_from(bytes).map(Ipv4Addr::from).map(IpAddr::V4);
    v4.or_else(|_| <[u8; 16]>::try_from(bytes).map(Ipv6Addr::from).map(IpAddr::V6)).ok().map(|ip| ip.to_canonical())
}
