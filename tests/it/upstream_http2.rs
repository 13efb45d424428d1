//! HTTP/2 towards endpoints: a connection is shared, what it refuses is safe to send again, nothing is kept.
use crate::harness::h2::{self, END_HEADERS, END_STREAM, Frames, HEADERS};
use crate::harness::origin::Origin;
use crate::harness::program::Ringway;
use crate::harness::tls::{Authority, Relay, server_config, write};
use crate::harness::{PATIENCE, wait_for};
use crate::hashing::BY_PATH;
use ::h2::server;
use bytes::Bytes;
use http::{Request, Response};
use std::net::{SocketAddr, TcpListener};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

fn upstream(address: SocketAddr, more: &str) -> String {
    format!(
        "{BY_PATH}[upstream.u]\nprotocol = \"h2\"\n{more}\nendpoints = [{{ id = \"a\", address = \"{address}\" }}]\n"
    )
}

/// An origin that speaks HTTP/2 alone; it does as the path says.
struct H2Origin {
    address: SocketAddr,
    seen: Arc<Mutex<Vec<Request<Vec<u8>>>>>,
    connections: Arc<AtomicUsize>,
}

impl H2Origin {
    fn start(max_streams: u32) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let origin = Self { address, seen: Arc::default(), connections: Arc::default() };
        let (seen, connections) = (origin.seen.clone(), origin.connections.clone());
        // It ends with the test's process: nothing but its own connections needs it.
        thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async move {
                listener.set_nonblocking(true).unwrap();
                let listener = tokio::net::TcpListener::from_std(listener).unwrap();
                while let Ok((stream, _)) = listener.accept().await {
                    connections.fetch_add(1, Ordering::SeqCst);
                    tokio::spawn(serve(stream, max_streams, seen.clone()));
                }
            });
        });
        origin
    }
}

async fn serve(stream: tokio::net::TcpStream, max_streams: u32, seen: Arc<Mutex<Vec<Request<Vec<u8>>>>>) {
    let mut builder = server::Builder::new();
    builder.max_concurrent_streams(max_streams);
    let Ok(mut connection) = builder.handshake::<_, Bytes>(stream).await else { return };
    while let Some(Ok((request, respond))) = connection.accept().await {
        tokio::spawn(answer(request, respond, seen.clone()));
    }
}

async fn answer(
    request: Request<::h2::RecvStream>,
    mut respond: server::SendResponse<Bytes>,
    seen: Arc<Mutex<Vec<Request<Vec<u8>>>>>,
) {
    let (parts, body) = request.into_parts();
    let path = parts.uri.path().to_owned();
    if path == "/hints" {
        let hints = Response::builder().status(103).header("link", "</a.css>").body(()).unwrap();
        respond.send_informational(hints).unwrap();
    }
    if path == "/early" {
        let response = Response::builder().status(413).body(()).unwrap();
        return respond.send_response(response, true).map(drop).unwrap();
    }
    let Ok((bytes, trailers)) = h2::whole(body).await else { return };
    let mut recorded = Request::from_parts(parts, bytes.clone());
    recorded.headers_mut().extend(trailers.iter().map(|(name, value)| (name.clone(), value.clone())));
    seen.lock().unwrap().push(recorded);
    if path.starts_with("/slow") {
        tokio::time::sleep(Duration::from_millis(300)).await;
    }
    let mut send = respond.send_response(Response::builder().header("x-origin", "a").body(()).unwrap(), false).unwrap();
    let bytes = if bytes.is_empty() { format!("a {path}\n").into_bytes() } else { bytes };
    send.send_data(Bytes::from(bytes), false).unwrap();
    let mut trailers = http::HeaderMap::new();
    trailers.insert("x-sum", "9".parse().unwrap());
    send.send_trailers(trailers).unwrap();
}

