//! The program that users start.

use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{Child, Command, Stdio};

use crate::http::Http;

/// A program that is killed when a test ends early.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn it_says_how_to_reach_it_and_ends_on_sigterm() {
    let jobs = std::env::temp_dir().join(format!("anycloud-emulator-jobs-{}.json", std::process::id()));
    let job = r#"{"template": {"template": {"containers": [{"image": "i"}]}}}"#;
    let text = format!(r#"{{"jobs": {{"projects/p/locations/l/jobs/j": {job}}}, "images": {{"i": ["true"]}}}}"#);
    std::fs::File::create(&jobs).and_then(|mut file| file.write_all(text.as_bytes())).expect("a file");
    let child = Command::new(env!("CARGO_BIN_EXE_anycloud-gcp-emulator"))
        .args(["--bucket", "mine", "--jobs"])
        .arg(&jobs)
        .stdout(Stdio::piped())
        .spawn()
        .expect("the program starts");
    let mut running = Running(child);
    let output = running.0.stdout.take().expect("its output");
    let lines: Vec<String> = BufReader::new(output).lines().take(5).collect::<Result<_, _>>().expect("five lines");
    let url = lines[0].strip_prefix("# serving on ").expect("the URL");
    for name in ["STORAGE_EMULATOR_HOST", "SECRET_MANAGER_EMULATOR_HOST", "CLOUD_RUN_EMULATOR_HOST"] {
        assert!(lines.contains(&format!("export {name}={url}")), "{lines:?}");
    }
    let http = Http::new(url);
    let get = |path: &str| http.send("GET", path, &[], b"").expect("an answer").status;
    assert_eq!(get("/storage/v1/b/mine"), 200);
    assert_eq!(get("/v2/projects/p/locations/l/jobs/j"), 200);
    let pid = rustix::process::Pid::from_child(&running.0);
    rustix::process::kill_process(pid, rustix::process::Signal::TERM).expect("a signal");
    assert!(running.0.wait().expect("its end").success());
    std::fs::remove_file(&jobs).expect("the file goes");
}

#[test]
fn an_option_that_it_does_not_know_is_refused() {
    let output = Command::new(env!("CARGO_BIN_EXE_anycloud-gcp-emulator"))
        .args(["--colour", "red"])
        .output()
        .expect("the program starts");
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&output.stderr).contains("unknown option --colour"));
}
