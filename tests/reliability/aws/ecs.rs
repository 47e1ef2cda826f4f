//! As much of ECS as the operations need: client tokens, tasks that are not found at once, pages of one, in memory.
//!
//! A task of the family `…quick` has run when it is looked at for the third time; others run until they are stopped.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::wire::{Request, answer};

const ACCOUNT: &str = "arn:aws:ecs:us-east-1:123456789012";

struct Task {
    cluster: String,
    family: String,
    started_by: Value,
    overrides: Value,
    /// How often it was looked at. The first look does not find it:
    /// <https://docs.aws.amazon.com/AmazonECS/latest/APIReference/API_RunTask.html>
    looks: u32,
    /// Why it was stopped.
    stopped: Option<String>,
}

impl Task {
    fn has_ended(&self) -> bool {
        self.stopped.is_some() || (self.family.ends_with("quick") && self.looks > 2)
    }

    fn describe(&self, arn: &str) -> Value {
        let mut told = json!({
            "taskArn": arn,
            "clusterArn": format!("{ACCOUNT}:cluster/{}", self.cluster),
            "taskDefinitionArn": definition_arn(&self.family),
            "lastStatus": if self.has_ended() { "STOPPED" } else { "RUNNING" },
            "desiredStatus": if self.has_ended() { "STOPPED" } else { "RUNNING" },
            "createdAt": 1_700_000_000.5,
            "startedAt": 1_700_000_001.0,
            "startedBy": self.started_by,
            "overrides": self.overrides,
            "containers": [{"name": "main"}],
        });
        if self.has_ended() {
            told["stoppedAt"] = json!(1_700_000_002.0);
            let code = if self.stopped.is_some() { "UserInitiated" } else { "EssentialContainerExited" };
            told["stopCode"] = code.into();
            told["stoppedReason"] = self.stopped.clone().unwrap_or_else(|| "Essential container exited".into()).into();
            told["containers"][0]["exitCode"] = if self.stopped.is_some() { 143 } else { 0 }.into();
        }
        told
    }
}

#[derive(Default)]
pub(super) struct Ecs {
    /// By their ARNs, in the order in which they were begun.
    tasks: BTreeMap<String, Task>,
    /// What was asked for with a client token, and the task that came of it.
    tokens: BTreeMap<String, (Value, String)>,
}

/// The code, the message, and what else the error says.
type Refusal = (&'static str, &'static str, Value);

fn refuse(code: &'static str, message: &'static str) -> Result<Value, Refusal> {
    Err((code, message, json!({})))
}

fn text<'a>(asked: &'a Value, name: &str) -> &'a str {
    asked[name].as_str().unwrap_or_default()
}

/// The family of a definition that is named by its family or by its ARN.
fn family(name: &str) -> &str {
    name.rsplit('/').next().unwrap_or(name).split(':').next().unwrap_or(name)
}

fn definition_arn(family: &str) -> String {
    format!("{ACCOUNT}:task-definition/{family}:1")
}

impl Ecs {
    pub(super) fn serve(&mut self, target: &str, request: &Request) -> Vec<u8> {
        let asked: Value = serde_json::from_slice(&request.body).unwrap_or_default();
        let told = match target.rsplit('.').next().unwrap_or_default() {
            "DescribeTaskDefinition" => Ok(describe_definition(&asked)),
            "DescribeServices" => Ok(describe_services(&asked)),
            "RunTask" => self.run(asked),
            "DescribeTasks" => Ok(self.describe(&asked)),
            "ListTasks" => Ok(self.list(&asked)),
            "StopTask" => self.stop(&asked),
            _ => refuse("InvalidParameterException", "there is no such action here"),
        };
        let (status, told) = match told {
            Ok(told) => (200, told),
            Err((code, message, mut told)) => {
                told["__type"] = code.into();
                told["message"] = message.into();
                (400, told)
            }
        };
        answer(status, "content-type: application/x-amz-json-1.1\r\n", told.to_string().as_bytes())
    }

    /// How many tasks of a family were ever begun.
    pub(super) fn begun(&self, cluster: &str, family: &str) -> usize {
        self.tasks.values().filter(|task| task.cluster == cluster && task.family == family).count()
    }

