use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, SystemTime};

use aws_credential_types::Credentials;
use aws_sdk_s3::config::endpoint::{DefaultResolver, Params, ResolveEndpoint as _};
use aws_smithy_runtime_api::box_error::BoxError;
use aws_smithy_types::Document;
use aws_smithy_types::endpoint::{Endpoint as Resolved, EndpointAuthScheme};
use aws_types::SdkConfig;
use aws_types::service_config::ServiceConfigKey;
use http::header::{HeaderName, HeaderValue};
use http::uri::{Authority, InvalidUri, InvalidUriParts, PathAndQuery, Scheme, Uri};

use crate::aws::signature::{SECURITY_TOKEN, Signer};
use crate::aws::signature_v4a::sign_for_regions;
use crate::call::Call;
use crate::http::{Answer, RequestBody};
use crate::object_store::Told;
use crate::{ErrorKind, Result};

const PLAIN: &str = "sigv4";
/// How far from the service's own the time of a signature may be; S3 itself takes fifteen minutes.
const TOLERATED_SKEW: Duration = Duration::from_secs(4 * 60);
/// Where the token of a session with a directory bucket goes.
const SESSION_TOKEN: HeaderName = HeaderName::from_static("x-amz-s3session-token");

/// Where the bucket is by the SDK's own rules, and how requests to it are signed.
#[derive(Debug)]
pub(super) struct Endpoint {
    scheme: Scheme,
    authority: Authority,
    /// The authority as the `Host` header has it.
    pub(super) host: HeaderValue,
    /// What stands before the slash and the key: nothing, or a slash and the bucket.
    pub(super) path: String,
    signature: Signature,
    /// How many seconds the service's clock is ahead of this machine's, as far as that matters.
    ahead: AtomicI64,
}

#[derive(Debug)]
enum Signature {
    OneRegion(Signer),
    /// The same with the credentials of a session.
    Session(Signer),
    /// Version 4A.
    Regions {
        regions: String,
        service: String,
    },
}

/// The bucket, and where settings say that its service is.
pub(super) struct Place<'a> {
    pub(super) sdk: &'a SdkConfig,
    pub(super) bucket: &'a str,
    /// The endpoint that this crate's settings name; the SDK's settings may name one too.
    pub(super) own: Option<&'a str>,
}

impl Endpoint {
    /// Resolves the bucket's address.
    ///
    /// # Errors
    /// `InvalidConfig` for a bucket or region that gives none.
    pub(super) async fn resolve(Place { sdk, bucket, own }: Place<'_>, call: Call<'_>) -> Result<Self> {
        let invalid = || call.error(ErrorKind::InvalidConfig, "the bucket or region gives no valid address");
        let region = sdk.region().map(|region| region.as_ref()).unwrap_or_default();
        let without_sessions = setting(sdk, "AWS_S3_DISABLE_EXPRESS_SESSION_AUTH", "s3_disable_express_session_auth");
        let params = Params::builder()
            .bucket(bucket)
            .region(region)
            .set_endpoint(own.map(str::to_owned).or_else(|| endpoint_of_the_sdk(sdk)))
            .force_path_style(own.is_some())
            .set_use_fips(sdk.use_fips())
            .set_use_dual_stack(sdk.use_dual_stack())
            .set_disable_s3_express_session_auth(without_sessions.and_then(|text| text.parse().ok()))
            .build()
            .map_err(|error| invalid().with_source(error))?;
        let resolved = DefaultResolver::new().resolve_endpoint(&params).await;
        let resolved = resolved.map_err(|error| invalid().with_source(error))?;
        let uri: Uri = resolved.url().parse().map_err(|error: InvalidUri| invalid().with_source(error))?;
        let uri = uri.into_parts();
        let (Some(scheme), Some(authority)) = (uri.scheme, uri.authority) else { return Err(invalid()) };
        let host = HeaderValue::from_str(without_default_port(&scheme, &authority));
        let path = uri.path_and_query.as_ref().map_or("", PathAndQuery::path).trim_end_matches('/').to_owned();
        let signature = signature(&resolved, region, call)?;
        let host = host.map_err(|error| invalid().with_source(error))?;
        Ok(Self { scheme, authority, host, path, signature, ahead: AtomicI64::new(0) })
    }

