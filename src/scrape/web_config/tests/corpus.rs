//! exporter-toolkit's own files and tests, which are no part of this repository: `BAROGRAPH_CORPORA=folder cargo test
//! --all-features --lib web_config -- --ignored` reads them from the folder's `web-config`.
//!
//! Its keys are left out of the tables, so certificates of the same names are made here, with keys of ECDSA where the
//! original's are of RSA. Two files had keys in them and are written here as well.

use std::collections::BTreeSet;

use serde_json::Value;

use super::*;

/// Files that the toolkit takes and we do not: each of them lists something that rustls does not have.
const DEVIATIONS: [(&str, &str); 3] = [
    (
        "web_config_noAuth_allCiphers.good.yml",
        "TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA and TLS_ECDHE_ECDSA_WITH_AES_256_CBC_SHA and TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA and TLS_ECDHE_RSA_WITH_AES_256_CBC_SHA, which rustls does not have",
    ),
    ("web_config_noAuth_allCurves.good.yml", "CurveP521, which rustls does not have"),
    ("web_config_noAuth_someCurves.good.yml", "CurveP521, which rustls does not have"),
];

fn table() -> (PathBuf, Value) {
    let folder = std::env::var_os("BAROGRAPH_CORPORA").expect("BAROGRAPH_CORPORA is the folder of the tables");
    let folder = PathBuf::from(folder).join("web-config");
    let table = serde_json::from_str(&fs::read_to_string(folder.join("expectations.json")).unwrap()).unwrap();
    (folder.join("testdata"), table)
}

/// The toolkit's files, with certificates and keys of their names. `change` is what a text is turned into.
fn folder(testdata: &Path, change: impl Fn(&str) -> String) -> Folder {
    let folder = Folder::new();
    for name in ["client_selfsigned", "client2_selfsigned"] {
        let hosts: &[&str] = if name == "client2_selfsigned" { &["test3"] } else { &[] };
        folder.sign(name, ExtendedKeyUsagePurpose::ClientAuth, hosts, |params| {
            params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        });
        folder.write(&format!("{name}.pem"), &folder.text(&format!("{name}.crt")));
    }
    for entry in fs::read_dir(testdata).unwrap().map(Result::unwrap) {
        let name = entry.file_name().into_string().unwrap();
        if name.ends_with(".yml") || name.ends_with(".yaml") {
            folder.write(&name, &change(&fs::read_to_string(entry.path()).unwrap()));
        }
    }
    let inline =
        |name: &str| folder.text(name).lines().fold("|\n".to_owned(), |text, line| text + "    " + line + "\n");
    let (certificate, key) = (inline("server.crt"), inline("server.key"));
    folder.write(
        "web_config_noAuth_tlsInline.good.yml",
        &format!("tls_server_config:\n  client_auth_type: VerifyClientCertIfGiven\n  cert: {certificate}  key: {key}"),
    );
    folder.write(
        "tls_config_noAuth.requireanyclientcertkeyinline.good.yml",
        &format!("tls_server_config:\n  cert_file: server.crt\n  client_auth_type: RequireAnyClientCert\n  key: {key}"),
    );
    folder
}

/// For handshakes: the suites for our keys, and no user whose password takes a minute to check.
fn adapted(text: &str) -> String {
    let text = text.replace("TLS_ECDHE_RSA_", "TLS_ECDHE_ECDSA_");
    text.lines().filter(|line| !line.contains("$2y$18$")).fold(String::new(), |text, line| text + line + "\n")
}

fn open(folder: &Folder, name: &str) -> Result<WebConfig, ConfigError> {
    WebConfig::read_every(&folder.path(name), Duration::ZERO)
}

#[test]
#[ignore = "needs BAROGRAPH_CORPORA"]
fn files_are_taken_and_refused_as_the_toolkit_does_but_for_these() {
    let (testdata, table) = table();
    let folder = folder(&testdata, str::to_owned);
    let mut deviations = BTreeSet::new();
    let files = table["files"].as_object().unwrap();
    for (name, expected) in files {
        let result = open(&folder, name);
        let is_wanted = expected["validate"] == "accepted";
        if result.is_ok() != is_wanted {
            let error = result.expect_err("nothing is taken that the toolkit refuses").to_string();
            deviations.insert(name.clone());
            let (_, reason) = DEVIATIONS.iter().find(|(file, _)| file == name).unwrap_or_else(|| panic!("{error}"));
            assert!(error.contains(reason), "{error}");
        } else if let Err(error) = result {
            assert!(error.problem.contains("expected") || error.problem.contains("did you mean"), "{name}: {error}");
        }
    }
    assert_eq!(deviations.len(), DEVIATIONS.len(), "{deviations:?}");
    assert_eq!(files.len(), 41);
    for missing in table["missing_files"].as_array().unwrap() {
        assert!(open(&folder, missing["file"].as_str().unwrap()).is_err());
    }
}

#[test]
#[ignore = "needs BAROGRAPH_CORPORA"]
fn tls_is_on_where_the_toolkit_says_so() {
    let (_, table) = table();
    let folder = Folder::new();
    let rows = table["tls_enabled"].as_array().unwrap();
    for row in rows {
        // JSON is YAML.
        let text = format!("{{\"tls_server_config\": {}}}", row["tls_server_config"]);
        let is_on = row["want_tls_enabled"].as_bool().unwrap();
        match folder.read(&text) {
            Ok(config) => assert_eq!(config.is_tls(), is_on, "{row}"),
            // What is on is on with less than it needs.
            Err(error) => assert!(is_on, "{row}: {error}"),
        }
    }
    assert_eq!(rows.len(), 6);
}

