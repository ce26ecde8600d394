//! Classification of responses from S3.

use std::error::Error;

use aws_sdk_s3::config::http::HttpResponse;
use aws_sdk_s3::error::{ProvideErrorMetadata, SdkError};

/// Kind of a response, derived from its status and S3's error code. It determines the next step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum AnswerKind {
    /// No response, or not in time.
    Silent,
    /// Transient error.
    Busy,
    /// The condition `If-None-Match: *` failed: the key exists.
    Taken,
    /// The key does not exist.
    NoKey,
    /// The bucket does not exist.
    NoBucket,
    /// The credentials are unknown, wrong or expired, or the clock skew is too large.
    BadCredentials,
    /// The credentials lack a permission.
    Denied,
    /// The bucket is in another region.
    WrongRegion,
    /// Any other error that a retry would not resolve.
    Refused,
}

/// Kind of a response, and its cause for messages.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) kind: AnswerKind,
    pub(super) cause: String,
}

impl Answer {
    pub(super) fn silent(cause: String) -> Self {
        Self { kind: AnswerKind::Silent, cause }
    }
}

impl<E> From<SdkError<E, HttpResponse>> for Answer
where
    E: ProvideErrorMetadata + Error + Send + Sync + 'static,
{
    fn from(error: SdkError<E, HttpResponse>) -> Self {
        let (SdkError::ServiceError(_) | SdkError::ResponseError(_)) = &error else {
            let kind = if matches!(error, SdkError::ConstructionFailure(_)) {
                AnswerKind::Refused
            } else {
                AnswerKind::Silent
            };
            let mut cause = innermost(&error);
            if cause.contains("invalid peer certificate") {
                cause += " (set AWS_CA_BUNDLE to the certificate of its authority)";
            }
            return Self { kind, cause };
        };
        let status = error.raw_response().map_or(0, |response| response.status().as_u16());
        let kind = kind(status, error.code());
        let cause = match (error.code(), error.message()) {
            (Some(code), Some(message)) => format!("{status} {code}: {message}"),
            (Some(code), None) => format!("{status} {code}"),
            _ => format!("HTTP status {status}"),
        };
        Self { kind, cause }
    }
}

/// Returns the message of the innermost error. The outer ones only report "dispatch failure" and "client error".
pub(super) fn innermost(error: &dyn Error) -> String {
    let mut innermost = error;
    while let Some(cause) = innermost.source() {
        innermost = cause;
    }
    innermost.to_string()
}

/// Classifies a response by its status and its error code, which responses to HEAD requests lack.
///
/// Codes: <https://docs.aws.amazon.com/AmazonS3/latest/API/ErrorResponses.html>.
fn kind(status: u16, code: Option<&str>) -> AnswerKind {
    match code {
        Some("NoSuchBucket") => return AnswerKind::NoBucket,
        Some("SlowDown" | "RequestTimeout" | "InternalError" | "ServiceUnavailable") => return AnswerKind::Busy,
        Some(
            "InvalidAccessKeyId"
            | "SignatureDoesNotMatch"
            | "ExpiredToken"
            | "InvalidToken"
            | "TokenRefreshRequired"
            | "RequestTimeTooSkewed"
            | "InvalidClientTokenId"
            | "NotSignedUp",
        ) => return AnswerKind::BadCredentials,
        Some(
            "PermanentRedirect"
            | "TemporaryRedirect"
            | "AuthorizationHeaderMalformed"
            | "IllegalLocationConstraintException",
        ) => {
            return AnswerKind::WrongRegion;
        }
        _ => {}
    }
    match status {
        301 | 307 | 308 => AnswerKind::WrongRegion,
        401 => AnswerKind::BadCredentials,
        403 => AnswerKind::Denied,
        404 => AnswerKind::NoKey,
        412 => AnswerKind::Taken,
        // 501 and 505 mean that the server lacks a feature, so a retry fails too.
        501 | 505 => AnswerKind::Refused,
        // 0 and 2xx: the response was truncated or could not be parsed.
        0 | 200..=299 | 408 | 409 | 429 | 500..=599 => AnswerKind::Busy,
        _ => AnswerKind::Refused,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_answer_has_its_consequence() {
        for (status, code, expected) in [
            (412, Some("PreconditionFailed"), AnswerKind::Taken),
            (412, None, AnswerKind::Taken),
            (409, Some("ConditionalRequestConflict"), AnswerKind::Busy),
            (409, Some("OperationAborted"), AnswerKind::Busy),
            (503, Some("SlowDown"), AnswerKind::Busy),
            (503, None, AnswerKind::Busy),
            (500, Some("InternalError"), AnswerKind::Busy),
            (502, None, AnswerKind::Busy),
            (429, None, AnswerKind::Busy),
            (400, Some("RequestTimeout"), AnswerKind::Busy),
            (200, Some("InternalError"), AnswerKind::Busy),
            (200, None, AnswerKind::Busy),
            (501, Some("NotImplemented"), AnswerKind::Refused),
            (400, Some("InvalidRequest"), AnswerKind::Refused),
            (400, Some("BadDigest"), AnswerKind::Refused),
            (404, Some("NoSuchKey"), AnswerKind::NoKey),
            (404, None, AnswerKind::NoKey),
            (404, Some("NoSuchBucket"), AnswerKind::NoBucket),
            (403, Some("AccessDenied"), AnswerKind::Denied),
            (403, None, AnswerKind::Denied),
            (403, Some("InvalidAccessKeyId"), AnswerKind::BadCredentials),
            (403, Some("SignatureDoesNotMatch"), AnswerKind::BadCredentials),
            (403, Some("RequestTimeTooSkewed"), AnswerKind::BadCredentials),
            (400, Some("ExpiredToken"), AnswerKind::BadCredentials),
            (401, None, AnswerKind::BadCredentials),
            (301, Some("PermanentRedirect"), AnswerKind::WrongRegion),
            (301, None, AnswerKind::WrongRegion),
            (400, Some("AuthorizationHeaderMalformed"), AnswerKind::WrongRegion),
        ] {
            assert_eq!(kind(status, code), expected, "{status} {code:?}");
        }
    }
}
