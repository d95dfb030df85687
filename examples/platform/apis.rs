//! The APIs for sync code: their async clients, asked across the bridge.

use std::net::SocketAddr;
use std::time::Duration;

use barograph_instrumentation_api_clients::ApiClientMetrics;
use barograph_instrumentation_api_clients::semconv::Api;
use barograph_instrumentation_async_bridge::{AsyncBridge, CallError};

use crate::client::{ApiClient, AskError};
use crate::tally::Tally;

/// How long the watcher waits for an analysis: longer than the client, which says more about what went wrong.
const ANALYSIS_PATIENCE: Duration = Duration::from_secs(2);

/// How long it waits for a search, which is a nicety: the call is dropped, and so cancelled, when it takes longer.
const SEARCH_PATIENCE: Duration = Duration::from_millis(300);

/// The three APIs, for sync code.
pub(crate) struct Apis {
    bridge: AsyncBridge,
    bridge_tally: Tally,
    deepseek: ApiClient,
    perplexity: ApiClient,
    backup: ApiClient,
}

/// Where the APIs are.
pub(crate) struct Addresses {
    pub(crate) deepseek: SocketAddr,
    pub(crate) perplexity: SocketAddr,
    pub(crate) backup: SocketAddr,
}

impl Apis {
    pub(crate) fn new(
        bridge: AsyncBridge,
        metrics: &ApiClientMetrics,
        addresses: &Addresses,
        bridge_tally: &Tally,
        client_tally: &Tally,
    ) -> Self {
        let client = |api, address, model| ApiClient::new(metrics, client_tally, api, address, model);
        Self {
            bridge,
            bridge_tally: bridge_tally.clone(),
            deepseek: client(Api::DeepSeek, addresses.deepseek, "deepseek-chat"),
            perplexity: client(Api::Perplexity, addresses.perplexity, "sonar"),
            backup: client(Api::Other, addresses.backup, "local"),
        }
    }

    /// Asks DeepSeek what to think of a change.
    pub(crate) fn analyse(&self, question: String) -> Result<String, CallError<AskError>> {
        self.ask(Api::DeepSeek, question, ANALYSIS_PATIENCE)
    }

    /// Asks the API that stands in when DeepSeek is broken.
    pub(crate) fn analyse_by_backup(&self, question: String) -> Result<String, CallError<AskError>> {
        self.ask(Api::Other, question, ANALYSIS_PATIENCE)
    }

    /// Asks Perplexity what is known about a failure.
    pub(crate) fn search(&self, question: String) -> Result<String, CallError<AskError>> {
        self.ask(Api::Perplexity, question, SEARCH_PATIENCE)
    }

    /// Asks any of them, and waits for as long as this.
    pub(crate) fn ask(&self, api: Api, question: String, patience: Duration) -> Result<String, CallError<AskError>> {
        let api = match api {
            Api::DeepSeek => &self.deepseek,
            Api::Perplexity => &self.perplexity,
            Api::Other => &self.backup,
        };
        cross(&self.bridge, &self.bridge_tally, api.clone().ask(question), patience)
    }
}

/// From sync to async and back: the future runs on the bridge's loop while this thread waits.
pub(crate) fn cross<T: Send + 'static, E: Send + 'static>(
    bridge: &AsyncBridge,
    tally: &Tally,
    future: impl Future<Output = Result<T, E>> + Send + 'static,
    patience: Duration,
) -> Result<T, CallError<E>> {
    let result = bridge.call(future, patience);
    let (outcome, error_type) = match &result {
        Ok(_) => ("success", None),
        Err(CallError::Failed(_)) => ("error", Some("other")),
        Err(CallError::Panicked { .. }) => ("error", Some("panic")),
        Err(CallError::TimedOut { .. }) => ("timeout", None),
        Err(CallError::Cancelled) => ("cancelled", None),
        Err(CallError::Closed) => ("error", Some("closed")),
        Err(_) => ("error", Some("internal")),
    };
    tally.one(format!(r#"safe_async_bridge_calls_total{{outcome="{outcome}"}}"#));
    tally.one(format!(r#"safe_async_bridge_execution_duration_seconds_count{{outcome="{outcome}"}}"#));
    if let Some(error_type) = error_type {
        tally.one(format!(r#"safe_async_bridge_errors_total{{error_type="{error_type}"}}"#));
    }
    if outcome == "timeout" {
        tally.one("safe_async_bridge_timeouts_total");
    }
    result
}
