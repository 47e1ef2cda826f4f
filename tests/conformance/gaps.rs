//! Cases that fail for a known gap of an emulator, each with where the gap can be seen. A case listed here that
//! passes is a failure.

const GAPS: &[(&str, &str)] = &[
    (
        "aws::object_store::a_conditional_delete_deletes_only_the_version_that_it_names",
        "LocalStack answers DeleteObject with If-Match with 501: `delete_object` in \
     https://github.com/localstack/localstack/blob/main/localstack-core/localstack/services/s3/provider.py",
    ),
    // fake-gcs-server 1.54 judges preconditions of multipart uploads only, and does not look at signatures. Each line is
    // how to see it.
    (
        "gcp::object_store::a_conditional_delete_deletes_only_the_version_that_it_names",
        "DELETE …/o/k?ifGenerationMatch=1 deletes whatever generation there is",
    ),
    (
        "gcp::object_store::a_copy_keeps_to_its_preconditions",
        "POST …/o/a/rewriteTo/b/b/o/k?ifGenerationMatch=0 replaces what is there",
    ),
    (
        "gcp::object_store::a_create_only_upload_refuses_to_overwrite",
        "a session of POST …?uploadType=resumable&ifGenerationMatch=0 replaces what is there",
    ),
    (
        "gcp::object_store::an_upload_replaces_only_the_version_that_it_names",
        "a session of POST …?uploadType=resumable&ifGenerationMatch=1 replaces whatever generation there is",
    ),
    (
        "gcp::object_store::a_signed_download_needs_no_credentials",
        "GET /b/k?response-content-disposition=attachment answers without Content-Disposition",
    ),
    ("gcp::object_store::a_tampered_signature_is_refused", "GET /b/k?X-Goog-Signature=00 answers 200"),
    (
        "gcp::object_store::a_signature_is_good_for_one_method_only",
        "PUT /b/k?X-Goog-Algorithm=…, signed for GET, answers 200",
    ),
    ("gcp::object_store::an_expired_signature_is_refused", "GET /b/k?X-Goog-Expires=1 answers 200 at any time"),
    (
        "gcp::object_store::a_signed_create_refuses_to_overwrite",
        "PUT /b/k with x-goog-if-generation-match: 0 replaces what is there",
    ),
];

pub(crate) fn reason(trial: &str) -> Option<&'static str> {
    GAPS.iter().find(|(name, _)| *name == trial).map(|(_, reason)| *reason)
}
