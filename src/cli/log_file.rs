//! An access log, line by line: a file, one that gzip compressed, or standard input. Lines are borrowed from one buffer.
use crate::base::clock;
use anyhow::Context;
use flate2::bufread::MultiGzDecoder;
use std::cell::Cell;
use std::fs::File;
use std::io;
use std::io::BufRead;
use std::io::BufReader;
use std::io::IsTerminal;
use std::io::Read;
use std::io::Write;
use std::path::Path;
use std::rc::Rc;
use std::time::Duration;
use std::time::Instant;

/// What is read at one time: stays in a processor's own cache while it is looked at.
const CHUNK: usize = 1 << 18;
/// What a reader keeps that looks at the first bytes; larger reads go past it.
const PEEK: usize = 1 << 16;
/// What every file that gzip made begins with.
const GZIP: [u8; 2] = [0x1f, 0x8b];
/// How often progress is told.
const TELL_EVERY: Duration = Duration::from_millis(200);
/// A line longer than this is told as it stands, in pieces that are none of a log.
const MAX_LINE: usize = 16 << 20;

/// Reads a log and has each line looked at, without its end; says how many bytes were read of the file. On a terminal, standard error
/// shows how far it is.
///
/// # Errors
/// When it cannot be read.
pub fn each_line(path: &Path, mut look: impl FnMut(&[u8])) -> anyhow::Result<u64> {
    let told = path.display();
    let (source, length): (Box<dyn Read>, Option<u64>) = if path == Path::new("-") {
        (Box::new(io::stdin().lock()), None)
    } else {
        let file = File::open(path).with_context(|| format!("open the log {told}"))?;
        let length = file.metadata().ok().filter(|about| about.is_file()).map(|about| about.len());
        (Box::new(file), length)
    };
    let taken = Rc::new(Cell::new(0));
    let mut progress = Progress::new(length, taken.clone());
    let mut raw = BufReader::with_capacity(PEEK, Counted { source, taken: taken.clone() });
    let is_compressed = raw.fill_buf().with_context(|| format!("read the log {told}"))?.starts_with(&GZIP);
    let read = if is_compressed {
        lines(&mut MultiGzDecoder::new(raw), &mut progress, &mut look)
    } else {
        lines(&mut raw, &mut progress, &mut look)
    };
    progress.clear();
    read.with_context(|| format!("read the log {told}"))?;
    Ok(taken.get())
}

fn lines(source: &mut impl Read, progress: &mut Progress, look: &mut impl FnMut(&[u8])) -> io::Result<()> {
    let mut buffer = vec![0; CHUNK];
    let mut kept = 0;
    loop {
        if kept == buffer.len() && kept < MAX_LINE {
            buffer.resize(kept * 2, 0);
        } else if kept == buffer.len() {
            look(&buffer);
            kept = 0;
        }
        let read = match source.read(&mut buffer[kept..]) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            read => read?,
        };
        let end = kept + read;
        if read == 0 {
            let rest = buffer[..end].trim_ascii();
            if !rest.is_empty() {
                look(rest);
            }
            return Ok(());
        }
        let mut start = 0;
        for at in memchr::memchr_iter(b'\n', &buffer[kept..end]) {
            let line = &buffer[start..kept + at];
            start = kept + at + 1;
            progress.lines += 1;
            let line = line.strip_suffix(b"\r").unwrap_or(line);
            if !line.is_empty() {
                look(line);
            }
        }
        buffer.copy_within(start..end, 0);
        kept = end - start;
        progress.tell();
    }
}

/// Counts what is taken from a source.
struct Counted {
    source: Box<dyn Read>,
    taken: Rc<Cell<u64>>,
}

impl Read for Counted {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.source.read(buffer)?;
        self.taken.set(self.taken.get() + read as u64);
        Ok(read)
    }
}

/// One line on a terminal that is written anew as the work goes on.
struct Progress {
    is_shown: bool,
    length: Option<u64>,
    taken: Rc<Cell<u64>>,
    lines: u64,
    started: Instant,
    told: Instant,
}

impl Progress {
    fn new(length: Option<u64>, taken: Rc<Cell<u64>>) -> Self {
        let now = clock::now();
        Self { is_shown: io::stderr().is_terminal(), length, taken, lines: 0, started: now, told: now }
    }

    fn tell(&mut self) {
        if !self.is_shown || self.told.elapsed() < TELL_EVERY {
            return;
        }
        self.told = clock::now();
        let seconds = self.started.elapsed().as_secs_f64().max(0.001);
        let (taken, rate) = (self.taken.get() as f64, self.lines as f64 / seconds / 1e6);
        let shown = match self.length.filter(|length| *length > 0) {
            Some(length) => bar(taken / length as f64, seconds),
            None => format!("{:.0} MiB", taken / f64::from(1 << 20)),
        };
        self.write(&format!("\r\x1b[K{shown}  {} lines  {rate:.2} M/s", self.lines));
    }

    fn clear(&self) {
        if self.is_shown {
            self.write("\r\x1b[K");
        }
    }

    /// A terminal that cannot be written to misses the bar, nothing else.
    fn write(&self, text: &str) {
        let mut out = io::stderr().lock();
        if out.write_all(text.as_bytes()).and_then(|()| out.flush()).is_err() {
            tracing::debug!("Progress could not be shown.");
        }
    }
}

fn bar(share: f64, seconds: f64) -> String {
    const WIDTH: usize = 30;
    let share = share.clamp(0.0, 1.0);
    let full = (share * WIDTH as f64) as usize;
    let left = if share > 0.0 { seconds * (1.0 - share) / share } else { 0.0 };
    format!("[{}{}] {:3.0}%  {left:.0}s left", "#".repeat(full), "-".repeat(WIDTH - full), share * 100.0)
}
