//! Where an object of a key lies, and which key a file stands for.
//!
//! A key is cut at its slashes: what ends at a slash is a directory (`.d`), what comes last is a file (`.o`). Of a
//! longer component every [`CHUNK`] bytes become a directory of their own (`.c`), so that no name is too long. Bytes
//! other than `A-Z a-z 0-9 - _ . = +` are written as `%XX`. So `a`, `a/` and `a/b` are the files `a.o`, `a.d/.o` and
//! `a.d/b.o`.
//!
//! In one directory, the names in order of what they stand for (a directory's with its slash) are the keys in byte
//! order: nothing else in the directory starts with what a subdirectory stands for.

use std::fmt::Write as _;

/// How many bytes of a component one name stands for at most; escaped they are 240, of 255 that a name may have.
const CHUNK: usize = 80;

/// What a name stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Kind {
    Object,
    Directory,
    Continuation,
}

impl Kind {
    const fn suffix(self) -> &'static str {
        match self {
            Self::Object => ".o",
            Self::Directory => ".d",
            Self::Continuation => ".c",
        }
    }
}

/// The place of an object below the directory of all objects.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct KeyPath {
    /// The directories on the way.
    pub(super) directories: Vec<String>,
    /// The name of the file.
    pub(super) file: String,
    /// How many bytes of the key the directories stand for.
    pub(super) covered: usize,
}

impl KeyPath {
    pub(super) fn of(key: &[u8]) -> Self {
        let mut directories = Vec::new();
        let mut covered = 0;
        loop {
            let rest = &key[covered..];
            let slash = rest.iter().position(|byte| *byte == b'/');
            let component = &rest[..slash.unwrap_or(rest.len())];
            if component.len() >= CHUNK {
                directories.push(name(&component[..CHUNK], Kind::Continuation));
                covered += CHUNK;
            } else if slash.is_some() {
                directories.push(name(component, Kind::Directory));
                covered += component.len() + 1;
            } else {
                return Self { directories, file: name(component, Kind::Object), covered };
            }
        }
    }

    /// The path of the directory; empty for the topmost.
    pub(super) fn directory(&self) -> String {
        self.directories.join("/")
    }

    /// The path of the file.
    pub(super) fn path(&self) -> String {
        let mut path = self.directory();
        if !path.is_empty() {
            path.push('/');
        }
        path + &self.file
    }
}

/// The name of what stands for `sort`: a component of a key, with its slash if it is a directory.
pub(super) fn name_of(sort: &[u8], kind: Kind) -> String {
    match kind {
        Kind::Directory => name(sort.strip_suffix(b"/").unwrap_or(sort), kind),
        Kind::Object | Kind::Continuation => name(sort, kind),
    }
}

/// What a name stands for, appended to `sort`; `None` for a name that no key has.
pub(super) fn read_name(text: &[u8], sort: &mut Vec<u8>) -> Option<Kind> {
    let (component, suffix) = text.split_at_checked(text.len().checked_sub(2)?)?;
    let kind = match suffix {
        b".o" => Kind::Object,
        b".d" => Kind::Directory,
        b".c" => Kind::Continuation,
        _ => return None,
    };
    let start = sort.len();
    let mut bytes = component.iter();
    while let Some(byte) = bytes.next() {
        match *byte {
            b'%' => {
                let byte = hex_digit(*bytes.next()?)? << 4 | hex_digit(*bytes.next()?)?;
                if is_plain(byte) || byte == b'/' {
                    return None;
                }
                sort.push(byte);
            }
            byte if is_plain(byte) => sort.push(byte),
            _ => return None,
        }
    }
    let length = sort.len() - start;
    match kind {
        Kind::Continuation if length != CHUNK => return None,
        Kind::Object | Kind::Directory if length >= CHUNK => return None,
        Kind::Directory => sort.push(b'/'),
        _ => {}
    }
    Some(kind)
}

fn name(component: &[u8], kind: Kind) -> String {
    let mut name = String::with_capacity(component.len() + 2);
    for byte in component {
        if is_plain(*byte) {
            name.push(char::from(*byte));
        } else {
            let _ = write!(name, "%{byte:02X}");
        }
    }
    name + kind.suffix()
}

fn is_plain(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.' | b'=' | b'+')
}

