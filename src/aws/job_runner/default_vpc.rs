//! The subnets of the default VPC: the one question that this crate has for EC2, whose SDK is larger than all others
//! together.
//!
//! <https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_DescribeSubnets.html>

use std::time::SystemTime;

use aws_credential_types::provider::ProvideCredentials as _;
use aws_credential_types::provider::error::CredentialsError;
use aws_sigv4::http_request::{SignableBody, SignableRequest, SigningSettings, sign};
use aws_sigv4::sign::v4;
use aws_smithy_runtime_api::client::identity::Identity;
use aws_smithy_xml::decode::{Document, ScopedDecoder, XmlDecodeError, try_data};
use aws_types::region::Region;
use http::header::{CONTENT_TYPE, HOST};

use super::network::OPERATION;
use crate::aws::connection::Connection;
use crate::aws::error::{refusal, unsigned};
use crate::call::Call;
use crate::http::{HttpClient, RequestBody, Transport as _};
use crate::retry::Safety;
use crate::{Error, ErrorKind, Result};

const SUBJECT: &str = "the default VPC";
const CALL: Call<'static> = Call::reading(OPERATION, SUBJECT, "ec2:DescribeSubnets");
/// There is at most one such subnet a zone, and there are at most a handful of zones: one page holds them.
const QUESTION: &str = "Action=DescribeSubnets&Version=2016-11-15&Filter.1.Name=default-for-az&Filter.1.Value.1=true\
                        &Filter.2.Name=state&Filter.2.Value.1=available";
const FORM: &str = "application/x-www-form-urlencoded; charset=utf-8";
const MOST_ANSWER_BYTES: usize = 1 << 20;

/// Needs `ec2:DescribeSubnets`.
///
/// # Errors
/// `InvalidConfig` if the region has no default VPC; `PermissionDenied`, `Unauthenticated`, those that pass.
pub(super) async fn subnets(connection: &Connection) -> Result<Vec<String>> {
    // The address was checked when the connection was made.
    let client = HttpClient::new(true);
    let found = connection
        .retrier()
        .run(OPERATION, SUBJECT, Safety::Read, |_| async {
            let request = signed(connection).await?;
            let lost = |failure: crate::http::Failure| failure.into_reading_error(OPERATION, SUBJECT);
            let answer = client.send(request).await.map_err(lost)?;
            if answer.status != 200 {
                return Err(refusal(answer, CALL).await);
            }
            let text = answer.bytes(MOST_ANSWER_BYTES).await.map_err(lost)?;
            subnet_ids(&String::from_utf8_lossy(&text)).map_err(not_understood)
        })
        .await?;
    if found.is_empty() {
        let message = "the region has none; set ECS_SERVICE to a service whose network tasks take over, or ECS_SUBNETS";
        return Err(Error::new(ErrorKind::InvalidConfig, OPERATION, SUBJECT, message));
    }
    Ok(found)
}

fn not_understood(error: XmlDecodeError) -> Error {
    Error::new(ErrorKind::Unavailable, OPERATION, SUBJECT, "EC2's answer is not understood").with_source(error)
}

async fn signed(connection: &Connection) -> Result<http::Request<RequestBody>> {
    let fail = |kind, message: &str| Error::new(kind, OPERATION, SUBJECT, message);
    let sdk = connection.sdk_config().await?;
    let region = sdk.region().map(Region::as_ref).unwrap_or_default();
    let address = match &connection.endpoints().ec2 {
        Some(address) => address.clone(),
        None if connection.endpoints().are_emulators() => {
            let message = "the emulator's address is missing: set AWS_ENDPOINT_URL_EC2";
            return Err(fail(ErrorKind::InvalidConfig, message));
        }
        None => endpoint(region),
    };
    let request = http::Request::post(&address).header(CONTENT_TYPE, FORM).body(RequestBody::of([QUESTION.into()]));
    let mut request = request.map_err(|_| fail(ErrorKind::InvalidConfig, "the address of EC2 is none"))?;
    let host = request.uri().authority().map(|authority| authority.as_str().to_owned()).unwrap_or_default();

    let credentials = match sdk.credentials_provider() {
        Some(provider) => provider.provide_credentials().await,
        None => Err(CredentialsError::not_loaded("the SDK has no chain of credentials")),
    };
    let identity: Identity = credentials.map_err(|error| unsigned(error, CALL))?.into();
    let internal = |_| fail(ErrorKind::Internal, "the request could not be signed");
    let params = v4::SigningParams::builder()
        .identity(&identity)
        .region(region)
        .name("ec2")
        .time(SystemTime::now())
        .settings(SigningSettings::default())
        .build()
        .map_err(|_| fail(ErrorKind::Internal, "the request could not be signed"))?;
    let headers = [(CONTENT_TYPE.as_str(), FORM), (HOST.as_str(), host.as_str())];
    let body = SignableBody::Bytes(QUESTION.as_bytes());
    let signable = SignableRequest::new("POST", &address, headers.into_iter(), body).map_err(internal)?;
    let (instructions, _) = sign(signable, &params.into()).map_err(internal)?.into_parts();
    instructions.apply_to_request_http1x(&mut request);
    Ok(request)
}

