//! The operations that the lanes run, each with what it needs, what it does and how to see what became of it.

mod jobs;
mod objects;
mod secrets;

use std::collections::BTreeMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex};

use anycloud::object_store::Version;
use anycloud::{JobName, JobRunner, ObjectKey, ObjectStore, Result, SecretName, SecretStore, SecretValue};

pub(crate) type Step<T> = for<'a> fn(&'a Scene) -> Pin<Box<dyn Future<Output = Result<T>> + Send + 'a>>;

/// One client of each family that the provider has.
#[derive(Clone)]
pub(crate) struct Clients {
    pub(crate) objects: Option<Arc<dyn ObjectStore>>,
    pub(crate) secrets: Option<Arc<dyn SecretStore>>,
    pub(crate) jobs: Option<Arc<dyn JobRunner>>,
}

/// How many tasks the server has ever begun for a job.
pub(crate) type Begun = Arc<dyn Fn(&JobName) -> Pin<Box<dyn Future<Output = Result<usize>> + Send>> + Send + Sync>;

/// Where one cell happens: names of its own, a client that meets faults, and one that does not.
pub(crate) struct Scene {
    pub(crate) name: String,
    pub(crate) faulted: Clients,
    pub(crate) clean: Clients,
    /// A job that ends at once, and one that runs on.
    pub(crate) quick: JobName,
    pub(crate) long: JobName,
    /// Counts past the clients, where a listing would show several runs of one submission as one execution.
    pub(crate) begun: Option<Begun>,
    pub(crate) canary: String,
    pub(crate) noted: Mutex<BTreeMap<&'static str, String>>,
}

/// What the server holds afterwards.
#[derive(Debug, PartialEq)]
pub(crate) enum Truth {
    Applied,
    NotApplied,
    /// Some of several independent changes.
    Partly,
    Broken(String),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Family {
    Objects,
    Secrets,
    Jobs,
}

#[derive(Clone, Copy)]
pub(crate) struct Operation {
    pub(crate) name: &'static str,
    pub(crate) family: Family,
    pub(crate) prepare: Step<()>,
    /// What it answered; of a change, nothing that differs from one run to the next.
    pub(crate) act: Step<String>,
    /// `None` for a read.
    pub(crate) truth: Option<Step<Truth>>,
}

impl Operation {
    /// Whether it meets what other scenes have in the same bucket.
    pub(crate) fn is_of_the_bucket(&self) -> bool {
        self.name == "abort_stale"
    }

    /// Whether it moves so many bytes that fewer of its cells are played, in lane A's matrix only.
    pub(crate) fn is_large(&self) -> bool {
        self.name.ends_with("_large")
    }
}

impl Scene {
    pub(crate) fn key(&self, name: &str) -> ObjectKey {
        ObjectKey::new(format!("{}/{name}", self.name)).expect("a key")
    }

    pub(super) fn secret(&self) -> SecretName {
        SecretName::new(format!("{}-password", self.name)).expect("a name")
    }

    pub(super) fn value(&self, number: u32) -> SecretValue {
        SecretValue::from(format!("{}{number}", self.canary).as_str())
    }

    pub(super) fn objects(&self) -> &Arc<dyn ObjectStore> {
        self.faulted.objects.as_ref().expect("the family is there")
    }

    pub(super) fn secrets(&self) -> &Arc<dyn SecretStore> {
        self.faulted.secrets.as_ref().expect("the family is there")
    }

    pub(crate) fn jobs(&self) -> &Arc<dyn JobRunner> {
        self.faulted.jobs.as_ref().expect("the family is there")
    }

    pub(super) fn clean_objects(&self) -> &Arc<dyn ObjectStore> {
        self.clean.objects.as_ref().expect("the family is there")
    }

    pub(super) fn clean_secrets(&self) -> &Arc<dyn SecretStore> {
        self.clean.secrets.as_ref().expect("the family is there")
    }

    pub(super) fn clean_jobs(&self) -> &Arc<dyn JobRunner> {
        self.clean.jobs.as_ref().expect("the family is there")
    }

    pub(super) fn note(&self, what: &'static str, text: impl ToString) {
        self.noted.lock().expect("no panic before").insert(what, text.to_string());
    }

    pub(super) fn noted(&self, what: &'static str) -> String {
        self.noted.lock().expect("no panic before").get(what).cloned().expect("it was noted")
    }

    pub(super) fn version(&self) -> Version {
        self.noted("version").parse().expect("a version")
    }
}

macro_rules! steps {
    ($($name:literal $family:ident {
        prepare($p:ident) $prepare:block
        act($a:ident) $act:block
        $(truth($t:ident) $truth:block)?
    })*) => {
        &[$(Operation {
            name: $name,
            family: Family::$family,
            prepare: |$p| Box::pin(async move { $prepare }),
            act: |$a| Box::pin(async move { $act }),
            truth: steps!(@truth $($t $truth)?),
        }),*]
    };
    (@truth) => { None };
    (@truth $t:ident $truth:block) => { Some(|$t| Box::pin(async move { $truth })) };
}
use steps;

/// What an operation answers that has nothing to tell.
fn done<T>(_: T) -> String {
    String::new()
}

pub(crate) fn operations() -> impl Iterator<Item = &'static Operation> {
    objects::OPERATIONS.iter().chain(secrets::OPERATIONS).chain(jobs::OPERATIONS)
}
