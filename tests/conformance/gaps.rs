//! Cases that fail for a known gap of an emulator, each with where the gap can be seen. A case listed here that
//! passes is a failure.

const GAPS: &[(&str, &str)] = &[];

pub(crate) fn reason(trial: &str) -> Option<&'static str> {
    GAPS.iter().find(|(name, _)| *name == trial).map(|(_, reason)| *reason)
}
