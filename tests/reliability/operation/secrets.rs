use anycloud::secret_store::{DeleteSecret, PutSecretOptions, SecretStage, SecretState};
use anycloud::{ErrorKind, Result, VersionSelector};
use futures_util::TryStreamExt as _;

use super::{Family, Operation, Scene, Truth, done, steps};

const RECOVERABLE: DeleteSecret = DeleteSecret::Recoverable { days: 7 };

async fn begin_secret(scene: &Scene) -> Result<()> {
    let version = scene.clean_secrets().create(&scene.secret(), scene.value(1), Default::default()).await?;
    scene.note("first", version.as_str());
    Ok(())
}

async fn begin_two_versions(scene: &Scene) -> Result<()> {
    begin_secret(scene).await?;
    let put = scene.clean_secrets().put(&scene.secret(), scene.value(2), Default::default()).await?;
    scene.note("second", put.version.as_str());
    Ok(())
}

impl Scene {
    /// The current value is the second (applied) or the first, with so many versions.
    async fn secret_truth(&self, old: Option<u32>, new: u32, most_versions: usize) -> Result<Truth> {
        let name = self.secret();
        let current = match self.clean_secrets().get(&name, &VersionSelector::Latest).await {
            Ok(secret) => Some(secret.value),
            Err(error) if error.kind() == ErrorKind::NotFound => None,
            Err(error) => return Err(error),
        };
        let is = |number: u32| current.as_ref().is_some_and(|value| value.same_as(&self.value(number)));
        if is(new) {
            let versions: Vec<_> = self.clean_secrets().list_versions(&name).try_collect().await?;
            if versions.len() > most_versions {
                return Ok(Truth::Broken(format!("{} versions where {most_versions} were put", versions.len())));
            }
            return Ok(Truth::Applied);
        }
        Ok(match (old, current.is_some()) {
            (None, false) => Truth::NotApplied,
            (Some(old), true) if is(old) => Truth::NotApplied,
            _ => Truth::Broken("the current value is none that was put last".to_owned()),
        })
    }

    async fn is_pending_deletion(&self) -> Result<bool> {
        let found = self.clean_secrets().describe(&self.secret()).await?;
        Ok(matches!(found.state, SecretState::PendingDeletion { .. }))
    }

    async fn version_truth(&self, selector: &str, expected: Option<ErrorKind>) -> Result<Truth> {
        let id = anycloud::SecretVersionId::new(selector).expect("an id");
        let read = self.clean_secrets().get(&self.secret(), &VersionSelector::Id(id)).await;
        match (read.map_err(|error| error.kind()), expected) {
            (Ok(_), None) => Ok(Truth::Applied),
            (Err(kind), Some(expected)) if kind == expected => Ok(Truth::Applied),
            (Ok(_), Some(_)) | (Err(ErrorKind::VersionDisabled), None) => Ok(Truth::NotApplied),
            (Err(kind), _) => Ok(Truth::Broken(format!("reading the version fails as {kind}"))),
        }
    }
}

