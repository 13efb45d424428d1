//! Records to lines (JSON or text), and lines to a file. Each worker collects its lines and sends them in bulk through a bounded
//! queue to one writer thread; when the queue is full, or the disk is, lines are dropped and counted. No request ever waits.
use crate::base::address::write_ip;
use crate::base::clock;
use crate::base::units::Ratio;
use crate::telemetry::record::RequestRecord;
use crate::telemetry::settings::AccessFormat;
use std::cell::RefCell;
use std::fs::File;
use std::fs::OpenOptions;
use std::io;
use std::io::Write;
use std::path::Path;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;
use std::sync::mpsc::Receiver;
use std::sync::mpsc::RecvTimeoutError;
use std::sync::mpsc::SyncSender;
use std::sync::mpsc::sync_channel;
use std::thread::JoinHandle;
use std::time::Duration;
use std::time::Instant;

/// Bytes a worker collects before it sends them without waiting for the next flush.
const BATCH_BYTES: usize = 32 << 10;
/// Batches that may wait for the writer: with [`BATCH_BYTES`] about 8 MiB.
const MAX_BATCHES: usize = 256;
/// How often a failing log is complained about.
const COMPLAIN_EVERY: Duration = Duration::from_secs(60);

/// The writer, and what makes handles for workers.
#[derive(Debug)]
pub struct AccessLogWriter {
    shared: Arc<Shared>,
    batches: SyncSender<Batch>,
    thread: JoinHandle<()>,
}

/// One worker's end of the log.
#[derive(Debug)]
pub struct AccessLog {
    format: AccessFormat,
    sample: Ratio,
    pending: RefCell<Batch>,
    batches: SyncSender<Batch>,
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Batch {
    text: Vec<u8>,
    lines: u64,
}

#[derive(Debug, Default)]
struct Shared {
    dropped: AtomicU64,
    reopen: AtomicBool,
}

/// What the rest of the program may ask of the log.
#[derive(Debug, Clone)]
pub struct AccessLogControl(Arc<Shared>);

impl AccessLogControl {
    /// Lines that could not be written so far.
    pub fn dropped(&self) -> u64 {
        self.0.dropped.load(Ordering::Relaxed)
    }

    /// Has the file opened anew by its name before the next line, after a rotation.
    pub fn reopen(&self) {
        self.0.reopen.store(true, Ordering::Relaxed);
    }
}

impl AccessLogWriter {
    /// Opens the file for appending (`None`: standard output) and starts the writer.
    ///
    /// # Errors
    /// When the file cannot be opened, or no thread started.
    pub fn start(path: Option<&Path>) -> io::Result<Self> {
        let sink = Sink::open(path)?;
        let shared = Arc::new(Shared::default());
        let (batches, receiver) = sync_channel(MAX_BATCHES);
        let writer = Writer { sink, shared: shared.clone(), complained: None };
        let thread = std::thread::Builder::new().name("access-log".into()).spawn(move || writer.run(&receiver))?;
        Ok(Self { shared, batches, thread })
    }

    /// A worker's end.
    pub fn handle(&self, format: AccessFormat, sample: Ratio) -> AccessLog {
        let (batches, shared) = (self.batches.clone(), self.shared.clone());
        AccessLog { format, sample, pending: RefCell::default(), batches, shared }
    }

    /// What the rest of the program may ask of it.
    pub fn control(&self) -> AccessLogControl {
        AccessLogControl(self.shared.clone())
    }

    /// Writes what was sent and ends. All handles must be gone or this waits for them.
    pub fn close(self) {
        drop(self.batches);
        if self.thread.join().is_err() {
            tracing::error!("The access log's writer ended by a panic.");
        }
    }
}

impl AccessLog {
    /// Whether a request is written down: one that failed always, others by chance, as many as the sample says.
    #[inline]
    pub fn wants(&self, has_failed: bool, random: impl FnOnce() -> u64) -> bool {
        has_failed || self.sample.0 >= 1.0 || (random() as f64) < self.sample.0 * u64::MAX as f64
    }

    /// Adds a record; sends the lines collected so far when they are many.
    pub fn write(&self, record: &RequestRecord<'_>) {
        let is_full = {
            let mut pending = self.pending.borrow_mut();
            match self.format {
                AccessFormat::Json => json(record, &mut pending.text),
                AccessFormat::Text => text(record, &mut pending.text),
                AccessFormat::Off => return,
            }
            pending.lines += 1;
            pending.text.len() >= BATCH_BYTES
        };
        if is_full {
            self.flush();
        }
    }