    /// The region that requests are made for, unless they are for many.
    pub(super) fn region(&self) -> Option<&str> {
        match &self.signature {
            Signature::OneRegion(signer) | Signature::Session(signer) => Some(signer.region()),
            Signature::Regions { .. } => None,
        }
    }

    /// Whether the bucket takes requests within sessions only.
    pub(super) fn wants_session(&self) -> bool {
        matches!(self.signature, Signature::Session(_))
    }

    /// The time to sign with.
    pub(super) fn now(&self) -> SystemTime {
        let ahead = self.ahead.load(Ordering::Relaxed);
        let seconds = Duration::from_secs(ahead.unsigned_abs());
        let now = SystemTime::now();
        if ahead < 0 { now.checked_sub(seconds) } else { now.checked_add(seconds) }.unwrap_or(now)
    }

    /// Whether a refusal may be due to the time that was signed with, so that the call is worth another attempt with
    /// the service's own, which is used from now on.
    pub(super) fn learns_the_time(&self, refusal: &Answer, signed: SystemTime) -> bool {
        // What comes out of a cache has an old time.
        let fresh = matches!(refusal.status, 400 | 401 | 403) && refusal.header("age").is_none();
        let Some(theirs) = Told(&refusal.headers).time("date").filter(|_| fresh) else { return false };
        let apart = |one: SystemTime, other: SystemTime| match one.duration_since(other) {
            Ok(ahead) => i64::try_from(ahead.as_secs()).unwrap_or(i64::MAX),
            Err(behind) => -i64::try_from(behind.duration().as_secs()).unwrap_or(i64::MAX),
        };
        let matters = apart(theirs, signed).unsigned_abs() > TOLERATED_SKEW.as_secs();
        if matters {
            self.ahead.store(apart(theirs, SystemTime::now()), Ordering::Relaxed);
        }
        matters
    }

    /// The address with this path and query.
    pub(super) fn uri(&self, target: PathAndQuery) -> Result<Uri, InvalidUriParts> {
        let mut parts = http::uri::Parts::default();
        parts.scheme = Some(self.scheme.clone());
        parts.authority = Some(self.authority.clone());
        parts.path_and_query = Some(target);
        Uri::from_parts(parts)
    }

    /// Signs a request, the headers that it has already included.
    ///
    /// # Errors
    /// Credentials that nothing can be signed with.
    pub(super) fn sign(
        &self,
        request: &mut http::Request<RequestBody>,
        credentials: &Arc<Credentials>,
        now: SystemTime,
    ) -> Result<(), BoxError> {
        match &self.signature {
            Signature::OneRegion(signer) | Signature::Session(signer) => Ok(signer.sign(request, credentials, now)?),
            Signature::Regions { regions, service } => sign_for_regions(request, regions, service, credentials, now),
        }
    }
}

/// A setting of S3's in a profile or the environment, found as the SDK's client finds it.
fn setting(sdk: &SdkConfig, variable: &str, profile: &str) -> Option<String> {
    let key = ServiceConfigKey::builder().service_id("S3").env(variable).profile(profile).build();
    sdk.service_config()?.load_config(key.ok()?)
}

/// The endpoint of S3 that a profile or the environment names.
fn endpoint_of_the_sdk(sdk: &SdkConfig) -> Option<String> {
    setting(sdk, "AWS_ENDPOINT_URL", "endpoint_url").or_else(|| sdk.endpoint_url().map(str::to_owned))
}

fn without_default_port<'a>(scheme: &Scheme, authority: &'a Authority) -> &'a str {
    let default = if *scheme == Scheme::HTTPS { 443 } else { 80 };
    match authority.port_u16() {
        Some(port) if port == default => authority.host(),
        _ => authority.as_str(),
    }
}

/// How requests are signed: the plain way if the rules allow it, else the first that they name.
fn signature(resolved: &Resolved, region: &str, call: Call<'_>) -> Result<Signature> {
    let schemes = resolved.auth_schemes();
    let scheme = schemes.iter().find(|scheme| scheme.name() == PLAIN).or(schemes.first());
    let text = |name| scheme.and_then(|scheme| scheme.get(name)?.as_string());
    let service = text("signingName").unwrap_or("s3");
    let region = text("signingRegion").unwrap_or(region);
    let signer = |token| Signer::new(region, service, token);
    Ok(match scheme.map_or(PLAIN, EndpointAuthScheme::name) {
        PLAIN => Signature::OneRegion(signer(SECURITY_TOKEN)),
        "sigv4-s3express" => Signature::Session(signer(SESSION_TOKEN)),
        "sigv4a" => {
            let regions = scheme.and_then(|scheme| scheme.get("signingRegionSet")?.as_array());
            let regions: Vec<_> = regions.into_iter().flatten().filter_map(Document::as_string).collect();
            Signature::Regions { regions: regions.join(","), service: service.to_owned() }
        }
        other => {
            let message = format!("the bucket wants signatures of the kind `{other}`");
            return Err(call.error(ErrorKind::Unsupported, message));
        }
    })
}

