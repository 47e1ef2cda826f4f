//! The Logging query language, without functions and regular expressions.
//!
//! <https://cloud.google.com/logging/docs/view/logging-query-language>

use std::cmp::Ordering;

use jiff::Timestamp;
use serde_json::Value;

use super::super::failure::Failure;

/// A parsed filter.
#[derive(Debug)]
pub(super) struct Filter(Node);

#[derive(Debug)]
enum Node {
    All(Vec<Node>),
    Any(Vec<Node>),
    Not(Box<Node>),
    Compare {
        path: Vec<String>,
        operator: Operator,
        value: String,
    },
    /// A bare word: anywhere in the entry.
    Word(String),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Operator {
    Equal,
    NotEqual,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
    Has,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Token {
    Text(String),
    Quoted(String),
    Operator(Operator),
    Dot,
    Minus,
    Open,
    Close,
}

const SEVERITIES: [&str; 9] =
    ["DEFAULT", "DEBUG", "INFO", "NOTICE", "WARNING", "ERROR", "CRITICAL", "ALERT", "EMERGENCY"];

/// The rank of a severity.
pub(super) fn severity(name: &str) -> Option<usize> {
    SEVERITIES.iter().position(|known| *known == name)
}

impl Filter {
    pub(super) fn parse(text: &str) -> Result<Self, Failure> {
        let tokens = tokens(text)?;
        let mut parser = Parser { tokens: &tokens, depth: 0 };
        let node = parser.all()?;
        if !parser.tokens.is_empty() {
            return Err(invalid());
        }
        Ok(Self(node))
    }

    pub(super) fn takes(&self, entry: &Value) -> bool {
        self.0.holds(entry)
    }
}

fn invalid() -> Failure {
    Failure::invalid("filter: not valid, or not one that this emulator knows.")
}

fn tokens(text: &str) -> Result<Vec<Token>, Failure> {
    let mut tokens = Vec::new();
    let mut letters = text.chars().peekable();
    while let Some(&letter) = letters.peek() {
        if letter.is_whitespace() {
            letters.next();
            continue;
        }
        if !"\"=!<>:.()-".contains(letter) || (letter == '-' && matches!(tokens.last(), Some(Token::Operator(_)))) {
            tokens.push(Token::Text(word(&mut letters)));
            continue;
        }
        letters.next();
        let equals = letters.peek() == Some(&'=');
        let token = match letter {
            '"' => Token::Quoted(quoted(&mut letters)?),
            '=' if letters.peek() == Some(&'~') => return Err(invalid()),
            '=' => Token::Operator(Operator::Equal),
            '!' if equals => Token::Operator(Operator::NotEqual),
            '<' if equals => Token::Operator(Operator::LessOrEqual),
            '>' if equals => Token::Operator(Operator::GreaterOrEqual),
            '<' => Token::Operator(Operator::Less),
            '>' => Token::Operator(Operator::Greater),
            ':' => Token::Operator(Operator::Has),
            '.' => Token::Dot,
            '-' => Token::Minus,
            '(' => Token::Open,
            ')' => Token::Close,
            _ => return Err(invalid()),
        };
        if matches!(token, Token::Operator(Operator::NotEqual | Operator::LessOrEqual | Operator::GreaterOrEqual)) {
            letters.next();
        }
        tokens.push(token);
    }
    Ok(tokens)
}

fn word(letters: &mut std::iter::Peekable<std::str::Chars<'_>>) -> String {
    let mut word = String::new();
    while let Some(&letter) = letters.peek() {
        if letter.is_whitespace() || "\"=!<>:.()".contains(letter) {
            break;
        }
        word.push(letter);
        letters.next();
    }
    word
}

fn quoted(letters: &mut impl Iterator<Item = char>) -> Result<String, Failure> {
    let mut text = String::new();
    while let Some(letter) = letters.next() {
        match letter {
            '"' => return Ok(text),
            '\\' => text.extend(letters.next()),
            other => text.push(other),
        }
    }
    Err(invalid())
}

/// How deep negations and parentheses may be nested: each level takes stack.
const MAX_DEPTH: usize = 100;

struct Parser<'a> {
    tokens: &'a [Token],
    depth: usize,
}

impl Parser<'_> {
    fn next(&mut self) -> Option<Token> {
        let (first, rest) = self.tokens.split_first()?;
        self.tokens = rest;
        Some(first.clone())
    }