#[test]
fn clients_of_http1_share_a_connection() {
    let origin = H2Origin::start(100);
    let ringway = Ringway::start(&format!("[server]\nworkers = 1\n{}", upstream(origin.address, "")));
    thread::scope(|scope| {
        for n in 0..20 {
            let mut client = ringway.client();
            scope.spawn(move || {
                let path = format!("/slow{n}");
                let response =
                    client.request("GET", &path, &[("X-Kept", "1"), ("Connection", "x-a"), ("X-A", "1")], None);
                let response = response.unwrap();
                assert_eq!((response.text(), response.status), (format!("a {path}\n").as_str(), 200));
                assert_eq!(response.trailers, [("x-sum".to_string(), "9".to_string())]);
            });
        }
    });
    assert_eq!(origin.connections.load(Ordering::SeqCst), 1);
    let seen = origin.seen.lock().unwrap();
    assert_eq!((seen.len(), seen[0].uri().authority().unwrap().as_str()), (20, ringway.address.to_string().as_str()));
    let fields = seen[0].headers();
    assert!(fields["x-kept"] == "1" && fields.get("x-a").is_none() && fields.get("host").is_none());
    assert!(fields["via"] == "1.1 ringway" && fields["x-forwarded-for"] == "127.0.0.1");
    assert_eq!(ringway.metrics().sum("ringway_endpoint_in_flight"), 0.0);
}

#[test]
fn more_streams_than_an_endpoint_takes_get_another_connection() {
    let origin = H2Origin::start(4);
    let ringway = Ringway::start(&format!("[server]\nworkers = 1\n{}", upstream(origin.address, "")));
    assert_eq!(ringway.client().get("/first").unwrap().status, 200);
    thread::scope(|scope| {
        for n in 0..12 {
            let mut client = ringway.client();
            scope.spawn(move || assert_eq!(client.get(&format!("/slow{n}")).unwrap().status, 200));
        }
    });
    let made = origin.connections.load(Ordering::SeqCst);
    assert!((2..=4).contains(&made), "{made} connections");
}

#[test]
fn streams_wait_for_room_when_no_further_connection_may_be_made() {
    let origin = H2Origin::start(2);
    let limits = "max_connections = 1\nmax_pending = 20\nconnect_timeout = \"20s\"";
    let ringway = Ringway::start(&format!("[server]\nworkers = 1\n{}", upstream(origin.address, limits)));
    thread::scope(|scope| {
        for n in 0..12 {
            let mut client = ringway.client();
            scope.spawn(move || assert_eq!(client.get(&format!("/slow{n}")).unwrap().status, 200));
        }
    });
    assert_eq!(origin.connections.load(Ordering::SeqCst), 1);
}

#[test]
fn bodies_and_trailers_cross_whatever_the_client_speaks() {
    let origin = H2Origin::start(100);
    let ringway = Ringway::start(&upstream(origin.address, ""));
    let body: Vec<u8> = (0..600_000u32).flat_map(|n| n.to_le_bytes()).collect();
    let response = ringway.client().post("/echo", &body).unwrap();
    assert!(response.body == body && response.header("transfer-encoding") == Some("chunked"));
    let mut client = ringway.client();
    client
        .send(b"POST /c HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\nX-Check: 7\r\n\r\n")
        .unwrap();
    assert_eq!(client.response("POST").unwrap().body, b"hello");
    {
        let seen = origin.seen.lock().unwrap();
        assert_eq!(seen[0].headers()["content-length"], body.len().to_string().as_str());
        assert!(seen[1].headers()["x-check"] == "7" && seen[1].headers().get("content-length").is_none());
    }
    let sent = Bytes::from(body.clone());
    let (answer, trailers) = h2::client(ringway.address, &::h2::client::Builder::new(), |mut send| async move {
        let request = Request::post("http://a.example/echo").body(()).unwrap();
        let (response, mut stream) = send.send_request(request, false).unwrap();
        stream.send_data(sent, true).unwrap();
        h2::whole(response.await.unwrap().into_body()).await.unwrap()
    });
    assert!(answer == body && trailers["x-sum"] == "9");
}

