//! Cases that fail for a known gap of an emulator, each with where the gap can be seen. A case listed here that
//! passes is a failure.

const GAPS: &[(&str, &str)] = &[
    (
        "aws::object_store::a_conditional_delete_deletes_only_the_version_that_it_names",
        "LocalStack answers DeleteObject with If-Match with 501: `delete_object` in \
         https://github.com/localstack/localstack/blob/main/localstack-core/localstack/services/s3/provider.py",
    ),
    (
        "aws::job_runner::a_job_that_is_asked_to_end_has_the_grace_to_save_its_work",
        "MiniStack kills a container 5 s after StopTask, whatever its `stopTimeout`: `_remove_docker_container` in \
         https://github.com/ministackorg/ministack/blob/main/ministack/services/ecs.py",
    ),
    ("gcp::object_store::a_conditional_delete_deletes_only_the_version_that_it_names", UNCONDITIONAL),
    ("gcp::object_store::a_copy_keeps_to_its_preconditions", UNCONDITIONAL),
    ("gcp::object_store::a_create_only_upload_refuses_to_overwrite", UNCONDITIONAL_UPLOAD),
    ("gcp::object_store::an_upload_replaces_only_the_version_that_it_names", UNCONDITIONAL_UPLOAD),
    ("gcp::object_store::a_signed_create_refuses_to_overwrite", UNSIGNED),
    ("gcp::object_store::a_signed_download_needs_no_credentials", UNSIGNED),
    ("gcp::object_store::a_tampered_signature_is_refused", UNSIGNED),
    ("gcp::object_store::a_signature_is_good_for_one_method_only", UNSIGNED),
    ("gcp::object_store::an_expired_signature_is_refused", UNSIGNED),
];

const UNCONDITIONAL: &str = "fake-gcs-server reads no preconditions in `deleteObject` and `rewriteObject`: \
    https://github.com/fsouza/fake-gcs-server/blob/main/fakestorage/object.go";
const UNCONDITIONAL_UPLOAD: &str = "fake-gcs-server reads no preconditions in `resumableUpload`: \
    https://github.com/fsouza/fake-gcs-server/blob/main/fakestorage/upload.go";
const UNSIGNED: &str = "fake-gcs-server serves signed URLs without reading anything of the signature, the expiry, the \
    signed headers and the overrides of the answer's headers: \
    https://github.com/fsouza/fake-gcs-server/blob/main/fakestorage/server.go";

pub(crate) fn reason(trial: &str) -> Option<&'static str> {
    GAPS.iter().find(|(name, _)| *name == trial).map(|(_, reason)| *reason)
}
