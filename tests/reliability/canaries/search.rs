//! The search itself, in the process that is searched.

use std::collections::BTreeMap;
use std::error::Error as _;
use std::fmt::{Debug, Write as _};
use std::io::{self, Write as _};
use std::path::Path;
use std::sync::{LazyLock, Mutex, PoisonError};

use aho_corasick::{AhoCorasick, MatchKind};
use anycloud::Error;
use serde_json::{Value, json};
use tracing_subscriber::fmt::format::FmtSpan;

use super::canary::{FORMS, Form, forms_of};

/// Where something is looked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Place {
    Log,
    Error,
    DebugForm,
    Panic,
    File,
    Environment,
    CommandLine,
    RequestLog,
}

pub(crate) const PLACES: [Place; 8] = [
    Place::Log,
    Place::Error,
    Place::DebugForm,
    Place::Panic,
    Place::File,
    Place::Environment,
    Place::CommandLine,
    Place::RequestLog,
];

/// What was looked through of a place.
#[derive(Clone, Copy, Default)]
struct Looked {
    texts: u64,
    bytes: u64,
}

#[derive(Clone)]
pub(crate) struct Hit {
    place: Place,
    what: String,
    form: &'static str,
    context: String,
}

impl Hit {
    pub(crate) fn is(&self, place: Place, form: &Form) -> bool {
        self.place == place && self.what == form.what && self.form == form.name
    }
}

/// An automaton for many forms at once.
struct Finder {
    forms: Vec<Form>,
    automaton: AhoCorasick,
}

impl Finder {
    fn new(forms: Vec<Form>) -> Self {
        let mut builder = AhoCorasick::builder();
        builder.match_kind(MatchKind::LeftmostLongest);
        let automaton = builder.build(forms.iter().map(|form| &form.bytes)).expect("few patterns");
        Self { forms, automaton }
    }

    fn find(&self, place: Place, text: &[u8]) -> Vec<Hit> {
        let found = self.automaton.find_iter(text).map(|found| {
            let form = &self.forms[found.pattern().as_usize()];
            let before = String::from_utf8_lossy(&text[found.start().saturating_sub(200)..found.start()]);
            let after = String::from_utf8_lossy(&text[found.end()..text.len().min(found.end() + 40)]);
            Hit { place, what: form.what.clone(), form: form.name, context: format!("{before}[here]{after}") }
        });
        found.collect()
    }
}

static FINDER: LazyLock<Finder> = LazyLock::new(|| Finder::new(FORMS.clone()));
static LOOKED: Mutex<BTreeMap<Place, Looked>> = Mutex::new(BTreeMap::new());
static HITS: Mutex<Vec<Hit>> = Mutex::new(Vec::new());
/// All that was looked through, where there are secrets that are known only afterwards.
static KEPT: Mutex<Option<Texts>> = Mutex::new(None);

type Texts = Vec<(Place, Vec<u8>)>;

fn locked<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Looks for every form of every secret.
pub(crate) fn search(place: Place, text: impl AsRef<[u8]>) {
    search_but_for(place, text, &[]);
}

/// Looks for every secret but those that belong there, and says how many of these there were.
pub(crate) fn search_but_for(place: Place, text: impl AsRef<[u8]>, belong: &[&str]) -> usize {
    let text = text.as_ref();
    let looked = &mut *locked(&LOOKED);
    let count = looked.entry(place).or_default();
    count.texts += 1;
    count.bytes += text.len() as u64;
    if let Some(kept) = &mut *locked(&KEPT) {
        kept.push((place, text.to_vec()));
    }
    let (right, wrong): (Vec<_>, Vec<_>) =
        FINDER.find(place, text).into_iter().partition(|hit| belong.contains(&hit.what.as_str()));
    locked(&HITS).extend(wrong);
    right.len()
}

/// From now on keeps everything, for [`learn`].
pub(crate) fn keep_everything() {
    *locked(&KEPT) = Some(Vec::new());
}

/// Looks for secrets that were not known before, in all that was kept.
pub(crate) fn learn(secrets: &[(&str, Vec<u8>)]) {
    let forms = secrets.iter().flat_map(|(what, secret)| forms_of(what, secret)).collect();
    let finder = Finder::new(forms);
    let kept = locked(&KEPT);
    let kept = kept.as_ref().expect("everything is kept");
    let hits: Vec<_> = kept.iter().flat_map(|(place, text)| finder.find(*place, text)).collect();
    locked(&HITS).extend(hits);
}

/// Takes the hits so far.
pub(crate) fn hits() -> Vec<Hit> {
    std::mem::take(&mut *locked(&HITS))
}

