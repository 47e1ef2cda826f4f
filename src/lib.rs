//! x

#[cfg(feature = "gcp-emulator")]
pub mod gcp_emulator;