pub(super) const OPERATIONS: &[Operation] = steps! {
    "create" Secrets {
        prepare(_s) { Ok(()) }
        act(s) { s.secrets().create(&s.secret(), s.value(1), Default::default()).await.map(done) }
        truth(s) { s.secret_truth(None, 1, 1).await }
    }
    "put_new" Secrets {
        prepare(_s) { Ok(()) }
        act(s) { s.secrets().put(&s.secret(), s.value(1), Default::default()).await.map(done) }
        truth(s) { s.secret_truth(None, 1, 1).await }
    }
    "put_version" Secrets {
        prepare(s) { begin_secret(s).await }
        act(s) { s.secrets().put(&s.secret(), s.value(2), Default::default()).await.map(done) }
        truth(s) { s.secret_truth(Some(1), 2, 2).await }
    }
    "put_if_current" Secrets {
        prepare(s) { begin_secret(s).await }
        act(s) {
            let first = anycloud::SecretVersionId::new(s.noted("first")).expect("an id");
            let options = PutSecretOptions { if_current: Some(first), ..Default::default() };
            s.secrets().put(&s.secret(), s.value(2), options).await.map(done)
        }
        truth(s) { s.secret_truth(Some(1), 2, 2).await }
    }
    "put_staged" Secrets {
        prepare(s) { begin_secret(s).await }
        act(s) {
            let options = PutSecretOptions { stage: SecretStage::Staged, ..Default::default() };
            s.secrets().put(&s.secret(), s.value(2), options).await.map(done)
        }
        truth(s) {
            let versions: Vec<_> = s.clean_secrets().list_versions(&s.secret()).try_collect().await?;
            let current = s.clean_secrets().get(&s.secret(), &VersionSelector::Latest).await?.value;
            Ok(match versions.len() {
                _ if !current.same_as(&s.value(1)) => Truth::Broken("a staged version became current".to_owned()),
                1 => Truth::NotApplied,
                2 => Truth::Applied,
                many => Truth::Broken(format!("{many} versions where 2 were put")),
            })
        }
    }
    "promote" Secrets {
        prepare(s) { begin_two_versions(s).await }
        act(s) {
            let first = anycloud::SecretVersionId::new(s.noted("first")).expect("an id");
            s.secrets().promote(&s.secret(), &first).await.map(done)
        }
        truth(s) { s.secret_truth(Some(2), 1, 3).await }
    }
    "get" Secrets {
        prepare(s) { begin_two_versions(s).await }
        act(s) {
            let secret = s.secrets().get(&s.secret(), &VersionSelector::Latest).await?;
            Ok(format!("{}", secret.value.same_as(&s.value(2))))
        }
    }
    "describe" Secrets {
        prepare(s) { begin_secret(s).await }
        act(s) { s.secrets().describe(&s.secret()).await.map(|meta| format!("{:?}", meta.state)) }
    }
    "list" Secrets {
        prepare(s) { begin_secret(s).await }
        act(s) {
            let options = anycloud::secret_store::ListSecrets { prefix: s.secret().to_string(), ..Default::default() };
            let all: Vec<_> = s.secrets().list(options).try_collect().await?;
            Ok(format!("{} secrets", all.len()))
        }
    }
    "list_versions" Secrets {
        prepare(s) { begin_two_versions(s).await }
        act(s) {
            let all: Vec<_> = s.secrets().list_versions(&s.secret()).try_collect().await?;
            Ok(format!("{} versions", all.len()))
        }
    }
    "disable" Secrets {
        prepare(s) { begin_two_versions(s).await }
        act(s) {
            let first = anycloud::SecretVersionId::new(s.noted("first")).expect("an id");
            s.secrets().disable(&s.secret(), &first).await.map(done)
        }
        truth(s) { s.version_truth(&s.noted("first"), Some(ErrorKind::VersionDisabled)).await }
    }
    "enable" Secrets {
        prepare(s) {
            begin_two_versions(s).await?;
            let first = anycloud::SecretVersionId::new(s.noted("first")).expect("an id");
            s.clean_secrets().disable(&s.secret(), &first).await
        }
        act(s) {
            let first = anycloud::SecretVersionId::new(s.noted("first")).expect("an id");
            s.secrets().enable(&s.secret(), &first).await.map(done)
        }
        truth(s) { s.version_truth(&s.noted("first"), None).await }
    }
    "destroy" Secrets {
        prepare(s) { begin_two_versions(s).await }
        act(s) {
            let first = anycloud::SecretVersionId::new(s.noted("first")).expect("an id");
            s.secrets().destroy(&s.secret(), &first).await.map(done)
        }
        truth(s) { s.version_truth(&s.noted("first"), Some(ErrorKind::VersionDisabled)).await }
    }
    "set_alias" Secrets {
        prepare(s) { begin_two_versions(s).await }
        act(s) {
            let first = anycloud::SecretVersionId::new(s.noted("first")).expect("an id");
            let alias = anycloud::SecretAlias::new("stable").expect("an alias");
            s.secrets().set_alias(&s.secret(), &alias, Some(&first)).await.map(done)
        }
        truth(s) {
            let all: Vec<_> = s.clean_secrets().list_versions(&s.secret()).try_collect().await?;
            let set = all.iter().any(|version| version.aliases.iter().any(|alias| alias.as_str() == "stable"));
            Ok(if set { Truth::Applied } else { Truth::NotApplied })
        }
    }
    "delete_recoverable" Secrets {
        prepare(s) { begin_secret(s).await }
        act(s) { s.secrets().delete(&s.secret(), RECOVERABLE).await.map(done) }
        truth(s) { Ok(if s.is_pending_deletion().await? { Truth::Applied } else { Truth::NotApplied }) }
    }
    "restore" Secrets {
        prepare(s) {
            begin_secret(s).await?;
            s.clean_secrets().delete(&s.secret(), RECOVERABLE).await
        }
        act(s) { s.secrets().restore(&s.secret()).await.map(done) }
        truth(s) { Ok(if s.is_pending_deletion().await? { Truth::NotApplied } else { Truth::Applied }) }
    }
    "delete" Secrets {
        prepare(s) { begin_secret(s).await }
        act(s) { s.secrets().delete(&s.secret(), DeleteSecret::Immediate).await.map(done) }
        truth(s) {
            match s.clean_secrets().get(&s.secret(), &VersionSelector::Latest).await {
                Ok(_) => Ok(Truth::NotApplied),
                Err(error) if error.kind() == ErrorKind::NotFound => Ok(Truth::Applied),
                Err(error) => Err(error),
            }
        }
    }
};
