use anycloud::{JobName, Result};
use futures_util::TryStreamExt as _;

use super::{Family, Operation, Scene, Truth, done, steps};

fn request(scene: &Scene) -> anycloud::JobRequest {
    let key = anycloud::IdempotencyKey::new(format!("{}-key", scene.name)).expect("a key");
    anycloud::JobRequest { idempotency_key: Some(key), ..Default::default() }
}

/// A job that runs, and that the server finds already.
async fn begin_job(scene: &Scene) -> Result<()> {
    let execution = scene.clean_jobs().run(&scene.long, request(scene)).await?;
    scene.clean_jobs().get(&execution.id).await?;
    scene.note("execution", execution.id);
    Ok(())
}

fn execution(scene: &Scene) -> anycloud::ExecutionId {
    anycloud::ExecutionId::new(scene.noted("execution")).expect("an id")
}

async fn job_truth(scene: &Scene, job: &JobName) -> Result<Truth> {
    let runs = match &scene.begun {
        Some(begun) => begun(job).await?,
        None => {
            let options = anycloud::job_runner::ListExecutions { job: Some(job.clone()), ..Default::default() };
            scene.clean_jobs().list(options).try_collect::<Vec<_>>().await?.len()
        }
    };
    Ok(match runs {
        0 => Truth::NotApplied,
        1 => Truth::Applied,
        many => Truth::Broken(format!("{many} runs of one submission")),
    })
}

pub(super) const OPERATIONS: &[Operation] = steps! {
    "run" Jobs {
        prepare(_s) { Ok(()) }
        act(s) { s.jobs().run(&s.quick, request(s)).await.map(done) }
        truth(s) { job_truth(s, &s.quick).await }
    }
    "run_without_key" Jobs {
        prepare(_s) { Ok(()) }
        act(s) { s.jobs().run(&s.quick, Default::default()).await.map(done) }
        truth(s) { job_truth(s, &s.quick).await }
    }
    "find" Jobs {
        prepare(s) { begin_job(s).await }
        act(s) {
            let key = request(s).idempotency_key.expect("it has one");
            let found = s.jobs().find(&s.long, &key, 1).await?;
            Ok(format!("{}", found.is_some_and(|found| found.id == execution(s))))
        }
    }
    "get" Jobs {
        prepare(s) { begin_job(s).await }
        act(s) { s.jobs().get(&execution(s)).await.map(|found| format!("{}", found.state.is_finished())) }
    }
    "get_many" Jobs {
        prepare(s) { begin_job(s).await }
        act(s) {
            let mut found = s.jobs().get_many(&[execution(s)]).await;
            let found = found.pop().expect("there is one answer for each")?;
            Ok(format!("{}", found.state.is_finished()))
        }
    }
    "list" Jobs {
        prepare(s) { begin_job(s).await }
        act(s) {
            let options =
                anycloud::job_runner::ListExecutions { job: Some(s.long.clone()), ..Default::default() };
            let all: Vec<_> = s.jobs().list(options).try_collect().await?;
            Ok(format!("{} executions", all.len()))
        }
    }
    "cancel" Jobs {
        prepare(s) { begin_job(s).await }
        act(s) { s.jobs().cancel(&execution(s)).await.map(done) }
        truth(s) {
            use anycloud::JobState;
            let found = s.clean_jobs().get(&execution(s)).await?;
            Ok(match found.state {
                JobState::Stopping | JobState::Finished(_) => Truth::Applied,
                _ => Truth::NotApplied,
            })
        }
    }
};
