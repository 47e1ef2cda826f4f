//! Drives the emulator over plain HTTP.
