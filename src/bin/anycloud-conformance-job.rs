//! The program that the conformance suite runs as a job.

fn main() -> std::process::ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    anycloud::conformance::job_runner::program(&args)
}
