//! A real Redis that keeps nothing on disk, unless it is to keep all.
use super::locks::LockServer;
use super::store::{BoardServer, Process, RING, Server, await_server, is_installed};
use super::{free_address, wait_for};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::Command;
use std::time::Duration;
use tempfile::TempDir;

/// One server. Dropping it kills it.
pub struct Redis {
    pub address: SocketAddr,
    _folder: TempDir,
    process: Process,
    word: Option<String>,
}

impl Redis {
    /// Starts one that keeps nothing on disk, or all it confirms.
    pub fn start_by(keeps: bool) -> Option<Self> {
        if !is_installed("redis-server", "--version") {
            return None;
        }
        let folder = tempfile::tempdir().expect("a temporary folder");
        let address = free_address();
        let data = folder.path().to_owned();
        let process = Process::new(move || {
            let mut command = Command::new("redis-server");
            command.args(["--bind", "127.0.0.1", "--port", &address.port().to_string(), "--save", ""]);
            command.args(["--appendonly", if keeps { "yes" } else { "no" }, "--appendfsync", "always"]);
            command.args(["--daemonize", "no", "--dir"]).arg(&data);
            command
        });
        let mut redis = Self { address, _folder: folder, process, word: None };
        redis.restart();
        Some(redis)
    }

    /// Sends commands on one connection and gives the last answer's first line and, for a bulk text, the text.
    #[track_caller]
    pub fn call(&self, commands: &[&[&str]]) -> String {
        wait_for("an answer of redis", || try_call(self.address, self.word.as_deref(), commands))
    }

    fn member(&self, id: &str, value: &str) {
        self.call(&[&["HSET", &key("m"), id, value], &["PUBLISH", &key("ev"), id]]);
    }
}

fn try_call(address: SocketAddr, word: Option<&str>, commands: &[&[&str]]) -> Option<String> {
    let mut stream = BufReader::new(TcpStream::connect(address).ok()?);
    let login = word.map(|word| ["AUTH", word]);
    let all = login.as_ref().map(|login| &login[..]).into_iter().chain(commands.iter().copied());
    let mut last = None;
    for command in all {
        let mut bytes = format!("*{}\r\n", command.len());
        command.iter().for_each(|word| bytes += &format!("${}\r\n{word}\r\n", word.len()));
        stream.get_mut().write_all(bytes.as_bytes()).ok()?;
        last = Some(answer(&mut stream)?);
    }
    last
}

/// `:1`, `+OK`, a bulk text itself; an error fails the test.
fn answer(stream: &mut BufReader<TcpStream>) -> Option<String> {
    let mut line = String::new();
    stream.read_line(&mut line).ok()?;
    let line = line.trim_end();
    assert!(!line.starts_with('-') || line.starts_with("-LOADING"), "{line}");
    let Some(length) = line.strip_prefix('$') else { return (!line.is_empty()).then(|| line.to_string()) };
    let Ok(length) = length.parse::<usize>() else { return Some(String::new()) };
    let mut text = vec![0; length + 2];
    stream.read_exact(&mut text).ok()?;
    text.truncate(length);
    String::from_utf8(text).ok()
}

impl Server for Redis {
    const REFUSAL: &'static str = "WRONGPASS";
    const TAKES_SEVERAL: bool = false;

    fn start() -> Option<Self> {
        Self::start_by(false)
    }

    fn process(&mut self) -> &mut Process {
        &mut self.process
    }

    fn await_ready(&mut self) {
        let word = self.word.as_deref();
        await_server(&mut self.process, || {
            try_call(self.address, word, &[&["PING"]]).filter(|answer| answer == "+PONG")
        });
    }

    fn lose_data(&mut self) {
        self.kill();
    }

    fn lines(&self, servers: &[SocketAddr]) -> String {
        format!("engine = \"redis\"\nurl = \"redis://{}/0\"\nlease_ttl = \"1s\"", servers[0])
    }

    fn login(&self, file: &Path) -> String {
        format!("password_file = \"{}\"", file.display())
    }

    fn address(&self) -> SocketAddr {
        self.address
    }

    fn put(&self, id: &str, address: &str, weight: u32) {
        let value = serde_json::json!({ "addr": address, "weight": weight, "zone": "z" }).to_string();
        self.member(id, if weight == 1 { address } else { &value });
    }

    fn put_many(&self, members: &[(String, String)]) {
        let keys = [key("m"), key("ev")];
        let put = |(id, address): &(String, String)| {
            [
                ["HSET".to_string(), keys[0].clone(), id.clone(), address.clone()].to_vec(),
                ["PUBLISH".to_string(), keys[1].clone(), id.clone()].to_vec(),
            ]
        };
        let all: Vec<Vec<String>> = members.iter().flat_map(put).collect();
        let all: Vec<Vec<&str>> = all.iter().map(|words| words.iter().map(String::as_str).collect()).collect();
        self.call(&all.iter().map(Vec::as_slice).collect::<Vec<_>>());
    }

    fn put_garbage(&self, kind: usize) {
        self.member("z", ["no address", "{\"addr\":", "169.254.169.254:80"][kind]);
    }

    fn delete(&self, id: &str) {
        self.call(&[&["HDEL", &key("m"), id], &["PUBLISH", &key("ev"), id]]);
    }

    fn has(&self, id: &str) -> bool {
        let script = "local until_ = redis.call('ZSCORE', KEYS[2], ARGV[1]) \
            local time = redis.call('TIME') \
            local is_over = until_ and tonumber(until_) <= time[1] * 1000 + time[2] / 1000 \
            return (redis.call('HEXISTS', KEYS[1], ARGV[1]) == 1 and not is_over) and 1 or 0";
        self.call(&[&["EVAL", script, "2", &key("m"), &key("x"), id]]) == ":1"
    }

    fn demand(&mut self, word: &str, (id, address): (&str, &str)) {
        Server::put(self, id, address, 1);
        self.call(&[&["CONFIG", "SET", "requirepass", word]]);
        self.word = Some(word.into());
    }
}

impl BoardServer for Redis {
    fn post(&self, instance: &str, text: &str) {
        self.call(&[&["HSET", "ringway:fleet:m", instance, text], &["PUBLISH", "ringway:fleet:ev", instance]]);
    }
}

impl LockServer for Redis {
    const IS_FAIR: bool = true;
    const WAYS: usize = 1;
    const WAITS_FOR_THE_FORGOTTEN: bool = true;
    const LATE: Duration = Duration::from_secs(1);

    fn lock_lines(&self, address: SocketAddr, seconds: u64) -> String {
        format!("engine = \"redis\"\nurl = \"redis://{address}/0\"\nmax_lease = \"{seconds}s\"")
    }

    fn locks(&self) -> Vec<String> {
        let script = "local all = {} \
            for _, key in ipairs(redis.call('KEYS', 'ringway:lock:*')) do \
                if redis.call('TYPE', key).ok == 'string' then all[#all + 1] = key \
                elseif string.match(key, ':q$') then \
                    for _, owner in ipairs(redis.call('ZRANGE', key, 0, -1)) do all[#all + 1] = key .. owner end \
                end \
            end \
            return table.concat(all, '\\n')";
        self.call(&[&["EVAL", script, "0"]]).lines().map(str::to_string).collect()
    }

    fn take(&self, lock: &str, _: usize) {
        self.call(&[&["DEL", lock]]);
    }
}

fn key(part: &str) -> String {
    format!("ringway:{{{RING}}}:{part}")
}
