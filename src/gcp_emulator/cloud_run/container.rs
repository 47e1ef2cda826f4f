//! The one container of a task: what it runs, with which environment.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::super::failure::Failure;
use super::super::server::{Shared, lock};
use super::super::wire::duration;

/// The longest value of an environment variable.
///
/// <https://cloud.google.com/run/docs/reference/rest/v2/Container#EnvVar>
const VALUE_LIMIT: usize = 32_768;

/// Checks a task template and fills in what the service would.
pub(super) fn complete(template: &mut Value) -> Result<(), Failure> {
    let containers = template["containers"].as_array().map_or(0, Vec::len);
    if containers != 1 {
        return Err(Failure::invalid(
            "template.template.containers: exactly one container is supported by this emulator.",
        ));
    }
    let container = &mut template["containers"][0];
    if container["image"].as_str().is_none_or(str::is_empty) {
        return Err(Failure::invalid("template.template.containers[0].image: must be specified."));
    }
    check_environment(&container["env"])?;
    // The defaults of both fields:
    // https://cloud.google.com/run/docs/reference/rest/v2/TaskTemplate
    if template["maxRetries"].is_null() {
        template["maxRetries"] = json!(3);
    }
    if template["timeout"].is_null() {
        template["timeout"] = json!("600s");
    }
    // https://cloud.google.com/run/docs/configuring/max-retries
    if template["maxRetries"].as_u64().is_none_or(|retries| retries > 10) {
        return Err(Failure::invalid("template.template.maxRetries: 0 to 10."));
    }
    if template["timeout"].as_str().is_none_or(|timeout| duration(timeout).is_none()) {
        return Err(Failure::invalid("template.template.timeout: not a duration."));
    }
    Ok(())
}

fn check_environment(list: &Value) -> Result<(), Failure> {
    for variable in list.as_array().into_iter().flatten() {
        let name = variable["name"].as_str().unwrap_or("");
        if name.is_empty() || name.contains('=') {
            return Err(Failure::invalid("env: a variable must have a name without '='."));
        }
        if variable["value"].as_str().unwrap_or("").len() > VALUE_LIMIT {
            return Err(Failure::invalid(format!("env: the value of {name} is longer than {VALUE_LIMIT} bytes.")));
        }
    }
    Ok(())
}

/// Applies the overrides of a run to the container of `template`.
///
/// Arguments replace those of the job unless there are none, `clearArgs` drops them, variables
/// are merged by name:
/// <https://cloud.google.com/run/docs/reference/rest/v2/projects.locations.jobs/run#ContainerOverride>.
pub(super) fn apply_overrides(template: &mut Value, overrides: &Value) -> Result<(), Failure> {
    let list = overrides["containerOverrides"].as_array().map_or(&[][..], Vec::as_slice);
    if list.len() > 1 {
        return Err(Failure::invalid("overrides.containerOverrides: there is one container only."));
    }
    let Some(wanted) = list.first() else {
        return Ok(());
    };
    let container = &mut template["containers"][0];
    let name = wanted["name"].as_str().unwrap_or("");
    if !name.is_empty() && container["name"].as_str().is_some_and(|own| own != name) {
        return Err(Failure::invalid(format!("overrides.containerOverrides: no container {name}.")));
    }
    check_environment(&wanted["env"])?;
    let clear = wanted["clearArgs"] == true;
    let args = wanted["args"].as_array().filter(|args| !args.is_empty());
    if clear && args.is_some() {
        return Err(Failure::invalid("overrides.containerOverrides: args and clearArgs exclude each other."));
    }
    if clear {
        container["args"] = json!([]);
    } else if let Some(args) = args {
        container["args"] = json!(args);
    }
    let mut merged: Vec<Value> = container["env"].as_array().cloned().unwrap_or_default();
    for variable in wanted["env"].as_array().into_iter().flatten() {
        match merged.iter_mut().find(|own| own["name"] == variable["name"]) {
            Some(own) => *own = variable.clone(),
            None => merged.push(variable.clone()),
        }
    }
    if !merged.is_empty() {
        container["env"] = json!(merged);
    }
    Ok(())
}

/// The command line of a container: its command or its image's, then its arguments.
pub(super) fn command_line(shared: &Shared, template: &Value) -> Result<Vec<String>, String> {
    let container = &template["containers"][0];
    let texts = |list: &Value| -> Vec<String> {
        list.as_array().into_iter().flatten().filter_map(Value::as_str).map(str::to_owned).collect()
    };
    let mut line = texts(&container["command"]);
    if line.is_empty() {
        let image = container["image"].as_str().unwrap_or("");
        line = shared
            .config
            .images
            .get(image)
            .cloned()
            .filter(|line| !line.is_empty())
            .ok_or_else(|| format!("Image '{image}' not found."))?;
    }
    line.extend(texts(&container["args"]));
    Ok(line)
}

/// The variables of a container, secrets resolved.
///
/// <https://cloud.google.com/run/docs/configuring/jobs/secrets>
pub(super) fn environment(
    shared: &Shared,
    project: &str,
    template: &Value,
) -> Result<BTreeMap<String, String>, String> {
    let mut all = shared.config.task_environment.clone();
    for variable in template["containers"][0]["env"].as_array().into_iter().flatten() {
        let name = variable["name"].as_str().unwrap_or("").to_owned();
        let reference = &variable["valueSource"]["secretKeyRef"];
        let value = if let Some(secret) = reference["secret"].as_str() {
            let full =
                if secret.contains('/') { secret.to_owned() } else { format!("projects/{project}/secrets/{secret}") };
            let full = shared.with_project_number(full);
            let version = reference["version"].as_str().unwrap_or("latest");
            let payload = lock(&shared.secrets).payload(&full, version);
            let bytes =
                payload.map_err(|_| format!("Secret {full}/versions/{version} was not found or is not readable."))?;
            String::from_utf8(bytes).map_err(|_| format!("Secret {full} is not text."))?
        } else {
            variable["value"].as_str().unwrap_or("").to_owned()
        };
        all.insert(name, value);
    }
    Ok(all)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn template() -> Value {
        json!({"containers": [{"image": "i", "args": ["a"], "env": [
            {"name": "A", "value": "1"}, {"name": "B", "value": "2"},
        ]}]})
    }

    fn overridden(overrides: &Value) -> Value {
        let mut template = template();
        apply_overrides(&mut template, &json!({"containerOverrides": [overrides]})).expect("applied");
        template["containers"][0].clone()
    }

    #[test]
    fn variables_are_merged_and_arguments_replaced() {
        let container = overridden(&json!({"args": ["x", "y"], "env": [{"name": "B", "value": "3"}]}));
        assert_eq!(container["args"], json!(["x", "y"]));
        assert_eq!(container["env"][0]["value"], "1");
        assert_eq!(container["env"][1]["value"], "3");
    }

    #[test]
    fn no_arguments_keep_those_of_the_job_unless_they_are_cleared() {
        assert_eq!(overridden(&json!({"args": []}))["args"], json!(["a"]));
        assert_eq!(overridden(&json!({"clearArgs": true}))["args"], json!([]));
    }

    #[test]
    fn a_template_gets_the_documented_defaults() {
        let mut template = template();
        complete(&mut template).expect("complete");
        assert_eq!(template["maxRetries"], 3);
        assert_eq!(template["timeout"], "600s");
    }

    #[test]
    fn a_value_past_the_limit_is_refused() {
        let long = json!({"containerOverrides": [{"env": [{"name": "A", "value": "x".repeat(32_769)}]}]});
        assert!(apply_overrides(&mut template(), &long).is_err());
    }
}
