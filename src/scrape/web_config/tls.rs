//! `tls_server_config`: certificates, versions, suites and curves, in Go's words for them.
//!
//! Whatever rustls does not have is an error that names it: nobody is told that a suite is on which is not.

use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use rustls::crypto::{CryptoProvider, SupportedKxGroup, ring};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::NoServerSessionStorage;
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::version::{TLS12, TLS13};
use rustls::{Error, InconsistentKeys, NamedGroup, ServerConfig, SupportedCipherSuite, SupportedProtocolVersion};
use tokio_rustls::TlsAcceptor;

use super::clients::{Clients, Policy, parsed};
use super::file::Reader;
use crate::config::fields::{Field, Fields, closest};
use crate::config::yaml::shortened;
use crate::error::ConfigError;

const SETTINGS: [&str; 13] = [
    "cert",
    "key",
    "client_ca",
    "cert_file",
    "key_file",
    "client_ca_file",
    "client_auth_type",
    "client_allowed_sans",
    "min_version",
    "max_version",
    "cipher_suites",
    "prefer_server_cipher_suites",
    "curve_preferences",
];

/// What Go knows besides what rustls has: suites without forward secrecy, or with ciphers that have been broken.
const OTHER_SUITES: [&str; 16] = [
    "TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA",
    "TLS_ECDHE_ECDSA_WITH_AES_256_CBC_SHA",
    "TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA",
    "TLS_ECDHE_RSA_WITH_AES_256_CBC_SHA",
    "TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA256",
    "TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA256",
    "TLS_ECDHE_RSA_WITH_3DES_EDE_CBC_SHA",
    "TLS_ECDHE_ECDSA_WITH_RC4_128_SHA",
    "TLS_ECDHE_RSA_WITH_RC4_128_SHA",
    "TLS_RSA_WITH_RC4_128_SHA",
    "TLS_RSA_WITH_3DES_EDE_CBC_SHA",
    "TLS_RSA_WITH_AES_128_CBC_SHA",
    "TLS_RSA_WITH_AES_256_CBC_SHA",
    "TLS_RSA_WITH_AES_128_CBC_SHA256",
    "TLS_RSA_WITH_AES_128_GCM_SHA256",
    "TLS_RSA_WITH_AES_256_GCM_SHA384",
];

const OTHER_CURVES: [&str; 4] = ["CurveP521", "X25519MLKEM768", "SecP256r1MLKEM768", "SecP384r1MLKEM1024"];

const OTHER_VERSIONS: [&str; 2] = ["TLS10", "TLS11"];

/// HTTP/2 wants one of these of every server that speaks TLS 1.2 (RFC 9113, 9.2.2).
const HTTP2_SUITES: [&str; 2] = ["TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256", "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256"];

/// What speaks TLS.
pub(super) struct Server {
    pub(super) acceptor: TlsAcceptor,
    /// Whether nobody is let in whose certificate is not verified.
    pub(super) authenticates: bool,
}

impl std::fmt::Debug for Server {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Server").field("authenticates", &self.authenticates).finish_non_exhaustive()
    }
}

