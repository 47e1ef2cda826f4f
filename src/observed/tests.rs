use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::TryStreamExt as _;
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Metadata, Subscriber};

use crate::config::LocalJob;
use crate::job_runner::{ListExecutions, LogOptions};
use crate::object_store::{ByteRange, CopyOptions, DeleteOptions, HeadOptions, ListOptions, SignOptions};
use crate::secret_store::{CreateSecretOptions, DeleteSecret, ListSecrets};
use crate::{
    Cloud, Config, ErrorKind, GetOptions, IdempotencyKey, JobName, JobRequest, ObjectKey, PutOptions, SecretAlias,
    SecretName, SecretStoreExt as _, VersionSelector,
};

/// What was told to the subscriber.
#[derive(Debug, Default)]
struct Told {
    /// The fields of every span, in the order in which they were made.
    spans: Vec<BTreeMap<String, String>>,
    events: String,
}

#[derive(Clone, Default)]
struct Spans(Arc<Mutex<Told>>);

struct Fields<'a>(&'a mut BTreeMap<String, String>);

impl Visit for Fields<'_> {
    fn record_debug(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
        self.0.insert(field.name().to_owned(), format!("{value:?}").trim_matches('"').to_owned());
    }
}

impl Subscriber for Spans {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.target().starts_with("anycloud")
    }

    fn new_span(&self, attributes: &Attributes<'_>) -> Id {
        let mut fields = BTreeMap::new();
        attributes.record(&mut Fields(&mut fields));
        let mut inner = self.0.lock().unwrap();
        inner.spans.push(fields);
        Id::from_u64(inner.spans.len() as u64)
    }

    fn record(&self, span: &Id, values: &Record<'_>) {
        let mut inner = self.0.lock().unwrap();
        let at = span.into_u64() as usize - 1;
        values.record(&mut Fields(&mut inner.spans[at]));
    }

    fn event(&self, event: &Event<'_>) {
        let mut fields = BTreeMap::new();
        event.record(&mut Fields(&mut fields));
        writeln!(self.0.lock().unwrap().events, "{fields:?}").unwrap();
    }

    fn record_follows_from(&self, _: &Id, _: &Id) {}
    fn enter(&self, _: &Id) {}
    fn exit(&self, _: &Id) {}
}

impl Spans {
    /// What the spans of an operation say about how it ended.
    fn errors(&self, operation: &str) -> Vec<Option<String>> {
        let inner = self.0.lock().unwrap();
        let of = inner.spans.iter().filter(|fields| fields.get("otel.name").is_some_and(|name| name == operation));
        of.map(|fields| fields.get("error.type").cloned()).collect()
    }
}

fn observed() -> (Spans, tracing::subscriber::DefaultGuard, Cloud, std::path::PathBuf) {
    let spans = Spans::default();
    let guard = tracing::subscriber::set_default(spans.clone());
    // What other tests, without a subscriber, have taught the places that open spans.
    tracing::callsite::rebuild_interest_cache();
    let root = std::env::temp_dir().join(format!("anycloud-observed-{}", crate::random::uuid()));
    let mut config = Config::local(&root);
    config.local.signed_url_base = Some("http://127.0.0.1:9/files".to_owned());
    let job = LocalJob { command: vec!["true".to_owned()], ..LocalJob::default() };
    let cloud = Cloud::connect(config.with_local_job(JobName::new("job").unwrap(), job)).unwrap();
    (spans, guard, cloud, root)
}