#[test]
fn hints_pass_and_early_answers_too() {
    let origin = H2Origin::start(100);
    let ringway = Ringway::start(&upstream(origin.address, ""));
    let response = ringway.client().get("/hints").unwrap();
    assert_eq!((response.status, response.interim[0].0), (200, 103));
    assert_eq!(ringway.client().request("POST", "/early", &[], Some(&vec![b'x'; 300_000])).unwrap().status, 413);
    assert_eq!(ringway.client().get("/after").unwrap().status, 200);
}

#[test]
fn on_tls_both_sides_say_what_they_speak() {
    let (authority, folder) = (Authority::new("ours"), tempfile::tempdir().unwrap());
    let ca = write(folder.path(), "ca.pem", &authority.pem());
    let mut config = server_config(&authority.issue(&["127.0.0.1"]), None);
    let (h2_origin, http1_origin) = (H2Origin::start(100), Origin::start("a"));
    let both = Relay::server(h2_origin.address, config.clone());
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    let old = Relay::server(http1_origin.address, config);
    let ask = |protocol: &str, address: SocketAddr| {
        let endpoints = format!("endpoints = [{{ id = \"a\", address = \"{address}\" }}]");
        let tls = format!("tls = {{ ca = \"{}\" }}", ca.display());
        let ringway =
            Ringway::start(&format!("{BY_PATH}[upstream.u]\nprotocol = \"{protocol}\"\n{tls}\n{endpoints}\n"));
        let mut client = ringway.client();
        let answers = [client.get("/1").unwrap(), client.get("/2").unwrap()];
        answers.map(|answer| (answer.status, answer.text().split('\n').next().unwrap().to_owned()))
    };
    let fine = [(200, "a /1".to_string()), (200, "a /2".to_string())];
    assert_eq!(ask("auto", both.address), fine);
    assert_eq!(ask("h2", both.address), fine);
    assert_eq!(h2_origin.seen.lock().unwrap()[0].uri().scheme_str(), Some("https"));
    assert_eq!(ask("auto", old.address), fine);
    assert_eq!(ask("http1", old.address), fine);
    assert!(ask("h2", old.address).iter().all(|(status, _)| *status == 502));
    assert_eq!(http1_origin.requests().len(), 4);
}

/// What an origin does on one connection.
type Script = Box<dyn FnOnce(&mut Frames) + Send>;

/// Serves one connection after the other by a script of frames.
fn scripted(scripts: Vec<Script>) -> (SocketAddr, thread::JoinHandle<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let serving = thread::spawn(move || {
        for script in scripts {
            script(&mut h2::accept(&listener));
        }
    });
    (address, serving)
}

fn wait_for_end(frames: &mut Frames, stream: u32) {
    frames.find("the end of a request", |frame| {
        frame.stream == stream && frame.flags & END_STREAM != 0 && matches!(frame.kind, HEADERS | h2::DATA)
    });
}

fn answer_ok(frames: &mut Frames, stream: u32) {
    wait_for_end(frames, stream);
    // `:status: 200` as the static table has it.
    frames.send(HEADERS, END_HEADERS | END_STREAM, stream, &[0x88]);
}

#[test]
fn what_a_goodbye_leaves_out_is_sent_again_on_another_connection() {
    let (address, serving) = scripted(vec![
        Box::new(|frames| {
            answer_ok(frames, 1);
            wait_for_end(frames, 3);
            frames.send(h2::GOAWAY, 0, 0, &[0, 0, 0, 1, 0, 0, 0, 0]);
            while frames.next().is_some() {}
        }),
        Box::new(|frames| {
            answer_ok(frames, 1);
            answer_ok(frames, 3);
        }),
    ]);
    let ringway = Ringway::start(&format!("[server]\nworkers = 1\n{}", upstream(address, "")));
    let mut client = ringway.client();
    assert_eq!(client.get("/1").unwrap().status, 200);
    assert_eq!(client.post("/2", b"body").unwrap().status, 200, "the endpoint said that it did not act");
    assert_eq!(client.get("/3").unwrap().status, 200);
    assert_eq!(ringway.metrics().sum("ringway_upstream_errors_total"), 0.0);
    drop(client);
    drop(ringway);
    serving.join().unwrap();
}

