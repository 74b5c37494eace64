//! What the AWS SDK's errors mean, in our own words: AWS' messages can quote what was sent, and name accounts
//! and users.

use std::{borrow::Cow, error::Error as StdError};

use aws_credential_types::provider::error::CredentialsError;
use aws_sdk_kms::error::{ProvideErrorMetadata, SdkError};

use super::adapter::Broken;
use crate::error::Error;

/// The error of a call that needed this action on the key.
pub(super) fn of<E>(error: &SdkError<E>, action: &'static str, address: impl Fn() -> String) -> Error
where
    E: ProvideErrorMetadata + StdError + 'static,
{
    if let SdkError::ServiceError(answer) = error {
        let status = answer.raw().status().as_u16();
        return match answer.err().code() {
            Some(code) => of_code(code, status, action),
            None => of_status(status),
        };
    }
    // The credentials' own requests fail inside ours: they come first.
    if let Some(fault) = cause::<CredentialsError>(error) {
        return Error::KmsCredentialsMissing { fault: of_credentials(fault) };
    }
    let unreachable = |fault: Cow<'static, str>| Error::KmsUnreachable { address: address(), fault };
    match (error, cause::<Broken>(error)) {
        (_, Some(Broken(fault))) => unreachable(fault.clone()),
        (SdkError::TimeoutError(_), _) => unreachable("no answer in time".into()),
        (SdkError::DispatchFailure(_), _) => match cause::<Error>(error) {
            Some(Error::Config { setting, fault }) => Error::config(setting.clone(), fault.clone()),
            _ => unreachable("the request was not sent".into()),
        },
        (SdkError::ResponseError(_), _) => Error::KmsFailed { fault: "its answer is not one of KMS" },
        _ => Error::KmsRejected { hint: ": it does not even leave this machine" },
    }
}

/// Codes of the API reference's pages "Encrypt", "Sign", … and "Common Error Types".
fn of_code(code: &str, status: u16, action: &'static str) -> Error {
    let unusable = |fault| Error::KmsKeyUnusable { fault };
    let rejected = |fault| Error::KmsCredentialsRejected { fault };
    match code {
        "ThrottlingException"
        | "Throttling"
        | "LimitExceededException"
        | "RequestLimitExceeded"
        | "TooManyRequestsException" => Error::KmsThrottled,
        "AccessDeniedException" | "AccessDenied" | "NotAuthorized" => Error::KmsForbidden { action },
        "ExpiredTokenException" | "ExpiredToken" => rejected("they have expired"),
        "UnrecognizedClientException"
        | "InvalidClientTokenId"
        | "MissingAuthenticationToken"
        | "MissingAuthenticationTokenException" => rejected("AWS does not know the access key"),
        "InvalidSignatureException"
        | "SignatureDoesNotMatch"
        | "IncompleteSignature"
        | "IncompleteSignatureException"
        | "RequestExpired" => rejected(
            "the signature does not fit; the secret key is another one, or this machine's clock is off",
        ),
        "OptInRequired" | "SubscriptionRequiredException" => {
            rejected("the account is not subscribed to KMS in this region")
        }
        "NotFoundException" => Error::KmsKeyNotFound,
        "DisabledException" => unusable("it is disabled"),
        "KMSInvalidStateException" => unusable("its state does not allow it; it may be pending deletion"),
        "KeyUnavailableException" => unusable("KMS cannot get at it right now; calling again may help"),
        "InvalidKeyUsageException" => unusable("its usage or type does not fit the operation or algorithm"),
        "IncorrectKeyException" => unusable("the ciphertext was made with another key"),
        "InvalidCiphertextException" => Error::KmsCiphertext,
        "InvalidGrantTokenException" => Error::KmsRejected { hint: ": a grant token is not valid" },
        "InvalidArnException" => Error::KmsRejected { hint: ": the ARN of the key is not valid" },
        "ValidationException" => Error::KmsRejected { hint: ": a length, form or combination does not fit" },
        "DependencyTimeoutException" => Error::KmsFailed { fault: "a part of it did not answer in time" },
        "KMSInternalException" | "InternalFailure" | "InternalServerError" | "ServiceUnavailable" => {
            Error::KmsFailed { fault: "an internal error" }
        }
        _ => of_status(status),
    }
}

fn of_status(status: u16) -> Error {
    match status {
        429 => Error::KmsThrottled,
        400..=499 => Error::KmsRejected { hint: "" },
        500.. => Error::KmsFailed { fault: "an internal error" },
        _ => Error::KmsFailed { fault: "its answer is not one of KMS" },
    }
}

/// What there is to say where the chain is empty.
pub(super) const NO_CREDENTIALS: &str = "no provider of the standard chain has any";

/// Why the chain gave nothing.
pub(super) fn of_credentials(error: &CredentialsError) -> &'static str {
    match error {
        CredentialsError::CredentialsNotLoaded(_) => NO_CREDENTIALS,
        CredentialsError::ProviderTimedOut(_) => "a provider of the standard chain did not answer in time",
        CredentialsError::InvalidConfiguration(_) => "the AWS profile or its variables do not fit together",
        _ => "a provider of the standard chain failed; an SSO session may have ended",
    }
}

/// The first cause of this type.
fn cause<'a, T: StdError + 'static>(error: &'a (dyn StdError + 'static)) -> Option<&'a T> {
    std::iter::successors(Some(error), |&inner| inner.source()).find_map(|inner| inner.downcast_ref::<T>())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_refusal_of_aws_has_a_code_of_ours() {
        for (code, status, ours) in [
            ("ThrottlingException", 400, "kms_throttled"),
            ("AccessDeniedException", 400, "kms_forbidden"),
            ("ExpiredTokenException", 400, "kms_credentials_rejected"),
            ("UnrecognizedClientException", 400, "kms_credentials_rejected"),
            ("InvalidSignatureException", 403, "kms_credentials_rejected"),
            ("NotFoundException", 400, "kms_key_not_found"),
            ("DisabledException", 400, "kms_key_unusable"),
            ("KMSInvalidStateException", 400, "kms_key_unusable"),
            ("KeyUnavailableException", 500, "kms_key_unusable"),
            ("InvalidKeyUsageException", 400, "kms_key_unusable"),
            ("IncorrectKeyException", 400, "kms_key_unusable"),
            ("InvalidCiphertextException", 400, "kms_ciphertext"),
            ("InvalidGrantTokenException", 400, "kms_rejected"),
            ("ValidationException", 400, "kms_rejected"),
            ("KMSInternalException", 500, "kms_failed"),
            ("DependencyTimeoutException", 500, "kms_failed"),
            ("SomethingNew", 400, "kms_rejected"),
            ("SomethingNew", 503, "kms_failed"),
            ("SomethingNew", 429, "kms_throttled"),
        ] {
            assert_eq!(of_code(code, status, "kms:Encrypt").code(), ours, "{code}");
        }
    }
}
