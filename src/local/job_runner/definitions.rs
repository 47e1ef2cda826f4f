//! Job definitions: those of the configuration, and those of the file beside them.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use crate::config::{LocalConfig, LocalJob};
use crate::{Error, ErrorKind, JobName, Result};

/// Where definitions are looked for. The file is read at every use, so that a change takes effect at once.
#[derive(Clone, Debug)]
pub(super) struct Definitions {
    own: BTreeMap<JobName, LocalJob>,
    file: PathBuf,
    required: bool,
}

impl Definitions {
    pub(super) fn new(config: &LocalConfig, root: &Path) -> Self {
        let file = config.jobs_file.as_ref().map(|path| super::absolute(path));
        Self {
            own: config.jobs.clone(),
            required: file.is_some(),
            file: file.unwrap_or_else(|| root.join("jobs.json")),
        }
    }

    /// The definition of a job.
    ///
    /// # Errors
    /// `NotFound` naming the jobs that there are; `InvalidFormat` for the file; `InvalidConfig` when it is missing or
    /// a definition cannot be run.
    pub(super) fn get(&self, operation: &'static str, job: &JobName) -> Result<LocalJob> {
        let mut all = self.file(operation)?;
        all.extend(self.own.clone());
        let Some(definition) = all.remove(job) else {
            let known: Vec<_> = all.keys().map(|name| format!("`{name}`")).collect();
            let known = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
            let message = format!("there is no such job; defined in {} or the configuration: {known}", self.shown());
            return Err(Error::new(ErrorKind::NotFound, operation, job, message));
        };
        match problem(&definition) {
            None => Ok(definition),
            Some(problem) => Err(Error::new(ErrorKind::InvalidConfig, operation, job, problem)),
        }
    }

    fn shown(&self) -> String {
        format!("`{}`", self.file.display())
    }

    fn file(&self, operation: &'static str) -> Result<BTreeMap<JobName, LocalJob>> {
        match std::fs::read(&self.file) {
            Ok(bytes) => crate::formats::json::parse(&bytes, operation, self.file.display()),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                if self.required {
                    let message = "the file of job definitions (ANYCLOUD_LOCAL_JOBS) does not exist";
                    return Err(Error::new(ErrorKind::InvalidConfig, operation, self.file.display(), message));
                }
                Ok(BTreeMap::new())
            }
            Err(error) => Err(crate::files::error(operation, &self.file, error)),
        }
    }
}

fn problem(definition: &LocalJob) -> Option<String> {
    if definition.command.first().is_none_or(String::is_empty) {
        return Some("the definition names no program in `command`".to_owned());
    }
    if definition.command.iter().chain(&definition.args).any(|text| text.contains('\0')) {
        return Some("the definition's command contains NUL".to_owned());
    }
    let bad = definition
        .env
        .iter()
        .find(|(name, value)| name.is_empty() || name.contains(['=', '\0']) || value.contains('\0'));
    bad.map(|(name, _)| format!("the definition's variable {name:?} cannot be set"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with_file(text: &str) -> (PathBuf, Definitions) {
        let root = std::env::temp_dir().join(format!("anycloud-definitions-{}", crate::random::uuid()));
        std::fs::create_dir_all(&root).unwrap();
        std::fs::write(root.join("jobs.json"), text).unwrap();
        let mut config = crate::Config::local(&root).local;
        let own = LocalJob { command: vec!["own".into()], ..LocalJob::default() };
        config.jobs.insert(JobName::new("both").unwrap(), own);
        let definitions = Definitions::new(&config, &root);
        (root, definitions)
    }

    fn get(definitions: &Definitions, job: &str) -> Result<LocalJob> {
        definitions.get("t", &JobName::new(job).unwrap())
    }

    #[test]
    fn the_configuration_comes_before_the_file_and_unknown_jobs_are_told_the_known_ones() {
        let text = r#"{"filed": {"command": ["file"]}, "both": {"command": ["file"]}, "empty": {"command": []}}"#;
        let (root, definitions) = with_file(text);
        assert_eq!(get(&definitions, "filed").unwrap().command, ["file"]);
        assert_eq!(get(&definitions, "both").unwrap().command, ["own"]);
        assert_eq!(get(&definitions, "empty").unwrap_err().kind(), ErrorKind::InvalidConfig);
        let error = get(&definitions, "none").unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NotFound);
        assert!(error.message().contains("`both`, `empty`, `filed`"), "{error}");
        std::fs::remove_dir_all(root).unwrap();
    }

    #[test]
    fn a_malformed_file_is_named_with_its_line() {
        let (root, definitions) = with_file("{\n\"a\": {\"comand\": []}}");
        let error = get(&definitions, "a").unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidFormat);
        assert!(error.message().contains("line 2") && error.subject().contains("jobs.json"), "{error}");
        std::fs::remove_dir_all(root).unwrap();
    }
}
