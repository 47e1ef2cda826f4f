//! Executions after a power cut: none torn, none forgotten, none begun a second time, and no end but the one that was
//! seen.

use bytes::Bytes;
use futures_util::TryStreamExt as _;

use super::*;
use crate::JobOutcome;
use crate::job_runner::LogMode;
use crate::local::crash_states::{JOBS, Recording, Unsynced, play};
use crate::local::file_operations::Place;

const WAITING: &str = "waiting";
/// The supervisor is gone with the power.
const LOST: &str = "Lost";

/// What a caller does with an execution, and what is done with it.
#[derive(Clone, Copy, Debug)]
enum Story {
    /// Its tasks end.
    Ends,
    /// It is cancelled, and its tasks end.
    IsCancelled,
    /// No supervisor could be started.
    IsWithdrawn,
    /// Its caller dies before a supervisor is started, and another one cancels it.
    IsNeverBegun,
    /// Its supervisor dies.
    IsLost,
    /// Its caller dies before a supervisor is started, and another one makes the same submission.
    IsBegunByAnother,
}

const STORIES: [Story; 6] =
    [Story::Ends, Story::IsWithdrawn, Story::IsNeverBegun, Story::IsCancelled, Story::IsBegunByAnother, Story::IsLost];

struct Live {
    recording: Arc<Recording>,
    supervisors: Arc<Supervisors>,
    runner: ProcessRunner,
}

impl Live {
    fn new(root: &Path) -> Self {
        let recording = Arc::new(Recording::below(root));
        let supervisors = Arc::new(Supervisors::default());
        let start = {
            let (recording, supervisors) = (Arc::clone(&recording), Arc::clone(&supervisors));
            move |directory: &Directory| {
                let key = directory.claim()?.key;
                if key.as_str().starts_with("IsWithdrawn") {
                    return Err(Error::new(ErrorKind::ResourceExhausted, "supervisor", "test", "no more processes"));
                }
                recording.begin(key.as_str(), Some(LOST.into()));
                if supervisors.take_over(directory)? {
                    // Its tasks may be started from now on.
                    recording.acknowledge(key.as_str());
                }
                Ok(())
            }
        };
        let runner = runner(root, recording.clone(), start);
        Self { recording, supervisors, runner }
    }

    fn begin(&self, key: &str, state: impl Into<Bytes>) {
        self.recording.begin(key, Some(state.into()));
    }

    /// What a caller does that dies before it has started a supervisor.
    fn claim(&self, key: &str) {
        self.begin(key, WAITING);
        let request = request(key);
        let submission = Submission::new(&job(), &request).unwrap();
        let directory = Directory::of(&self.runner.home, &job(), &submission.id).unwrap();
        let claim = self.runner.claim(&job(), &request, &submission);
        assert!(directory.claim_with(&claim).unwrap());
        self.recording.acknowledge(key);
        let definition = LocalJob { command: vec!["/bin/true".to_owned()], ..LocalJob::default() };
        directory.set_plan(&self.runner.plan(definition, &request, &submission, &claim).unwrap()).unwrap();
    }

    async fn submit(&self, key: &str) -> ExecutionId {
        self.begin(key, WAITING);
        let execution = self.runner.run(&job(), request(key)).await.unwrap();
        assert!(!execution.state.is_finished());
        execution.id
    }

    async fn end(&self, key: &str, id: &ExecutionId, outcome: JobOutcome) {
        let Charge { lock, mut journal, .. } = self.supervisors.charge(id).unwrap();
        journal.start();
        journal.note(counts(1, 0));
        for line in ["one", "two"] {
            journal.log.line(0, 'o', line.as_bytes());
            journal.log.flush();
        }
        journal.log.line(0, 'o', b"three");
        journal.note(counts(0, 1));
        self.begin(key, format!("{outcome:?} one two three"));
        journal.finish(counts(0, 1), outcome, None, BTreeMap::new());
        drop(lock);
        assert!(self.runner.get(id).await.unwrap().state.is_finished());
        self.recording.acknowledge(key);
    }

