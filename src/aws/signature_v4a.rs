//! Signature Version 4A, which access points of several regions want. Made by `aws-sigv4` as it is: few need it.

use std::time::SystemTime;

use aws_credential_types::Credentials;
use aws_sigv4::http_request::{
    PayloadChecksumKind, PercentEncodingMode, SignableBody, SignableRequest, SigningParams, SigningSettings,
    UriPathNormalizationMode, sign,
};
use aws_sigv4::sign::v4a;
use aws_smithy_runtime_api::box_error::BoxError;
use aws_smithy_runtime_api::client::identity::Identity;
use http::Request;

/// By S3's rules: the path is encoded once, and the body is not signed.
pub(super) fn settings() -> SigningSettings {
    let mut settings = SigningSettings::default();
    settings.percent_encoding_mode = PercentEncodingMode::Single;
    settings.uri_path_normalization_mode = UriPathNormalizationMode::Disabled;
    settings.payload_checksum_kind = PayloadChecksumKind::XAmzSha256;
    settings
}

/// Adds the headers of a signature that is good in these regions, and covers all headers that are there already.
///
/// # Errors
/// Credentials that nothing can be signed with.
pub(super) fn sign_for_regions<B>(
    request: &mut Request<B>,
    regions: &str,
    service: &str,
    credentials: &Credentials,
    now: SystemTime,
) -> Result<(), BoxError> {
    let identity = Identity::from(credentials.clone());
    let params = v4a::SigningParams::builder()
        .identity(&identity)
        .region_set(regions)
        .name(service)
        .time(now)
        .settings(settings())
        .build()?;
    let headers: Result<Vec<_>, _> =
        request.headers().iter().map(|(name, value)| Ok::<_, BoxError>((name.as_str(), value.to_str()?))).collect();
    let url = request.uri().to_string();
    let signable =
        SignableRequest::new(request.method().as_str(), url, headers?.into_iter(), SignableBody::UnsignedPayload)?;
    let (instructions, _) = sign(signable, &SigningParams::V4a(params))?.into_parts();
    instructions.apply_to_request_http1x(request);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signature_for_all_regions_says_so_and_shows_no_secret() {
        let credentials = Credentials::new("AKIDEXAMPLE", "made-up-secret", Some("TOKEN".to_owned()), None, "test");
        let url = "https://mfzwi23gnjvgw.mrap.accesspoint.s3-global.amazonaws.com/a%20b";
        let mut request = Request::get(url).header("range", "bytes=0-9").body(()).unwrap();
        sign_for_regions(&mut request, "*", "s3", &credentials, SystemTime::now()).unwrap();
        let header = |name: &str| request.headers()[name].to_str().unwrap();
        assert_eq!((header("x-amz-region-set"), header("x-amz-content-sha256")), ("*", "UNSIGNED-PAYLOAD"));
        let (algorithm, rest) = header("authorization").split_once(' ').unwrap();
        assert_eq!(algorithm, "AWS4-ECDSA-P256-SHA256");
        assert!(rest.contains("/s3/aws4_request, SignedHeaders=host;range;x-amz-content-sha256;x-amz-date;"), "{rest}");
        assert!(!format!("{request:?}").contains("made-up-secret"));
    }
}
