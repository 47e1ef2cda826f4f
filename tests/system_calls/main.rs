//! The `local` provider when the kernel says no: every file call of every operation failed, interrupted or made the
//! last one of the process, from outside with strace; a full disk; a limit on the size of files.
//!
//! What needs strace, user namespaces or the right to trace is skipped with the reason; with
//! `ANYCLOUD_TEST_REQUIRE_ALL` set, that is a failure.
#![allow(clippy::disallowed_methods, reason = "the environment says whether trials may be skipped")]
#![allow(clippy::print_stdout, reason = "trials print their counts, and processes their answers")]
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod injection;
mod operation;
mod scratch;
mod space;
mod traced;

use libtest_mimic::{Arguments, Failed, Trial};

/// A trial, or why it cannot be run here.
fn trial(name: &'static str, possible: &Result<(), String>, run: fn() -> Result<(), Failed>) -> Trial {
    match possible {
        Ok(()) => Trial::test(name, run),
        Err(reason) if std::env::var_os("ANYCLOUD_TEST_REQUIRE_ALL").is_some() => {
            let reason = reason.clone();
            Trial::test(name, move || Err(reason.into()))
        }
        Err(reason) => {
            println!("{name}: skipped, {reason}");
            Trial::test(name, || Ok(())).with_ignored_flag(true)
        }
    }
}

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        [traced::ARGUMENT, operation, root] => return traced::perform(operation, root.as_ref()),
        [space::ARGUMENT, root] => return space::fill(root.as_ref()),
        _ => {}
    }
    let (strace, namespaces) = (traced::possible(), space::namespaces());
    let trials = vec![
        trial("a_failed_call_is_an_error_that_changes_nothing", &strace, || injection::run(&injection::FAILURES)),
        trial("an_interrupted_call_is_not_noticed", &strace, || injection::run(&[injection::Fault::Eintr])),
        trial("a_process_killed_at_any_call_leaves_the_old_or_the_new", &strace, || {
            injection::run(&[injection::Fault::Kill])
        }),
        trial("a_full_disk_leaves_no_short_object", &namespaces, space::full_disk),
        trial("a_limit_on_the_size_of_files_leaves_no_short_object", &Ok(()), space::file_size_limit),
        trial("a_process_ended_by_the_limit_leaves_no_short_object", &Ok(()), space::ended_by_the_limit),
    ];
    libtest_mimic::run(&Arguments::from_args(), trials).exit();
}