/// Looks through all that an error shows of itself and its causes.
pub(crate) fn inspect(error: &Error) {
    let mut text = format!("{error}\n{error:?}\n{error:#?}\n{}", error.help_url());
    let mut source = error.source();
    while let Some(cause) = source {
        let _ = write!(text, "\n{cause}\n{cause:?}\n{cause:#?}");
        source = cause.source();
    }
    search(Place::Error, &text);
    // Lists are spread over lines in the long form.
    search(Place::Error, text.split_whitespace().collect::<String>());
}

pub(crate) fn inspect_all<'a, T: 'a>(results: impl IntoIterator<Item = &'a anycloud::Result<T>>) {
    results.into_iter().filter_map(|result| result.as_ref().err()).for_each(inspect);
}

/// Looks through the debug form of something, and of what a panic says that shows it.
pub(crate) fn inspect_debug(value: &(impl Debug + ?Sized)) {
    let text = format!("{value:?}\n{value:#?}");
    search(Place::DebugForm, &text);
    search(Place::DebugForm, text.split_whitespace().collect::<String>());
    let fail = std::panic::AssertUnwindSafe(|| panic!("it is there: {value:?}"));
    let panicked = std::panic::catch_unwind(fail);
    assert!(panicked.is_err());
}

/// Looks through every file below a directory, and its name. Gives the files with secrets that belong there, and how
/// many. The key that signs URLs is looked for elsewhere, and so not in its own file.
pub(crate) fn search_files(directory: &Path, owns: &dyn Fn(&Path) -> Vec<&'static str>) -> BTreeMap<String, usize> {
    let mut owned = BTreeMap::new();
    let entries = std::fs::read_dir(directory).into_iter().flatten().flatten();
    for entry in entries {
        let path = entry.path();
        search(Place::File, path.as_os_str().as_encoded_bytes());
        if path.is_dir() {
            owned.append(&mut search_files(&path, owns));
        } else if !path.ends_with("signing-key")
            && let Ok(bytes) = std::fs::read(&path)
        {
            let count = search_but_for(Place::File, bytes, &owns(&path));
            if count > 0 {
                owned.insert(path.display().to_string(), count);
            }
        }
    }
    owned
}

/// Searches what a log line holds.
struct Searching;

impl io::Write for Searching {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        search(Place::Log, line);
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// From now on every line of every crate is searched, every span with all its fields, and what every panic says.
pub(crate) fn begin() {
    // Also what other crates say through `log`, of which `init` takes hold.
    tracing_subscriber::fmt()
        .with_max_level(tracing::Level::TRACE)
        .with_span_events(FmtSpan::NEW | FmtSpan::CLOSE)
        .with_ansi(false)
        .with_writer(|| Searching)
        .init();
    std::panic::set_hook(Box::new(|info| {
        search(Place::Panic, info.to_string());
        // Those that are made on purpose are made here and where leaks are planted.
        let place = info.location().map(ToString::to_string).unwrap_or_default();
        if !place.contains("canaries/search.rs") && !place.contains("canaries/mod.rs") {
            let _ = writeln!(io::stderr(), "a panic at {place}");
        }
    }));
}

/// What was looked through and found, as the parent reads it. What is shown of a hit has no secret in it.
pub(crate) fn report(hits: &[Hit], planted: Option<usize>, learned: usize) -> Value {
    let mut shown = BTreeMap::<String, (usize, &str)>::new();
    for Hit { place, what, form, context } in hits {
        let (times, _) = shown.entry(format!("{what}, {form}, in {place:?}")).or_insert((0, context));
        *times += 1;
    }
    let clean = |context: &str| {
        let mut clean = Vec::new();
        let mut at = 0;
        for found in FINDER.automaton.find_iter(context) {
            clean.extend_from_slice(&context.as_bytes()[at..found.start()]);
            clean.extend_from_slice(b"[canary]");
            at = found.end();
        }
        clean.extend_from_slice(&context.as_bytes()[at..]);
        String::from_utf8_lossy(&clean).into_owned()
    };
    let shown: Vec<_> =
        shown.into_iter().map(|(hit, (times, context))| format!("{times} times {hit}: {}", clean(context))).collect();
    let looked: BTreeMap<_, _> = locked(&LOOKED)
        .iter()
        .map(|(place, looked)| (format!("{place:?}"), json!([looked.texts, looked.bytes])))
        .collect();
    json!({"looked": looked, "hits": hits.len(), "shown": shown, "planted": planted, "learned": learned})
}