    /// Sends the lines collected so far. Called each tick, so that no line is old.
    pub fn flush(&self) {
        let mut pending = self.pending.borrow_mut();
        if pending.lines == 0 {
            return;
        }
        let batch = std::mem::take(&mut *pending);
        let lines = batch.lines;
        if self.batches.try_send(batch).is_err() {
            self.shared.dropped.fetch_add(lines, Ordering::Relaxed);
        }
    }
}

impl Drop for AccessLog {
    fn drop(&mut self) {
        self.flush();
    }
}

enum Sink {
    Stdout,
    File { file: File, path: PathBuf },
}

impl Sink {
    fn open(path: Option<&Path>) -> io::Result<Self> {
        let Some(path) = path else { return Ok(Self::Stdout) };
        let file = OpenOptions::new().append(true).create(true).open(path)?;
        Ok(Self::File { file, path: path.to_owned() })
    }

    fn write(&mut self, text: &[u8]) -> io::Result<()> {
        match self {
            Self::Stdout => {
                let mut stdout = io::stdout().lock();
                stdout.write_all(text)?;
                stdout.flush()
            }
            Self::File { file, .. } => file.write_all(text),
        }
    }
}

struct Writer {
    sink: Sink,
    shared: Arc<Shared>,
    complained: Option<Instant>,
}

impl Writer {
    fn run(mut self, batches: &Receiver<Batch>) {
        loop {
            let batch = batches.recv_timeout(Duration::from_millis(200));
            if self.shared.reopen.swap(false, Ordering::Relaxed) {
                self.reopen();
            }
            match batch {
                Ok(batch) => {
                    if let Err(error) = self.sink.write(&batch.text) {
                        self.shared.dropped.fetch_add(batch.lines, Ordering::Relaxed);
                        self.complain(&error);
                    }
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return,
            }
        }
    }

    /// A file that cannot be opened anew leaves the old one in place: lines go somewhere rather than nowhere.
    fn reopen(&mut self) {
        let Sink::File { path, .. } = &self.sink else { return };
        match Sink::open(Some(path)) {
            Ok(sink) => self.sink = sink,
            Err(error) => tracing::error!(%error, path = %path.display(), "The access log could not be reopened."),
        }
    }

    fn complain(&mut self, error: &io::Error) {
        let now = clock::now();
        if self.complained.is_none_or(|at| now.duration_since(at) >= COMPLAIN_EVERY) {
            self.complained = Some(now);
            tracing::warn!(%error, "The access log cannot be written; lines are dropped and counted.");
        }
    }
}

/// One JSON object and a line feed.
fn json(record: &RequestRecord<'_>, out: &mut Vec<u8>) {
    let mut object = JsonObject { out, is_first: true };
    object.string("time", clock::rfc3339(record.time).as_bytes());
    object.string("listener", record.listener.as_bytes());
    object.optional("route", record.route.map(str::as_bytes));
    object.optional("upstream", record.upstream.map(str::as_bytes));
    object.optional("endpoint", record.endpoint.map(str::as_bytes));
    object.optional("position", record.position.map(|position| position.as_str().as_bytes()));
    // Only where it means something: most routes have no such field.
    if let Some(coalesced) = record.coalesced {
        object.string("coalesced", coalesced.as_str().as_bytes());
    }
    object.string("method", record.method);
    object.optional("host", record.host);
    object.string("path", record.path);
    object.number("status", u64::from(record.status));
    object.number("bytes_in", record.bytes_in);
    object.number("bytes_out", record.bytes_out);
    object.millis("duration_ms", record.duration);
    match record.upstream_duration {
        Some(duration) => object.millis("upstream_ms", duration),
        None => object.optional("upstream_ms", None),
    }
    object.number("attempts", u64::from(record.attempts));
    object.optional("key_hash", record.key_hash.map(hex).as_ref().map(<[u8; 16]>::as_slice));
    object.optional("key_source", record.key_source.map(str::as_bytes));
    object.name("client_ip");
    object.out.push(b'"');
    write_ip(record.client_ip, object.out);
    object.out.push(b'"');
    object.string("protocol", record.protocol.as_bytes());
    object.string("request_id", record.request_id);
    object.optional("error", record.error.map(str::as_bytes));
    object.end();
}

/// Milliseconds to the microsecond, without zeros at the end.
fn millis(duration: Duration, out: &mut Vec<u8>) {
    let micros = (duration.as_nanos() as u64 + 500) / 1000;
    out.extend_from_slice(itoa::Buffer::new().format(micros / 1000).as_bytes());
    let rest = micros % 1000;
    if rest > 0 {
        let digits = [b'.', digit(rest / 100), digit(rest / 10), digit(rest)];
        let end = digits.iter().rposition(|digit| *digit != b'0').map_or(0, |at| at + 1);
        out.extend_from_slice(&digits[..end]);
    }
}

fn digit(number: u64) -> u8 {
    b'0' + (number % 10) as u8
}

fn hex(number: u64) -> [u8; 16] {
    std::array::from_fn(|at| b"0123456789abcdef"[(number >> (60 - at * 4)) as usize & 15])
}

struct JsonObject<'a> {
    out: &'a mut Vec<u8>,
    is_first: bool,
}

impl JsonObject<'_> {
    fn name(&mut self, name: &str) {
        self.out.push(if std::mem::take(&mut self.is_first) { b'{' } else { b',' });
        self.out.push(b'"');
        self.out.extend_from_slice(name.as_bytes());
        self.out.extend_from_slice(b"\":");
    }

