//! Looks after one execution of a job of the `local` provider. Started by the job runner, not by hand.

use std::io::Write as _;
use std::process::ExitCode;

fn main() -> ExitCode {
    anycloud::local::supervise_if_asked();
    let mut stderr = std::io::stderr();
    let _ = writeln!(stderr, "anycloud-supervisor is started by the job runner of anycloud's `local` provider.");
    ExitCode::from(2)
}