    fn eat(&mut self, token: &Token) -> bool {
        let there = self.tokens.first() == Some(token);
        if there {
            self.tokens = &self.tokens[1..];
        }
        there
    }

    fn eat_word(&mut self, word: &str) -> bool {
        self.eat(&Token::Text(word.into()))
    }

    /// `NOT` binds closest, then `OR`, then `AND`, which may be left out.
    fn all(&mut self) -> Result<Node, Failure> {
        let mut nodes = Vec::new();
        while !self.tokens.is_empty() && self.tokens.first() != Some(&Token::Close) {
            nodes.push(self.any()?);
            self.eat_word("AND");
        }
        Ok(Node::All(nodes))
    }

    fn any(&mut self) -> Result<Node, Failure> {
        let first = self.one()?;
        let mut nodes = vec![first];
        while self.eat_word("OR") {
            nodes.push(self.one()?);
        }
        Ok(Node::Any(nodes))
    }

    fn one(&mut self) -> Result<Node, Failure> {
        self.depth += 1;
        let node = if self.depth > MAX_DEPTH { Err(invalid()) } else { self.term() };
        self.depth -= 1;
        node
    }

    fn term(&mut self) -> Result<Node, Failure> {
        if self.eat_word("NOT") || self.eat(&Token::Minus) {
            return Ok(Node::Not(Box::new(self.one()?)));
        }
        if self.eat(&Token::Open) {
            let inner = self.all()?;
            return if self.eat(&Token::Close) { Ok(inner) } else { Err(invalid()) };
        }
        let (first, bare) = match self.next() {
            Some(Token::Text(text)) => (text, true),
            Some(Token::Quoted(text)) => (text, false),
            _ => return Err(invalid()),
        };
        let mut path = vec![first];
        while self.eat(&Token::Dot) {
            match self.next() {
                Some(Token::Text(text) | Token::Quoted(text)) => path.push(text),
                _ => return Err(invalid()),
            }
        }
        match self.tokens.first() {
            Some(Token::Operator(operator)) if bare => {
                let operator = *operator;
                self.next();
                Ok(Node::Compare { path, operator, value: self.value()? })
            }
            _ if path.len() == 1 => Ok(Node::Word(path.concat())),
            _ => Err(invalid()),
        }
    }

    /// A value; unquoted ones may hold dots and colons, as time stamps do.
    fn value(&mut self) -> Result<String, Failure> {
        let mut value = match self.next() {
            Some(Token::Quoted(text)) => return Ok(text),
            Some(Token::Text(text)) => text,
            _ => return Err(invalid()),
        };
        loop {
            if self.eat(&Token::Dot) {
                value.push('.');
            } else if self.eat(&Token::Operator(Operator::Has)) {
                value.push(':');
            } else {
                return Ok(value);
            }
            if let Some(Token::Text(text)) = self.next() {
                value.push_str(&text);
            }
        }
    }
}

impl Node {
    fn holds(&self, entry: &Value) -> bool {
        match self {
            Self::All(nodes) => nodes.iter().all(|node| node.holds(entry)),
            Self::Any(nodes) => nodes.iter().any(|node| node.holds(entry)),
            Self::Not(node) => !node.holds(entry),
            Self::Word(word) => entry.to_string().to_lowercase().contains(&word.to_lowercase()),
            Self::Compare { path, operator, value } => {
                let mut found = entry;
                for part in path {
                    match found.get(part) {
                        Some(inner) => found = inner,
                        // A field that is absent fails every comparison but "not equal".
                        None => return *operator == Operator::NotEqual,
                    }
                }
                compare(path, found, *operator, value)
            }
        }
    }
}

