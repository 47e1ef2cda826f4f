//! The shapes that no emulator shows, answered by a scripted ECS below the SDK.

mod looking;
mod script;
mod starting;
mod waiting;