impl Server {
    /// TLS is on where a certificate, a key, an authority or a type of authentication is given.
    pub(super) fn read(
        reader: &mut Reader<'_>,
        root: &Fields<'_>,
        is_http2: bool,
    ) -> Result<Option<Self>, ConfigError> {
        let Some(section) = reader.decoder.get(root, "tls_server_config").filter(|field| !field.is_null()) else {
            return Ok(None);
        };
        let fields = reader.decoder.fields(&section, &SETTINGS)?;
        let versions = versions(reader, &fields)?;
        let suites = suites(reader, &fields, &versions, is_http2)?;
        let groups = groups(reader, &fields)?;
        let prefers = reader.decoder.boolean(&fields, "prefer_server_cipher_suites")?.unwrap_or(true);
        let policy = match reader.text(&fields, "client_auth_type")? {
            Some((field, _)) => Some(reader.decoder.chosen(&field, &Policy::NAMES)?),
            None => None,
        };
        let certificate = pem(reader, &fields, "cert", "cert_file")?;
        let key = pem(reader, &fields, "key", "key_file")?;
        let authorities = pem(reader, &fields, "client_ca", "client_ca_file")?;
        let names = names(reader, &fields, policy)?;
        if certificate.is_none() && key.is_none() && authorities.is_none() && policy.is_none() {
            return Ok(None);
        }
        let missing = |one: &str| format!("TLS is on without {one} and {one}_file, expected one of them");
        let certificate = certificate.ok_or_else(|| reader.decoder.error_at(&section, missing("cert")))?;
        let key = key.ok_or_else(|| reader.decoder.error_at(&section, missing("key")))?;

        let mut provider = ring::default_provider();
        let ignores_client = prefers && suites.is_some();
        provider.cipher_suites = suites.unwrap_or(provider.cipher_suites);
        provider.kx_groups = groups.unwrap_or(provider.kx_groups);
        let provider = Arc::new(provider);
        let certified = certified(reader, &certificate, &key, &provider)?;
        let clients = clients(reader, policy.unwrap_or(Policy::None), names, authorities, &section, &provider)?;
        let builder =
            ServerConfig::builder_with_provider(provider).with_protocol_versions(&versions).map_err(|error| {
                reader.decoder.error_at(&section, format!("{error}, expected suites of these versions"))
            })?;
        let authenticates = clients.as_ref().is_some_and(Clients::authenticates);
        let asks = clients.is_some();
        let builder = match clients {
            Some(clients) => builder.with_client_cert_verifier(Arc::new(clients)),
            None => builder.with_no_client_auth(),
        };
        let mut config = builder.with_cert_resolver(Arc::new(SingleCertAndKey::from(certified)));
        let protocols: &[&[u8]] = if is_http2 { &[b"h2", b"http/1.1"] } else { &[b"http/1.1"] };
        config.alpn_protocols = protocols.iter().map(|protocol| protocol.to_vec()).collect();
        config.ignore_client_order = ignores_client;
        if asks {
            // Who resumes a session is not asked for a certificate again, which may have expired since.
            config.session_storage = Arc::new(NoServerSessionStorage {});
            config.send_tls13_tickets = 0;
        }
        Ok(Some(Self { acceptor: TlsAcceptor::from(Arc::new(config)), authenticates }))
    }
}

/// What a setting or the file that it names has in PEM.
struct Pem<'n> {
    field: Field<'n>,
    bytes: Vec<u8>,
}

fn pem<'n>(
    reader: &mut Reader<'_>,
    fields: &Fields<'n>,
    text: &str,
    file: &str,
) -> Result<Option<Pem<'n>>, ConfigError> {
    match (reader.text(fields, text)?, reader.text(fields, file)?) {
        (None, None) => Ok(None),
        (Some((field, text)), None) => Ok(Some(Pem { field, bytes: text.into_bytes() })),
        (None, Some((field, name))) => {
            let (_, bytes) = reader.file(&field, &name, "a file in PEM")?;
            Ok(Some(Pem { field, bytes }))
        }
        (Some(_), Some((field, _))) => {
            Err(reader.decoder.error_at(&field, format!("a file beside `{text}`, expected only one of the two")))
        }
    }
}

fn certificates(reader: &Reader<'_>, pem: &Pem<'_>) -> Result<Vec<CertificateDer<'static>>, ConfigError> {
    match CertificateDer::pem_slice_iter(&pem.bytes).collect::<Result<Vec<_>, _>>() {
        Ok(certificates) if !certificates.is_empty() => Ok(certificates),
        // The reader's own error quotes what it found, which may be a key.
        _ => Err(reader.decoder.error_at(&pem.field, "no certificate, expected one or more in PEM")),
    }
}

fn certified(
    reader: &mut Reader<'_>,
    certificate: &Pem<'_>,
    key: &Pem<'_>,
    provider: &CryptoProvider,
) -> Result<CertifiedKey, ConfigError> {
    let chain = certificates(reader, certificate)?;
    if let Some(Ok(leaf)) = chain.first().map(parsed) {
        let validity = leaf.validity();
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        let now = i64::try_from(now).unwrap_or(i64::MAX);
        if validity.not_after.timestamp() < now {
            reader.decoder.warn(&certificate.field, format!("the certificate expired on {}", validity.not_after));
        } else if validity.not_before.timestamp() > now {
            let warning = format!("the certificate is not valid before {}", validity.not_before);
            reader.decoder.warn(&certificate.field, warning);
        }
    }
    let der = PrivateKeyDer::from_pem_slice(&key.bytes).map_err(|_| {
        let problem = "no private key, expected one in PEM as PKCS#8, PKCS#1 or SEC1, and not encrypted";
        reader.decoder.error_at(&key.field, problem)
    })?;
    let signing = provider.key_provider.load_private_key(der).map_err(|_| {
        let problem = "a private key that rustls cannot use, expected RSA of 2048 bits or more, ECDSA on P-256 or P-384, or Ed25519";
        reader.decoder.error_at(&key.field, problem)
    })?;
    let certified = CertifiedKey::new(chain, signing);
    match certified.keys_match() {
        // Of a kind of key that does not show its public half.
        Ok(()) | Err(Error::InconsistentKeys(InconsistentKeys::Unknown)) => Ok(certified),
        Err(Error::InconsistentKeys(_)) => {
            let problem = format!("the key of another certificate, expected that of `{}`", certificate.field.path);
            Err(reader.decoder.error_at(&key.field, problem))
        }
        Err(_) => Err(reader.decoder.error_at(&certificate.field, "not an X.509 certificate, expected one in PEM")),
    }
}