#[test]
fn a_refused_stream_is_sent_again_and_one_that_broke_is_not() {
    let (address, serving) = scripted(vec![
        Box::new(|frames| {
            answer_ok(frames, 1);
            wait_for_end(frames, 3);
            frames.send(h2::RST_STREAM, 0, 3, &7u32.to_be_bytes());
        }),
        Box::new(|frames| {
            answer_ok(frames, 1);
            wait_for_end(frames, 3);
            frames.send(h2::RST_STREAM, 0, 3, &2u32.to_be_bytes());
            while frames.next().is_some() {}
        }),
    ]);
    let ringway = Ringway::start(&format!("[server]\nworkers = 1\n{}", upstream(address, "")));
    let mut client = ringway.client();
    assert_eq!(client.get("/1").unwrap().status, 200);
    assert_eq!(client.post("/2", b"body").unwrap().status, 200, "a refused stream was not acted on");
    let broken = client.post("/3", b"body").unwrap();
    assert!(broken.status == 502 && broken.text().starts_with("upstream_reset"), "{broken:?}");
    drop(client);
    drop(ringway);
    serving.join().unwrap();
}

#[test]
fn a_truncated_body_never_ends_cleanly() {
    let (address, serving) = scripted(vec![Box::new(|frames| {
        wait_for_end(frames, 1);
        frames.send(HEADERS, END_HEADERS, 1, &[0x88]);
        frames.send(h2::DATA, 0, 1, b"half");
        frames.send(h2::RST_STREAM, 0, 1, &2u32.to_be_bytes());
        answer_ok(frames, 3);
        while frames.next().is_some() {}
    })]);
    let ringway = Ringway::start(&format!("[server]\nworkers = 1\n{}", upstream(address, "")));
    assert!(ringway.client().get("/cut").is_err());
    assert_eq!(ringway.client().get("/next").unwrap().status, 200, "the connection goes on");
    let errors = ringway.metrics().sum_of("ringway_upstream_errors_total", &[("reason", "body")]);
    assert_eq!(errors, 1.0);
    drop(ringway);
    serving.join().unwrap();
}

#[test]
fn an_endpoint_that_speaks_something_else_is_a_bad_one() {
    let origin = Origin::start("a");
    let ringway = Ringway::start(&upstream(origin.address, ""));
    let response = ringway.client().get("/").unwrap();
    assert!(response.status == 502, "{response:?}");
}

#[test]
fn a_client_that_leaves_resets_its_stream_alone() {
    let (arrived, arrival) = std::sync::mpsc::channel();
    let (address, serving) = scripted(vec![Box::new(move |frames| {
        wait_for_end(frames, 1);
        arrived.send(()).unwrap();
        let reset = frames.find("a reset", |frame| frame.kind == h2::RST_STREAM);
        assert_eq!((reset.stream, reset.code()), (1, 8));
        answer_ok(frames, 3);
        while frames.next().is_some() {}
    })]);
    let ringway = Ringway::start(&format!("[server]\nworkers = 1\n{}", upstream(address, "idle_timeout = \"1s\"")));
    let mut leaving = Frames::connect(ringway.address);
    leaving.head(1, true, &h2::get("/slow"));
    // A request is counted before it is on its way: only the endpoint knows that it has come.
    arrival.recv_timeout(PATIENCE).unwrap();
    drop(leaving);
    wait_for("its end", || (ringway.metrics().sum("ringway_endpoint_in_flight") == 0.0).then_some(()));
    assert_eq!(ringway.client().get("/next").unwrap().status, 200);
    // The script ends when the connection does: after `idle_timeout` without a request.
    serving.join().unwrap();
}