    async fn play(&self, story: Story, key: &str) {
        match story {
            Story::Ends => {
                let id = self.submit(key).await;
                self.end(key, &id, JobOutcome::Succeeded).await;
            }
            Story::IsCancelled => {
                let id = self.submit(key).await;
                self.runner.cancel(&id).await.unwrap();
                self.end(key, &id, JobOutcome::Cancelled).await;
            }
            Story::IsWithdrawn => {
                self.begin(key, WAITING);
                self.recording.begin(key, None);
                let error = self.runner.run(&job(), request(key)).await.unwrap_err();
                assert_eq!(error.kind(), ErrorKind::ResourceExhausted);
                self.recording.acknowledge(key);
            }
            Story::IsNeverBegun => {
                self.claim(key);
                self.begin(key, "Cancelled");
                let found = self.runner.find(&job(), &IdempotencyKey::new(key).unwrap(), 1).await.unwrap().unwrap();
                self.runner.cancel(&found.id).await.unwrap();
                self.recording.acknowledge(key);
                let again = self.runner.run(&job(), request(key)).await.unwrap();
                assert!(again.state.is_finished() && self.supervisors.charge(&again.id).is_none());
            }
            Story::IsBegunByAnother => {
                self.claim(key);
                let id = self.submit(key).await;
                self.end(key, &id, JobOutcome::Succeeded).await;
            }
            Story::IsLost => {
                let id = self.submit(key).await;
                drop(self.supervisors.charge(&id).unwrap());
                let lost = self.runner.get(&id).await.unwrap();
                assert_eq!(lost.state, JobState::Finished(JobOutcome::Lost));
            }
        }
    }
}

/// What there is of an execution.
async fn look(runner: &ProcessRunner, execution: &JobExecution) -> String {
    let lines: Vec<LogLine> =
        runner.logs(&execution.id, LogOptions { mode: LogMode::All }).try_collect().await.unwrap();
    match &execution.state {
        JobState::Pending => WAITING.to_owned(),
        // How much of its log is left is no matter.
        JobState::Finished(JobOutcome::Lost) => LOST.to_owned(),
        JobState::Finished(outcome) => [format!("{outcome:?}")]
            .into_iter()
            .chain(lines.into_iter().map(|line| line.text))
            .collect::<Vec<_>>()
            .join(" "),
        other => format!("{other:?}"),
    }
}

/// Opens the runner, looks at everything, and submits everything again.
async fn observe(root: &Path, names: Vec<String>) -> BTreeMap<String, Bytes> {
    let supervisors = Arc::new(Supervisors::default());
    let start = {
        let supervisors = Arc::clone(&supervisors);
        move |directory: &Directory| supervisors.take_over(directory).map(drop)
    };
    let runner = runner(root, Arc::new(Unsynced), start);
    let listed: Vec<JobExecution> = runner.list(ListExecutions::default()).try_collect().await.unwrap();
    let mut there = BTreeMap::new();
    for name in names {
        let found = runner.find(&job(), &IdempotencyKey::new(&name).unwrap(), 1).await.unwrap();
        let Some(found) = found else { continue };
        assert!(listed.iter().any(|execution| execution.id == found.id), "{name} is not listed");
        let state = look(&runner, &found).await;
        let again = runner.run(&job(), request(&name)).await.unwrap();
        let began = supervisors.charge(&again.id).is_some();
        assert_eq!(began, state == WAITING, "{name} was {state}");
        if !began {
            assert_eq!((again.id, again.state), (found.id, found.state), "{name}");
        }
        there.insert(name, state.into());
    }
    assert_eq!(listed.len(), there.len());
    there
}

#[tokio::test]
async fn after_a_power_cut_at_any_point_executions_are_found_and_never_begun_again() {
    let root = std::env::temp_dir().join(format!("anycloud-jobs-{}", random::uuid()));
    std::fs::create_dir(&root).unwrap();
    let live = Live::new(&root);
    // Somebody was killed who had just made the first directory.
    let opened = crate::local::file_operations::open_root(&*live.recording, &root).unwrap();
    live.recording.make_directory(Place { directory: std::os::fd::AsFd::as_fd(&opened), name: "jobs" }, 0o700).unwrap();
    for round in 0..4 {
        for story in STORIES {
            live.play(story, &format!("{story:?}-{round}")).await;
        }
    }
    let states = play(&live.recording, 28, observe).await;
    std::fs::remove_dir_all(root).unwrap();
    assert!(states >= JOBS, "{states}");
}
