//! What can happen to a request on its way, and what is said in place of a server.

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SocketFault {
    /// Nobody listens, for a while.
    Refuse,
    /// The connection is reset before the server has a byte.
    CutBefore,
    /// The connection is reset with half of the request read, of which the server gets what was read.
    CutMid,
    /// The server does it, and the answer is lost.
    LoseAnswer,
    /// Half of the answer arrives.
    CutAnswer,
    /// The server does it, and the connection is closed in good order without a word.
    CloseAnswer,
    /// A bit of the answer's body is another one.
    FlipAnswer,
    /// A bit of the request's body is another one.
    FlipRequest,
    /// The server gets it a little later.
    Slow,
    /// Nothing happens for longer than anybody waits, and the server has nothing of it.
    Stall,
    /// The server does it, and the answer does not come for longer than anybody waits.
    StallAnswer,
    /// The first attempt is held back, and reaches the server after the second one.
    LateDuplicate,
    /// An answer in place of the server's, with this code of an error.
    Status(u16, &'static str),
    /// Such an answer that says more.
    Say(Said),
}

/// What is said in place of the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Said {
    pub(crate) status: u16,
    pub(crate) code: &'static str,
    pub(crate) extra: Extra,
}

/// What an answer says besides its code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Extra {
    Nothing,
    /// When to come again, in seconds, or as the date so many seconds from now.
    RetryAfter(u64),
    RetryAfterDate(i64),
    /// Go to an address where nobody is.
    Location,
    Message(&'static str),
}

impl Said {
    /// In the words of the service that a request of this label is for.
    pub(super) fn answer(self, label: &str) -> Vec<u8> {
        let Self { status, code, extra } = self;
        let header = match extra {
            Extra::RetryAfter(seconds) => format!("retry-after: {seconds}\r\n"),
            Extra::RetryAfterDate(seconds) => {
                let at = jiff::Timestamp::now() + jiff::SignedDuration::from_secs(seconds);
                format!("retry-after: {}\r\n", at.strftime("%a, %d %b %Y %T GMT"))
            }
            Extra::Location => "location: http://127.0.0.1:9/elsewhere\r\n".to_owned(),
            Extra::Message(_) | Extra::Nothing => String::new(),
        };
        let message = if let Extra::Message(message) = extra { message } else { "said so" };
        let body = if speaks_json(label) {
            format!(r#"{{"__type":"{code}","message":"{message}"}}"#)
        } else if label.contains(' ') {
            let reasons = format!(r#"[{{"reason":"{code}"}}]"#);
            format!(r#"{{"error":{{"code":{status},"message":"{message}","status":"{code}","errors":{reasons}}}}}"#)
        } else {
            format!("<Error><Code>{code}</Code><Message>{message}</Message></Error>")
        };
        answer(status, &header, &body)
    }
}

/// Whether a service answers in JSON, by the label of a request.
fn speaks_json(label: &str) -> bool {
    label.starts_with("secretsmanager") || label.starts_with("AmazonEC2ContainerService")
}

pub(super) fn answer(status: u16, header: &str, body: &str) -> Vec<u8> {
    let length = body.len();
    let head = format!("content-type: application/json\r\n{header}content-length: {length}\r\nconnection: close");
    format!("HTTP/1.1 {status} Scripted\r\n{head}\r\n\r\n{body}").into_bytes()
}
