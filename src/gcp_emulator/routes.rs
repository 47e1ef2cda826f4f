//! The methods that are served, by the ids and paths of Google's discovery documents.

use axum::http::Method;

use super::wire::decoded;

/// Whose form a request and its errors have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Service {
    SecretManager,
    CloudRun,
    Logging,
    /// The JSON API of Cloud Storage.
    Storage,
    /// The XML API of Cloud Storage, which signed URLs use.
    Xml,
    /// Service Account Credentials.
    Iam,
    /// The Security Token Service, OAuth and the metadata server.
    Tokens,
}

/// A method.
pub(super) struct Route {
    pub(super) id: &'static str,
    pub(super) http: &'static str,
    pub(super) template: &'static str,
}

impl Route {
    pub(super) fn service(&self) -> Service {
        match self.id.split('.').next() {
            Some("secretmanager") => Service::SecretManager,
            Some("run") => Service::CloudRun,
            Some("logging") => Service::Logging,
            Some("xml") => Service::Xml,
            Some("iamcredentials") => Service::Iam,
            Some("sts" | "oauth2" | "metadata") => Service::Tokens,
            _ => Service::Storage,
        }
    }
}

macro_rules! routes {
    ($($id:literal $http:ident $template:literal;)*) => {
        &[$(Route { id: $id, http: stringify!($http), template: $template }),*]
    };
}