#[tokio::test]
async fn every_operation_has_a_span_and_none_holds_what_is_secret() {
    let (spans, _guard, cloud, root) = observed();
    let (objects, secrets, jobs) = (cloud.objects(), cloud.secrets(), cloud.jobs());
    let (a, b) = (ObjectKey::new("a").unwrap(), ObjectKey::new("b").unwrap());
    objects.put(&a, "payload-hunter1".into(), PutOptions::default()).await.unwrap();
    let mut upload = objects.start_upload(&b, PutOptions::default()).await.unwrap();
    upload.put_part("payload-hunter1".into()).await.unwrap();
    upload.finish(crate::object_store::Crc32c::of(b"payload-hunter1")).await.unwrap();
    objects.start_upload(&b, PutOptions::default()).await.unwrap().abort().await.unwrap();
    objects.get(&a, GetOptions::default()).await.unwrap().bytes().await.unwrap();
    objects.head(&a, HeadOptions::default()).await.unwrap();
    objects.list(ListOptions::default()).try_collect::<Vec<_>>().await.unwrap();
    objects.copy(&a, &b, CopyOptions::default()).await.unwrap();
    let signed = objects.sign(&a, SignOptions::get(Duration::from_secs(60))).await.unwrap();
    objects.delete(&a, DeleteOptions::default()).await.unwrap();
    objects.delete_many(vec![b]).await;
    objects.abort_stale_uploads(Duration::ZERO).await.unwrap();

    let (name, alias) = (SecretName::new("s").unwrap(), SecretAlias::new("stable").unwrap());
    let first = secrets.create(&name, "value-hunter2".into(), CreateSecretOptions::default()).await.unwrap();
    secrets.put_value(&name, "value-hunter3").await.unwrap();
    secrets.get(&name, &VersionSelector::Latest).await.unwrap();
    secrets.describe(&name).await.unwrap();
    secrets.list(ListSecrets::default()).try_collect::<Vec<_>>().await.unwrap();
    secrets.list_versions(&name).try_collect::<Vec<_>>().await.unwrap();
    secrets.set_alias(&name, &alias, Some(&first)).await.unwrap();
    secrets.promote(&name, &first).await.unwrap();
    secrets.disable(&name, &first).await.unwrap();
    secrets.enable(&name, &first).await.unwrap();
    secrets.destroy(&name, &first).await.unwrap();
    secrets.delete(&name, DeleteSecret::Recoverable { days: 7 }).await.unwrap();
    secrets.restore(&name).await.unwrap();

    let absent = crate::ExecutionId::new("job/none").unwrap();
    let request = JobRequest { payload: Some("payload-hunter1".into()), ..JobRequest::default() };
    let _ = jobs.run(&JobName::new("absent").unwrap(), request).await;
    jobs.find(&JobName::new("job").unwrap(), &IdempotencyKey::random(), 1).await.unwrap();
    let _ = jobs.get(&absent).await;
    jobs.get_many(std::slice::from_ref(&absent)).await;
    jobs.list(ListExecutions::default()).try_collect::<Vec<_>>().await.unwrap();
    let _ = jobs.cancel(&absent).await;
    let _ = jobs.logs(&absent, LogOptions::default()).try_collect::<Vec<_>>().await;

    let object_operations = [
        "put",
        "start_upload",
        "put_part",
        "finish_upload",
        "abort_upload",
        "get",
        "head",
        "list",
        "copy",
        "sign",
        "delete",
        "delete_many",
        "abort_stale_uploads",
    ];
    let secret_operations = [
        "create",
        "put",
        "get",
        "describe",
        "list",
        "list_versions",
        "set_alias",
        "promote",
        "disable",
        "enable",
        "destroy",
        "delete",
        "restore",
    ];
    for operation in object_operations.map(|name| format!("object_store.{name}")) {
        let errors = spans.errors(&operation);
        assert!(!errors.is_empty() && errors.iter().all(Option::is_none), "{operation}: {errors:?}");
    }
    for operation in secret_operations.map(|name| format!("secret_store.{name}")) {
        assert_eq!(spans.errors(&operation), [None], "{operation}");
    }
    for operation in ["find", "list"].map(|name| format!("job_runner.{name}")) {
        assert_eq!(spans.errors(&operation), [None], "{operation}");
    }
    for operation in ["run", "get", "get_many", "cancel", "logs"].map(|name| format!("job_runner.{name}")) {
        assert_eq!(spans.errors(&operation), [Some("not-found".to_owned())], "{operation}");
    }
    let shown = format!("{:?}", spans.0.lock().unwrap());
    let (_, signature) = signed.url.expose().rsplit_once('=').unwrap();
    assert!(!shown.contains("hunter") && !shown.contains(signature), "{shown}");
    std::fs::remove_dir_all(root).unwrap();
}

#[tokio::test]
async fn refused_input_is_seen_in_the_span_too() {
    let (spans, _guard, cloud, _) = observed();
    let key = ObjectKey::new("a").unwrap();
    let get = GetOptions { range: Some(ByteRange::Last(0)), ..GetOptions::default() };
    assert_eq!(cloud.objects().get(&key, get).await.unwrap_err().kind(), ErrorKind::InvalidInput);
    let list = ListOptions { page_size: Some(0), ..ListOptions::prefix("p/") };
    let error = cloud.objects().list(list).try_collect::<Vec<_>>().await.unwrap_err();
    assert_eq!((error.kind(), error.subject()), (ErrorKind::InvalidInput, "local://main/p/"));
    let name = SecretName::new("s").unwrap();
    assert_eq!(cloud.secrets().put_value(&name, "").await.unwrap_err().kind(), ErrorKind::InvalidInput);
    for operation in ["object_store.get", "object_store.list", "secret_store.put"] {
        assert_eq!(spans.errors(operation), [Some("invalid-input".to_owned())], "{operation}");
    }
}

#[tokio::test]
async fn a_label_that_could_be_a_part_of_a_filter_is_refused_in_listings() {
    let (_, _guard, cloud, _) = observed();
    let labels: BTreeMap<_, _> = [("team".to_owned(), "a OR name:x".to_owned())].into();
    let list = ListSecrets { labels: labels.clone(), ..ListSecrets::default() };
    let secrets = cloud.secrets().list(list).try_collect::<Vec<_>>().await;
    assert_eq!(secrets.unwrap_err().kind(), ErrorKind::InvalidInput);
    let list = ListExecutions { labels, ..ListExecutions::default() };
    let executions = cloud.jobs().list(list).try_collect::<Vec<_>>().await;
    assert_eq!(executions.unwrap_err().kind(), ErrorKind::InvalidInput);
}
