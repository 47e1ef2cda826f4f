//! Cases that fail for a known gap of an emulator, each with where the gap can be seen. A case listed here that
//! passes is a failure.

const GAPS: &[(&str, &str)] = &[(
    "aws::object_store::a_conditional_delete_deletes_only_the_version_that_it_names",
    "LocalStack answers DeleteObject with If-Match with 501: `delete_object` in \
     https://github.com/localstack/localstack/blob/main/localstack-core/localstack/services/s3/provider.py",
)];

pub(crate) fn reason(trial: &str) -> Option<&'static str> {
    GAPS.iter().find(|(name, _)| *name == trial).map(|(_, reason)| *reason)
}