#[tokio::test]
#[ignore = "needs BAROGRAPH_CORPORA"]
async fn servers_behave_as_the_toolkits() {
    let (testdata, table) = table();
    let folder = folder(&testdata, adapted);
    let rows = table["behaviour"].as_array().unwrap();
    let (mut handshakes, mut requests, mut starts, mut deviations, mut others) = (0, 0, 0, 0, 0);
    for row in rows {
        let Some(file) = row["file"].as_str() else {
            others += 1; // Nothing of ours: there is no file.
            continue;
        };
        let config = match open(&folder, file) {
            Ok(config) => config,
            Err(error) if DEVIATIONS.iter().any(|(name, _)| *name == file) => {
                assert!(error.problem.contains("which rustls does not have"), "{error}");
                deviations += 1;
                continue;
            }
            Err(error) => {
                assert_eq!(row["error_seen_at"], "server start", "{error}");
                starts += 1;
                continue;
            }
        };
        assert_ne!(row["error_seen_at"], "server start", "{row}");
        let client = &row["client"];
        if config.is_tls() {
            handshakes += 1;
            let is_good = row["error_seen_at"] != "client connection";
            assert_eq!(shake(&folder, &config, client, &row["want_cipher_suite"]).await, is_good, "{row}");
            if !is_good {
                continue;
            }
        }
        requests += 1;
        let headers = match client["basic_auth"].as_array() {
            Some(pair) => basic(pair[0].as_str().unwrap(), pair[1].as_str().unwrap()),
            None => HeaderMap::new(),
        };
        let current = config.current().await;
        let asked = row["requests"].as_u64().unwrap_or(1);
        let is_limited =
            current.limiter().is_some_and(|limiter| (0..asked).any(|_| limiter.take(Instant::now()).is_err()));
        let status = if is_limited {
            429
        } else if may(&config, &headers).await {
            200
        } else {
            401
        };
        assert_eq!(row["want_status"], status, "{row}");
    }
    assert_eq!((handshakes, requests, starts, deviations, others), (19, 20, 4, 4, 2));
    assert_eq!(rows.len(), 34);
}

/// Whether a client of the table gets a connection.
async fn shake(folder: &Folder, config: &WebConfig, client: &Value, want_suite: &Value) -> bool {
    let suites: Vec<String> = match client["cipher_suites"].as_array() {
        Some(suites) => suites.iter().map(|suite| adapted(suite.as_str().unwrap()).trim().to_owned()).collect(),
        None => Vec::new(),
    };
    if client["scheme"] == "http" {
        raw(config, b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n").await;
        return false;
    }
    if client["max_tls_version"] == "TLS11" {
        // protocol_version
        assert_eq!(raw(config, &client_hello([3, 2], [0xc0, 0x0a])).await[5..], alert(70));
        return false;
    }
    if suites == ["TLS_ECDHE_ECDSA_WITH_AES_256_CBC_SHA"] {
        // handshake_failure
        assert_eq!(raw(config, &client_hello([3, 3], [0xc0, 0x0a])).await[5..], alert(40));
        return false;
    }
    let mut provider = ring::default_provider();
    if !suites.is_empty() {
        let all = ring::ALL_CIPHER_SUITES;
        let named = |name: &String| all.iter().find(|suite| suite.suite().as_str() == Some(name)).copied().unwrap();
        provider.cipher_suites = suites.iter().map(named).collect();
    }
    let certificate = client["certificate"].as_str().map(|name| name.trim_end_matches(".pem"));
    let versions: &[_] = if suites.is_empty() { &[&TLS13, &TLS12] } else { &[&TLS12] };
    match get(config, folder.connector_of(certificate, provider, versions)).await {
        Ok(agreed) => {
            if let Some(suite) = want_suite.as_str() {
                assert_eq!(agreed.suite, adapted(suite).trim());
            }
            true
        }
        Err(_) => false,
    }
}

#[tokio::test]
#[ignore = "needs BAROGRAPH_CORPORA"]
async fn requests_one_after_the_other_are_answered_as_the_toolkit_does() {
    let (testdata, table) = table();
    let folder = folder(&testdata, adapted);
    let scripts = table["handler_scripts"].as_array().unwrap();
    for script in scripts {
        let config = open(&folder, script["file"].as_str().unwrap()).unwrap();
        for step in script["steps"].as_array().unwrap() {
            if let Some(pair) = step["basic_auth"].as_array() {
                let headers = basic(pair[0].as_str().unwrap(), pair[1].as_str().unwrap());
                assert_eq!(may(&config, &headers).await, step["want_status"] == 200, "{step}");
                // And then 150 at once: what is remembered is not checked again.
                let current = config.current().await;
                let mut asking = JoinSet::new();
                for _ in 0..150 {
                    let (current, headers) = (Arc::clone(&current), headers.clone());
                    asking.spawn(async move { current.authenticate(&headers).await.is_ok() });
                }
                while let Some(is_let_in) = asking.join_next().await {
                    assert_eq!(is_let_in.unwrap(), step["want_status"] == 200, "{step}");
                }
            } else if let Some(wanted) = step["want_headers"].as_object() {
                let current = config.current().await;
                for (name, value) in wanted {
                    let found = current.headers().iter().find(|(known, _)| known.as_str().eq_ignore_ascii_case(name));
                    assert_eq!(found.unwrap().1, value.as_str().unwrap(), "{name}");
                }
            } else if step["action"].is_string() {
                folder.write(script["file"].as_str().unwrap(), &folder.text("web_config_noAuth.good.yml"));
            } else {
                let is_answered = get(&config, folder.connector(None)).await.is_ok();
                assert_eq!(is_answered, step["want_status"] == 200, "{step}");
            }
        }
    }
    assert_eq!(scripts.len(), 5);
}