fn hex_digit(digit: u8) -> Option<u8> {
    match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'A'..=b'F' => Some(digit - b'A' + 10),
        _ => None,
    }
}

#[cfg(test)]
pub(super) mod tests {
    use std::collections::BTreeSet;

    use super::*;

    /// Keys that tempt an implementation to confuse, lose or escape.
    pub(in crate::local) fn naughty_keys() -> Vec<String> {
        let mut keys: BTreeSet<String> = [
            "a",
            "a/",
            "a//",
            "a/b",
            "a-b",
            "a0",
            "a.d",
            "a.o",
            "a.c",
            "a.d/b.o",
            "/",
            "//",
            "/a",
            "../x",
            "a/../b",
            "a/..",
            "./a",
            "...",
            "%2F",
            "%",
            "%25",
            "a%",
            " ",
            "a b",
            "a\tb",
            "\u{1}",
            "\u{7f}",
            "ä",
            "☃",
            "😀/😀",
            "~",
            "CON",
            "a:b",
            "a\\b",
            "-rf",
            "*",
            "$(x)",
            "'",
            "\"",
            ".o",
            ".d",
            ".c",
            ".tmp",
            "\u{feff}",
            "a\u{301}",
        ]
        .into_iter()
        .map(str::to_owned)
        .collect();
        for length in [CHUNK - 1, CHUNK, CHUNK + 1, 2 * CHUNK, 255, 256, 1022] {
            for letter in ["x", "%", "/"] {
                let long = letter.repeat(length);
                keys.extend([long.clone(), format!("{long}/"), format!("{long}/x"), format!("{long}-")]);
            }
        }
        keys.extend([format!("{}é", "x".repeat(CHUNK - 1)), "/".repeat(1024), "%/".repeat(512), "☃".repeat(341)]);
        let mut random = fastrand::Rng::with_seed(7);
        while keys.len() < 4000 {
            let length = random.usize(1..100);
            let alphabet: Vec<char> = "aab/./%-0é☃\t ~x".chars().collect();
            keys.insert((0..length).map(|_| alphabet[random.usize(..alphabet.len())]).collect());
        }
        keys.into_iter().filter(|key| crate::ObjectKey::new(key.as_str()).is_ok()).collect()
    }

    fn read_back(path: &KeyPath) -> (Vec<u8>, Kind) {
        let mut key = Vec::new();
        for directory in &path.directories {
            assert_ne!(read_name(directory.as_bytes(), &mut key), Some(Kind::Object));
        }
        let kind = read_name(path.file.as_bytes(), &mut key).unwrap();
        (key, kind)
    }

    #[test]
    fn every_key_has_a_path_of_its_own_that_reads_back_and_stays_inside() {
        let keys = naughty_keys();
        let mut paths = BTreeSet::new();
        for key in &keys {
            let path = KeyPath::of(key.as_bytes());
            assert_eq!(read_back(&path), (key.as_bytes().to_vec(), Kind::Object));
            for name in path.directories.iter().chain([&path.file]) {
                assert!(name.len() <= 255 && name != "." && name != ".." && !name.contains(['/', '\0']), "{name}");
            }
            assert!(path.path().len() < 4096, "{} bytes", path.path().len());
            assert!(paths.insert(path.path()), "{key:?} shares its path");
        }
        assert!(paths.len() > 3500);
    }

    #[test]
    fn no_object_lies_where_another_key_needs_a_directory() {
        let mut files = BTreeSet::new();
        let mut directories = BTreeSet::new();
        for key in naughty_keys() {
            let path = KeyPath::of(key.as_bytes());
            files.insert(path.path());
            for end in 1..=path.directories.len() {
                directories.insert(path.directories[..end].join("/"));
            }
        }
        assert!(files.is_disjoint(&directories));
    }

    #[test]
    fn only_names_as_they_are_written_are_read() {
        for name in ["a", ".", "", "a.x", "%41.o", "%2f.o", "%2F.o", "%.o", "%4.o", "a b.o", "ä.o", "x.c"] {
            assert_eq!(read_name(name.as_bytes(), &mut Vec::new()), None, "{name}");
        }
        let long = "x".repeat(CHUNK);
        assert_eq!(read_name(format!("{long}.o").as_bytes(), &mut Vec::new()), None);
        assert_eq!(read_name(format!("{long}.c").as_bytes(), &mut Vec::new()), Some(Kind::Continuation));
    }
}
