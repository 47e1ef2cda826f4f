//! The one error type of the crate, its kinds, and what each asks of the caller.
//!
//! Branch on [`Error::kind`], never on text. [`Error::is_retryable`] says whether the same call may succeed later,
//! and [`Error::is_indeterminate`] whether a change may have been made although the call failed.

use std::error::Error as StdError;
use std::fmt;
use std::time::Duration;

use crate::WriteId;

/// The result of every fallible call in the crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What went wrong, in terms that are the same on every provider.
///
/// Each kind has a section in the [errors guide](crate::guide::errors), whose anchor is [`ErrorKind::anchor`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// An argument breaks a documented rule. Nothing was sent.
    InvalidInput,
    /// Settings are missing, malformed or contradict one another. Nothing was sent.
    InvalidConfig,
    /// The object, secret, version, job, execution or bucket does not exist.
    NotFound,
    /// A create-only call found the name taken.
    AlreadyExists,
    /// The stated version is not the current one.
    PreconditionFailed,
    /// Other writers kept winning; nothing was changed. The same call may be made again.
    Conflict,
    /// The condition of a read says that the caller's copy is current.
    NotModified,
    /// The range starts at or past the end of the object.
    RangeNotSatisfiable,
    /// The secret version exists, but is disabled or destroyed.
    VersionDisabled,
    /// The identity is known, but may not do this.
    PermissionDenied,
    /// There are no credentials, or they were refused.
    Unauthenticated,
    /// The provider asks to slow down.
    Throttled,
    /// The provider or the way to it failed for now; the call changed nothing.
    Unavailable,
    /// The deadline passed; the call changed nothing.
    Timeout,
    /// The call may have been applied or not, and this could not be found out.
    Indeterminate,
    /// Bytes arrived or are stored that do not match their checksum or length.
    Corrupt,
    /// A value is larger than the provider takes.
    TooLarge,
    /// A disk, quota or budget is used up.
    ResourceExhausted,
    /// This provider cannot do this; its capabilities say so.
    Unsupported,
    /// Content could not be parsed or encoded (JSON, CSV, Parquet, a record).
    InvalidFormat,
    /// The caller or the platform cancelled the work.
    Cancelled,
    /// Something else; the message and the source say what.
    Internal,
}

impl ErrorKind {
    /// The anchor of this kind in the [errors guide](crate::guide::errors), stable across releases.
    #[must_use]
    pub const fn anchor(self) -> &'static str {
        match self {
            Self::InvalidInput => "invalid-input",
            Self::InvalidConfig => "invalid-config",
            Self::NotFound => "not-found",
            Self::AlreadyExists => "already-exists",
            Self::PreconditionFailed => "precondition-failed",
            Self::Conflict => "conflict",
            Self::NotModified => "not-modified",
            Self::RangeNotSatisfiable => "range-not-satisfiable",
            Self::VersionDisabled => "version-disabled",
            Self::PermissionDenied => "permission-denied",
            Self::Unauthenticated => "unauthenticated",
            Self::Throttled => "throttled",
            Self::Unavailable => "unavailable",
            Self::Timeout => "timeout",
            Self::Indeterminate => "indeterminate",
            Self::Corrupt => "corrupt",
            Self::TooLarge => "too-large",
            Self::ResourceExhausted => "resource-exhausted",
            Self::Unsupported => "unsupported",
            Self::InvalidFormat => "invalid-format",
            Self::Cancelled => "cancelled",
            Self::Internal => "internal",
        }
    }

    /// Every kind, for tables and tests.
    #[must_use]
    pub const fn all() -> &'static [Self] {
        &[
            Self::InvalidInput,
            Self::InvalidConfig,
            Self::NotFound,
            Self::AlreadyExists,
            Self::PreconditionFailed,
            Self::Conflict,
            Self::NotModified,
            Self::RangeNotSatisfiable,
            Self::VersionDisabled,
            Self::PermissionDenied,
            Self::Unauthenticated,
            Self::Throttled,
            Self::Unavailable,
            Self::Timeout,
            Self::Indeterminate,
            Self::Corrupt,
            Self::TooLarge,
            Self::ResourceExhausted,
            Self::Unsupported,
            Self::InvalidFormat,
            Self::Cancelled,
            Self::Internal,
        ]
    }

    const fn usually_passes(self) -> bool {
        matches!(self, Self::Conflict | Self::Throttled | Self::Unavailable | Self::Timeout)
    }
}

impl fmt::Display for ErrorKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.anchor().replace('-', " "))
    }
}

/// Why a call failed: the kind, the operation and its subject, and what the provider said.
///
/// One line of `Display`, with control characters escaped; the source is not repeated in it. Values of secrets, payloads and signed URLs are never
/// part of an error, and errors of secret operations keep no source from a provider's SDK.
pub struct Error(Box<Inner>);

