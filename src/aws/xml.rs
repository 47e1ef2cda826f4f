//! What is read of XML without the SDK.

use quick_xml::Reader;
use quick_xml::events::{BytesRef, Event};

/// What an error's body says:
/// [S3](https://docs.aws.amazon.com/AmazonS3/latest/API/ErrorResponses.html#RESTErrorResponses),
/// [EC2](https://docs.aws.amazon.com/AWSEC2/latest/APIReference/errors-overview.html#api-error-response).
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Said {
    pub(super) code: String,
    pub(super) message: String,
}

impl Said {
    /// Reads the first `Error` of a document; `None` if there is no whole one.
    pub(super) fn read(xml: &[u8]) -> Option<Self> {
        let mut reader = Reader::from_str(std::str::from_utf8(xml).ok()?);
        let mut said = Self::default();
        // How deep the reader is below the document, and at which depth the error is.
        let (mut depth, mut error) = (0_u32, None);
        let mut text = String::new();
        loop {
            match reader.read_event().ok()? {
                Event::Start(element) => {
                    text.clear();
                    depth += 1;
                    if error.is_none() && element.local_name().as_ref() == "Error" {
                        error = Some(depth);
                    }
                }
                Event::Text(piece) => text.push_str(&piece),
                Event::CData(piece) => text.push_str(&piece),
                Event::GeneralRef(reference) => text.push(resolve(&reference)?),
                Event::End(element) => {
                    match element.local_name().as_ref() {
                        "Code" if error.is_some_and(|error| depth == error + 1) => said.code = text.trim().to_owned(),
                        "Message" if error.is_some_and(|error| depth == error + 1) => {
                            said.message = text.trim().to_owned();
                        }
                        "Error" if error == Some(depth) => return Some(said),
                        _ => {}
                    }
                    text.clear();
                    depth = depth.checked_sub(1)?;
                }
                Event::Eof => return None,
                _ => {}
            }
        }
    }
}

/// The character that `&…;` stands for.
pub(super) fn resolve(reference: &BytesRef<'_>) -> Option<char> {
    match &**reference {
        "amp" => Some('&'),
        "lt" => Some('<'),
        "gt" => Some('>'),
        "quot" => Some('"'),
        "apos" => Some('\''),
        _ => reference.resolve_char_ref().ok().flatten(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(xml: &str) -> Option<(String, String)> {
        Said::read(xml.as_bytes()).map(|said| (said.code, said.message))
    }

    #[test]
    fn code_and_message_are_read_with_their_entities() {
        let said = Some(("NoSuchKey".to_owned(), "a <b> & \"c\" ü".to_owned()));
        let s3 = "<?xml version=\"1.0\"?>\n<Error><Code>NoSuchKey</Code><Message>a &lt;b&gt; &amp; &quot;c&#34; \
                  &#xFC;</Message><Detail><Code>Other</Code></Detail></Error>";
        assert_eq!(read(s3), said);
        let ec2 = "<Response><Errors><Error><Code>NoSuchKey</Code><Message><![CDATA[a <b> & \"c\" ü]]></Message></Error>\
                   </Errors><RequestID>r</RequestID></Response>";
        assert_eq!(read(ec2), said);
        assert_eq!(read("<Error><Code>SlowDown</Code></Error>"), Some(("SlowDown".to_owned(), String::new())));
    }

    #[test]
    fn what_is_no_whole_error_is_none() {
        let whole = "<Error><Code>NoSuchKey</Code><Message>m</Message></Error>";
        for end in 0..whole.len() {
            assert_eq!(read(&whole[..end]), None, "cut at {end}");
        }
        for text in ["<html><body>502</body></html>", "no", "<Error/>", "<Code>x</Code>", "</Error>"] {
            assert_eq!(read(text), None, "{text}");
        }
        assert_eq!(Said::read(b"<Error><Code>\xff</Code></Error>"), None);
    }
}