/// The routes. The first match counts.
pub(super) const ROUTES: &[Route] = routes! {
    "secretmanager.projects.secrets.create" POST "v1/projects/{p}/secrets";
    "secretmanager.projects.secrets.list" GET "v1/projects/{p}/secrets";
    "secretmanager.projects.secrets.addVersion" POST "v1/projects/{p}/secrets/{s}:addVersion";
    "secretmanager.projects.secrets.get" GET "v1/projects/{p}/secrets/{s}";
    "secretmanager.projects.secrets.patch" PATCH "v1/projects/{p}/secrets/{s}";
    "secretmanager.projects.secrets.delete" DELETE "v1/projects/{p}/secrets/{s}";
    "secretmanager.projects.secrets.versions.list" GET "v1/projects/{p}/secrets/{s}/versions";
    "secretmanager.projects.secrets.versions.access" GET "v1/projects/{p}/secrets/{s}/versions/{v}:access";
    "secretmanager.projects.secrets.versions.enable" POST "v1/projects/{p}/secrets/{s}/versions/{v}:enable";
    "secretmanager.projects.secrets.versions.disable" POST "v1/projects/{p}/secrets/{s}/versions/{v}:disable";
    "secretmanager.projects.secrets.versions.destroy" POST "v1/projects/{p}/secrets/{s}/versions/{v}:destroy";
    "secretmanager.projects.secrets.versions.get" GET "v1/projects/{p}/secrets/{s}/versions/{v}";
    "secretmanager.projects.locations.secrets.create" POST "v1/projects/{p}/locations/{l}/secrets";
    "secretmanager.projects.locations.secrets.list" GET "v1/projects/{p}/locations/{l}/secrets";
    "secretmanager.projects.locations.secrets.addVersion" POST "v1/projects/{p}/locations/{l}/secrets/{s}:addVersion";
    "secretmanager.projects.locations.secrets.get" GET "v1/projects/{p}/locations/{l}/secrets/{s}";
    "secretmanager.projects.locations.secrets.patch" PATCH "v1/projects/{p}/locations/{l}/secrets/{s}";
    "secretmanager.projects.locations.secrets.delete" DELETE "v1/projects/{p}/locations/{l}/secrets/{s}";
    "secretmanager.projects.locations.secrets.versions.list" GET "v1/projects/{p}/locations/{l}/secrets/{s}/versions";
    "secretmanager.projects.locations.secrets.versions.access" GET "v1/projects/{p}/locations/{l}/secrets/{s}/versions/{v}:access";
    "secretmanager.projects.locations.secrets.versions.enable" POST "v1/projects/{p}/locations/{l}/secrets/{s}/versions/{v}:enable";
    "secretmanager.projects.locations.secrets.versions.disable" POST "v1/projects/{p}/locations/{l}/secrets/{s}/versions/{v}:disable";
    "secretmanager.projects.locations.secrets.versions.destroy" POST "v1/projects/{p}/locations/{l}/secrets/{s}/versions/{v}:destroy";
    "secretmanager.projects.locations.secrets.versions.get" GET "v1/projects/{p}/locations/{l}/secrets/{s}/versions/{v}";

    "run.projects.locations.jobs.create" POST "v2/projects/{p}/locations/{l}/jobs";
    "run.projects.locations.jobs.list" GET "v2/projects/{p}/locations/{l}/jobs";
    "run.projects.locations.jobs.run" POST "v2/projects/{p}/locations/{l}/jobs/{j}:run";
    "run.projects.locations.jobs.get" GET "v2/projects/{p}/locations/{l}/jobs/{j}";
    "run.projects.locations.jobs.patch" PATCH "v2/projects/{p}/locations/{l}/jobs/{j}";
    "run.projects.locations.jobs.delete" DELETE "v2/projects/{p}/locations/{l}/jobs/{j}";
    "run.projects.locations.jobs.executions.list" GET "v2/projects/{p}/locations/{l}/jobs/{j}/executions";
    "run.projects.locations.jobs.executions.cancel" POST "v2/projects/{p}/locations/{l}/jobs/{j}/executions/{e}:cancel";
    "run.projects.locations.jobs.executions.get" GET "v2/projects/{p}/locations/{l}/jobs/{j}/executions/{e}";
    "run.projects.locations.jobs.executions.delete" DELETE "v2/projects/{p}/locations/{l}/jobs/{j}/executions/{e}";
    "run.projects.locations.jobs.executions.tasks.list" GET "v2/projects/{p}/locations/{l}/jobs/{j}/executions/{e}/tasks";
    "run.projects.locations.jobs.executions.tasks.get" GET "v2/projects/{p}/locations/{l}/jobs/{j}/executions/{e}/tasks/{t}";
    "run.projects.locations.operations.list" GET "v2/projects/{p}/locations/{l}/operations";
    "run.projects.locations.operations.wait" POST "v2/projects/{p}/locations/{l}/operations/{o}:wait";
    "run.projects.locations.operations.get" GET "v2/projects/{p}/locations/{l}/operations/{o}";
    "run.projects.locations.operations.delete" DELETE "v2/projects/{p}/locations/{l}/operations/{o}";

    "logging.entries.list" POST "v2/entries:list";

    "iamcredentials.projects.serviceAccounts.signBlob" POST "v1/projects/{p}/serviceAccounts/{a}:signBlob";
    "iamcredentials.projects.serviceAccounts.generateAccessToken" POST "v1/projects/{p}/serviceAccounts/{a}:generateAccessToken";
    "sts.token" POST "v1/token";
    "oauth2.token" POST "token";
    "metadata.project" GET "computeMetadata/v1/project/project-id";
    "metadata.region" GET "computeMetadata/v1/instance/region";
    "metadata.email" GET "computeMetadata/v1/instance/service-accounts/default/email";
    "metadata.token" GET "computeMetadata/v1/instance/service-accounts/default/token";
    "metadata.universe" GET "computeMetadata/v1/universe/universe-domain";

    "storage.buckets.insert" POST "storage/v1/b";
    "storage.buckets.list" GET "storage/v1/b";
    "storage.buckets.get" GET "storage/v1/b/{b}";
    "storage.buckets.delete" DELETE "storage/v1/b/{b}";
    "storage.buckets.testIamPermissions" GET "storage/v1/b/{b}/iam/testPermissions";
    "storage.objects.list" GET "storage/v1/b/{b}/o";
    "storage.objects.get" GET "storage/v1/b/{b}/o/{o}";
    "storage.objects.get" GET "download/storage/v1/b/{b}/o/{o}";
    "storage.objects.patch" PATCH "storage/v1/b/{b}/o/{o}";
    "storage.objects.delete" DELETE "storage/v1/b/{b}/o/{o}";
    "storage.objects.compose" POST "storage/v1/b/{b}/o/{o}/compose";
    "storage.objects.rewrite" POST "storage/v1/b/{b}/o/{o}/rewriteTo/b/{c}/o/{q}";
    "storage.objects.copy" POST "storage/v1/b/{b}/o/{o}/copyTo/b/{c}/o/{q}";
    "storage.objects.insert" POST "upload/storage/v1/b/{b}/o";
    "storage.objects.insert" PUT "upload/storage/v1/b/{b}/o";
    "storage.objects.insert" DELETE "upload/storage/v1/b/{b}/o";
    "storage.objects.insert" POST "resumable/upload/storage/v1/b/{b}/o";
    "storage.objects.insert" PUT "resumable/upload/storage/v1/b/{b}/o";
    "storage.objects.insert" DELETE "resumable/upload/storage/v1/b/{b}/o";
};