struct Inner {
    kind: ErrorKind,
    operation: &'static str,
    subject: String,
    message: String,
    code: Option<String>,
    status: Option<u16>,
    request_id: Option<String>,
    retry_after: Option<Duration>,
    may_have_applied: bool,
    write_id: Option<WriteId>,
    source: Option<Box<dyn StdError + Send + Sync>>,
}

impl Error {
    /// An error of `kind`, raised by `operation` (such as `object_store.put`) on `subject` (a URI where there is one).
    ///
    /// Providers outside this crate build their errors with this and the `with_…` methods.
    #[must_use]
    pub fn new(
        kind: ErrorKind,
        operation: &'static str,
        subject: impl fmt::Display,
        message: impl Into<String>,
    ) -> Self {
        Self(Box::new(Inner {
            kind,
            operation,
            subject: subject.to_string(),
            message: message.into(),
            code: None,
            status: None,
            request_id: None,
            retry_after: None,
            may_have_applied: kind == ErrorKind::Indeterminate,
            write_id: None,
            source: None,
        }))
    }

    /// Adds the provider's own error code, such as `NoSuchKey`.
    #[must_use]
    pub fn with_code(mut self, code: impl Into<String>) -> Self {
        self.0.code = Some(code.into());
        self
    }

    /// Adds the HTTP status of the answer.
    #[must_use]
    pub fn with_status(mut self, status: u16) -> Self {
        self.0.status = Some(status);
        self
    }

    /// Adds the provider's id of the request.
    #[must_use]
    pub fn with_request_id(mut self, id: impl Into<String>) -> Self {
        self.0.request_id = Some(id.into());
        self
    }

    /// Adds how long the provider asks to wait.
    #[must_use]
    pub fn with_retry_after(mut self, wait: Duration) -> Self {
        self.0.retry_after = Some(wait);
        self
    }

    /// Says that bytes of the request may have reached the provider and been acted upon.
    ///
    /// The retry loop repeats such a failure only for a call that is safe to repeat; otherwise it becomes
    /// [`ErrorKind::Indeterminate`].
    #[must_use]
    pub fn with_may_have_applied(mut self) -> Self {
        self.0.may_have_applied = true;
        self
    }

    /// Adds the id of the write, by which it can be recognised later.
    #[must_use]
    pub fn with_write_id(mut self, id: WriteId) -> Self {
        self.0.write_id = Some(id);
        self
    }

    /// Adds the cause. Not for errors of secret operations: an SDK's error may print the request.
    #[must_use]
    pub fn with_source(mut self, source: impl Into<Box<dyn StdError + Send + Sync>>) -> Self {
        self.0.source = Some(source.into());
        self
    }

    /// The same error under another kind: a caller that knows more may say more.
    #[must_use]
    pub fn with_kind(mut self, kind: ErrorKind) -> Self {
        self.0.kind = kind;
        if kind == ErrorKind::Indeterminate {
            self.0.may_have_applied = true;
        }
        self
    }

    /// The same error with another sentence.
    #[must_use]
    pub fn with_message(mut self, message: impl Into<String>) -> Self {
        self.0.message = message.into();
        self
    }

    /// The same error, raised on behalf of another operation and subject.
    #[must_use]
    pub fn with_operation(mut self, operation: &'static str, subject: impl fmt::Display) -> Self {
        self.0.operation = operation;
        self.0.subject = subject.to_string();
        self
    }

    /// The same failure as a call that may have been applied: [`ErrorKind::Indeterminate`].
    #[must_use]
    pub fn into_indeterminate(mut self) -> Self {
        if self.0.kind != ErrorKind::Indeterminate {
            self.0.message = format!("the change may or may not have been made: {}", self.0.message);
        }
        self.with_kind(ErrorKind::Indeterminate)
    }

