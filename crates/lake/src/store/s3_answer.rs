//! What an answer of S3, or its absence, asks us to do.

use std::error::Error;

use aws_sdk_s3::config::http::HttpResponse;
use aws_sdk_s3::error::{ProvideErrorMetadata, SdkError};

/// What to do next. One place decides, by the answer's status and S3's error code.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Nobody answered, or not in time.
    Silent,
    /// An answer that will be another one later.
    Busy,
    /// The condition `If-None-Match: *` does not hold.
    Taken,
    /// There is no such key.
    NoKey,
    /// There is no such bucket.
    NoBucket,
    /// The credentials are not known, wrong or expired, or the clocks differ too much.
    BadCredentials,
    /// The credentials may not do this.
    Denied,
    /// The bucket is elsewhere.
    WrongRegion,
    /// Anything else, which trying again would not change.
    Refused,
}

/// A verdict and what it is based on, in words.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) verdict: Verdict,
    pub(super) cause: String,
}

impl Answer {
    pub(super) fn silent(cause: String) -> Self {
        Self { verdict: Verdict::Silent, cause }
    }
}

impl<E> From<SdkError<E, HttpResponse>> for Answer
where
    E: ProvideErrorMetadata + Error + Send + Sync + 'static,
{
    fn from(error: SdkError<E, HttpResponse>) -> Self {
        let (SdkError::ServiceError(_) | SdkError::ResponseError(_)) = &error else {
            let verdict =
                if matches!(error, SdkError::ConstructionFailure(_)) { Verdict::Refused } else { Verdict::Silent };
            let mut cause = innermost(&error);
            if cause.contains("invalid peer certificate") {
                cause += " (AWS_CA_BUNDLE names the file with the certificate of its authority)";
            }
            return Self { verdict, cause };
        };
        let status = error.raw_response().map_or(0, |response| response.status().as_u16());
        let verdict = verdict(status, error.code());
        let cause = match (error.code(), error.message()) {
            (Some(code), Some(message)) => format!("{status} {code}: {message}"),
            (Some(code), None) => format!("{status} {code}"),
            _ => format!("HTTP status {status}"),
        };
        Self { verdict, cause }
    }
}

/// What lies behind an error. The layers above it say "dispatch failure" and "client error".
pub(super) fn innermost(error: &dyn Error) -> String {
    let mut innermost = error;
    while let Some(cause) = innermost.source() {
        innermost = cause;
    }
    innermost.to_string()
}

/// Codes: <https://docs.aws.amazon.com/AmazonS3/latest/API/ErrorResponses.html>. Answers to HEAD have none.
fn verdict(status: u16, code: Option<&str>) -> Verdict {
    match code {
        Some("NoSuchBucket") => return Verdict::NoBucket,
        Some("SlowDown" | "RequestTimeout" | "InternalError" | "ServiceUnavailable") => return Verdict::Busy,
        Some(
            "InvalidAccessKeyId"
            | "SignatureDoesNotMatch"
            | "ExpiredToken"
            | "InvalidToken"
            | "TokenRefreshRequired"
            | "RequestTimeTooSkewed"
            | "InvalidClientTokenId"
            | "NotSignedUp",
        ) => return Verdict::BadCredentials,
        Some(
            "PermanentRedirect"
            | "TemporaryRedirect"
            | "AuthorizationHeaderMalformed"
            | "IllegalLocationConstraintException",
        ) => {
            return Verdict::WrongRegion;
        }
        _ => {}
    }
    match status {
        301 | 307 | 308 => Verdict::WrongRegion,
        401 => Verdict::BadCredentials,
        403 => Verdict::Denied,
        404 => Verdict::NoKey,
        412 => Verdict::Taken,
        // These two say that the server lacks something, which it will lack the next time too.
        501 | 505 => Verdict::Refused,
        // 0 and 2xx: an answer that was cut off or could not be read.
        0 | 200..=299 | 408 | 409 | 429 | 500..=599 => Verdict::Busy,
        _ => Verdict::Refused,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_answer_has_its_consequence() {
        for (status, code, expected) in [
            (412, Some("PreconditionFailed"), Verdict::Taken),
            (412, None, Verdict::Taken),
            (409, Some("ConditionalRequestConflict"), Verdict::Busy),
            (409, Some("OperationAborted"), Verdict::Busy),
            (503, Some("SlowDown"), Verdict::Busy),
            (503, None, Verdict::Busy),
            (500, Some("InternalError"), Verdict::Busy),
            (502, None, Verdict::Busy),
            (429, None, Verdict::Busy),
            (400, Some("RequestTimeout"), Verdict::Busy),
            (200, Some("InternalError"), Verdict::Busy),
            (200, None, Verdict::Busy),
            (501, Some("NotImplemented"), Verdict::Refused),
            (400, Some("InvalidRequest"), Verdict::Refused),
            (400, Some("BadDigest"), Verdict::Refused),
            (404, Some("NoSuchKey"), Verdict::NoKey),
            (404, None, Verdict::NoKey),
            (404, Some("NoSuchBucket"), Verdict::NoBucket),
            (403, Some("AccessDenied"), Verdict::Denied),
            (403, None, Verdict::Denied),
            (403, Some("InvalidAccessKeyId"), Verdict::BadCredentials),
            (403, Some("SignatureDoesNotMatch"), Verdict::BadCredentials),
            (403, Some("RequestTimeTooSkewed"), Verdict::BadCredentials),
            (400, Some("ExpiredToken"), Verdict::BadCredentials),
            (401, None, Verdict::BadCredentials),
            (301, Some("PermanentRedirect"), Verdict::WrongRegion),
            (301, None, Verdict::WrongRegion),
            (400, Some("AuthorizationHeaderMalformed"), Verdict::WrongRegion),
        ] {
            assert_eq!(verdict(status, code), expected, "{status} {code:?}");
        }
    }
}
