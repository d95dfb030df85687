//! Whole files, handshakes over them, and what happens when they change.

use std::fmt::Write as _;
use std::fs;
use std::path::PathBuf;
use std::sync::Arc;
use std::task::Poll;

use http::HeaderMap;
use http::header::AUTHORIZATION;
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair, SanType,
    date_time_ymd,
};
use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::version::{TLS12, TLS13};
use rustls::{ClientConfig, HandshakeKind, RootCertStore, SupportedProtocolVersion};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};
use tokio::task::JoinSet;
use tokio_rustls::TlsConnector;

use super::*;

const DEADLINE: Duration = Duration::from_secs(20);

/// Files of one test, an authority among them.
struct Folder {
    dir: TempDir,
    authority: CertifiedIssuer<'static, KeyPair>,
}

impl Folder {
    /// With `server.crt` and `server.key`, and the authority that signed them in `ca.pem`.
    fn new() -> Self {
        let folder = Self { dir: tempfile::tempdir().unwrap(), authority: authority() };
        folder.write("ca.pem", &folder.authority.pem());
        folder.sign("server", ExtendedKeyUsagePurpose::ServerAuth, &["localhost"], |_| {});
        folder
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn write(&self, name: &str, text: &str) {
        fs::write(self.path(name), text).unwrap();
    }

    fn text(&self, name: &str) -> String {
        fs::read_to_string(self.path(name)).unwrap()
    }

    /// Writes a certificate and its key.
    fn sign(
        &self,
        name: &str,
        purpose: ExtendedKeyUsagePurpose,
        hosts: &[&str],
        change: impl FnOnce(&mut CertificateParams),
    ) {
        let hosts: Vec<String> = hosts.iter().map(ToString::to_string).collect();
        let mut params = CertificateParams::new(hosts).unwrap();
        params.extended_key_usages = vec![purpose];
        change(&mut params);
        let key = KeyPair::generate().unwrap();
        let certificate = if params.is_ca == IsCa::NoCa {
            params.signed_by(&key, &self.authority).unwrap()
        } else {
            params.self_signed(&key).unwrap()
        };
        self.write(&format!("{name}.crt"), &certificate.pem());
        self.write(&format!("{name}.key"), &key.serialize_pem());
    }

    fn client(&self, name: &str, hosts: &[&str]) {
        self.sign(name, ExtendedKeyUsagePurpose::ClientAuth, hosts, |_| {});
    }

    /// What `web.yml` with this text says, looked at whenever somebody asks.
    fn read(&self, text: &str) -> Result<WebConfig, ConfigError> {
        self.write("web.yml", text);
        WebConfig::read_every(&self.path("web.yml"), Duration::ZERO)
    }

    /// The error as it is shown, without the folder.
    fn error(&self, text: &str) -> String {
        self.without_folder(&self.read(text).unwrap_err().to_string())
    }

    fn warnings(&self, text: &str) -> Vec<String> {
        self.write("web.yml", text);
        let (_, warnings) = file::read(&self.path("web.yml"), &mut Files::default()).unwrap();
        warnings.iter().map(|warning| self.without_folder(warning)).collect()
    }

    fn without_folder(&self, text: &str) -> String {
        text.replace(&format!("{}/", self.dir.path().display()), "")
    }

    /// The settings of TLS with the server's certificate, and these.
    fn tls(&self, more: &str) -> Result<WebConfig, ConfigError> {
        self.read(&with_tls(more))
    }

    fn trust(&self) -> RootCertStore {
        let mut roots = RootCertStore::empty();
        roots.add(self.authority.der().clone()).unwrap();
        roots
    }

    /// A client that sends this certificate.
    fn connector(&self, certificate: Option<&str>) -> ClientConfig {
        self.connector_of(certificate, ring::default_provider(), &[&TLS13, &TLS12])
    }

    fn connector_of(
        &self,
        certificate: Option<&str>,
        provider: rustls::crypto::CryptoProvider,
        versions: &[&'static SupportedProtocolVersion],
    ) -> ClientConfig {
        let builder = ClientConfig::builder_with_provider(Arc::new(provider))
            .with_protocol_versions(versions)
            .unwrap()
            .with_root_certificates(self.trust());
        match certificate {
            None => builder.with_no_client_auth(),
            Some(name) => {
                let chain = CertificateDer::pem_file_iter(self.path(&format!("{name}.crt"))).unwrap();
                let key = PrivateKeyDer::from_pem_file(self.path(&format!("{name}.key"))).unwrap();
                builder.with_client_auth_cert(chain.map(Result::unwrap).collect(), key).unwrap()
            }
        }
    }
}

fn with_tls(more: &str) -> String {
    let mut text = "tls_server_config:\n  cert_file: server.crt\n  key_file: server.key\n".to_owned();
    for line in more.lines() {
        writeln!(text, "  {line}").unwrap();
    }
    text
}

fn authority() -> CertifiedIssuer<'static, KeyPair> {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
}

/// What both sides agreed on.
#[derive(Debug, PartialEq, Eq)]
struct Agreed {
    version: &'static str,
    suite: &'static str,
    group: &'static str,
    protocol: Option<String>,
    is_resumed: bool,
    /// The leaf that the client saw.
    certificate: Vec<u8>,
}

/// A connection, on which the server says something.
async fn connect(config: &WebConfig, client: &Arc<ClientConfig>) -> Result<Agreed, String> {
    let (here, there) = duplex(1 << 16);
    let acceptor = config.current().await.tls().unwrap();
    let serve = async {
        let mut stream = acceptor.accept(there).await.map_err(|error| format!("server: {error}"))?;
        stream.write_all(b"hello").await.map_err(|error| error.to_string())?;
        stream.shutdown().await.map_err(|error| error.to_string())?;
        let kind = stream.get_ref().1.handshake_kind();
        Ok::<_, String>(kind == Some(HandshakeKind::Resumed))
    };
    let ask = async {
        let connector = TlsConnector::from(Arc::clone(client));
        let name = ServerName::try_from("localhost").unwrap();
        let mut stream = connector.connect(name, here).await.map_err(|error| error.to_string())?;
        let mut said = String::new();
        stream.read_to_string(&mut said).await.map_err(|error| error.to_string())?;
        assert_eq!(said, "hello");
        let session = stream.get_ref().1;
        Ok::<_, String>(Agreed {
            version: session.protocol_version().unwrap().as_str().unwrap(),
            suite: session.negotiated_cipher_suite().unwrap().suite().as_str().unwrap(),
            group: session.negotiated_key_exchange_group().map_or("", |group| group.name().as_str().unwrap()),
            protocol: session.alpn_protocol().map(|name| String::from_utf8(name.to_vec()).unwrap()),
            is_resumed: false,
            certificate: session.peer_certificates().unwrap()[0].to_vec(),
        })
    };
    let (served, asked) = time::timeout(DEADLINE, async { tokio::join!(serve, ask) }).await.unwrap();
    let is_resumed = served?;
    asked.map(|agreed| Agreed { is_resumed, ..agreed })
}

async fn get(config: &WebConfig, client: ClientConfig) -> Result<Agreed, String> {
    connect(config, &Arc::new(client)).await
}

/// What a server answers to something that rustls would not send.
async fn raw(config: &WebConfig, bytes: &[u8]) -> Vec<u8> {
    let (mut here, there): (DuplexStream, _) = duplex(1 << 16);
    let acceptor = config.current().await.tls().unwrap();
    here.write_all(bytes).await.unwrap();
    assert!(time::timeout(DEADLINE, acceptor.accept(there)).await.unwrap().is_err());
    let mut answer = Vec::new();
    here.read_to_end(&mut answer).await.unwrap();
    answer
}

/// The first message of a client of this version that knows one suite.
fn client_hello(version: [u8; 2], suite: [u8; 2]) -> Vec<u8> {
    let extensions = [
        // Groups: X25519 and P-256. Points: uncompressed. Signatures: ECDSA on P-256 with SHA-256.
        &[0, 10, 0, 6, 0, 4, 0, 29, 0, 23][..],
        &[0, 11, 0, 2, 1, 0],
        &[0, 13, 0, 4, 0, 2, 4, 3],
    ]
    .concat();
    let length = [0, u8::try_from(extensions.len()).unwrap()];
    let body = [&version[..], &[7; 32], &[0], &[0, 2], &suite, &[1, 0], &length, &extensions].concat();
    let length = u8::try_from(body.len()).unwrap();
    [&[22, 3, 1, 0, length + 4, 1, 0, 0, length][..], &body].concat()
}

/// A fatal alert, in the record that ends an answer.
fn alert(description: u8) -> [u8; 2] {
    [2, description]
}

/// The headers with credentials.
fn headers(authorization: &str) -> HeaderMap {
    let mut headers = HeaderMap::new();
    headers.insert(AUTHORIZATION, authorization.parse().unwrap());
    headers
}

fn basic(user: &str, password: &str) -> HeaderMap {
    use base64::Engine;
    headers(&format!("Basic {}", base64::engine::general_purpose::STANDARD.encode(format!("{user}:{password}"))))
}

async fn may(config: &WebConfig, headers: &HeaderMap) -> bool {
    time::timeout(DEADLINE, config.current().await.authenticate(headers)).await.unwrap().is_ok()
}

fn hash(password: &str) -> String {
    bcrypt::hash(password, 4).unwrap()
}

#[tokio::test]
async fn a_file_with_nothing_in_it_asks_nobody_for_anything() {
    let folder = Folder::new();
    for text in ["", "\n", "# nothing\n", "---\n", "--- # nothing\n...\n", "{}", "tls_server_config:\nrate_limit: {}\n"]
    {
        let config = folder.read(text).unwrap_or_else(|error| panic!("{text:?}: {error}"));
        assert!(!config.is_tls() && !config.authenticates(), "{text:?}");
        let current = config.current().await;
        assert!(current.tls().is_none() && current.headers().is_empty() && current.limiter().is_none(), "{text:?}");
        assert_eq!(current.authenticate(&HeaderMap::new()).await, Ok(()), "{text:?}");
    }
}

#[test]
fn errors_say_where_and_what_would_be_right() {
    let folder = Folder::new();
    folder.write("empty.pem", "");
    folder.write("half.pem", "-----BEGIN CERTIFICATE-----\nMIIB\n");
    folder.write("short.txt", "# fine\n\n0123456789abcdef\nhunter2\n");
    folder.write("strange.txt", "pass word pass word\n");
    folder.write("none.txt", "# nobody\n\n");
    folder.client("other", &[]);
    let good = hash("secret");
    for (text, expected) in [
        ("tls_sever_config: {}", "web.yml:1:1: tls_sever_config: unknown, did you mean `tls_server_config`?"),
        ("x y", "web.yml:1:1: a string, expected a mapping"),
        ("a: b: c", "web.yml:1:5: a second `:` on the line, expected a new line, or quotes around the value"),
        (
            "http_server_config: {http2: maybe}",
            "web.yml:1:29: http_server_config.http2: a string, expected true or false",
        ),
        (
            "http_server_config:\n  headers:\n    X-Frame-Option: deny\n",
            "web.yml:3:5: http_server_config.headers.X-Frame-Option: unknown, did you mean `X-Frame-Options`?",
        ),
        (
            "http_server_config: {headers: {X-Frame-Options: allow}}",
            "web.yml:1:49: http_server_config.headers.X-Frame-Options: \"allow\", expected deny or sameorigin",
        ),
        (
            "http_server_config: {headers: {Content-Security-Policy: \"a\\nb\"}}",
            "web.yml:1:57: http_server_config.headers.Content-Security-Policy: a line break or another control character, expected one line of text",
        ),
        (
            "rate_limit: {interval: 5, burst: 1}",
            "web.yml:1:24: rate_limit.interval: a number without a unit, expected a duration such as \"1s\" or \"250ms\", or 0 for no limit",
        ),
        (
            "rate_limit: {interval: soon, burst: 1}",
            "web.yml:1:24: rate_limit.interval: \"soon\", expected a duration such as \"1s\" or \"250ms\", or 0 for no limit",
        ),
        (
            "rate_limit: {interval: 1s}",
            "web.yml:1:24: rate_limit.interval: an interval without `burst`, expected also how many requests may come at once, such as 10",
        ),
        ("rate_limit: {interval: 1s, burst: -1}", "web.yml:1:35: rate_limit.burst: -1, expected a number of requests"),
        (
            "basic_auth_users: {ann: hunter2}",
            "web.yml:1:25: basic_auth_users.ann: no bcrypt hash, expected one as `htpasswd -nBC 10 NAME` prints it",
        ),
        (
            &format!("basic_auth_users: {{a:b: {good}}}"),
            "web.yml:1:25: basic_auth_users.a:b: a name with a colon, which ends the name when it is sent, expected another",
        ),
        (
            &format!("basic_auth_users: {{{good}: ann}}"),
            "web.yml:1:19: basic_auth_users: a hash where a name should be, expected `NAME: HASH`",
        ),
        (
            "bearer_token_file: short.txt",
            "short.txt:4:1: bearer_token_file: a token of 7 characters, expected at least 16 that nobody guesses",
        ),
        (
            "bearer_token_file: strange.txt",
            "strange.txt:1:1: bearer_token_file: a token with a character that none has, expected letters, digits and -._~+/ with = at the end",
        ),
        (
            "bearer_token_file: none.txt",
            "web.yml:1:20: bearer_token_file: none.txt has no token, expected one on each line",
        ),
        (
            "bearer_token_file: nowhere.txt",
            "web.yml:1:20: bearer_token_file: cannot read nowhere.txt: entity not found, expected a file with a token on each line",
        ),
        (
            "tls_server_config: {cert_file: server.crt}",
            "web.yml:1:20: tls_server_config: TLS is on without key and key_file, expected one of them",
        ),
        (
            "tls_server_config: {client_auth_type: RequireAnyClientCert}",
            "web.yml:1:20: tls_server_config: TLS is on without cert and cert_file, expected one of them",
        ),
        (
            "tls_server_config: {cert: x, cert_file: server.crt}",
            "web.yml:1:41: tls_server_config.cert_file: a file beside `cert`, expected only one of the two",
        ),
        (
            "tls_server_config: {cert_file: nowhere.crt, key_file: server.key}",
            "web.yml:1:32: tls_server_config.cert_file: cannot read nowhere.crt: entity not found, expected a file in PEM",
        ),
        (
            "tls_server_config: {cert_file: empty.pem, key_file: server.key}",
            "web.yml:1:32: tls_server_config.cert_file: no certificate, expected one or more in PEM",
        ),
        (
            "tls_server_config: {cert_file: half.pem, key_file: server.key}",
            "web.yml:1:32: tls_server_config.cert_file: no certificate, expected one or more in PEM",
        ),
        (
            "tls_server_config: {cert_file: server.crt, key_file: server.crt}",
            "web.yml:1:54: tls_server_config.key_file: no private key, expected one in PEM as PKCS#8, PKCS#1 or SEC1, and not encrypted",
        ),
        (
            "tls_server_config: {cert_file: server.crt, key_file: other.key}",
            "web.yml:1:54: tls_server_config.key_file: the key of another certificate, expected that of `tls_server_config.cert_file`",
        ),
        (
            &with_tls("client_auth_type: Require"),
            "web.yml:4:21: tls_server_config.client_auth_type: \"Require\", expected NoClientCert, RequestClientCert, RequireAnyClientCert, VerifyClientCertIfGiven, RequireAndVerifyClientCert or RequireClientCert",
        ),
        (
            &with_tls("client_ca_file: ca.pem"),
            "web.yml:4:19: tls_server_config.client_ca_file: authorities of clients that are not asked for a certificate, expected `client_auth_type: RequireAndVerifyClientCert`",
        ),
        (
            &with_tls("client_allowed_sans: [ann]"),
            "web.yml:4:24: tls_server_config.client_allowed_sans: names of clients that are not asked for a certificate, expected `client_auth_type: RequireAndVerifyClientCert`",
        ),
        (
            &with_tls("client_auth_type: RequireAndVerifyClientCert\nclient_ca_file: ca.pem\nclient_allowed_sans: []"),
            "web.yml:6:24: tls_server_config.client_allowed_sans: an empty list, expected a list of names",
        ),
        (
            &with_tls("client_auth_type: RequireAndVerifyClientCert\nclient_ca_file: empty.pem"),
            "web.yml:5:19: tls_server_config.client_ca_file: no certificate, expected one or more in PEM",
        ),
        (
            &with_tls("min_version: TLS11"),
            "web.yml:4:16: tls_server_config.min_version: TLS11, which rustls does not have, expected any of TLS12, TLS13",
        ),
        (
            &with_tls("max_version: TLS1"),
            "web.yml:4:16: tls_server_config.max_version: unknown TLS version \"TLS1\", did you mean TLS12? expected any of TLS12, TLS13",
        ),
        (
            &with_tls("min_version: TLS13\nmax_version: TLS12"),
            "web.yml:5:16: tls_server_config.max_version: TLS12 where `min_version` is TLS13, expected TLS13",
        ),
        (
            &with_tls("cipher_suites: [TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA2048]"),
            "web.yml:4:19: tls_server_config.cipher_suites[0]: unknown cipher suite \"TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA2048\", did you mean TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256? expected any of TLS_AES_256_GCM_SHA384, TLS_AES_128_GCM_SHA256, TLS_CHACHA20_POLY1305_SHA256, TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384, TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256, TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256, TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384, TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256, TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256",
        ),
        (
            &with_tls("curve_preferences: [X25519, CurveP521, X25519MLKEM768]"),
            "web.yml:4:22: tls_server_config.curve_preferences: CurveP521 and X25519MLKEM768, which rustls does not have, expected any of X25519, CurveP256, CurveP384",
        ),
        (
            &with_tls("cipher_suites: [TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384]"),
            "web.yml:4:18: tls_server_config.cipher_suites: no suite that HTTP/2 needs with TLS 1.2, expected TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256 or TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256 too, `min_version: TLS13`, or `http2: false`",
        ),
        (
            &(with_tls("cipher_suites: [TLS_AES_128_GCM_SHA256]\nmax_version: TLS12")
                + "http_server_config: {http2: false}\n"),
            "web.yml:4:18: tls_server_config.cipher_suites: no suite of TLS 1.2, which is the only version, expected one",
        ),
    ] {
        assert_eq!(folder.error(text), expected, "{text}");
    }
    let nowhere = WebConfig::read(&folder.path("nowhere.yml")).unwrap_err().to_string();
    assert_eq!(
        folder.without_folder(&nowhere),
        "cannot read nowhere.yml: entity not found, expected a web configuration file"
    );
}

#[test]
fn every_suite_that_rustls_lacks_is_named() {
    let folder = Folder::new();
    let error = folder
        .tls("cipher_suites: [TLS_RSA_WITH_RC4_128_SHA, TLS_AES_128_GCM_SHA256, TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA]")
        .unwrap_err();
    let named = "TLS_RSA_WITH_RC4_128_SHA and TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA, which rustls does not have, expected";
    assert!(error.problem.starts_with(named), "{error}");
}

#[test]
fn no_secret_is_in_an_error_or_in_debug() {
    let folder = Folder::new();
    let key = folder.text("server.key");
    let secret = key.lines().nth(1).unwrap();
    let good = hash("secret");
    folder.write("tokens.txt", "hunter2\n");
    for text in [
        "basic_auth_users: {ann: hunter2}".to_owned(),
        "basic_auth_users: {ann: [hunter2]}".to_owned(),
        format!("basic_auth_users: {{ann: {good}x}}"),
        format!("basic_auth_users: {{{good}: ann}}"),
        format!("basic_auth_users: {{ann: {}}}", good.replace("$2b$04", "$2b$99")),
        "bearer_token_file: tokens.txt".to_owned(),
        format!("tls_server_config:\n  cert_file: server.crt\n  key: {secret}\n"),
        format!("tls_server_config:\n  cert: {secret}\n  key: {secret}\n"),
        // Not indented as it should be.
        format!("tls_server_config:\n  cert_file: server.crt\n  key: |\n{key}"),
        format!("tls_server_config:\n  cert_file: server.crt\n  key: {key}"),
    ] {
        let error = folder.read(&text).unwrap_err();
        for secret in ["hunter2", secret, &good[7..]] {
            assert!(!format!("{error} {error:?}").contains(secret), "{text}: {error}");
        }
    }
    folder.write("tokens.txt", "hunter2hunter2hunter2\n");
    let config =
        folder.read(&(with_tls("") + &format!("bearer_token_file: tokens.txt\nbasic_auth_users: {{ann: {good}}}\n")));
    let shown = format!("{:?}", config.unwrap());
    assert!(shown.contains("Access { users: 1, tokens: 1, .. }"), "{shown}");
    for secret in ["hunter2", secret, &good[7..]] {
        assert!(!shown.contains(secret), "{shown}");
    }
}

#[test]
fn what_is_allowed_and_unwise_is_warned_of() {
    let folder = Folder::new();
    folder.sign("server", ExtendedKeyUsagePurpose::ServerAuth, &["localhost"], |params| {
        params.not_before = date_time_ymd(2020, 1, 1);
        params.not_after = date_time_ymd(2020, 2, 1);
    });
    assert_eq!(
        folder.warnings(
            &(with_tls("client_auth_type: RequireAndVerifyClientCert") + "rate_limit: {interval: 1s, burst: 0}\n")
        ),
        [
            "web.yml:5:24: rate_limit.interval: no request is answered, because `burst` is 0",
            "web.yml:2:14: tls_server_config.cert_file: the certificate expired on Feb  1 00:00:00 2020 +00:00",
            "web.yml:2:3: tls_server_config: every certificate of a client is refused, because neither `client_ca` nor `client_ca_file` says who signs them",
        ]
    );
    folder.sign("server", ExtendedKeyUsagePurpose::ServerAuth, &["localhost"], |params| {
        params.not_before = date_time_ymd(4000, 1, 1);
        params.not_after = date_time_ymd(4001, 1, 1);
    });
    assert_eq!(
        folder.warnings(&with_tls("client_auth_type: RequireAnyClientCert\nclient_allowed_sans: [ann]")),
        [
            "web.yml:5:24: tls_server_config.client_allowed_sans: whoever makes a certificate writes any name into it: only `RequireAndVerifyClientCert` verifies them",
            "web.yml:2:14: tls_server_config.cert_file: the certificate is not valid before Jan  1 00:00:00 4000 +00:00",
        ]
    );
}

#[tokio::test]
async fn headers_are_those_of_the_file() {
    let folder = Folder::new();
    let config = folder
        .read("http_server_config:\n  headers:\n    X-XSS-Protection: 1\n    X-Frame-Options: ''\n    Strict-Transport-Security: max-age=1\n")
        .unwrap();
    let current = config.current().await;
    let headers: Vec<_> =
        current.headers().iter().map(|(name, value)| (name.as_str(), value.to_str().unwrap())).collect();
    assert_eq!(headers, [("strict-transport-security", "max-age=1"), ("x-xss-protection", "1")]);
}

#[tokio::test]
async fn certificates_and_keys_are_taken_from_files_and_from_the_text() {
    let folder = Folder::new();
    let inline =
        |name: &str| folder.text(name).lines().fold("|\n".to_owned(), |text, line| text + "    " + line + "\n");
    let text = format!("tls_server_config:\n  cert: {}  key: {}", inline("server.crt"), inline("server.key"));
    assert!(get(&folder.read(&text).unwrap(), folder.connector(None)).await.is_ok());

    // SEC1 is what PKCS#8 wraps.
    let key = PrivateKeyDer::from_pem_file(folder.path("server.key")).unwrap();
    let der = key.secret_der();
    let start = der.windows(4).position(|window| window[0] == 0x30 && window[2..] == [2, 1] && window[1] > 60).unwrap();
    let sec1 = &der[der.windows(5).position(|window| window[0] == 0x30 && window[2..] == [2, 1, 1]).unwrap_or(start)..];
    use base64::Engine;
    let encoded = base64::engine::general_purpose::STANDARD.encode(sec1);
    folder.write("server.key", &format!("-----BEGIN EC PRIVATE KEY-----\n{encoded}\n-----END EC PRIVATE KEY-----\n"));
    assert!(get(&folder.tls("").unwrap(), folder.connector(None)).await.is_ok());
}

#[tokio::test]
async fn intermediate_certificates_are_sent() {
    let folder = Folder::new();
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.distinguished_name.push(DnType::CommonName, "between");
    let key = KeyPair::generate().unwrap();
    let between = CertifiedIssuer::signed_by(params, key, &folder.authority).unwrap();
    let key = KeyPair::generate().unwrap();
    let leaf = CertificateParams::new(vec!["localhost".to_owned()]).unwrap().signed_by(&key, &between).unwrap();
    folder.write("server.key", &key.serialize_pem());
    folder.write("server.crt", &leaf.pem());
    assert!(get(&folder.tls("").unwrap(), folder.connector(None)).await.unwrap_err().contains("UnknownCA"));
    folder.write("server.crt", &(leaf.pem() + &between.pem()));
    assert!(get(&folder.tls("").unwrap(), folder.connector(None)).await.is_ok());
}

#[tokio::test]
async fn http2_is_offered_first_unless_it_is_off() {
    let folder = Folder::new();
    let client = |protocols: &[&str]| {
        let mut config = folder.connector(None);
        config.alpn_protocols = protocols.iter().map(|name| name.as_bytes().to_vec()).collect();
        config
    };
    let config = folder.tls("").unwrap();
    let agreed = get(&config, client(&["http/1.1", "h2"])).await.unwrap();
    assert_eq!(agreed.protocol.as_deref(), Some("h2"));
    assert_eq!(get(&config, client(&["http/1.1"])).await.unwrap().protocol.as_deref(), Some("http/1.1"));
    assert_eq!(get(&config, client(&[])).await.unwrap().protocol, None);
    let config = folder.read(&(with_tls("") + "http_server_config: {http2: false}\n")).unwrap();
    let agreed = get(&config, client(&["h2", "http/1.1"])).await.unwrap();
    assert_eq!(agreed.protocol.as_deref(), Some("http/1.1"));
}

#[tokio::test]
async fn versions_suites_and_curves_are_those_of_the_file() {
    let folder = Folder::new();
    let of =
        |versions: &[&'static SupportedProtocolVersion]| folder.connector_of(None, ring::default_provider(), versions);
    let agreed = get(&folder.tls("").unwrap(), of(&[&TLS13, &TLS12])).await.unwrap();
    assert_eq!(agreed.version, "TLSv1_3");
    let only_13 = folder.tls("min_version: TLS13").unwrap();
    assert!(get(&only_13, of(&[&TLS12])).await.is_err());
    let only_12 = folder.tls("max_version: TLS12").unwrap();
    assert_eq!(get(&only_12, of(&[&TLS13, &TLS12])).await.unwrap().version, "TLSv1_2");
    assert_eq!(alert(70), raw(&only_12, &client_hello([3, 2], [0xc0, 0x2b])).await[5..]);

    let listed = "max_version: TLS12\ncipher_suites: [TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384, TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256]";
    let mut provider = ring::default_provider();
    provider.cipher_suites = vec![
        ring::cipher_suite::TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256,
        ring::cipher_suite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256,
        ring::cipher_suite::TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384,
    ];
    let client = || folder.connector_of(None, provider.clone(), &[&TLS12]);
    let suite = async |more: &str| get(&folder.tls(more).unwrap(), client()).await.unwrap().suite;
    assert_eq!(suite(listed).await, "TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384");
    let theirs = format!("{listed}\nprefer_server_cipher_suites: false");
    assert_eq!(suite(&theirs).await, "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256");
    // Without a list there is nothing that the server would prefer.
    assert_eq!(suite("max_version: TLS12").await, "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256");

    // The list is about TLS 1.2; every suite of TLS 1.3 is there besides.
    let config = folder.tls("cipher_suites: [TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256]").unwrap();
    let mut provider = ring::default_provider();
    provider.cipher_suites = vec![ring::cipher_suite::TLS13_CHACHA20_POLY1305_SHA256];
    let agreed = get(&config, folder.connector_of(None, provider, &[&TLS13])).await.unwrap();
    assert_eq!(agreed.suite, "TLS13_CHACHA20_POLY1305_SHA256");

    let config = folder.tls("curve_preferences: [CurveP384]").unwrap();
    assert_eq!(get(&config, of(&[&TLS13])).await.unwrap().group, "secp384r1");
    let mut provider = ring::default_provider();
    provider.kx_groups = vec![ring::kx_group::X25519];
    assert!(get(&config, folder.connector_of(None, provider, &[&TLS13])).await.is_err());
}

#[tokio::test]
async fn certificates_of_clients_are_asked_for_and_verified_as_the_type_says() {
    let folder = Folder::new();
    folder.client("ours", &["ann"]);
    let stranger = Folder::new();
    stranger.client("theirs", &[]);
    for suffix in ["crt", "key"] {
        let name = format!("theirs.{suffix}");
        folder.write(&name, &stranger.text(&name));
    }
    folder.sign("old", ExtendedKeyUsagePurpose::ClientAuth, &[], |params| {
        params.not_before = date_time_ymd(2020, 1, 1);
        params.not_after = date_time_ymd(2020, 2, 1);
    });
    // (type, with an authority, whether it authenticates, who gets in: nobody's, ours, theirs, an old one)
    for (policy, has_ca, authenticates, gets_in) in [
        ("NoClientCert", false, false, [true, true, true, true]),
        ("RequestClientCert", true, false, [true, true, true, true]),
        ("RequireAnyClientCert", true, false, [false, true, true, true]),
        ("RequireClientCert", false, false, [false, true, true, true]),
        ("VerifyClientCertIfGiven", true, false, [true, true, false, false]),
        ("VerifyClientCertIfGiven", false, false, [true, false, false, false]),
        ("RequireAndVerifyClientCert", true, true, [false, true, false, false]),
        ("RequireAndVerifyClientCert", false, true, [false, false, false, false]),
    ] {
        let authority = if has_ca { "\nclient_ca_file: ca.pem" } else { "" };
        let config = folder.tls(&format!("client_auth_type: {policy}{authority}")).unwrap();
        assert_eq!(config.authenticates(), authenticates, "{policy}");
        for (name, expected) in [None, Some("ours"), Some("theirs"), Some("old")].into_iter().zip(gets_in) {
            for version in [&TLS12, &TLS13] {
                let mut client = folder.connector_of(name, ring::default_provider(), &[version]);
                // Whatever the server hints at.
                if let Some(name) = name {
                    client.client_auth_cert_resolver = always(&folder, name);
                }
                let result = get(&config, client).await;
                assert_eq!(result.is_ok(), expected, "{policy} {has_ca} {name:?} {version:?}: {result:?}");
            }
        }
    }
}

/// Sends a certificate to everybody.
fn always(folder: &Folder, name: &str) -> Arc<dyn rustls::client::ResolvesClientCert> {
    let chain =
        CertificateDer::pem_file_iter(folder.path(&format!("{name}.crt"))).unwrap().map(Result::unwrap).collect();
    let key = PrivateKeyDer::from_pem_file(folder.path(&format!("{name}.key"))).unwrap();
    let key = ring::default_provider().key_provider.load_private_key(key).unwrap();
    Arc::new(rustls::sign::SingleCertAndKey::from(rustls::sign::CertifiedKey::new(chain, key)))
}

#[tokio::test]
async fn an_authority_may_be_a_client_itself_where_it_could_be_one() {
    let folder = Folder::new();
    let config = |name: &str| {
        folder.tls(&format!("client_auth_type: RequireAndVerifyClientCert\nclient_ca_file: {name}.crt")).unwrap()
    };
    let is_let_in = async |name: &str, purpose, change: fn(&mut CertificateParams)| {
        folder.sign(name, purpose, &[], |params| {
            params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
            change(params);
        });
        get(&config(name), folder.connector(Some(name))).await
    };
    let client = ExtendedKeyUsagePurpose::ClientAuth;
    assert!(is_let_in("client", client.clone(), |_| {}).await.is_ok());
    assert!(is_let_in("all", client.clone(), |params| params.extended_key_usages.clear()).await.is_ok());
    let old = is_let_in("old", client.clone(), |params| params.not_after = date_time_ymd(2020, 1, 1)).await;
    assert!(old.unwrap_err().contains("Expired"));
    let new = is_let_in("new", client, |params| params.not_before = date_time_ymd(4000, 1, 1)).await;
    assert!(new.unwrap_err().contains("NotValidYet"));
    assert!(is_let_in("server2", ExtendedKeyUsagePurpose::ServerAuth, |_| {}).await.is_err());
    // Of the same name, and another's.
    let config = config("client");
    folder.sign("client", ExtendedKeyUsagePurpose::ClientAuth, &[], |params| {
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    });
    config.shared.looked.try_lock().unwrap().found.clear();
    assert!(get(&config, folder.connector(Some("client"))).await.is_err());
}

#[tokio::test]
async fn a_client_needs_one_of_the_allowed_names() {
    let folder = Folder::new();
    folder.sign("client", ExtendedKeyUsagePurpose::ClientAuth, &["ann.example"], |params| {
        params.subject_alt_names.extend([
            SanType::IpAddress("192.0.2.7".parse().unwrap()),
            SanType::IpAddress("2001:db8::7".parse().unwrap()),
            SanType::Rfc822Name("ann@example.org".try_into().unwrap()),
            SanType::URI("spiffe://example.org/ann".try_into().unwrap()),
        ]);
    });
    folder.client("nameless", &[]);
    for policy in ["RequireAndVerifyClientCert", "VerifyClientCertIfGiven"] {
        let config = |names: &str| {
            let more = format!("client_auth_type: {policy}\nclient_ca_file: ca.pem\nclient_allowed_sans: {names}");
            folder.tls(&more).unwrap()
        };
        for name in ["ann.example", "192.0.2.7", "\"2001:db8::7\"", "ann@example.org", "spiffe://example.org/ann"] {
            let config = config(&format!("[other, {name}]"));
            assert!(config.authenticates());
            let result = get(&config, folder.connector(Some("client"))).await;
            assert!(result.is_ok(), "{name}: {result:?}");
            assert!(get(&config, folder.connector(Some("nameless"))).await.is_err(), "{name}");
            assert!(get(&config, folder.connector(None)).await.is_err(), "{name}");
        }
        for name in ["Ann.example", "example", "*.example", "192.0.2.70"] {
            let error = get(&config(&format!("['{name}']")), folder.connector(Some("client"))).await.unwrap_err();
            assert!(error.contains("not valid for name") || error.contains("NotValidForName"), "{name}: {error}");
        }
    }
}

#[tokio::test]
async fn who_has_shown_a_certificate_shows_it_again() {
    let folder = Folder::new();
    folder.client("client", &[]);
    for version in [&TLS12, &TLS13] {
        let plain = folder.tls("").unwrap();
        let client = Arc::new(folder.connector_of(None, ring::default_provider(), &[version]));
        assert!(!connect(&plain, &client).await.unwrap().is_resumed);
        assert!(connect(&plain, &client).await.unwrap().is_resumed, "{version:?}");
        let asking = folder.tls("client_auth_type: RequireAndVerifyClientCert\nclient_ca_file: ca.pem").unwrap();
        let client = Arc::new(folder.connector_of(Some("client"), ring::default_provider(), &[version]));
        for _ in 0..2 {
            assert!(!connect(&asking, &client).await.unwrap().is_resumed, "{version:?}");
        }
    }
}

#[tokio::test]
async fn passwords_and_tokens_let_in_and_nothing_else_does() {
    let folder = Folder::new();
    folder.write("tokens.txt", "# by hand\r\n0123456789abcdef\r\n\r\n  a-._~+/bcdefghij==\n");
    let hashes = [("ann", "$2a$"), ("ben", "$2b$"), ("cleo", "$2y$")];
    let users = hashes.iter().fold("basic_auth_users:\n".to_owned(), |text, (name, version)| {
        text + &format!("  {name}: {}\n", hash(&format!("{name}'s:${{PATH}}")).replace("$2b$", version))
    });
    let config = folder.read(&users).unwrap();
    assert!(config.authenticates() && !config.is_tls());
    for _ in ["cold", "remembered"] {
        for name in ["ann", "ben", "cleo"] {
            assert!(may(&config, &basic(name, &format!("{name}'s:${{PATH}}"))).await, "{name}");
            for (user, password) in [(name, ""), (name, "x"), ("x", &*format!("{name}'s:${{PATH}}")), ("", "")] {
                assert!(!may(&config, &basic(user, password)).await, "{user} {password}");
            }
        }
    }
    let right = basic("ann", "ann's:${PATH}");
    let value = right[AUTHORIZATION].to_str().unwrap();
    for scheme in ["basic ", "BASIC  "] {
        assert!(may(&config, &headers(&value.replace("Basic ", scheme))).await, "{scheme}");
    }
    let mut twice = right.clone();
    twice.append(AUTHORIZATION, right[AUTHORIZATION].clone());
    assert!(!may(&config, &twice).await);
    for wrong in ["", "Basic", "Basic ", "Basic !", "Basic YW5u", "Basic YW5uOg", "Digest x", "Bearer 0123456789abcdef"]
    {
        assert!(!may(&config, &headers(wrong)).await, "{wrong}");
    }
    let challenges = |values: &[&'static str]| {
        Err(Unauthorized::Denied { challenges: values.iter().map(|value| HeaderValue::from_static(value)).collect() })
    };
    let (asks_basic, asks_bearer) = ("Basic realm=\"metrics\", charset=\"UTF-8\"", "Bearer realm=\"metrics\"");
    assert_eq!(config.current().await.authenticate(&HeaderMap::new()).await, challenges(&[asks_basic]));

    let config = folder.read("bearer_token_file: tokens.txt\n").unwrap();
    assert!(config.authenticates());
    assert_eq!(config.current().await.authenticate(&HeaderMap::new()).await, challenges(&[asks_bearer]));
    for right in ["Bearer 0123456789abcdef", "bearer a-._~+/bcdefghij=="] {
        assert!(may(&config, &headers(right)).await, "{right}");
    }
    for wrong in ["Bearer ", "Bearer 0123456789abcde", "Bearer 0123456789abcdef0", "Bearer #", "Bearer by hand", value]
    {
        assert!(!may(&config, &headers(wrong)).await, "{wrong}");
    }

    let config = folder.read(&(users + "bearer_token_file: tokens.txt\n")).unwrap();
    assert!(may(&config, &right).await && may(&config, &headers("Bearer 0123456789abcdef")).await);
    let denied = config.current().await.authenticate(&basic("ann", "x")).await;
    assert_eq!(denied, challenges(&[asks_basic, asks_bearer]));
}

#[tokio::test]
async fn of_a_long_password_72_bytes_count() {
    let folder = Folder::new();
    let long = "x".repeat(71) + "yz";
    let config = folder.read(&format!("basic_auth_users:\n  ann: {}\n", hash(&long))).unwrap();
    assert!(may(&config, &basic("ann", &long)).await);
    assert!(may(&config, &basic("ann", &("x".repeat(71) + "yaaa"))).await);
    assert!(!may(&config, &basic("ann", &"x".repeat(100))).await);
    assert!(!may(&config, &basic("ann", &"x".repeat(71))).await);
    assert!(!may(&config, &basic("ann", &"y".repeat(20_000))).await);
}

#[tokio::test]
async fn users_come_and_go_while_the_endpoint_runs() {
    let folder = Folder::new();
    let users = |users: &[(&str, &str)]| {
        users.iter().fold("basic_auth_users:\n".to_owned(), |text, (name, password)| {
            text + &format!("  {name}: {}\n", hash(password))
        })
    };
    let config = folder.read(&users(&[("ann", "first"), ("ben", "bens")])).unwrap();
    assert!(may(&config, &basic("ann", "first")).await && may(&config, &basic("ben", "bens")).await);
    assert!(!may(&config, &basic("cleo", "cleos")).await);
    folder.write("web.yml", &users(&[("ann", "second"), ("cleo", "cleos")]));
    assert!(!may(&config, &basic("ann", "first")).await && may(&config, &basic("ann", "second")).await);
    assert!(!may(&config, &basic("ben", "bens")).await && may(&config, &basic("cleo", "cleos")).await);
    assert_eq!(config.last_error(), None);
}

#[tokio::test]
async fn a_file_that_is_just_being_written_does_not_open_the_door() {
    let folder = Folder::new();
    let users = format!("basic_auth_users:\n  ann: {}\n", hash("secret"));
    let config = folder.read(&users).unwrap();
    for half in ["", "http_server_config:\n", "basic_auth_users:\n"] {
        folder.write("web.yml", half);
        assert!(!may(&config, &HeaderMap::new()).await && may(&config, &basic("ann", "secret")).await, "{half}");
        assert!(config.last_error().unwrap().problem.starts_with("users and tokens are all taken away"), "{half}");
    }
    folder.write("web.yml", &users);
    assert!(may(&config, &basic("ann", "secret")).await);
    assert_eq!(config.last_error(), None);
    // A token instead is a change like any other.
    folder.write("tokens", "0123456789abcdef\n");
    folder.write("web.yml", "bearer_token_file: tokens\n");
    assert!(!may(&config, &basic("ann", "secret")).await && may(&config, &headers("Bearer 0123456789abcdef")).await);
}

#[tokio::test]
async fn tokens_come_and_go_while_the_endpoint_runs() {
    let folder = Folder::new();
    folder.write("tokens", "0000000000000000\n");
    let config = folder.read("bearer_token_file: tokens\n").unwrap();
    let (old, new) = (headers("Bearer 0000000000000000"), headers("Bearer 1111111111111111"));
    assert!(may(&config, &old).await && !may(&config, &new).await);
    folder.write("tokens", "0000000000000000\n1111111111111111\n");
    assert!(may(&config, &old).await && may(&config, &new).await);
    folder.write("tokens", "1111111111111111\n");
    assert!(!may(&config, &old).await && may(&config, &new).await);
    // Nothing is worse than what it was: who empties the file does not open the door.
    folder.write("tokens", "");
    assert!(!may(&config, &old).await && may(&config, &new).await);
    assert!(config.last_error().unwrap().problem.contains("has no token"));
}

#[tokio::test]
async fn what_is_remembered_outlives_a_change_of_something_else() {
    let folder = Folder::new();
    let text = |interval: &str, header: &str| {
        format!(
            "basic_auth_users:\n  ann: $2b$04$abcdefghijklmnopqrstuuKHQeEDGKZ6yT4MHpBT9X3WbFNn6/WTm\nrate_limit: {{interval: {interval}, burst: 2}}\nhttp_server_config: {{headers: {{X-XSS-Protection: {header}}}}}\n"
        )
    };
    let config = folder.read(&text("1h", "0")).unwrap();
    assert!(!may(&config, &basic("ann", "x")).await);
    let before = config.current().await;
    let now = Instant::now();
    assert!(before.limiter().unwrap().take(now).is_ok());
    folder.write("web.yml", &text("60m", "1"));
    let after = config.current().await;
    assert_eq!(after.headers()[0].1, "1");
    assert_eq!(after.access.remembered_counts(), (0, 1));
    assert!(after.limiter().unwrap().take(now).is_ok() && after.limiter().unwrap().take(now).is_err());
    folder.write("web.yml", &text("2h", "1"));
    assert!(config.current().await.limiter().unwrap().take(now).is_ok());
}

#[tokio::test]
async fn a_new_certificate_is_taken() {
    let folder = Folder::new();
    let config = folder.tls("").unwrap();
    let before = get(&config, folder.connector(None)).await.unwrap().certificate;
    assert_eq!(get(&config, folder.connector(None)).await.unwrap().certificate, before);
    folder.sign("server", ExtendedKeyUsagePurpose::ServerAuth, &["localhost"], |_| {});
    let after = get(&config, folder.connector(None)).await.unwrap().certificate;
    assert_ne!(after, before);
    assert_eq!(after, CertificateDer::from_pem_file(folder.path("server.crt")).unwrap().to_vec());
}

#[cfg(unix)]
#[tokio::test]
async fn a_certificate_behind_links_is_taken_as_kubernetes_swaps_it() {
    use std::os::unix::fs::symlink;

    let folder = Folder::new();
    let version = |name: &str| {
        folder.sign("server", ExtendedKeyUsagePurpose::ServerAuth, &["localhost"], |_| {});
        fs::create_dir(folder.path(name)).unwrap();
        for file in ["server.crt", "server.key"] {
            fs::rename(folder.path(file), folder.path(name).join(file)).unwrap();
        }
    };
    version("..1");
    symlink("..1", folder.path("..data")).unwrap();
    for file in ["server.crt", "server.key"] {
        symlink(format!("..data/{file}"), folder.path(file)).unwrap();
    }
    let config = folder.tls("").unwrap();
    let before = get(&config, folder.connector(None)).await.unwrap().certificate;
    for file in ["server.crt", "server.key"] {
        fs::remove_file(folder.path(file)).unwrap();
    }
    version("..2");
    for file in ["server.crt", "server.key"] {
        symlink(format!("..data/{file}"), folder.path(file)).unwrap();
    }
    assert_eq!(get(&config, folder.connector(None)).await.unwrap().certificate, before);
    symlink("..2", folder.path("..data_tmp")).unwrap();
    fs::rename(folder.path("..data_tmp"), folder.path("..data")).unwrap();
    fs::remove_dir_all(folder.path("..1")).unwrap();
    assert_ne!(get(&config, folder.connector(None)).await.unwrap().certificate, before);
    assert_eq!(config.last_error(), None);
}

#[tokio::test]
async fn what_has_become_wrong_changes_nothing_until_it_is_right() {
    let folder = Folder::new();
    let good = with_tls("client_auth_type: RequireAndVerifyClientCert\nclient_ca_file: ca.pem");
    folder.client("client", &[]);
    let config = folder.read(&good).unwrap();
    let before = get(&config, folder.connector(Some("client"))).await.unwrap();
    assert_eq!(config.last_error(), None);
    let key = folder.text("server.key");

    let still = async |expected: &str| {
        assert_eq!(get(&config, folder.connector(Some("client"))).await.unwrap(), before, "{expected}");
        assert!(get(&config, folder.connector(None)).await.is_err(), "{expected}");
        let error = config.last_error().unwrap();
        assert_eq!(folder.without_folder(&error.to_string()), expected);
    };
    folder.write("web.yml", "tls_server_config: [");
    still("web.yml:1:21: a mistake in the YAML, expected node content").await;
    folder.write("web.yml", "basic_auth_users: {}\n");
    still("web.yml:1:1: tls_server_config: TLS is switched off while the endpoint runs, expected a restart for that")
        .await;
    fs::remove_file(folder.path("web.yml")).unwrap();
    still("cannot read web.yml: entity not found, expected a web configuration file").await;
    folder.write("web.yml", &good);
    folder.write("server.key", &KeyPair::generate().unwrap().serialize_pem());
    still("web.yml:3:13: tls_server_config.key_file: the key of another certificate, expected that of `tls_server_config.cert_file`").await;
    fs::remove_file(folder.path("ca.pem")).unwrap();
    folder.write("server.key", &key);
    still(
        "web.yml:5:19: tls_server_config.client_ca_file: cannot read ca.pem: entity not found, expected a file in PEM",
    )
    .await;

    folder.write("ca.pem", &folder.authority.pem());
    assert!(get(&config, folder.connector(Some("client"))).await.is_ok());
    assert_eq!(config.last_error(), None);
    folder.write("web.yml", &with_tls(""));
    assert!(get(&config, folder.connector(None)).await.is_ok());
}

#[tokio::test]
async fn tls_is_not_switched_on_by_a_change() {
    let folder = Folder::new();
    let config = folder.read("").unwrap();
    folder.write("web.yml", &with_tls(""));
    assert!(config.current().await.tls().is_none());
    assert!(!config.is_tls());
    assert!(config.last_error().unwrap().problem.starts_with("TLS is switched on"));
}

#[tokio::test]
async fn a_wrong_content_is_read_once() {
    let folder = Folder::new();
    let config = folder.read("").unwrap();
    folder.write("web.yml", "x");
    drop(config.current().await);
    assert!(config.last_error().is_some());
    // Would be there again if the same content were read again, and with it the message in the log.
    *config.shared.last_error.lock().unwrap() = None;
    drop(config.current().await);
    assert_eq!(config.last_error(), None);
    folder.write("web.yml", "y");
    drop(config.current().await);
    assert!(config.last_error().is_some());
}

#[tokio::test]
async fn files_are_not_looked_at_more_often_than_they_should_be() {
    let folder = Folder::new();
    folder.write("web.yml", "");
    let config = WebConfig::read_every(&folder.path("web.yml"), Duration::MAX).unwrap();
    folder.write("web.yml", "rate_limit: {interval: 1s, burst: 1}\n");
    assert!(config.current().await.limiter().is_none());
}

#[tokio::test]
async fn a_request_that_goes_away_leaves_the_files_read() {
    let folder = Folder::new();
    let config = folder.read("").unwrap();
    folder.write("web.yml", "rate_limit: {interval: 1s, burst: 1}\n");
    let mut request = Box::pin(config.look_again());
    std::future::poll_fn(|context| {
        // It has begun to read and gets no further.
        let _ = request.as_mut().poll(context);
        Poll::Ready(())
    })
    .await;
    drop(request);
    drop(time::timeout(DEADLINE, config.shared.looked.lock()).await.unwrap());
    assert!(config.shared.current().limiter().is_some());
}

mod corpus;