fn compare(path: &[String], found: &Value, operator: Operator, value: &str) -> bool {
    let text = match found {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    let ordering = match path.last().map(String::as_str) {
        Some("timestamp" | "receiveTimestamp") => {
            let moments = (text.parse::<Timestamp>(), value.parse::<Timestamp>());
            let (Ok(own), Ok(other)) = moments else { return false };
            Some(own.cmp(&other))
        }
        Some("severity") => match (severity(&text), severity(&value.to_uppercase())) {
            (Some(own), Some(other)) => Some(own.cmp(&other)),
            _ => None,
        },
        _ => match (text.parse::<f64>(), value.parse::<f64>()) {
            (Ok(own), Ok(other)) => own.partial_cmp(&other),
            // Comparisons of text ignore case, except those of equality.
            _ if matches!(operator, Operator::Equal | Operator::NotEqual) => Some(text.as_str().cmp(value)),
            _ => Some(text.to_lowercase().cmp(&value.to_lowercase())),
        },
    };
    let Some(ordering) = ordering else { return false };
    match operator {
        Operator::Equal => ordering == Ordering::Equal,
        Operator::NotEqual => ordering != Ordering::Equal,
        Operator::Less => ordering == Ordering::Less,
        Operator::LessOrEqual => ordering != Ordering::Greater,
        Operator::Greater => ordering == Ordering::Greater,
        Operator::GreaterOrEqual => ordering != Ordering::Less,
        Operator::Has => value == "*" || text.to_lowercase().contains(&value.to_lowercase()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn takes(filter: &str) -> bool {
        let entry = json!({
            "resource": {"type": "cloud_run_job", "labels": {"job_name": "train"}},
            "labels": {"run.googleapis.com/execution_name": "train-abcde"},
            "timestamp": "2024-05-06T07:08:09.5Z",
            "severity": "WARNING",
            "textPayload": "Epoch 3 done",
        });
        Filter::parse(filter).expect("a filter").takes(&entry)
    }

    #[test]
    fn fields_with_quotes_and_dots_are_found() {
        assert!(takes(r#"resource.type="cloud_run_job" AND resource.labels.job_name = "train""#));
        assert!(takes(r#"labels."run.googleapis.com/execution_name"="train-abcde""#));
        assert!(!takes(r#"labels."run.googleapis.com/execution_name"="other""#));
    }

    #[test]
    fn moments_are_compared_as_moments() {
        assert!(takes(r#"timestamp>="2024-05-06T09:08:09+02:00""#));
        assert!(takes("timestamp>=2024-05-06T07:08:09Z"));
        assert!(!takes(r#"timestamp>"2024-05-06T07:08:09.500Z""#));
    }

    #[test]
    fn severities_are_ordered_by_their_weight() {
        assert!(takes("severity>=INFO") && takes("severity<ERROR") && !takes("severity=ERROR"));
    }

    #[test]
    fn or_binds_closer_than_and_and_and_may_be_left_out() {
        assert!(takes("severity=ERROR OR severity=WARNING AND resource.type=cloud_run_job"));
        assert!(takes("severity=WARNING\nNOT textPayload:failed"));
        assert!(!takes("-severity=WARNING"));
        assert!(takes(r#"(textPayload:"epoch" OR nothing) done"#));
    }

    #[test]
    fn what_is_not_known_is_refused() {
        assert!(Filter::parse(r#"textPayload=~"a.*""#).is_err());
        assert!(Filter::parse(r#"a="b"#).is_err());
        assert!(Filter::parse("(a=b").is_err());
        for deep in ["(", "-", "NOT "] {
            assert!(Filter::parse(&deep.repeat(19_000 / deep.len())).is_err());
        }
    }
}