    /// The same token with the same request is the same task, and with another a conflict that names it:
    /// <https://docs.aws.amazon.com/AmazonECS/latest/APIReference/ECS_Idempotency.html>
    fn run(&mut self, asked: Value) -> Result<Value, Refusal> {
        let (cluster, token) = (text(&asked, "cluster").to_owned(), text(&asked, "clientToken").to_owned());
        if let Some((before, arn)) = self.tokens.get(&format!("{cluster} {token}")) {
            if *before != asked {
                let told = json!({"resourceIds": [arn]});
                return Err(("ConflictException", "The token was used with other parameters.", told));
            }
            return Ok(json!({"tasks": [self.tasks[arn].describe(arn)], "failures": []}));
        }
        let arn = format!("{ACCOUNT}:task/{cluster}/{:032x}", self.tasks.len() + 1);
        let task = Task {
            family: family(text(&asked, "taskDefinition")).to_owned(),
            started_by: asked["startedBy"].clone(),
            overrides: asked["overrides"].clone(),
            looks: 0,
            stopped: None,
            cluster: cluster.clone(),
        };
        let told = task.describe(&arn);
        self.tasks.insert(arn.clone(), task);
        if !token.is_empty() {
            self.tokens.insert(format!("{cluster} {token}"), (asked, arn));
        }
        Ok(json!({"tasks": [told], "failures": []}))
    }

    /// The task that is named by its id or by its ARN.
    fn task(&mut self, asked: &Value, name: &str) -> Option<(&String, &mut Task)> {
        let cluster = text(asked, "cluster");
        self.tasks.iter_mut().find(|(arn, task)| task.cluster == cluster && arn.ends_with(name))
    }

    fn describe(&mut self, asked: &Value) -> Value {
        let (mut tasks, mut failures) = (Vec::new(), Vec::new());
        for name in asked["tasks"].as_array().into_iter().flatten().filter_map(Value::as_str) {
            let found = self.task(asked, name).and_then(|(arn, task)| {
                task.looks += 1;
                (task.looks > 1).then(|| task.describe(arn))
            });
            match found {
                Some(task) => tasks.push(task),
                None => failures.push(json!({"arn": name, "reason": "MISSING"})),
            }
        }
        json!({"tasks": tasks, "failures": failures})
    }

    fn list(&self, asked: &Value) -> Value {
        let wanted = |name: &str, there: &str| asked.get(name).is_none_or(|wanted| wanted == there);
        let status = |task: &Task| if task.has_ended() { "STOPPED" } else { "RUNNING" };
        let listed = |(_, task): &(&String, &Task)| {
            task.cluster == text(asked, "cluster")
                && wanted("family", &task.family)
                && wanted("startedBy", task.started_by.as_str().unwrap_or_default())
                && wanted("desiredStatus", status(task))
        };
        let after = text(asked, "nextToken");
        let mut rest = self.tasks.iter().filter(listed).map(|(arn, _)| arn).filter(|arn| arn.as_str() > after);
        let page: Vec<_> = rest.by_ref().take(1).collect();
        let next = rest.next().and(page.last());
        let mut told = json!({"taskArns": page});
        if let Some(next) = next {
            told["nextToken"] = next.as_str().into();
        }
        told
    }

    fn stop(&mut self, asked: &Value) -> Result<Value, Refusal> {
        let reason = text(asked, "reason").to_owned();
        let Some((arn, task)) = self.task(asked, text(asked, "task")) else {
            return refuse("InvalidParameterException", "The referenced task was not found.");
        };
        if !task.has_ended() {
            task.stopped = Some(reason);
        }
        Ok(json!({"task": task.describe(arn)}))
    }
}

/// <https://docs.aws.amazon.com/AmazonECS/latest/APIReference/API_DescribeTaskDefinition.html>
fn describe_definition(asked: &Value) -> Value {
    let family = family(text(asked, "taskDefinition"));
    json!({"taskDefinition": {
        "taskDefinitionArn": definition_arn(family),
        "family": family,
        "revision": 1,
        "networkMode": "awsvpc",
        "requiresCompatibilities": ["FARGATE"],
        "containerDefinitions": [{"name": "main", "essential": true}],
    }})
}

/// <https://docs.aws.amazon.com/AmazonECS/latest/APIReference/API_DescribeServices.html>
fn describe_services(asked: &Value) -> Value {
    let network = json!({"awsvpcConfiguration": {"subnets": ["subnet-1"], "assignPublicIp": "DISABLED"}});
    json!({"services": [{"serviceName": asked["services"][0], "networkConfiguration": network}], "failures": []})
}
