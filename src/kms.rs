//! AWS KMS: five operations of it, with the AWS SDK's signing, credential chain and types over our own HTTP
//! client.
//!
//! Nothing is built, read or looked up before the first call. Region and endpoint come from the settings (the
//! region else from the AWS profile or the instance), credentials from the standard chain of AWS, none of them
//! from a caller. What this module does not do: decide whether a call may run. Its [`Access`] is lent out only
//! inside `broker::Granted`.

mod adapter;
mod fault;

use std::{
    collections::HashMap,
    future::Future,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use aws_config::{BehaviorVersion, Region, retry::RetryConfig};
use aws_credential_types::provider::{ProvideCredentials, SharedCredentialsProvider};
use aws_sdk_kms::{
    Client,
    config::{SharedHttpClient, StalledStreamProtectionConfig},
    error::{ProvideErrorMetadata, SdkError},
    operation::RequestId,
    primitives::Blob,
    types::{DataKeySpec, MessageType, SigningAlgorithmSpec},
};
use zeroize::Zeroizing;

use crate::{
    config::Config,
    error::Error,
    names::{AwsKeyId, AwsRegion},
    vault::{DEADLINE, Session},
};

use adapter::Adapter;

/// Attempts at a call that changes nothing.
const ATTEMPTS: u32 = 3;
/// Before the second attempt; doubled before the third, and shortened at random.
const FIRST_PAUSE: Duration = Duration::from_millis(400);

/// AWS KMS as configured. The client is built at the first call.
pub struct Kms {
    region: Option<String>,
    endpoint: Option<String>,
    built: Mutex<Option<Built>>,
}

/// What the first call builds.
#[derive(Clone)]
struct Built {
    client: Client,
    credentials: Option<SharedCredentialsProvider>,
}

/// What goes with a call beside its payload.
#[derive(Default)]
pub struct Terms {
    /// The key; `None` where the ciphertext says which.
    pub key: Option<AwsKeyId>,
    /// Bound to the ciphertext, not secret.
    pub context: HashMap<String, String>,
    /// Grants that may not have spread yet.
    pub grant_tokens: Vec<String>,
}

/// What is signed.
pub enum Message {
    /// KMS makes the digest.
    Raw(Zeroizing<Vec<u8>>),
    /// A digest, as the algorithm wants it.
    Digest(Zeroizing<Vec<u8>>),
    /// For ML-DSA: the 64 bytes of μ.
    ExternalMu(Zeroizing<Vec<u8>>),
}

impl Message {
    fn parts(self) -> (Blob, MessageType) {
        let (mut bytes, kind) = match self {
            Self::Raw(bytes) => (bytes, MessageType::Raw),
            Self::Digest(bytes) => (bytes, MessageType::Digest),
            Self::ExternalMu(bytes) => (bytes, MessageType::ExternalMu),
        };
        (Blob::new(std::mem::take(&mut *bytes)), kind)
    }
}

/// How large a data key is.
#[derive(Debug, Clone, Copy)]
pub enum DataKeySize {
    /// 32 bytes.
    Aes256,
    /// 16 bytes.
    Aes128,
    /// This many.
    Bytes(u16),
}

/// A plaintext that KMS gave, and the ARN of its key.
pub struct Opened {
    /// The bytes.
    pub plaintext: Zeroizing<Vec<u8>>,
    /// ARN.
    pub key_id: String,
}

/// A data key.
pub struct DataKey {
    /// The key and the ARN of the key that encrypts it.
    pub opened: Opened,
    /// The key, encrypted.
    pub ciphertext: Vec<u8>,
}

impl Kms {
    /// From the settings; looks nothing up.
    #[must_use]
    pub fn new(config: &Config) -> Self {
        Self {
            region: config.aws_region.clone(),
            endpoint: config.aws_kms_endpoint.as_ref().map(|address| address.as_str().to_owned()),
            built: Mutex::default(),
        }
    }

    /// Access for one call. The broker's grant is the only caller.
    pub(crate) fn lend<'a>(&'a self, session: &'a Session) -> Access<'a> {
        Access { kms: self, session }
    }

    /// Whether the standard chain of AWS has credentials to sign with. AWS KMS itself is not asked.
    ///
    /// # Errors
    /// `kms_credentials_missing`, or `config_invalid` for a region that is missing.
    pub async fn has_credentials(&self) -> Result<(), Error> {
        let missing = |fault| {
            self.forget();
            Error::KmsCredentialsMissing { fault }
        };
        match self.client().await?.credentials {
            None => Err(missing(fault::NO_CREDENTIALS)),
            Some(chain) => match chain.provide_credentials().await {
                Ok(_) => Ok(()),
                Err(error) => Err(missing(fault::of_credentials(&error))),
            },
        }
    }

    async fn client(&self) -> Result<Built, Error> {
        if let Some(built) = self.built() {
            return Ok(built);
        }
        let built = self.build(SharedHttpClient::new(Adapter::default())).await?;
        *self.built.lock().unwrap_or_else(PoisonError::into_inner) = Some(built.clone());
        Ok(built)
    }

    fn built(&self) -> Option<Built> {
        self.built.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The next call reads profiles and caches of credentials anew: the user may just have logged in.
    fn forget(&self) {
        *self.built.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    async fn build(&self, http: SharedHttpClient) -> Result<Built, Error> {
        let retry = RetryConfig::standard().with_max_attempts(ATTEMPTS).with_initial_backoff(FIRST_PAUSE);
        let mut chain = aws_config::defaults(BehaviorVersion::latest())
            .http_client(http.clone())
            .stalled_stream_protection(StalledStreamProtectionConfig::disabled());
        if let Some(region) = &self.region {
            chain = chain.region(Region::new(region.clone()));
        }
        let found = chain.load().await;
        // It becomes part of a host name, wherever it comes from.
        let region = found.region().filter(|region| AwsRegion::parse(region.as_ref()).is_ok()).cloned();
        let region = region.ok_or_else(|| {
            Error::config("AWS_REGION", "AWS KMS needs a region, and neither this setting nor the AWS profile names a valid one. Set it, eu-central-1 say.")
        })?;
        // Not made from what the chain found: that would take the endpoint from variables and profiles too,
        // which know nothing of the rule that it must be https.
        let mut config = aws_sdk_kms::config::Builder::new()
            .behavior_version(BehaviorVersion::latest())
            .http_client(http)
            .retry_config(retry)
            .stalled_stream_protection(StalledStreamProtectionConfig::disabled())
            .region(region);
        config.set_sleep_impl(found.sleep_impl());
        config.set_time_source(found.time_source());
        config.set_use_fips(found.use_fips());
        config.set_use_dual_stack(found.use_dual_stack());
        config.set_credentials_provider(found.credentials_provider());
        if let Some(cache) = found.identity_cache() {
            config.set_identity_cache(cache);
        }
        if let Some(endpoint) = &self.endpoint {
            config = config.endpoint_url(endpoint);
        }
        let credentials = found.credentials_provider();
        Ok(Built { client: Client::from_conf(config.build()), credentials })
    }

    /// For messages.
    fn address(&self) -> String {
        let region =
            || self.built().and_then(|built| built.client.config().region().map(ToString::to_string));
        match (&self.endpoint, region().or_else(|| self.region.clone())) {
            (Some(endpoint), _) => endpoint.clone(),
            (None, Some(region)) => format!("the endpoint of {region}"),
            (None, None) => "the region's endpoint".to_owned(),
        }
    }
}

/// The right to call KMS, for one call.
#[derive(Clone, Copy)]
pub struct Access<'a> {
    kms: &'a Kms,
    session: &'a Session,
}

impl Access<'_> {
    /// `Encrypt`: the ciphertext and the key's ARN.
    ///
    /// # Errors
    /// What stands in the way.
    pub async fn encrypt(
        &self,
        terms: Terms,
        plaintext: Zeroizing<Vec<u8>>,
    ) -> Result<(Vec<u8>, String), Error> {
        let answer = self
            .call("kms:Encrypt", |client| {
                client
                    .encrypt()
                    .set_key_id(terms.key.map(String::from))
                    .set_encryption_context(some(terms.context))
                    .set_grant_tokens(Some(terms.grant_tokens))
                    .plaintext(blob(plaintext))
                    .send()
            })
            .await?;
        Ok((bytes(answer.ciphertext_blob)?, answer.key_id.unwrap_or_default()))
    }

    /// `Decrypt`.
    ///
    /// # Errors
    /// `kms_ciphertext` when it does not open, or what else stands in the way.
    pub async fn decrypt(&self, terms: Terms, ciphertext: Vec<u8>) -> Result<Opened, Error> {
        let answer = self
            .call("kms:Decrypt", |client| {
                client
                    .decrypt()
                    .set_key_id(terms.key.map(String::from))
                    .set_encryption_context(some(terms.context))
                    .set_grant_tokens(Some(terms.grant_tokens))
                    .ciphertext_blob(Blob::new(ciphertext))
                    .send()
            })
            .await?;
        Ok(Opened { plaintext: bytes(answer.plaintext)?.into(), key_id: answer.key_id.unwrap_or_default() })
    }

    /// `GenerateDataKey`, sent exactly once.
    ///
    /// # Errors
    /// What stands in the way.
    pub async fn generate_data_key(&self, terms: Terms, size: DataKeySize) -> Result<DataKey, Error> {
        let once = aws_sdk_kms::Config::builder().retry_config(RetryConfig::disabled());
        let (spec, number) = match size {
            DataKeySize::Aes256 => (Some(DataKeySpec::Aes256), None),
            DataKeySize::Aes128 => (Some(DataKeySpec::Aes128), None),
            DataKeySize::Bytes(number) => (None, Some(i32::from(number))),
        };
        let answer = self
            .call("kms:GenerateDataKey", |client| {
                client
                    .generate_data_key()
                    .set_key_id(terms.key.map(String::from))
                    .set_encryption_context(some(terms.context))
                    .set_grant_tokens(Some(terms.grant_tokens))
                    .set_key_spec(spec)
                    .set_number_of_bytes(number)
                    .customize()
                    .config_override(once)
                    .send()
            })
            .await?;
        Ok(DataKey {
            opened: Opened {
                plaintext: bytes(answer.plaintext)?.into(),
                key_id: answer.key_id.unwrap_or_default(),
            },
            ciphertext: bytes(answer.ciphertext_blob)?,
        })
    }

    /// `Sign`: the signature and the key's ARN.
    ///
    /// # Errors
    /// What stands in the way.
    pub async fn sign(
        &self,
        terms: Terms,
        message: Message,
        algorithm: &'static str,
    ) -> Result<(Vec<u8>, String), Error> {
        let (message, kind) = message.parts();
        let answer = self
            .call("kms:Sign", |client| {
                client
                    .sign()
                    .set_key_id(terms.key.map(String::from))
                    .set_grant_tokens(Some(terms.grant_tokens))
                    .message(message)
                    .message_type(kind)
                    .signing_algorithm(SigningAlgorithmSpec::from(algorithm))
                    .send()
            })
            .await?;
        Ok((bytes(answer.signature)?, answer.key_id.unwrap_or_default()))
    }

    /// `Verify`: whether the signature is good.
    ///
    /// # Errors
    /// What stands in the way of a verdict.
    pub async fn verify(
        &self,
        terms: Terms,
        message: Message,
        algorithm: &'static str,
        signature: Vec<u8>,
    ) -> Result<bool, Error> {
        let (message, kind) = message.parts();
        let answer = self
            .send(|client| {
                client
                    .verify()
                    .set_key_id(terms.key.map(String::from))
                    .set_grant_tokens(Some(terms.grant_tokens))
                    .message(message)
                    .message_type(kind)
                    .signing_algorithm(SigningAlgorithmSpec::from(algorithm))
                    .signature(Blob::new(signature))
                    .send()
            })
            .await?;
        match answer {
            Ok(verdict) => Ok(verdict.signature_valid),
            Err(error)
                if error
                    .as_service_error()
                    .is_some_and(|fault| fault.is_kms_invalid_signature_exception()) =>
            {
                Ok(false)
            }
            Err(error) => Err(self.fault(&error, "kms:Verify")),
        }
    }

    async fn call<T, E, F, A>(&self, action: &'static str, request: F) -> Result<T, Error>
    where
        T: RequestId,
        E: ProvideErrorMetadata + std::error::Error + 'static,
        F: FnOnce(Client) -> A,
        A: Future<Output = Result<T, SdkError<E>>>,
    {
        self.send(request).await?.map_err(|error| self.fault(&error, action))
    }

    /// One request with its retries, credentials included, before the deadline.
    async fn send<T, E, F, A>(&self, request: F) -> Result<Result<T, SdkError<E>>, Error>
    where
        T: RequestId,
        F: FnOnce(Client) -> A,
        A: Future<Output = Result<T, SdkError<E>>>,
    {
        let whole = async { Ok::<_, Error>(request(self.kms.client().await?.client).await) };
        let Ok(answer) = tokio::time::timeout(DEADLINE, whole).await else {
            return Err(Error::KmsUnreachable {
                address: self.kms.address(),
                fault: format!("no answer within {} s", DEADLINE.as_secs()).into(),
            });
        };
        let answer = answer?;
        if let Some(id) = answer.request_id() {
            self.session.note_request_id(id);
        }
        Ok(answer)
    }

    fn fault<E>(&self, error: &SdkError<E>, action: &'static str) -> Error
    where
        E: ProvideErrorMetadata + std::error::Error + 'static,
    {
        let error = fault::of(error, action, || self.kms.address());
        if matches!(error, Error::KmsCredentialsMissing { .. } | Error::KmsCredentialsRejected { .. }) {
            self.kms.forget();
        }
        error
    }
}

fn some(map: HashMap<String, String>) -> Option<HashMap<String, String>> {
    (!map.is_empty()).then_some(map)
}

fn blob(mut bytes: Zeroizing<Vec<u8>>) -> Blob {
    Blob::new(std::mem::take(&mut *bytes))
}

fn bytes(blob: Option<Blob>) -> Result<Vec<u8>, Error> {
    blob.map(Blob::into_inner).ok_or(Error::KmsFailed { fault: "its answer lacks what was asked for" })
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use aws_smithy_runtime_api::client::{
        http::{HttpConnector, HttpConnectorFuture, SharedHttpConnector, http_client_fn},
        orchestrator::HttpRequest,
        result::ConnectorError,
    };

    use super::*;
    use crate::config::Layers;

    #[derive(Debug, Clone, Default)]
    struct Recorder(Arc<Mutex<Vec<String>>>);

    impl HttpConnector for Recorder {
        fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
            self.0.lock().unwrap().push(request.uri().to_owned());
            HttpConnectorFuture::ready(Err(ConnectorError::user("it is only a test".into())))
        }
    }

    /// Where a call would go under these settings.
    async fn goes_to(settings: &[(&str, &str)]) -> Vec<String> {
        let environment = settings.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        let kms = Kms::new(&Config::load(&Layers { environment, ..Layers::default() }).unwrap());
        let recorder = Recorder::default();
        let connector = recorder.clone();
        let http = http_client_fn(move |_, _| SharedHttpConnector::new(connector.clone()));
        let client = kms.build(http).await.unwrap().client;
        let keys = aws_sdk_kms::config::Credentials::new("AKIAEXAMPLE", "secret", None, None, "test");
        let with_keys = aws_sdk_kms::Config::builder().credentials_provider(keys);
        let call = client.encrypt().key_id("alias/a").plaintext(Blob::new("x")).customize();
        assert!(call.config_override(with_keys).send().await.is_err());
        recorder.0.lock().unwrap().clone()
    }

    #[tokio::test]
    async fn a_call_goes_to_the_region_s_own_endpoint_by_https_or_where_the_setting_says() {
        let region = ("AWS_REGION", "eu-west-1");
        assert_eq!(goes_to(&[region]).await, ["https://kms.eu-west-1.amazonaws.com/"]);
        let endpoint = ("AWS_KMS_ENDPOINT", "https://kms.example.com:4443");
        assert_eq!(goes_to(&[region, endpoint]).await, ["https://kms.example.com:4443/"]);
    }
}