    fn number(&mut self, name: &str, value: u64) {
        self.name(name);
        self.out.extend_from_slice(itoa::Buffer::new().format(value).as_bytes());
    }

    fn millis(&mut self, name: &str, duration: Duration) {
        self.name(name);
        millis(duration, self.out);
    }

    fn optional(&mut self, name: &str, value: Option<&[u8]>) {
        match value {
            Some(value) => self.string(name, value),
            None => {
                self.name(name);
                self.out.extend_from_slice(b"null");
            }
        }
    }

    fn string(&mut self, name: &str, value: &[u8]) {
        self.name(name);
        self.out.push(b'"');
        escape(value, self.out);
        self.out.push(b'"');
    }

    fn end(self) {
        self.out.extend_from_slice(b"}\n");
    }
}

/// JSON's escapes; bytes that are not UTF-8 become U+FFFD.
pub fn escape(value: &[u8], out: &mut Vec<u8>) {
    // Without an early end: so it is done for many bytes at a time.
    let odd = |odd: bool, byte: &u8| odd | (*byte < 0x20) | (*byte > 0x7e) | (*byte == b'"') | (*byte == b'\\');
    if !value.iter().fold(false, odd) {
        return out.extend_from_slice(value);
    }
    for character in String::from_utf8_lossy(value).chars() {
        match character {
            '"' => out.extend_from_slice(b"\\\""),
            '\\' => out.extend_from_slice(b"\\\\"),
            '\0'..='\x1f' | '\x7f' => {
                write!(out, "\\u{:04x}", u32::from(character)).expect("a vector takes all that is written");
            }
            _ => out.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes()),
        }
    }
}

