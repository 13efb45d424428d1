//! What a test that fails says last: the ends of its programs' logs, then once more what was wrong, so that whoever sees only the end
//! of a long log knows it. Whole logs are kept in `target/tmp`. With `RINGWAY_FAILURES=FILE` each failure is a line of that file, too.
use std::cell::RefCell;
use std::fs::{self, OpenOptions};
use std::io::Write;
use std::panic::{self, PanicHookInfo};
use std::path::PathBuf;
use std::sync::Once;
use std::thread;

/// Lines of a log that are shown, and characters of each.
const LINES: usize = 25;
const WIDTH: usize = 240;
/// Characters of what was wrong that are told again, and in the file.
const AGAIN: usize = 1500;
const IN_FILE: usize = 400;

thread_local! {
    static WRONG: RefCell<Option<String>> = const { RefCell::new(None) };
}

/// From now on what fails is remembered.
pub fn listen() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let before = panic::take_hook();
        panic::set_hook(Box::new(move |info| {
            before(info);
            note(info);
        }));
    });
}

fn note(info: &PanicHookInfo) {
    let what = info.payload_as_str().unwrap_or("no words");
    let place = info.location().map(|place| format!("{}:{}", place.file(), place.line())).unwrap_or_default();
    let wrong = format!("{place}: {what}");
    if let Some(file) = std::env::var_os("RINGWAY_FAILURES") {
        let name = thread::current().name().unwrap_or("a thread").to_owned();
        let line = format!("{name}: {}\n", cut(&wrong.replace('\n', " | "), IN_FILE));
        // A failure to say so is no other failure.
        let opened = OpenOptions::new().append(true).create(true).open(file);
        opened.and_then(|mut file| file.write_all(line.as_bytes())).unwrap_or_default();
    }
    WRONG.with_borrow_mut(|first| first.get_or_insert(wrong).shrink_to_fit());
}

/// Says the ends of these logs of a program, by name, and what was wrong.
#[allow(clippy::disallowed_macros, reason = "captured by the test runner")]
pub fn say(program: &str, logs: &[(&str, String)]) {
    let folder = folder();
    for (name, log) in logs.iter().filter(|(_, log)| !log.is_empty()) {
        let path = folder.join(format!("{program}.{name}"));
        let kept = fs::create_dir_all(&folder).and_then(|()| fs::write(&path, log));
        let lines: Vec<&str> = log.lines().collect();
        let shown = &lines[lines.len().saturating_sub(LINES)..];
        let place = kept.map_or_else(|error| error.to_string(), |()| path.display().to_string());
        eprintln!("--- {program} {name}: the last {} of {} lines ({place})", shown.len(), lines.len());
        shown.iter().for_each(|line| eprintln!("{}", cut(line, WIDTH)));
    }
    if let Some(wrong) = WRONG.with_borrow(Clone::clone) {
        eprintln!("--- what was wrong: {}", cut(&wrong, AGAIN));
    }
}

fn folder() -> PathBuf {
    let name = thread::current().name().unwrap_or("a thread").replace("::", ".");
    PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(name)
}

fn cut(text: &str, length: usize) -> String {
    match text.char_indices().nth(length) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}
