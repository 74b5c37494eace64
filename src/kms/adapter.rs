//! The AWS SDK's requests over our own HTTP client: the same TLS, no redirects, no proxy, a bounded answer.
//!
//! The SDK's own client would bring a second TLS stack. What this module does not do: retry, sign, or read
//! what an answer says; the SDK does.

use std::{
    borrow::Cow,
    sync::{Arc, OnceLock},
    time::Duration,
};

use aws_smithy_runtime_api::{
    client::{
        http::{HttpClient, HttpConnector, HttpConnectorFuture, HttpConnectorSettings, SharedHttpConnector},
        orchestrator::{HttpRequest, HttpResponse},
        result::ConnectorError,
        runtime_components::RuntimeComponents,
    },
    http::StatusCode,
};
use aws_smithy_types::body::SdkBody;

use crate::{
    error::Error,
    vault::{
        DEADLINE,
        http::{Tls, http_client, tls_fault},
    },
};

/// Largest answer that is read, in bytes. KMS' own have at most some ten thousand.
const MAX_ANSWER: usize = 1 << 20;

/// Why a request got no answer, in words that may be shown.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(super) struct Broken(pub(super) Cow<'static, str>);

/// The HTTP clients, built at their first use.
#[derive(Debug, Clone, Default)]
pub(super) struct Adapter(Arc<Clients>);

#[derive(Debug, Default)]
struct Clients {
    /// For this machine and for the metadata services of containers and instances.
    plain: OnceLock<reqwest::Client>,
    tls: OnceLock<reqwest::Client>,
}

impl Clients {
    fn for_uri(&self, uri: &str) -> Result<&reqwest::Client, Error> {
        let plain = !uri.starts_with("https://");
        let place = if plain { &self.plain } else { &self.tls };
        if let Some(client) = place.get() {
            return Ok(client);
        }
        // Vault's authority is no authority over AWS: the system's roots.
        let client = http_client(&Tls { plain, ..Tls::default() })?;
        Ok(place.get_or_init(|| client))
    }
}

impl HttpClient for Adapter {
    fn http_connector(&self, settings: &HttpConnectorSettings, _: &RuntimeComponents) -> SharedHttpConnector {
        // Providers of credentials ask for short limits: a metadata service that is not there says nothing.
        let limits = [settings.connect_timeout(), settings.read_timeout()];
        let limit = limits.into_iter().flatten().reduce(|one, other| one + other);
        SharedHttpConnector::new(Connector { clients: self.0.clone(), limit: limit.unwrap_or(DEADLINE) })
    }
}

#[derive(Debug, Clone)]
struct Connector {
    clients: Arc<Clients>,
    limit: Duration,
}

impl HttpConnector for Connector {
    fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
        let Self { clients, limit } = self.clone();
        HttpConnectorFuture::new(async move {
            match tokio::time::timeout(limit, exchange(&clients, request)).await {
                Ok(answer) => answer,
                Err(_) => Err(ConnectorError::timeout(
                    Broken(format!("no answer within {} s", limit.as_secs()).into()).into(),
                )),
            }
        })
    }
}

async fn exchange(clients: &Clients, request: HttpRequest) -> Result<HttpResponse, ConnectorError> {
    let client = clients.for_uri(request.uri()).map_err(|error| ConnectorError::user(error.into()))?;
    let unfit = || ConnectorError::user(Broken("a request that does not fit HTTP".into()).into());
    let request = request.try_into_http1x().map_err(|_| unfit())?;
    let (parts, body) = request.into_parts();
    let body = body.bytes().map(<[u8]>::to_vec).ok_or_else(unfit)?;
    let request = reqwest::Request::try_from(http::Request::from_parts(parts, body)).map_err(|_| unfit())?;
    let mut response = client.execute(request).await.map_err(|error| broken(&error))?;
    let status = StatusCode::from(response.status());
    let headers = std::mem::take(response.headers_mut());
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(|error| broken(&error))? {
        if body.len() + chunk.len() > MAX_ANSWER {
            let fault = Broken("the answer is larger than 1 MiB".into());
            return Err(ConnectorError::user(fault.into()));
        }
        body.extend_from_slice(&chunk);
    }
    let mut response = HttpResponse::new(status, SdkBody::from(body));
    for (name, value) in &headers {
        // A header that is no text is none that the SDK reads.
        if let Ok(value) = value.to_str() {
            let _ = response.headers_mut().try_append(name.as_str().to_owned(), value.to_owned());
        }
    }
    Ok(response)
}

fn broken(error: &reqwest::Error) -> ConnectorError {
    if let Some(fault) = tls_fault(error) {
        // Another attempt would end the same.
        return ConnectorError::user(Broken(format!("TLS: {fault}").into()).into());
    }
    let fault = match (error.is_connect(), error.is_timeout()) {
        (true, true) => "no connection within 4 s",
        (true, false) => "no connection",
        (false, _) => "the connection broke off before an answer",
    };
    let fault = Broken(fault.into());
    if error.is_timeout() { ConnectorError::timeout(fault.into()) } else { ConnectorError::io(fault.into()) }
}