#[cfg(test)]
mod tests {
    use aws_types::region::Region;

    use super::*;

    async fn resolve(bucket: &str, own: Option<&str>) -> Result<Endpoint> {
        let sdk = SdkConfig::builder().region(Region::new("eu-west-1")).build();
        Endpoint::resolve(Place { sdk: &sdk, bucket, own }, Call::reading("t", "x", "")).await
    }

    async fn address(bucket: &str, own: Option<&str>) -> String {
        let endpoint = resolve(bucket, own).await.unwrap();
        let target = PathAndQuery::try_from(format!("{}/k", endpoint.path)).unwrap();
        format!("{} {} {:?}", endpoint.uri(target).unwrap(), endpoint.host.to_str().unwrap(), endpoint.signature)
    }

    #[tokio::test]
    async fn an_address_is_that_of_the_rules() {
        let host = "data.s3.eu-west-1.amazonaws.com";
        let signer = "OneRegion(Signer { region: \"eu-west-1\", service: \"s3\", .. })";
        assert_eq!(address("data", None).await, format!("https://{host}/k {host} {signer}"));
        // A name that no certificate is for goes into the path.
        let host = "s3.eu-west-1.amazonaws.com";
        assert_eq!(address("a.b", None).await, format!("https://{host}/a.b/k {host} {signer}"));
        let own = Some("http://127.0.0.1:4566");
        assert_eq!(address("data", own).await, format!("http://127.0.0.1:4566/data/k 127.0.0.1:4566 {signer}"));
        let own = Some("https://minio.example:443/s3/");
        assert_eq!(address("data", own).await, format!("https://minio.example:443/s3/data/k minio.example {signer}"));
    }

    #[tokio::test]
    async fn the_sdks_other_settings_count() {
        let sdk = SdkConfig::builder().region(Region::new("us-east-1")).use_fips(true).use_dual_stack(true).build();
        let endpoint =
            Endpoint::resolve(Place { sdk: &sdk, bucket: "data", own: None }, Call::reading("t", "x", "")).await;
        assert_eq!(endpoint.unwrap().host, "data.s3-fips.dualstack.us-east-1.amazonaws.com");
        let sdk = SdkConfig::builder().region(Region::new("us-east-1")).endpoint_url("https://minio.example").build();
        let endpoint =
            Endpoint::resolve(Place { sdk: &sdk, bucket: "data", own: None }, Call::reading("t", "x", "")).await;
        assert_eq!(endpoint.unwrap().host, "data.minio.example");
    }

    #[tokio::test]
    async fn other_kinds_of_buckets_are_signed_for_in_their_own_way() {
        let directory = resolve("b--euw1-az1--x-s3", None).await.unwrap();
        assert_eq!(directory.host, "b--euw1-az1--x-s3.s3express-euw1-az1.eu-west-1.amazonaws.com");
        assert!(directory.wants_session() && format!("{directory:?}").contains("s3express"), "{directory:?}");
        let everywhere = resolve("arn:aws:s3::123456789012:accesspoint:mfzwi23gnjvgw.mrap", None).await.unwrap();
        assert_eq!(everywhere.host, "mfzwi23gnjvgw.mrap.accesspoint.s3-global.amazonaws.com");
        assert!(
            everywhere.region().is_none() && format!("{everywhere:?}").contains("regions: \"*\""),
            "{everywhere:?}"
        );
        let access_point = resolve("arn:aws:s3:eu-west-1:123456789012:accesspoint:name", None).await.unwrap();
        assert_eq!(access_point.host, "name-123456789012.s3-accesspoint.eu-west-1.amazonaws.com");
    }

    #[tokio::test]
    async fn a_bucket_without_an_address_is_a_setting_to_correct() {
        let refused = resolve("arn:aws:s3:nonsense", None).await.unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::InvalidConfig, "{refused:?}");
    }
}