/// <https://docs.aws.amazon.com/ec2/latest/devguide/ec2-endpoints.html>
fn endpoint(region: &str) -> String {
    let suffix = if region.starts_with("cn-") { "amazonaws.com.cn" } else { "amazonaws.com" };
    format!("https://ec2.{region}.{suffix}/")
}

fn subnet_ids(text: &str) -> Result<Vec<String>, XmlDecodeError> {
    let mut found = Vec::new();
    let mut document = Document::new(text);
    let mut root = document.root_element()?;
    while let Some(mut list) = root.next_tag() {
        if !list.start_el().matches("subnetSet") {
            continue;
        }
        while let Some(mut subnet) = list.next_tag() {
            found.extend(child(&mut subnet, "subnetId")?);
        }
    }
    Ok(found)
}

fn child(parent: &mut ScopedDecoder<'_, '_>, name: &str) -> Result<Option<String>, XmlDecodeError> {
    while let Some(mut tag) = parent.next_tag() {
        if tag.start_el().matches(name) {
            return Ok(Some(try_data(&mut tag)?.into_owned()));
        }
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Config;
    use crate::http::scripted::{Reply, Server};

    /// Shortened from the example of the page above.
    const TWO: &str = r#"<DescribeSubnetsResponse xmlns="http://ec2.amazonaws.com/doc/2016-11-15/">
        <requestId>7a62c49f-347e-4fc4-9331-6e8eEXAMPLE</requestId>
        <subnetSet>
            <item><vpcId>vpc-1</vpcId><tagSet/><subnetId>subnet-1</subnetId><state>available</state></item>
            <item><subnetId>subnet-2</subnetId><vpcId>vpc-1</vpcId></item>
        </subnetSet>
    </DescribeSubnetsResponse>"#;

    async fn ask(replies: Vec<Reply>) -> (Result<Vec<String>>, Server) {
        let server = Server::start(replies).await;
        let mut config = Config::local("unused");
        config.retry.first_backoff = std::time::Duration::from_millis(1);
        config.aws.region = Some("eu-west-1".to_owned());
        config.aws.ec2_endpoint = Some(server.url().to_owned());
        let connection = Connection::new(&config).unwrap().with_made_up_credentials();
        (subnets(&connection).await, server)
    }

    #[tokio::test]
    async fn the_default_subnets_are_asked_for_with_a_signature() {
        let busy = r"<Response><Errors><Error><Code>RequestLimitExceeded</Code><Message>busy</Message></Error></Errors>
            <RequestID>r</RequestID></Response>";
        let (found, server) = ask(vec![Reply::status(503).body(busy), Reply::ok(TWO)]).await;
        assert_eq!(found.unwrap(), ["subnet-1", "subnet-2"]);
        let [_, request] = &server.requests()[..] else { panic!("two attempts") };
        assert_eq!(request.text(), QUESTION);
        let signature = request.header("authorization").unwrap();
        assert!(signature.contains("/eu-west-1/ec2/aws4_request"), "{signature}");
        assert!(signature.contains("SignedHeaders=content-type;host;x-amz-date"), "{signature}");
    }

    #[tokio::test]
    async fn a_denial_names_the_permission() {
        let denied = r"<Response><Errors><Error><Code>UnauthorizedOperation</Code>
            <Message>You are not authorized &amp; so on</Message></Error></Errors><RequestID>r</RequestID></Response>";
        let error = ask(vec![Reply::status(403).body(denied)]).await.0.unwrap_err();
        assert_eq!((error.kind(), error.code()), (ErrorKind::PermissionDenied, Some("UnauthorizedOperation")));
        assert!(error.message().contains("ec2:DescribeSubnets: You are not authorized & so on"), "{error}");
    }

    #[tokio::test]
    async fn a_region_without_a_default_vpc_is_a_matter_of_settings() {
        let none = "<DescribeSubnetsResponse><subnetSet/></DescribeSubnetsResponse>";
        let error = ask(vec![Reply::ok(none)]).await.0.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidConfig);
        assert!(error.message().contains("ECS_SUBNETS"), "{error}");
    }

    #[tokio::test]
    async fn an_answer_that_is_no_xml_is_asked_for_again() {
        let (found, server) = ask(vec![Reply::ok("<html"), Reply::ok(TWO)]).await;
        assert_eq!((found.unwrap().len(), server.requests().len()), (2, 2));
    }

    #[tokio::test]
    async fn moto_names_a_subnet_in_each_zone() {
        let Some(endpoint) = crate::config::process_variable("ANYCLOUD_TEST_MOTO") else { return };
        let mut config = Config::local("unused");
        config.aws.region = Some("us-east-1".to_owned());
        config.aws.ec2_endpoint = Some(endpoint);
        let connection = Connection::new(&config).unwrap().with_made_up_credentials();
        let found = subnets(&connection).await.unwrap();
        assert!(found.len() > 2 && found.iter().all(|subnet| subnet.starts_with("subnet-")), "{found:?}");
    }
}
