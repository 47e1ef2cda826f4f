//! `multipart/related` bodies.
//!
//! <https://www.rfc-editor.org/rfc/rfc2387>, <https://www.rfc-editor.org/rfc/rfc2046#section-5.1.1>

use bytes::Bytes;

use super::super::failure::Failure;

/// A part.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Part {
    pub(super) content_type: Option<String>,
    pub(super) body: Bytes,
}

/// The parts of a body.
pub(super) fn parts(content_type: &str, body: &Bytes) -> Result<Vec<Part>, Failure> {
    let broken = || Failure::invalid("The multipart body is not well formed.");
    let boundary = content_type
        .split(';')
        .filter_map(|parameter| parameter.trim().split_once('='))
        .find(|(name, _)| name.eq_ignore_ascii_case("boundary"))
        .map(|(_, value)| value.trim_matches(['"', '\'']))
        .filter(|value| !value.is_empty())
        .ok_or_else(|| Failure::invalid("The multipart content type has no boundary."))?;
    let marker = format!("--{boundary}");
    let mut places = Vec::new();
    let mut from = 0;
    while let Some(found) = find(&body[from..], marker.as_bytes()) {
        let at = from + found;
        // A boundary stands at the start of a line.
        if at == 0 || body[at - 1] == b'\n' {
            places.push(at);
        }
        from = at + marker.len();
    }
    let mut parts = Vec::new();
    for pair in places.windows(2) {
        let [start, end] = [pair[0] + marker.len(), pair[1]];
        let section = &body[start..end];
        let head = find(section, b"\r\n\r\n").map(|at| (at, 4)).or_else(|| find(section, b"\n\n").map(|at| (at, 2)));
        let (at, width) = head.ok_or_else(broken)?;
        let content_type = String::from_utf8_lossy(&section[..at])
            .lines()
            .filter_map(|line| line.split_once(':'))
            .find(|(name, _)| name.trim().eq_ignore_ascii_case("content-type"))
            .map(|(_, value)| value.trim().to_owned());
        let content = start + at + width;
        let mut stop = end;
        for letter in [b'\n', b'\r'] {
            if stop > content && body[stop - 1] == letter {
                stop -= 1;
            }
        }
        parts.push(Part { content_type, body: body.slice(content..stop) });
    }
    let closed = places.last().is_some_and(|at| body[at + marker.len()..].starts_with(b"--"));
    if parts.is_empty() || !closed {
        return Err(broken());
    }
    Ok(parts)
}

fn find(text: &[u8], what: &[u8]) -> Option<usize> {
    text.windows(what.len()).position(|window| window == what)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_keep_their_bytes_exactly() {
        let body = Bytes::from_static(
            b"--x\r\nContent-Type: application/json\r\n\r\n{}\r\n--x\r\ncontent-type: text/plain\r\n\r\na\r\n--y\n\r\n--x--\r\n",
        );
        let parts = parts("multipart/related; boundary=\"x\"", &body).expect("parts");
        assert_eq!(parts[0].body, "{}");
        assert_eq!(parts[1].body, "a\r\n--y\n");
        assert_eq!(parts[1].content_type.as_deref(), Some("text/plain"));
    }

    #[test]
    fn a_body_that_was_cut_off_is_refused() {
        let body = Bytes::from_static(b"--x\r\n\r\n{}\r\n--x\r\n\r\nabc");
        assert!(parts("multipart/related; boundary=x", &body).is_err());
    }
}
