//! The services of both clouds as they might talk: every refusal repeats the request with its credentials.

use anycloud::object_store::Crc32c;
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use serde_json::{Value, json};

use super::canary::{VALUE, VARIABLE};
use super::server::{Answer, Request};

const JSON: &str = "application/json";
const AMAZON_JSON: &str = "application/x-amz-json-1.1";
const XML: &str = "application/xml";
const VERSION: &str = "11111111-2222-3333-4444-555555555555";

fn is_amazon(request: &Request) -> bool {
    !request.header("x-amz-date").is_empty() || request.target.contains("X-Amz-Signature")
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

/// In turn: out of order, as asked, refused, broken off in the middle, nothing at all.
pub(crate) fn answer(request: &Request) -> Answer {
    match request.before % 5 {
        0 => refusal(request, 503),
        1 => success(request),
        2 => refusal(request, 403),
        3 => {
            let (status, kind, body) = success(request);
            (status, kind, body[..body.len() * 2 / 3].to_owned())
        }
        _ => refusal(request, if request.before.is_multiple_of(2) { 400 } else { 0 }),
    }
}

fn refusal(request: &Request, status: u16) -> Answer {
    let echo = request.echo();
    let target = request.header("x-amz-target");
    // Where values are at stake nothing is believed; elsewhere what a service says to the user is passed on.
    let of_secrets = target.starts_with("secretsmanager") || request.target.contains("/secrets");
    let said = if of_secrets { format!("no: {echo} {VALUE}") } else { "said so".to_owned() };
    if !target.is_empty() {
        let code = match status {
            503 => "ServiceUnavailable",
            403 => "AccessDeniedException",
            _ => "InvalidParameterException",
        };
        return (status, AMAZON_JSON, json!({"__type": code, "message": said, "Echo": echo}).to_string());
    }
    if is_amazon(request) {
        let code = match status {
            503 => "SlowDown",
            403 => "SignatureDoesNotMatch",
            _ => "ExpiredToken",
        };
        // https://docs.aws.amazon.com/AmazonS3/latest/API/ErrorResponses.html
        let token = request.header("x-amz-security-token");
        let (told, token) = (escaped(&echo), escaped(token));
        let body = format!(
            "<Error><Code>{code}</Code><Message>said so</Message><StringToSign>{told}</StringToSign>\
             <Token-0>{token}</Token-0></Error>"
        );
        return (status, XML, body);
    }
    let state = match status {
        503 => "UNAVAILABLE",
        403 => "PERMISSION_DENIED",
        _ => "INVALID_ARGUMENT",
    };
    let body = json!({"error": {
        "code": status, "status": state, "message": said,
        "errors": [{"reason": "forbidden", "message": said, "debugInfo": echo}],
        "details": [{"@type": "type.googleapis.com/google.rpc.DebugInfo", "detail": echo}],
    }});
    (status, JSON, body.to_string())
}

fn success(request: &Request) -> Answer {
    let target = request.header("x-amz-target");
    if target.starts_with("secretsmanager") {
        let body = json!({
            "ARN": "arn:aws:secretsmanager:us-east-1:1:secret:canary", "Name": "canary", "VersionId": VERSION,
            "SecretString": VALUE, "VersionStages": ["AWSCURRENT"], "CreatedDate": 1,
            "VersionIdsToStages": {VERSION: ["AWSCURRENT"]}, "SecretList": [{"Name": "canary"}],
            "Versions": [{"VersionId": VERSION, "VersionStages": ["AWSCURRENT"]}],
        });
        return (200, AMAZON_JSON, body.to_string());
    }
    if let Some((_, action)) = target.rsplit_once('.') {
        return (200, AMAZON_JSON, containers(action, request).to_string());
    }
    if is_amazon(request) {
        let body = match (request.method.as_str(), &request.target) {
            ("GET", target) if target.contains("list-type") => {
                "<ListBucketResult><IsTruncated>false</IsTruncated><Contents><Key>k</Key><ETag>\"e\"</ETag>\
                 <Size>5</Size></Contents></ListBucketResult>"
            }
            ("GET", target) if target.contains("uploads") => {
                "<ListMultipartUploadsResult><IsTruncated>false</IsTruncated></ListMultipartUploadsResult>"
            }
            ("POST", target) if target.contains("uploads") => {
                "<InitiateMultipartUploadResult><UploadId>u</UploadId></InitiateMultipartUploadResult>"
            }
            ("GET", _) => "hello",
            _ => "",
        };
        return (200, XML, body.to_owned());
    }
    let now = "2026-01-01T00:00:00Z";
    let body = json!({
        // Of a version of a secret and its value.
        "name": "projects/p/secrets/canary/versions/1", "state": "ENABLED", "createTime": now,
        "payload": {"data": BASE64_STANDARD.encode(VALUE), "dataCrc32c": Crc32c::of(VALUE.as_bytes()).0.to_string()},
        // Of an object.
        "bucket": "b", "generation": "1", "metageneration": "1", "size": "5", "updated": now, "etag": "e",
        "crc32c": Crc32c::of(b"hello").to_base64(), "items": [],
        // Of an execution's environment.
        "template": {"containers": [{"env": [{"name": "CANARY", "value": VARIABLE}]}]},
    });
    (200, JSON, body.to_string())
}

/// ECS repeats the environment of a task in all that it says of it.
fn containers(action: &str, request: &Request) -> Value {
    let environment = json!([{"name": "CANARY", "value": VARIABLE}]);
    let definition = "arn:aws:ecs:us-east-1:123456789012:task-definition/job:1";
    let asked: Value = serde_json::from_str(&request.body).unwrap_or_default();
    let task = json!({
        "taskArn": format!("arn:aws:ecs:us-east-1:123456789012:task/default/{:032x}", 7),
        "clusterArn": "arn:aws:ecs:us-east-1:123456789012:cluster/default",
        "taskDefinitionArn": definition, "lastStatus": "RUNNING", "desiredStatus": "RUNNING", "createdAt": 1.5,
        "startedBy": asked["startedBy"], "containers": [],
        "overrides": {"containerOverrides": [{"name": "main", "environment": environment}]},
    });
    match action {
        "DescribeTaskDefinition" => json!({"taskDefinition": {
            "taskDefinitionArn": definition, "family": "job", "revision": 1, "networkMode": "bridge",
            "containerDefinitions": [{"name": "main", "essential": true, "environment": environment}],
        }}),
        "ListTasks" => json!({"taskArns": [task["taskArn"]]}),
        _ => json!({"tasks": [task], "task": task, "failures": []}),
    }
}
