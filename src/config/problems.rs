use crate::{Error, ErrorKind};

/// Collects what is wrong with the settings, so that all of it is told at once.
#[derive(Default)]
pub(super) struct Problems(Vec<String>);

impl Problems {
    pub(super) fn add(&mut self, variable: &str, problem: impl AsRef<str>) {
        let problem = format!("{variable} {}", problem.as_ref());
        // One variable may be read for several settings.
        if !self.0.contains(&problem) {
            self.0.push(problem);
        }
    }

    pub(super) fn count(&self) -> usize {
        self.0.len()
    }

    /// Keeps the first so many.
    pub(super) fn forget_from(&mut self, count: usize) {
        self.0.truncate(count);
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn into_error(self, hint: &str) -> Error {
        let message = format!("{}{hint}", self.0.join("; "));
        Error::new(ErrorKind::InvalidConfig, "config", "environment", message)
    }
}