/// The alternative names of which a client must have one.
fn names(reader: &mut Reader<'_>, fields: &Fields<'_>, policy: Option<Policy>) -> Result<Vec<String>, ConfigError> {
    let Some(field) = reader.decoder.get(fields, "client_allowed_sans").filter(|field| !field.is_null()) else {
        return Ok(Vec::new());
    };
    let items = reader.decoder.items(&field, "a list of names")?;
    match policy {
        None | Some(Policy::None) => {
            let problem = "names of clients that are not asked for a certificate, expected `client_auth_type: RequireAndVerifyClientCert`";
            return Err(reader.decoder.error_at(&field, problem));
        }
        Some(policy) if !policy.verifies() => {
            let warning =
                "whoever makes a certificate writes any name into it: only `RequireAndVerifyClientCert` verifies them";
            reader.decoder.warn(&field, warning.to_owned());
        }
        Some(_) => {}
    }
    items.iter().map(|item| reader.decoder.text(item, "a name")).collect()
}

fn clients(
    reader: &mut Reader<'_>,
    policy: Policy,
    names: Vec<String>,
    authorities: Option<Pem<'_>>,
    section: &Field<'_>,
    provider: &Arc<CryptoProvider>,
) -> Result<Option<Clients>, ConfigError> {
    if policy == Policy::None {
        return match authorities {
            Some(pem) => {
                let problem = "authorities of clients that are not asked for a certificate, expected `client_auth_type: RequireAndVerifyClientCert`";
                Err(reader.decoder.error_at(&pem.field, problem))
            }
            None => Ok(None),
        };
    }
    let field = authorities.as_ref().map_or(section, |pem| &pem.field);
    if authorities.is_none() && policy.verifies() {
        let warning = "every certificate of a client is refused, because neither `client_ca` nor `client_ca_file` says who signs them";
        reader.decoder.warn(field, warning.to_owned());
    }
    let certificates = authorities.as_ref().map_or_else(|| Ok(Vec::new()), |pem| certificates(reader, pem))?;
    let clients = Clients::new(policy, names, certificates, provider).map_err(|reason| {
        reader
            .decoder
            .error_at(field, format!("an authority that cannot be used: {reason}, expected certificates in PEM"))
    })?;
    Ok(Some(clients))
}

fn versions(
    reader: &mut Reader<'_>,
    fields: &Fields<'_>,
) -> Result<Vec<&'static SupportedProtocolVersion>, ConfigError> {
    // In this order.
    const NAMES: [&str; 2] = ["TLS12", "TLS13"];
    let mut version = |key: &str| -> Result<Option<(Field<'_>, bool)>, ConfigError> {
        let Some((field, name)) = reader.text(fields, key)? else { return Ok(None) };
        match NAMES.iter().position(|known| *known == name) {
            Some(index) => Ok(Some((field, index == 1))),
            None => {
                let names = Names { of: "TLS version", has: NAMES.map(str::to_owned).to_vec(), lacks: &OTHER_VERSIONS };
                Err(reader.decoder.error_at(&field, names.problem(&[name])))
            }
        }
    };
    let (min, max) = (version("min_version")?, version("max_version")?);
    match (min.is_some_and(|(_, is_13)| is_13), max) {
        (true, Some((field, false))) => {
            Err(reader.decoder.error_at(&field, "TLS12 where `min_version` is TLS13, expected TLS13"))
        }
        (true, _) => Ok(vec![&TLS13]),
        (false, Some((_, false))) => Ok(vec![&TLS12]),
        (false, _) => Ok(vec![&TLS13, &TLS12]),
    }
}

