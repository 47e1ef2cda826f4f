use std::borrow::Cow;
use std::time::SystemTime;

use http::HeaderMap;

use super::ContentHeaders;

/// What the headers of an answer say of an object, where the clouds say it alike.
#[derive(Clone, Copy)]
pub(crate) struct Told<'a>(pub(crate) &'a HeaderMap);

impl<'a> Told<'a> {
    /// A header's text, if it is there and not empty.
    pub(crate) fn text(self, name: &str) -> Option<&'a str> {
        self.0.get(name)?.to_str().ok().filter(|text| !text.is_empty())
    }

    pub(crate) fn number(self, name: &str) -> Option<u64> {
        self.text(name)?.parse().ok()
    }

    pub(crate) fn content(self) -> ContentHeaders {
        let owned = |name| self.text(name).map(str::to_owned);
        ContentHeaders {
            content_type: owned("content-type"),
            content_encoding: owned("content-encoding"),
            content_disposition: owned("content-disposition"),
            content_language: owned("content-language"),
            cache_control: owned("cache-control"),
        }
    }

    pub(crate) fn time(self, name: &str) -> Option<SystemTime> {
        let time = jiff::fmt::rfc2822::DateTimeParser::new().parse_timestamp(self.text(name)?).ok()?;
        SystemTime::try_from(time).ok()
    }

    /// Names, without the prefix, and values of the headers that start with it.
    pub(crate) fn entries(self, prefix: &str) -> impl Iterator<Item = (&'a str, Cow<'a, str>)> {
        self.0.iter().filter_map(move |(name, value)| {
            Some((name.as_str().strip_prefix(prefix)?, String::from_utf8_lossy(value.as_bytes())))
        })
    }
}