/// The XML API has no discovery document; these ids are for scripts of faults and the request log.
const XML_ROUTES: &[Route] = routes! {
    "xml.objects.get" GET "";
    "xml.objects.head" HEAD "";
    "xml.objects.put" PUT "";
    "xml.objects.delete" DELETE "";
};

/// The route of a request with its decoded variables.
pub(super) fn find(method: &Method, path: &str) -> Option<(&'static Route, Vec<String>)> {
    let path = path.strip_prefix('/').unwrap_or(path);
    if let Some(found) = ROUTES
        .iter()
        .filter(|route| route.http == method.as_str())
        .find_map(|route| Some((route, variables(route.template, path)?)))
    {
        return Some(found);
    }
    xml(method, path)
}

fn xml(method: &Method, path: &str) -> Option<(&'static Route, Vec<String>)> {
    let (bucket, object) = path.split_once('/')?;
    let reserved = ["v1", "v2", "storage", "upload", "resumable", "download", "batch"];
    if object.is_empty() || bucket.is_empty() || reserved.contains(&bucket) {
        return None;
    }
    let route = XML_ROUTES.iter().find(|route| route.http == method.as_str())?;
    Some((route, vec![decoded(bucket), decoded(object)]))
}

/// The variables of a path that fits a template.
pub(super) fn variables(template: &str, path: &str) -> Option<Vec<String>> {
    let mut wanted = template.split('/');
    let mut given = path.split('/');
    let mut found = Vec::new();
    loop {
        match (wanted.next(), given.next()) {
            (None, None) => return Some(found),
            (Some(want), Some(have)) => match want.strip_prefix('{').and_then(|w| w.split_once('}')) {
                None if want == have => {}
                None => return None,
                Some((_, verb)) => {
                    // A verb follows the last colon; a variable without one may hold none.
                    let value = have.strip_suffix(verb)?;
                    let custom = template.starts_with('v') && value.contains(':');
                    if value.is_empty() || custom {
                        return None;
                    }
                    found.push(decoded(value));
                }
            },
            _ => return None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(method: &Method, path: &str) -> Option<&'static str> {
        find(method, path).map(|(route, _)| route.id)
    }

    #[test]
    fn verbs_are_told_from_names() {
        assert_eq!(
            id(&Method::POST, "/v1/projects/p/secrets/s:addVersion"),
            Some("secretmanager.projects.secrets.addVersion")
        );
        assert_eq!(
            id(&Method::GET, "/v1/projects/p/secrets/s/versions/latest:access"),
            Some("secretmanager.projects.secrets.versions.access")
        );
        assert_eq!(id(&Method::POST, "/v1/projects/p/secrets/s:unknown"), None);
    }

    #[test]
    fn object_names_are_decoded_after_the_path_is_split() {
        let (route, path) = find(&Method::GET, "/storage/v1/b/bucket/o/a%2Fb%3Ac").expect("a route");
        assert_eq!(route.id, "storage.objects.get");
        assert_eq!(path, ["bucket", "a/b:c"]);
    }

    #[test]
    fn other_paths_are_objects_of_the_xml_api() {
        assert_eq!(id(&Method::GET, "/bucket/a/b"), Some("xml.objects.get"));
        assert_eq!(id(&Method::GET, "/v2/nonsense"), None);
    }
}