/// The suites that are listed, in their order, and every one of TLS 1.3, in which nothing needs to be chosen.
fn suites(
    reader: &mut Reader<'_>,
    fields: &Fields<'_>,
    versions: &[&SupportedProtocolVersion],
    is_http2: bool,
) -> Result<Option<Vec<SupportedCipherSuite>>, ConfigError> {
    let all = ring::ALL_CIPHER_SUITES;
    // Go calls those of TLS 1.3 like the others.
    let name = |suite: &SupportedCipherSuite| suite.suite().as_str().unwrap_or_default().replace("TLS13_", "TLS_");
    let names = Names { of: "cipher suite", has: all.iter().map(name).collect(), lacks: &OTHER_SUITES };
    let Some((field, listed)) = names.listed(reader, fields, "cipher_suites")? else { return Ok(None) };
    let is_short = !listed.iter().any(|name| HTTP2_SUITES.contains(&name.as_str()));
    if is_http2 && is_short && versions.contains(&&TLS12) {
        let [rsa, ecdsa] = HTTP2_SUITES;
        let problem = format!(
            "no suite that HTTP/2 needs with TLS 1.2, expected {rsa} or {ecdsa} too, `min_version: TLS13`, or `http2: false`"
        );
        return Err(reader.decoder.error_at(&field, problem));
    }
    let mut suites: Vec<_> =
        listed.iter().filter_map(|listed| all.iter().find(|suite| name(suite) == *listed)).copied().collect();
    let others: Vec<_> =
        all.iter().filter(|suite| suite.tls13().is_some() && !suites.contains(suite)).copied().collect();
    suites.extend(others);
    if !suites.iter().any(|suite| versions.contains(&suite.version())) {
        let problem = "no suite of TLS 1.2, which is the only version, expected one";
        return Err(reader.decoder.error_at(&field, problem));
    }
    Ok(Some(suites))
}

/// The curves that are listed. Of these it is the client that prefers one.
fn groups(
    reader: &mut Reader<'_>,
    fields: &Fields<'_>,
) -> Result<Option<Vec<&'static dyn SupportedKxGroup>>, ConfigError> {
    let all = ring::ALL_KX_GROUPS;
    let name = |group: &&'static dyn SupportedKxGroup| match group.name() {
        NamedGroup::secp256r1 => "CurveP256".to_owned(),
        NamedGroup::secp384r1 => "CurveP384".to_owned(),
        other => other.as_str().unwrap_or_default().to_owned(),
    };
    let names = Names { of: "curve", has: all.iter().map(name).collect(), lacks: &OTHER_CURVES };
    let Some((_, listed)) = names.listed(reader, fields, "curve_preferences")? else { return Ok(None) };
    Ok(Some(listed.iter().filter_map(|listed| all.iter().find(|group| name(group) == *listed)).copied().collect()))
}

/// Names that Go has for something.
struct Names<'a> {
    of: &'a str,
    has: Vec<String>,
    lacks: &'a [&'a str],
}

impl Names<'_> {
    /// The names in a list, all of which rustls has; none if the list is empty.
    fn listed<'n>(
        &self,
        reader: &mut Reader<'_>,
        fields: &Fields<'n>,
        key: &str,
    ) -> Result<Option<(Field<'n>, Vec<String>)>, ConfigError> {
        let Some(field) = reader.decoder.get(fields, key).filter(|field| !field.is_null()) else { return Ok(None) };
        let items = reader.decoder.items_or_none(&field, "a list of names")?;
        let mut lacking = Vec::new();
        let mut names = Vec::new();
        for item in &items {
            let name = reader.decoder.text(item, "a name")?;
            if self.has.contains(&name) {
                names.push(name);
            } else if self.lacks.contains(&name.as_str()) {
                lacking.push(name);
            } else {
                return Err(reader.decoder.error_at(item, self.problem(&[name])));
            }
        }
        if !lacking.is_empty() {
            return Err(reader.decoder.error_at(&field, self.problem(&lacking)));
        }
        Ok(if names.is_empty() { None } else { Some((field, names)) })
    }

    /// What is wrong with names that rustls does not have.
    fn problem(&self, names: &[String]) -> String {
        let has: Vec<&str> = self.has.iter().map(String::as_str).collect();
        let expected = format!("expected any of {}", has.join(", "));
        if names.iter().all(|name| self.lacks.contains(&name.as_str())) {
            return format!("{}, which rustls does not have, {expected}", names.join(" and "));
        }
        let name = names.join(" and ");
        let hint = match closest(&name, has.iter().chain(self.lacks)) {
            Some(close) => format!("did you mean {close}? {expected}"),
            None => expected,
        };
        format!("unknown {} \"{}\", {hint}", self.of, shortened(&name))
    }
}