    /// What went wrong, in terms that are the same on every provider.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        self.0.kind
    }

    /// The operation, such as `secret_store.get`.
    #[must_use]
    pub fn operation(&self) -> &'static str {
        self.0.operation
    }

    /// What the operation was about: a URI, a name or a variable.
    #[must_use]
    pub fn subject(&self) -> &str {
        &self.0.subject
    }

    /// The sentence that says what happened.
    #[must_use]
    pub fn message(&self) -> &str {
        &self.0.message
    }

    /// The provider's own error code.
    #[must_use]
    pub fn code(&self) -> Option<&str> {
        self.0.code.as_deref()
    }

    /// The HTTP status of the answer, where there was one.
    #[must_use]
    pub fn status(&self) -> Option<u16> {
        self.0.status
    }

    /// The provider's id of the request, for its support.
    #[must_use]
    pub fn request_id(&self) -> Option<&str> {
        self.0.request_id.as_deref()
    }

    /// How long the provider asked to wait before the next attempt.
    #[must_use]
    pub fn retry_after(&self) -> Option<Duration> {
        self.0.retry_after
    }

    /// The id of the write that this error is about, to be looked up by
    /// [`find_write`](crate::ObjectStoreExt::find_write).
    #[must_use]
    pub fn write_id(&self) -> Option<&WriteId> {
        self.0.write_id.as_ref()
    }

    /// Whether the same call may succeed later and can be repeated without doing anything twice.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        self.0.kind.usually_passes() && !self.0.may_have_applied
    }

    /// Whether a change may have been made although the call failed.
    #[must_use]
    pub fn is_indeterminate(&self) -> bool {
        self.0.kind == ErrorKind::Indeterminate
    }

    /// Whether the failure is of the kind that passes by itself, whatever became of the call.
    #[allow(dead_code, reason = "each provider feature uses it; without any there is no caller")]
    pub(crate) fn is_transient(&self) -> bool {
        self.0.kind.usually_passes()
    }

    #[allow(dead_code, reason = "each provider feature uses it; without any there is no caller")]
    pub(crate) fn may_have_applied(&self) -> bool {
        self.0.may_have_applied
    }

    /// Where the documentation says what to do about it.
    #[must_use]
    pub fn help_url(&self) -> String {
        format!("https://docs.rs/anycloud/latest/anycloud/guide/errors/index.html#{}", self.0.kind.anchor())
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Inner { kind, operation, subject, message, code, status, .. } = &*self.0;
        write!(f, "{operation} `{}`: {kind}", OneLine(subject))?;
        if !message.is_empty() {
            write!(f, ": {}", OneLine(message))?;
        }
        match (code, status) {
            (Some(code), Some(status)) => write!(f, " ({code}, HTTP {status})"),
            (Some(code), None) => write!(f, " ({code})"),
            (None, Some(status)) => write!(f, " (HTTP {status})"),
            (None, None) => Ok(()),
        }
    }
}

/// Text in which control characters are escaped: a name that somebody else has chosen must not write a line of its
/// own into a log, nor a command to a terminal.
struct OneLine<'a>(&'a str);

impl fmt::Display for OneLine<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut rest = self.0;
        while let Some(at) = rest.find(char::is_control) {
            let (before, from) = rest.split_at(at);
            let width = from.chars().next().map_or(0, char::len_utf8);
            let (control, after) = from.split_at(width);
            write!(f, "{before}{}", control.escape_debug())?;
            rest = after;
        }
        f.write_str(rest)
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let inner = &*self.0;
        f.debug_struct("Error")
            .field("kind", &inner.kind)
            .field("operation", &inner.operation)
            .field("subject", &inner.subject)
            .field("message", &inner.message)
            .field("code", &inner.code)
            .field("status", &inner.status)
            .field("request_id", &inner.request_id)
            .field("retry_after", &inner.retry_after)
            .field("write_id", &inner.write_id)
            .field("source", &inner.source)
            .finish_non_exhaustive()
    }
}

impl StdError for Error {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.0.source.as_deref().map(|source| source as _)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn display_names_operation_subject_and_provider_code_on_one_line() {
        let error = Error::new(ErrorKind::NotFound, "object_store.get", "s3://b/k", "there is no such object")
            .with_code("NoSuchKey")
            .with_status(404);
        assert_eq!(
            error.to_string(),
            "object_store.get `s3://b/k`: not found: there is no such object (NoSuchKey, HTTP 404)"
        );
    }

    #[test]
    fn a_name_with_control_characters_writes_no_line_and_no_command() {
        let error = Error::new(ErrorKind::InvalidInput, "object_uri", "a\n\u{1b}[2Jb", "one\r\ntwo");
        assert_eq!(error.to_string(), r"object_uri `a\n\u{1b}[2Jb`: invalid input: one\r\ntwo");
        assert_eq!(error.subject(), "a\n\u{1b}[2Jb");
    }

    #[test]
    fn a_transient_failure_that_may_have_applied_is_not_retryable() {
        let error = Error::new(ErrorKind::Unavailable, "job_runner.run", "train", "the connection was reset");
        assert!(error.is_retryable());
        assert!(!error.with_may_have_applied().is_retryable());
    }

    #[test]
    fn every_kind_has_its_section_in_the_errors_guide() {
        let guide = include_str!("../docs/errors.md");
        for kind in ErrorKind::all() {
            let heading = format!("\n## {}\n", kind.anchor().replace('-', " "));
            assert!(guide.to_lowercase().contains(&heading), "docs/errors.md has no section for {kind:?}");
        }
    }
}