/// One readable line: who asked for what, what came of it, who answered.
fn text(record: &RequestRecord<'_>, out: &mut Vec<u8>) {
    let lossy = |bytes| {
        let mut escaped = Vec::new();
        escape(bytes, &mut escaped);
        String::from_utf8_lossy(&escaped).into_owned()
    };
    let mut took = Vec::new();
    millis(record.duration, &mut took);
    let written = writeln!(
        out,
        "{} {} \"{} {} {}\" {} {} {}ms {}/{} {} {}",
        clock::rfc3339(record.time),
        record.client_ip,
        lossy(record.method),
        lossy(record.path),
        record.protocol,
        record.status,
        record.bytes_out,
        String::from_utf8_lossy(&took),
        record.upstream.unwrap_or("-"),
        record.endpoint.unwrap_or("-"),
        record.position.map_or("-", |position| position.as_str()),
        record.error.unwrap_or("-"),
    );
    written.expect("a vector takes all that is written");
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::telemetry::labels::Coalesced;
    use crate::telemetry::labels::Position;

    fn record<'a>(path: &'a [u8]) -> RequestRecord<'a> {
        RequestRecord {
            time: Duration::from_millis(1_700_000_000_123),
            listener: "0.0.0.0:8080",
            route: Some("/"),
            upstream: Some("cache"),
            endpoint: Some("c1"),
            position: Some(Position::Owner),
            coalesced: None,
            method: b"GET",
            host: Some(b"example.com"),
            path,
            status: 200,
            bytes_in: 0,
            bytes_out: 1024,
            duration: Duration::from_micros(1500),
            upstream_duration: None,
            attempts: 1,
            key_hash: Some(255),
            key_source: Some("path"),
            client_ip: "10.0.0.1".parse().unwrap(),
            protocol: "HTTP/1.1",
            request_id: b"abc",
            error: None,
        }
    }

    #[test]
    fn a_duration_is_told_to_the_microsecond() {
        let check = |nanos, expected: &str| {
            let mut out = Vec::new();
            millis(Duration::from_nanos(nanos), &mut out);
            assert_eq!(String::from_utf8(out).unwrap(), expected);
            let float = (nanos as f64 / 1e3).round() / 1e3;
            assert_eq!(float.to_string(), expected);
        };
        check(0, "0");
        check(499, "0");
        check(1_000, "0.001");
        check(1_050_000, "1.05");
        check(1_500_400, "1.5");
        check(12_000_000, "12");
        check(999_999_600, "1000");
        check(3_723_100_020_000, "3723100.02");
        assert_eq!(&hex(0x1234_5678_9abc_def0), b"123456789abcdef0");
    }

    #[test]
    fn a_line_is_as_the_golden_one() {
        let mut line = Vec::new();
        json(&record(b"/a\"b\xff\n"), &mut line);
        let golden = include_str!("../../tests/golden/access_log.json");
        assert_eq!(String::from_utf8(line.clone()).unwrap(), golden);
        let value: serde_json::Value = serde_json::from_slice(&line).unwrap();
        assert_eq!(value["path"], "/a\"b\u{fffd}\n");
        line.clear();
        json(&RequestRecord { coalesced: Some(Coalesced::Local), ..record(b"/") }, &mut line);
        assert!(String::from_utf8_lossy(&line).contains(r#""position":"owner","coalesced":"local","method":"GET""#));
        line.clear();
        text(&record(b"/x"), &mut line);
        assert_eq!(
            String::from_utf8(line).unwrap(),
            "2023-11-14T22:13:20.123Z 10.0.0.1 \"GET /x HTTP/1.1\" 200 1024 1.5ms cache/c1 owner -\n"
        );
    }

    #[test]
    fn a_rotated_file_loses_no_line() {
        let folder = tempfile::tempdir().unwrap();
        let (path, old) = (folder.path().join("access.log"), folder.path().join("access.log.1"));
        let writer = AccessLogWriter::start(Some(&path)).unwrap();
        let log = writer.handle(AccessFormat::Json, Ratio(1.0));
        let write = |count: usize| (0..count).for_each(|_| log.write(&record(b"/")));
        write(1000);
        log.flush();
        std::fs::rename(&path, &old).unwrap();
        writer.control().reopen();
        write(1000);
        drop(log);
        let control = writer.control();
        writer.close();
        let lines = |path| std::fs::read_to_string(path).unwrap().lines().count();
        assert_eq!(lines(&old) + lines(&path), 2000);
        assert_eq!(control.dropped(), 0);
    }

    #[test]
    fn a_full_disk_drops_lines_and_counts_them() {
        let writer = AccessLogWriter::start(Some(Path::new("/dev/full"))).unwrap();
        let (log, control) = (writer.handle(AccessFormat::Text, Ratio(1.0)), writer.control());
        (0..10).for_each(|_| log.write(&record(b"/")));
        drop(log);
        writer.close();
        assert_eq!(control.dropped(), 10);
    }

    #[test]
    fn a_full_queue_drops_lines_and_counts_them() {
        let (batches, receiver) = sync_channel(1);
        let shared = Arc::new(Shared::default());
        let log = AccessLog {
            format: AccessFormat::Json,
            sample: Ratio(1.0),
            pending: RefCell::default(),
            batches,
            shared: shared.clone(),
        };
        for _ in 0..3 {
            log.write(&record(b"/"));
            log.flush();
        }
        assert_eq!(shared.dropped.load(Ordering::Relaxed), 2);
        assert_eq!(receiver.recv().unwrap().lines, 1);
    }

    #[test]
    fn an_unwritable_path_is_an_error_at_once() {
        assert!(AccessLogWriter::start(Some(Path::new("/nowhere/access.log"))).is_err());
    }
}
