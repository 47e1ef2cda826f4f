//! moto, spoken to as its operator.

use std::collections::BTreeMap;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::sync::atomic::{AtomicU32, Ordering};

use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::{Value, json};

use super::calls::{self, End, Mode, Scene};
use super::policy::{ACCOUNT, REGION};

/// So many calls that no test makes them: enforcement is off.
const NEVER: &str = "1000000000";

/// Tasks, as moto's state manager calls them.
const TASK: &str = "ecs::task";

/// A moto server.
pub(crate) struct Moto {
    address: String,
}

/// Puts the server's settings back, whatever happens.
struct Enforced<'a>(&'a Moto);

impl Drop for Enforced<'_> {
    fn drop(&mut self) {
        self.0.send("", "POST", "/moto-api/reset-auth", &[("content-type", "text/plain")], NEVER);
        self.0.state_manager("unset-transition", &json!({ "model_name": TASK }));
    }
}

impl Moto {
    pub(crate) fn new(address: &str) -> Self {
        Self { address: address.trim_start_matches("http://").trim_end_matches('/').to_owned() }
    }

    /// A bucket, a cluster with a service, a task definition, and what the operations find there.
    pub(crate) fn prepare(&self) -> Scene {
        static SCENES: AtomicU32 = AtomicU32::new(0);
        let number = SCENES.fetch_add(1, Ordering::Relaxed);
        let mut scene = Scene::named(&format!("permissions-{}-{number}", std::process::id()));
        scene.endpoint = format!("http://{}", self.address);
        let name = scene.name.as_str();
        self.send("s3", "PUT", &format!("/{name}"), &[], "");
        self.send("s3", "POST", &format!("/{name}/stale?uploads"), &[], "");
        self.logs("CreateLogGroup", &json!({ "logGroupName": name }));
        let subnets = self.query("ec2", "2016-11-15", &[("Action", "DescribeSubnets")]);
        let network =
            json!({ "awsvpcConfiguration": { "subnets": [between(&subnets, "subnetId")], "securityGroups": [] } });
        self.ecs("CreateCluster", &json!({ "clusterName": name }));
        self.ecs(
            "RegisterTaskDefinition",
            &json!({
                "family": name, "networkMode": "awsvpc", "cpu": "256", "memory": "512",
                "requiresCompatibilities": ["FARGATE"],
                "taskRoleArn": format!("arn:aws:iam::{ACCOUNT}:role/task"),
                "executionRoleArn": format!("arn:aws:iam::{ACCOUNT}:role/execution"),
                "containerDefinitions": [{
                    "name": "job", "image": "none", "essential": true, "cpu": 256, "memory": 512,
                    "logConfiguration": { "logDriver": "awslogs", "options": {
                        "awslogs-group": name, "awslogs-region": REGION, "awslogs-stream-prefix": "job",
                    }},
                }],
            }),
        );
        let service = json!({
            "cluster": name, "serviceName": name, "taskDefinition": name, "desiredCount": 0, "launchType": "FARGATE",
            "networkConfiguration": network,
        });
        self.ecs("CreateService", &service);
        // Looked at some times, a task would have ended, and there would be nothing left to stop.
        let still = json!({ "model_name": TASK, "transition": { "progression": "manual", "times": 1000 } });
        self.state_manager("set-transition", &still);
        let prepared = calls::in_process(Mode::Prepare, &scene, ("operator", "operator"));
        scene.execution = prepared.trim().to_owned();
        let task = scene.execution.rsplit(['/', '.', ',', ':']).next().unwrap_or_default();
        self.logs("CreateLogStream", &json!({ "logGroupName": name, "logStreamName": format!("job/job/{task}") }));
        scene
    }

    /// What becomes of every operation in the hands of a user who has this policy alone.
    pub(crate) fn with_only(&self, policy: &Value, scene: &Scene) -> BTreeMap<String, End> {
        let user = scene.name.as_str();
        let iam = |parameters: &[(&str, &str)]| self.query("iam", "2010-05-08", parameters);
        iam(&[("Action", "CreateUser"), ("UserName", user)]);
        let policy = policy.to_string();
        iam(&[("Action", "PutUserPolicy"), ("UserName", user), ("PolicyName", "only"), ("PolicyDocument", &policy)]);
        let key = iam(&[("Action", "CreateAccessKey"), ("UserName", user)]);
        let key = (between(&key, "AccessKeyId"), between(&key, "SecretAccessKey"));
        let _enforced = Enforced(self);
        self.send("", "POST", "/moto-api/reset-auth", &[("content-type", "text/plain")], "0");
        let ends = calls::in_process(Mode::Run, scene, (&key.0, &key.1));
        ends.lines().map(|line| serde_json::from_str(line).expect("an end is JSON")).collect()
    }

    fn state_manager(&self, operation: &str, body: &Value) {
        let path = format!("/moto-api/state-manager/{operation}");
        self.send("", "POST", &path, &[("content-type", "application/json")], &body.to_string());
    }

    fn ecs(&self, operation: &str, body: &Value) {
        let target = format!("AmazonEC2ContainerServiceV20141113.{operation}");
        self.json("ecs", &target, body);
    }

    fn logs(&self, operation: &str, body: &Value) {
        self.json("logs", &format!("Logs_20140328.{operation}"), body);
    }

    fn json(&self, service: &str, target: &str, body: &Value) -> String {
        let headers = [("content-type", "application/x-amz-json-1.1"), ("x-amz-target", target)];
        self.send(service, "POST", "/", &headers, &body.to_string())
    }

    fn query(&self, service: &str, version: &str, parameters: &[(&str, &str)]) -> String {
        let mut body = format!("Version={version}");
        for (name, value) in parameters {
            body.push_str(&format!("&{name}={}", utf8_percent_encode(value, NON_ALPHANUMERIC)));
        }
        self.send(service, "POST", "/", &[("content-type", "application/x-www-form-urlencoded")], &body)
    }

    /// The answer to a request that nobody checks the signature of: of the credentials only the service is read.
    fn send(&self, service: &str, method: &str, path: &str, headers: &[(&str, &str)], body: &str) -> String {
        let address = &self.address;
        let mut head = format!("{method} {path} HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n");
        if !service.is_empty() {
            head.push_str(&format!(
                "authorization: AWS4-HMAC-SHA256 Credential=operator/20260101/{REGION}/{service}/aws4_request, \
                 SignedHeaders=host, Signature=none\r\n"
            ));
        }
        for (name, value) in headers {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        head.push_str(&format!("content-length: {}\r\n\r\n{body}", body.len()));
        let mut stream = TcpStream::connect(address).expect("moto answers");
        stream.write_all(head.as_bytes()).expect("moto takes the request");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("moto answers to the end");
        let status = answer.split(' ').nth(1).unwrap_or_default();
        assert!(status.starts_with('2'), "{method} {path} of {service}: {answer}");
        answer
    }
}

/// The text of the first such element.
fn between(xml: &str, element: &str) -> String {
    let (_, rest) = xml.split_once(&format!("<{element}>")).unwrap_or_else(|| panic!("no {element} in {xml}"));
    rest.split('<').next().unwrap_or_default().to_owned()
}
